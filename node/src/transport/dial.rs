//! Keeps links up: dials, and dials again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use thalweg_wire::HostId;

use super::LinkEvent;
use super::handshake::dial;
use super::peers::Step;
use super::shared::Shared;

/// First and longest pause between two attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// A link that lasted this long was a good one: the next attempt starts with the first pause.
const GOOD_LINK: Duration = Duration::from_secs(5);

/// Dials `host` whenever it is wanted and not linked, until it is forgotten.
pub(super) async fn keep_linked(shared: Arc<Shared>, host: HostId) {
    let mut pause = PAUSE.0;
    let mut reported = None;
    while let Some(step) = shared.peers.step(host) {
        let target = match step {
            Step::Dial(target) => target,
            Step::Wait(changed) => {
                let start = Instant::now();
                changed.notified().await;
                if start.elapsed() > GOOD_LINK {
                    pause = PAUSE.0;
                }
                continue;
            }
        };
        match dial(&shared, &target).await {
            Ok(()) => reported = None,
            Err(error) if error.is_duplicate() => {}
            Err(error) => {
                let reason = error.text();
                // The same reason every two seconds is no news.
                if reported.as_ref() != Some(&reason) {
                    let peer = format!("{}@{}", target.name, target.address);
                    (shared.handlers.events)(LinkEvent::Refused { peer, reason: reason.clone() });
                    reported = Some(reason);
                }
            }
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Between half of `pause` and all of it, so that hosts that failed together do not retry
/// together.
fn jittered(pause: Duration) -> Duration {
    let draw = getrandom::u32().expect("the system has randomness: TLS needs it too");
    pause.mul_f64(0.5 + 0.5 * f64::from(draw) / f64::from(u32::MAX))
}
