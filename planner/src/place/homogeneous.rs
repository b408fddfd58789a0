//! Stages as a deployment without a planner would make them, as with Orca or vLLM.
//!
//! Two rules, and the better of them counts: machines filled to the brim, type after type (the
//! Helix artifact's rule), and equal stages over machines sorted by speed.

use super::pipelines::{self, Pipeline};
use super::swarm::equal;
use super::{by_descending, range};
use crate::instance::Instance;
use crate::method::{Found, Method, Watch};

/// Full or equal stages over like machines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Homogeneous;

impl Method for Homogeneous {
    fn name(&self) -> &'static str {
        "homogeneous"
    }

    fn place(&self, instance: &Instance, _seed: u64, _watch: &mut Watch<'_>) -> Option<Found> {
        let equal = (1..=instance.layers).map(|stages| equal_stages(instance, stages));
        let candidates = std::iter::once(full_stages(instance)).chain(equal);
        let flow = |it: &Vec<Pipeline>| it.iter().map(|it| it.flow).sum::<f64>();
        let best =
            candidates.reduce(|best, next| if flow(&next) > flow(&best) { next } else { best });
        pipelines::found(instance, best?)
    }
}

/// The artifact's rule: machine types by what one of them computes when full, each machine filled
/// with as many layers as fit, spilling into the next type. An unfinished pipeline is dropped.
pub fn full_stages(instance: &Instance) -> Vec<Pipeline> {
    let work = |host: usize| {
        let rates = &instance.class(host).rates;
        rates.most(rates.count_max()) * f64::from(rates.count_max())
    };
    let mut hosts: Vec<usize> =
        (0..instance.hosts.len()).filter(|&it| instance.class(it).rates.count_max() > 0).collect();
    hosts.sort_by(|&a, &b| {
        let class = |it: usize| instance.hosts[it].class;
        by_descending(work(a), work(b)).then(class(a).cmp(&class(b)))
    });
    let (mut found, mut chain, mut ranges, mut end) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for host in hosts {
        let most = instance.class(host).rates.count_max().min(instance.layers - end);
        let fitting = (1..=most).rev().filter_map(|count| range(end, end + count));
        let Some(range) = fitting.into_iter().find(|&it| instance.rate(host, it) > 0.0) else {
            continue;
        };
        chain.push(host);
        ranges.push(range);
        end = range.end();
        if end == instance.layers {
            found.extend(finished(
                instance,
                std::mem::take(&mut chain),
                std::mem::take(&mut ranges),
            ));
            end = 0;
        }
    }
    found
}

/// As many pipelines of `stages` equal stages as can be made of the machines, fastest first.
fn equal_stages(instance: &Instance, stages: u32) -> Vec<Pipeline> {
    let ranges = equal(instance.layers, stages);
    let longest = ranges[0].count();
    let rate = |host: usize| instance.class(host).rates.most(longest);
    let mut hosts: Vec<usize> = (0..instance.hosts.len()).filter(|&it| rate(it) > 0.0).collect();
    hosts.sort_by(|&a, &b| {
        by_descending(rate(a), rate(b))
            .then(instance.hosts[a].region.cmp(&instance.hosts[b].region))
    });
    let chains = hosts.chunks_exact(ranges.len());
    chains.filter_map(|it| finished(instance, it.to_vec(), ranges.clone())).collect()
}

fn finished(
    instance: &Instance,
    hosts: Vec<usize>,
    ranges: Vec<thalweg_wire::LayerRange>,
) -> Option<Pipeline> {
    let flow = pipelines::carried(instance, &hosts, &ranges).filter(|&it| it > 0.0)?;
    Some(Pipeline { hosts, ranges, flow })
}
