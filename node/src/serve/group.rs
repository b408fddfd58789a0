//! Joins the group that agrees: what it commits goes to the conductor, whom it names gets dialled.

use std::sync::Arc;

use actix::Addr;
use thalweg_core::conductor::Event;
use thalweg_core::registry::{Change, Registry};
use thalweg_wire::{HostId, HostRecord};

use super::network::{ConductorHost, Network};
use super::runtime::Node;
use crate::cli::advice::Advice;
use crate::consensus::{Call, Committed, Consensus, ConsensusConfig, OnLeader, Topic, Unanswered};
use crate::host::{Deliver, post};
use crate::transport::CallKind;

/// Starts consensus and takes the seat.
pub(super) async fn join(
    node: &Node,
    conductor: &Addr<ConductorHost>,
) -> Result<Arc<Consensus>, Advice> {
    let config = ConsensusConfig {
        me: node.me,
        voters: node.config.cluster.voters.iter().map(|it| HostId::of(it)).collect(),
        dir: node.config.data.join("raft"),
        round_trip: node.round_trip,
    };
    let (network, actor) = (Arc::clone(&node.network), conductor.clone());
    let on_commit = Arc::new(move |committed| commit(&network, &actor, committed));
    let consensus =
        Consensus::start(config, call(&node.network), on_commit, leader(node, conductor));
    let consensus = consensus.await.map_err(|source| {
        let log = node.config.data.join("raft");
        Advice::new(format!("cannot use the replicated log in `{}`", log.display()), source)
    })?;
    let consensus = Arc::new(consensus);
    let _first = node.seat.set(Arc::clone(&consensus));
    Ok(consensus)
}

fn leader(node: &Node, conductor: &Addr<ConductorHost>) -> OnLeader {
    let (me, board, conductor) = (node.me, Arc::clone(&node.board), conductor.clone());
    Arc::new(move |leadership| {
        board.leadership(leadership);
        let mine = leadership.leader == Some(me);
        if mine {
            tracing::info!(term = leadership.term, "this host plans");
        }
        let (leader, term) = (leadership.leader, leadership.term);
        post(&conductor, Deliver(Event::Leadership { leader, term, mine }));
    })
}

/// Passes on what was agreed, and dials hosts that became part of the cluster.
fn commit(network: &Network, conductor: &Addr<ConductorHost>, committed: Committed) {
    match committed {
        Committed::Command { command, changes, .. } => {
            for change in changes {
                follow(network, &change, &command);
            }
            post(conductor, Deliver(Event::Committed(command)));
        }
        Committed::Restored { registry, .. } => {
            registry.hosts().values().for_each(|it| dial(network, it));
            revoke_all(network, &registry);
            post(conductor, Deliver(Event::Restored(*registry)));
        }
    }
}

fn follow(network: &Network, change: &Change, command: &thalweg_wire::Command) {
    match (change, command) {
        (Change::Registered(_), thalweg_wire::Command::Register(record)) => dial(network, record),
        (Change::Revoked(host), _) => {
            if let Some(transport) = network.transport() {
                transport.revoke(*host);
            }
        }
        _ => {}
    }
}

fn dial(network: &Network, record: &HostRecord) {
    if let Some(transport) = network.transport() {
        transport.connect(&record.name, &record.address);
    }
}

fn revoke_all(network: &Network, registry: &Registry) {
    if let Some(transport) = network.transport() {
        registry.revoked().iter().for_each(|&host| transport.revoke(host));
    }
}

fn call(network: &Arc<Network>) -> Call {
    let network = Arc::clone(network);
    Arc::new(move |host, topic, body| {
        let network = Arc::clone(&network);
        Box::pin(async move {
            let unanswered = |reason: String| Unanswered { host, reason };
            let transport = network.transport().ok_or_else(|| unanswered("not up".into()))?;
            let kind = match topic {
                Topic::Raft => CallKind::Raft,
                Topic::Propose => CallKind::Propose,
            };
            transport.call(host, kind, body).await.map_err(|error| unanswered(error.to_string()))
        })
    })
}
