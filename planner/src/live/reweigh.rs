//! New weights for an old placement, when a host is lost or has become slower.

use std::collections::BTreeMap;

use thalweg_wire::{Bytes, HostId, LayerRange};

use crate::live::bound::simple_bound;
use crate::live::diagnose::uncovered;
use crate::live::instance::{Instance, Placement};
use crate::live::solution::Judged;
use crate::{Excluded, Exclusion, Infeasible, Outcome, Problem, Reason, Solution};

/// Computes the flow that `placement` still carries on the hosts of `problem`.
///
/// Nothing moves: hosts that are not in the problem are gone, hosts that are not in the placement
/// stay empty, hosts that carry nothing keep their layers. The work of one linear program.
pub fn reweigh(problem: &Problem, placement: &[(HostId, LayerRange)]) -> Outcome {
    let mut instance = match Instance::new(problem) {
        Ok(instance) => instance,
        Err(error) => return Outcome::Infeasible(Infeasible::malformed(error)),
    };
    let kept = keep(&mut instance, placement);
    let bound = simple_bound(&instance);
    let judged = Judged::new(&instance, kept, bound);
    if judged.flow > 0.0 {
        return Outcome::Planned(Solution::new(problem, &instance, &judged, bound));
    }
    let layers = instance.model.layers;
    let held = |layer| judged.placement.iter().flatten().any(|it| it.contains(layer));
    let missing_layers = uncovered(layers, held);
    let (reason, missing_memory) = match (missing_layers.first(), missing_layers.last()) {
        (Some(first), Some(last)) => {
            let hull = LayerRange::new(first.first(), last.end()).expect("ranges are in order");
            let count = missing_layers.iter().map(|it| it.count()).sum();
            (Reason::Uncovered { count, layers }, Bytes(instance.model.need(hull)))
        }
        _ => (Reason::NotLinked { layers }, Bytes(0)),
    };
    let excluded = instance.excluded;
    Outcome::Infeasible(Infeasible { reason, missing_layers, missing_memory, excluded })
}

/// Lays the old placement out on the hosts that are left.
fn keep(instance: &mut Instance, placement: &[(HostId, LayerRange)]) -> Placement {
    let old: BTreeMap<HostId, LayerRange> = placement.iter().copied().collect();
    let mut kept = vec![None; instance.hosts.len()];
    for (host, node) in instance.hosts.iter().enumerate() {
        let Some(&layers) = old.get(&node.id) else { continue };
        let known = layers.end() <= instance.model.layers;
        if known && instance.holds(host, layers) {
            kept[host] = Some(layers);
        } else {
            let memory = Bytes(node.capacity.memory());
            let exclusion = Exclusion::NoLongerFits { layers, memory };
            let (host, name) = (node.id, node.name.clone());
            instance.excluded.push(Excluded { host, name, exclusion });
        }
    }
    kept
}
