//! Keeps the group's learners equal to the hosts that registered.

use std::collections::BTreeSet;

use openraft::{ChangeMembers, EmptyNode};
use thalweg_wire::HostId;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::group::{Metrics, Raft};
use super::timing::Timing;

/// Adds and removes learners while this host leads, until the returned task is aborted.
///
/// `hosts` are those who should receive the log.
pub(super) fn spawn(
    raft: Raft,
    me: HostId,
    mut hosts: watch::Receiver<BTreeSet<HostId>>,
    timing: Timing,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut metrics = raft.metrics();
        loop {
            let next = {
                let wanted = hosts.borrow_and_update();
                next(&metrics.borrow_and_update(), me, &wanted)
            };
            if let Some(change) = next {
                if let Err(error) = raft.change_membership(change, true).await {
                    tracing::debug!(%error, "learners stay as they are for now");
                    tokio::time::sleep(timing.heartbeat).await;
                }
                continue;
            }
            let ended = tokio::select! {
                changed = hosts.changed() => changed.is_err(),
                changed = metrics.changed() => changed.is_err(),
            };
            if ended {
                return;
            }
        }
    })
}

/// Returns the change that brings the group closer to `wanted`, if this host leads.
fn next(
    metrics: &Metrics,
    me: HostId,
    wanted: &BTreeSet<HostId>,
) -> Option<ChangeMembers<HostId, EmptyNode>> {
    if metrics.current_leader != Some(me) {
        return None;
    }
    let members = metrics.membership_config.membership();
    let present: BTreeSet<HostId> = members.nodes().map(|(&host, _)| host).collect();
    let missing: Vec<HostId> = wanted.difference(&present).copied().collect();
    if !missing.is_empty() {
        let nodes = missing.into_iter().map(|host| (host, EmptyNode {})).collect();
        return Some(ChangeMembers::AddNodes(nodes));
    }
    let learners: BTreeSet<HostId> = members.learner_ids().collect();
    let extra: BTreeSet<HostId> = learners.difference(wanted).copied().collect();
    (!extra.is_empty()).then_some(ChangeMembers::RemoveNodes(extra))
}
