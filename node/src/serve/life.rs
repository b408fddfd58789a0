//! Tells everyone who is alive, and everyone else that this host is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use thalweg_core::liveness::{Effect, Liveness};
use thalweg_core::{conductor, gateway, stage};
use thalweg_wire::{Frame, Heartbeat, HostId, Message};

use super::board::Board;
use super::network::Network;
use super::stage::Load;
use crate::host::{Deliver, Perform, post};
use crate::metrics::{Metrics, PeerLabels};

/// Interval of heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// Heartbeats missed before a host gets no new work, and before it is given up.
const SUSPECT_BEATS: u32 = 5;
/// See [`SUSPECT_BEATS`].
const DEAD_BEATS: u32 = 12;

/// How long silence is tolerated on links of this round trip.
pub fn patience(round_trip: Duration) -> thalweg_core::liveness::Config {
    thalweg_core::liveness::Config {
        suspect_after: HEARTBEAT * SUSPECT_BEATS + round_trip,
        dead_after: HEARTBEAT * DEAD_BEATS + round_trip * 4,
    }
}

/// Where liveness's effects happen.
#[derive(Debug)]
pub struct LifeWorld(pub Arc<Network>);

impl Perform<Liveness> for LifeWorld {
    fn perform(&mut self, effect: Effect) {
        let Some(actors) = self.0.actors() else { return };
        match effect {
            Effect::Trust(host) => {
                post(&actors.conductor, Deliver(conductor::Event::Alive(host)));
                post(&actors.gateway, Deliver(gateway::Event::HostUp(host)));
            }
            Effect::Suspect(host) => {
                let name = self.0.name(host);
                tracing::warn!(name, "host is silent; it gets no new work");
                post(&actors.gateway, Deliver(gateway::Event::HostSuspect(host)));
            }
            Effect::Forget(host) => {
                let name = self.0.name(host);
                tracing::warn!(name, "host is given up; its requests are replayed elsewhere");
                post(&actors.conductor, Deliver(conductor::Event::Dead(host)));
                post(&actors.gateway, Deliver(gateway::Event::HostDown(host)));
                post(&actors.stage, Deliver(stage::Event::HostDown(host)));
                if let Some(transport) = self.0.transport() {
                    transport.reset(host);
                }
            }
        }
    }
}

/// What heartbeats are made of.
pub struct Pulse {
    /// This host.
    pub me: HostId,
    /// Where they go.
    pub network: Arc<Network>,
    /// How busy the stage is.
    pub load: Arc<Load>,
    /// Which plan is in effect.
    pub board: Arc<Board>,
    /// Brought up to date with every beat.
    pub metrics: Arc<Metrics>,
}

/// Sends heartbeats to every peer and to this host itself, for as long as the process lives.
pub async fn beat(pulse: Pulse) {
    let Pulse { me, network, load, board, metrics } = pulse;
    let mut ticks = tokio::time::interval(HEARTBEAT);
    loop {
        ticks.tick().await;
        let beat = Heartbeat {
            epoch: board.epoch(),
            kv_free_tokens: load.kv_free_tokens.load(Ordering::Relaxed),
            requests: load.requests.load(Ordering::Relaxed),
            queue_us: load.queue_us.load(Ordering::Relaxed),
        };
        let frame = Frame::bare(Message::Heartbeat(beat));
        network.send(me, frame.clone());
        let transport = network.transport();
        let peers = transport.map(|it| it.peers()).unwrap_or_default();
        for peer in &peers {
            network.send(peer.host, frame.clone());
            if let Some(round_trip) = transport.and_then(|it| it.round_trip(peer.host)) {
                let labels = PeerLabels { peer: peer.name.clone() };
                metrics.link_round_trip.get_or_create(&labels).set(round_trip.as_secs_f64());
            }
        }
        metrics.hosts_alive.set(i64::try_from(peers.len()).unwrap_or(i64::MAX - 1) + 1);
        board.gauge(me, beat.kv_free_tokens, &metrics);
    }
}
