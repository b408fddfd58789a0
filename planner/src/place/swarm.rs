//! Equal stages filled by throughput, as in SWARM.
//!
//! The rule of the Helix artifact: as few stages of equal length as fit the smallest machine; the
//! machines, fastest first, go one by one to the stage with the least throughput so far.

use std::cmp::Reverse;

use thalweg_wire::LayerRange;

use super::{by_descending, range};
use crate::instance::{Instance, Placement};
use crate::method::{Found, Method, Watch};

/// Equal stages filled by throughput.
#[derive(Clone, Copy, Debug, Default)]
pub struct Swarm;

impl Method for Swarm {
    fn name(&self) -> &'static str {
        "swarm"
    }

    fn place(&self, instance: &Instance, _seed: u64, _watch: &mut Watch<'_>) -> Option<Found> {
        let fits = |it: &usize| instance.class(*it).rates.count_max();
        let mut limits: Vec<u32> = (0..instance.hosts.len()).map(|it| fits(&it)).collect();
        limits.sort_unstable();
        limits.dedup();
        // Where the smallest machine asks for more stages than can be filled, it is left out.
        let placement = limits.into_iter().filter(|&it| it > 0).find_map(|limit| {
            let hosts: Vec<usize> =
                (0..instance.hosts.len()).filter(|it| fits(it) >= limit).collect();
            fill(instance, &stages(instance.layers, limit), hosts)
        })?;
        Some(Found::new(placement))
    }
}

/// As few stages of equal length as hold at most `limit` layers each. Where that takes over twice
/// as many as needed, as for a prime number of layers, lengths differ by one instead.
pub fn stages(layers: u32, limit: u32) -> Vec<LayerRange> {
    let least = layers.div_ceil(limit.max(1)).max(1);
    let count = (least..2 * least).find(|&count| layers.is_multiple_of(count)).unwrap_or(least);
    equal(layers, count)
}

/// `count` stages whose lengths differ by one at most, longer ones first.
pub fn equal(layers: u32, count: u32) -> Vec<LayerRange> {
    let (length, longer) = (layers / count, layers % count);
    let start = |stage: u32| stage * length + stage.min(longer);
    (0..count).filter_map(|stage| range(start(stage), start(stage + 1))).collect()
}

fn fill(instance: &Instance, stages: &[LayerRange], mut hosts: Vec<usize>) -> Option<Placement> {
    if hosts.len() < stages.len() {
        return None;
    }
    let length = stages[0].count();
    // The artifact's order: fastest first, the last of equals first.
    let rate = |it: usize| instance.class(it).rates.most(length);
    hosts.sort_by(|&a, &b| by_descending(rate(a), rate(b)).then(Reverse(a).cmp(&Reverse(b))));
    let mut placement = vec![None; instance.hosts.len()];
    let mut filled = vec![0.0; stages.len()];
    for host in hosts {
        let open = (0..stages.len()).filter(|&it| instance.rate(host, stages[it]) > 0.0);
        let Some(stage) = open.min_by(|&a, &b| f64::total_cmp(&filled[a], &filled[b])) else {
            continue;
        };
        filled[stage] += instance.rate(host, stages[stage]);
        placement[host] = Some(stages[stage]);
    }
    filled.iter().all(|&it| it > 0.0).then_some(placement)
}
