//! Who leads, in the only sense that matters to the host: who may plan.

use thalweg_wire::HostId;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::OnLeader;
use super::group::{Metrics, Raft};
use super::timing::Timing;

/// A leader and its term.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Leadership {
    /// Who leads. This host is named only while it may act: an entry of its term is committed,
    /// so it knows everything agreed before, and a majority answered within its lease.
    pub leader: Option<HostId>,
    /// The term. Each has one leader at most.
    pub term: u64,
}

/// Reports every change to `on_leader` until the returned task is aborted.
///
/// # Panics
///
/// The task panics when the library gave up for good, which ends the process: a host that can no
/// longer write its log must not go on as if it could.
pub(super) fn watch(
    raft: Raft,
    me: HostId,
    timing: Timing,
    on_leader: OnLeader,
) -> (JoinHandle<()>, watch::Receiver<Leadership>) {
    let (sender, receiver) = watch::channel(Leadership::default());
    let task = tokio::spawn(async move {
        let mut metrics = raft.metrics();
        loop {
            let now = leadership(&metrics.borrow_and_update(), me, timing);
            let changed = sender.send_if_modified(|before| {
                let changed = *before != now;
                *before = now;
                changed
            });
            if changed {
                on_leader(now);
            }
            if metrics.changed().await.is_err() {
                return;
            }
        }
    });
    (task, receiver)
}

fn leadership(metrics: &Metrics, me: HostId, timing: Timing) -> Leadership {
    if let Err(openraft::error::Fatal::StorageError(error)) = &metrics.running_state {
        panic!("consensus log failed: {error}");
    }
    let term = metrics.current_term;
    let leader = metrics.current_leader.filter(|&leader| leader != me || may_act(metrics, timing));
    Leadership { leader, term }
}

/// Whether this leader knows everything agreed before its term, and a majority still follows it.
fn may_act(metrics: &Metrics, timing: Timing) -> bool {
    let applied_term = metrics.last_applied.map(|it| it.leader_id.term);
    let heard = metrics.millis_since_quorum_ack;
    applied_term == Some(metrics.current_term)
        && heard.is_some_and(|silence_ms| u128::from(silence_ms) <= timing.lease().as_millis())
}
