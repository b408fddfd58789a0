//! Closures that connect transport and API to the actors.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes as Buffer;
use thalweg_core::{gateway, liveness, stage};
use thalweg_wire::{HostId, decode, encode};
use tokio::sync::Notify;

use super::board::Board;
use super::gateway::Stream;
use super::network::Network;
use super::runtime::Seat;
use crate::generate::{Full, GatewayCommand, GatewayHandle, Submission};
use crate::host::{Deliver, Entrust, post};
use crate::http::{ClusterStatus, HostState};
use crate::transport::{BoxFuture, CallKind, Calls, Events, LinkEvent, Peer};

/// Takes what happens on links.
pub(super) fn events(network: &Arc<Network>, linked: &Arc<Notify>) -> Events {
    let (network, linked) = (Arc::clone(network), Arc::clone(linked));
    let seen = Mutex::new(HashSet::new());
    Arc::new(move |event| match event {
        LinkEvent::Up(peer) => {
            let first = seen.lock().unwrap_or_else(PoisonError::into_inner).insert(peer.host);
            up(&network, &peer, first);
            linked.notify_one();
            tokio::spawn(meet(Arc::clone(&network), peer));
        }
        LinkEvent::Down { host, reason } => {
            tracing::info!(name = network.name(host), reason, "link is down");
        }
        LinkEvent::Frame { from, frame, hold } => network.receive(from, frame, Some(hold)),
        LinkEvent::Refused { peer, reason } => tracing::warn!(peer, reason, "link refused"),
    })
}

fn up(network: &Network, peer: &Peer, first: bool) {
    tracing::info!(name = peer.name, region = peer.region, address = peer.address, "link is up");
    let Some(actors) = network.actors() else { return };
    let host = peer.host;
    if !first {
        // Frames were lost with the old link, or with the old process: replay what needed them.
        post(&actors.gateway, Deliver(gateway::Event::HostDown(host)));
        post(&actors.stage, Deliver(stage::Event::HostDown(host)));
        post(&actors.gateway, Deliver(gateway::Event::HostUp(host)));
    }
    post(&actors.life, Deliver(liveness::Event::Heartbeat(host)));
}

/// Asks a new peer whom else it knows, and dials them: a leader must reach every host, also those
/// that only know the same seed.
async fn meet(network: Arc<Network>, peer: Peer) {
    let Some(transport) = network.transport() else { return };
    let answer = transport.call(peer.host, CallKind::Peers, Buffer::new()).await;
    let known = answer.ok().and_then(|it| decode::<Vec<(String, String)>>(&it).ok());
    for (name, address) in known.unwrap_or_default() {
        transport.connect(&name, &address);
    }
}

/// Returns name and address of everybody linked.
fn peers(network: &Network) -> Vec<(String, String)> {
    let peers = network.transport().map(|it| it.peers()).unwrap_or_default();
    peers.into_iter().map(|it| (it.name, it.address)).collect()
}

/// Answers calls of peers.
pub(super) fn calls(seat: &Seat, network: &Arc<Network>) -> Calls {
    let (seat, network) = (Arc::clone(seat), Arc::clone(network));
    Arc::new(move |_from, kind, body| {
        let (seat, network) = (Arc::clone(&seat), Arc::clone(&network));
        let answer: BoxFuture<Result<Buffer, String>> = Box::pin(async move {
            if kind == CallKind::Peers {
                let known = encode(&peers(&network)).map_err(|error| error.to_string())?;
                return Ok(known.into());
            }
            let consensus = seat.get().ok_or("this host is starting")?;
            match kind {
                CallKind::Raft => Ok(consensus.answer(&body).await),
                CallKind::Propose => Ok(consensus.answer_propose(&body).await),
                _ => Err(format!("{kind:?} calls are not answered here")),
            }
        });
        answer
    })
}

/// Returns the way from the API to the gateway.
pub(super) fn gateway(network: &Arc<Network>) -> GatewayHandle {
    let network = Arc::clone(network);
    GatewayHandle::new(move |command| {
        let gateway = &network.actors().ok_or(Full)?.gateway;
        match command {
            GatewayCommand::Submit { ticket, submission, events } => {
                let Submission { prompt, sampling, priority, tenant } = submission;
                gateway.try_send(Entrust(Stream { ticket, events })).map_err(|_| Full)?;
                let submit = gateway::Event::Submit { ticket, prompt, sampling, priority, tenant };
                gateway.try_send(Deliver(submit)).map_err(|_| Full)
            }
            GatewayCommand::Cancel { ticket } => {
                post(gateway, Deliver(gateway::Event::Cancel { ticket }));
                Ok(())
            }
        }
    })
}

/// Returns what describes the cluster.
pub(super) fn status(
    board: &Arc<Board>,
    network: &Arc<Network>,
) -> Arc<dyn Fn() -> ClusterStatus + Send + Sync> {
    let (board, network) = (Arc::clone(board), Arc::clone(network));
    Arc::new(move || board.status(|host| network.heard(host)))
}

impl Network {
    /// Tells whether a host is heard.
    fn heard(&self, host: HostId) -> HostState {
        let linked =
            |it: &Arc<crate::transport::Transport>| it.peers().iter().any(|peer| peer.host == host);
        if self.is_me(host) || self.transport().is_some_and(linked) {
            HostState::Alive
        } else {
            HostState::Dead
        }
    }
}
