//! Another plan after a change, as the planner repairs one.

use thalweg_planner::cluster::Resolved;
use thalweg_planner::instance::{Instance, Pairs};
use thalweg_planner::repair::{self, Change as Repaired};
use thalweg_planner::{Charge, flow};

use super::{ReplanMethod, Scenario};
use crate::agenda::nanos;
use crate::plan::plan;
use crate::world::{Between, Change, Replan, Replanned, Situation};

/// What makes another plan, if anything does.
pub(super) fn hook(scenario: &Scenario) -> Option<Replan<'_>> {
    let Scenario { resolved, bounds, replan, .. } = scenario;
    if replan.method == ReplanMethod::Nothing || scenario.faults.is_empty() {
        return None;
    }
    // The cluster as it is by now.
    let mut instance = scenario.at_start();
    Some(Box::new(move |situation: &Situation<'_>| {
        let change = repaired(situation.change, &instance, resolved)?;
        let repair = repair::replan(&instance, situation.placement, &change, 0);
        let placement = repair.placement;
        let flow = flow::maximum(&repair.instance, &placement, Charge::Full);
        instance = repair.instance;
        let plan = plan(resolved, &placement, &flow, bounds, situation.epoch).ok()?;
        Some(Replanned { placement, plan, delay: nanos(replan.delay_seconds) })
    }))
}

/// The change in the planner's words.
fn repaired(change: Change, now: &Instance, resolved: &Resolved) -> Option<Repaired> {
    match change {
        Change::HostLost(host) => Some(Repaired::HostLost { host }),
        Change::HostJoined(host) => {
            let mut cluster = now.clone();
            cluster.hosts[host].class = resolved.instance.hosts[host].class;
            Some(Repaired::HostsJoined { cluster: Box::new(cluster) })
        }
        Change::LinksSlower { between: Between::Regions(from, to), share } => {
            Some(Repaired::LinkSlower { from, to, share })
        }
        Change::LinksSlower { between: Between::Hosts(from, to), share } => {
            let mut cluster = now.clone();
            let hosts = cluster.hosts.len();
            let wires: Vec<_> =
                (0..hosts * hosts).map(|at| now.wire(at / hosts, at % hosts)).collect();
            cluster.network.pairs = Pairs::Each(wires);
            if let Pairs::Each(wires) = &mut cluster.network.pairs
                && let Some(Some(wire)) = wires.get_mut(from * hosts + to)
            {
                wire.tokens_per_second *= share;
            }
            Some(Repaired::WorkloadShifted { cluster: Box::new(cluster) })
        }
        Change::SharedSlower { shared, share } => {
            let mut cluster = now.clone();
            let planned = resolved.instance.network.shared[shared].tokens_per_second;
            cluster.network.shared[shared].tokens_per_second = planned * share;
            Some(Repaired::WorkloadShifted { cluster: Box::new(cluster) })
        }
    }
}
