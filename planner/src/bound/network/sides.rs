//! Crossings between two sides of the regions.

use super::{NetworkProof, NetworkReason, room};
use crate::instance::{Instance, Pairs};

/// With more regions than this only one region at a time is a side.
const REGIONS_MAX: usize = 10;

/// The lowest bound over all ways to divide the regions. `None` if there is one region only.
pub(super) fn prove(instance: &Instance) -> Option<NetworkProof> {
    let mut regions: Vec<usize> = instance.hosts.iter().map(|it| it.region).collect();
    regions.sort_unstable();
    regions.dedup();
    let pairs = pair_capacities(instance);
    let divisions: Vec<Vec<usize>> = if regions.len() <= REGIONS_MAX {
        // The last region is always on the far side: sides are named either way.
        let choices = 1_u32..(1 << regions.len().saturating_sub(1));
        choices
            .map(|it| {
                (0..regions.len()).filter(|at| it >> at & 1 == 1).map(|at| regions[at]).collect()
            })
            .collect()
    } else {
        regions.iter().map(|&it| vec![it]).collect()
    };
    divisions
        .into_iter()
        .map(|near| divide(instance, &pairs, &regions, near))
        .min_by(|a, b| a.value.total_cmp(&b.value))
}

fn divide(instance: &Instance, pairs: &[f64], regions: &[usize], near: Vec<usize>) -> NetworkProof {
    let far: Vec<usize> = regions.iter().copied().filter(|it| !near.contains(it)).collect();
    let (out, shared_out) = capacity(instance, pairs, &near, &far);
    let (back, shared_back) = capacity(instance, pairs, &far, &near);
    let near_alone = room::alone(instance, &room::counts(instance, &near));
    let far_alone = room::alone(instance, &room::counts(instance, &far));
    NetworkProof {
        value: near_alone + far_alone + out.max(back),
        reason: NetworkReason::Sides { near, near_alone, far_alone, shared_out, shared_back },
    }
}

/// Tokens/s from one side to the other, and the shared capacities that count for the links which
/// they carry.
fn capacity(instance: &Instance, pairs: &[f64], from: &[usize], to: &[usize]) -> (f64, Vec<usize>) {
    let count = instance.regions.len();
    let mut open: Vec<(usize, usize)> =
        from.iter().flat_map(|&a| to.iter().map(move |&b| (a, b))).collect();
    let (mut total, mut used) = (0.0, Vec::new());
    for (at, shared) in instance.network.shared.iter().enumerate() {
        let carried = open.iter().filter(|it| shared.carries.contains(it));
        if shared.tokens_per_second < carried.map(|it| pairs[it.0 * count + it.1]).sum::<f64>() {
            open.retain(|it| !shared.carries.contains(it));
            total += shared.tokens_per_second;
            used.push(at);
        }
    }
    total += open.iter().map(|it| pairs[it.0 * count + it.1]).sum::<f64>();
    (total, used)
}

/// Sum of the links from the hosts of one region to those of another: `[from * regions + to]`.
fn pair_capacities(instance: &Instance) -> Vec<f64> {
    let count = instance.regions.len();
    let mut capacities = vec![0.0; count * count];
    match &instance.network.pairs {
        Pairs::ByRegion(table) => {
            let mut hosts = vec![0_usize; count];
            instance.hosts.iter().for_each(|it| hosts[it.region] += 1);
            for (at, wire) in table.iter().enumerate() {
                let joined = hosts[at / count] * hosts[at % count];
                let wire = wire.map_or(0.0, |it| it.tokens_per_second);
                // No pair, no capacity, even if a pair's would be infinite.
                capacities[at] = if joined > 0 { joined as f64 * wire } else { 0.0 };
            }
        }
        Pairs::Each(_) => {
            for (from, near) in instance.hosts.iter().enumerate() {
                for (to, far) in instance.hosts.iter().enumerate() {
                    let wire = instance.wire(from, to).map_or(0.0, |it| it.tokens_per_second);
                    capacities[near.region * count + far.region] += wire;
                }
            }
        }
    }
    capacities
}
