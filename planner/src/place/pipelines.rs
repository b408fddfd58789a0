//! Pipelines that share no hosts: how to cut an order of hosts into them, and what they carry.
//!
//! A request stays in its pipeline, so that a pipeline carries what its weakest stage or hop does,
//! and pipelines add up. The rules without routing between replicas all come down to an order of
//! hosts, which is cut here in the best way.

use thalweg_wire::LayerRange;

use super::range;
use crate::instance::{Instance, Pairs, Placement};
use crate::method::Found;
use crate::solver::{Answer, Effort, Program};

/// A chain of hosts that holds all layers once, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// Hosts, from the first layers to the last.
    pub hosts: Vec<usize>,
    /// What each of them holds.
    pub ranges: Vec<LayerRange>,
    /// Tokens/s through its weakest stage or hop.
    pub flow: f64,
}

/// Cuts `order` into pipelines of consecutive hosts, hosts between them left out, so that they
/// carry the most together. Exact for this order, but for capacities shared by several links.
pub fn cut(instance: &Instance, order: &[usize]) -> Vec<Pipeline> {
    // `best[end]`: the most that the first `end` hosts carry, and where the last pipeline begins.
    let mut best = vec![(0.0_f64, None); order.len() + 1];
    for start in 0..order.len() {
        if best[start + 1].0 <= best[start].0 {
            best[start + 1] = (best[start].0, None);
        }
        let before = best[start].0;
        for (length, flow) in flows_from(instance, &order[start..]).into_iter().enumerate() {
            let end = start + length + 1;
            if flow > 0.0 && before + flow > best[end].0 {
                best[end] = (before + flow, Some(start));
            }
        }
    }
    let mut found = Vec::new();
    let mut end = order.len();
    while end > 0 {
        let Some(start) = best[end].1 else {
            end -= 1;
            continue;
        };
        found.extend(pipeline(instance, &order[start..end]));
        end = start;
    }
    found.reverse();
    found
}

/// The best way to split the layers over these hosts in this order; `None` if there is none.
pub fn pipeline(instance: &Instance, hosts: &[usize]) -> Option<Pipeline> {
    let layers = instance.layers as usize;
    let mut splits = Splits::new(instance);
    let steps: Vec<Vec<usize>> = hosts.iter().map(|&host| splits.extend(host)).collect();
    let mut ranges = Vec::with_capacity(hosts.len());
    let mut end = layers;
    for taken in steps.iter().rev() {
        let first = end.checked_sub(taken[end])?;
        ranges.push(range(first as u32, end as u32)?);
        end = first;
    }
    ranges.reverse();
    let flow = carried(instance, hosts, &ranges)?;
    (end == 0 && flow > 0.0).then(|| Pipeline { hosts: hosts.to_vec(), ranges, flow })
}

/// What a chain of hosts with these ranges carries; `None` where a link is missing.
pub fn carried(instance: &Instance, hosts: &[usize], ranges: &[LayerRange]) -> Option<f64> {
    let (&head, &tail) = (hosts.first()?, hosts.last()?);
    let mut flow = instance.network.enter[head]?.tokens_per_second;
    flow = flow.min(instance.network.leave[tail]?.tokens_per_second);
    for hop in hosts.windows(2) {
        flow = flow.min(hop_rate(instance, hop[0], hop[1])?);
    }
    let rates = hosts.iter().zip(ranges).map(|(&host, &range)| instance.rate(host, range));
    Some(rates.fold(flow, f64::min))
}

/// Turns pipelines into a placement that is judged on their own hops only.
pub fn found(instance: &Instance, pipelines: Vec<Pipeline>) -> Option<Found> {
    let mut placement: Placement = vec![None; instance.hosts.len()];
    for it in &pipelines {
        it.hosts.iter().zip(&it.ranges).for_each(|(&host, &range)| placement[host] = Some(range));
    }
    let pipelines: Vec<_> = pipelines.into_iter().map(|it| it.hosts).collect();
    let found = Found { placement, bound: None, pipelines: Some(pipelines) };
    (!found.placement.iter().all(Option::is_none)).then_some(found)
}

/// Tokens/s of pipelines that share no hosts, when requests stay in theirs: each carries what its
/// weakest stage or hop does, less where capacities shared by several links bind. Zero for a
/// pipeline that does not hold every layer once and in order.
pub fn flow(instance: &Instance, placement: &Placement, pipelines: &[Vec<usize>]) -> f64 {
    let capacities: Vec<f64> =
        pipelines.iter().map(|hosts| capacity(instance, placement, hosts)).collect();
    let mut program = Program::default();
    for &capacity in &capacities {
        program.add(1.0, capacity);
    }
    for shared in &instance.network.shared {
        let draws = |hosts: &Vec<usize>| {
            let region = |at: usize| instance.hosts[at].region;
            let hops = hosts.windows(2).map(|hop| (region(hop[0]), region(hop[1])));
            hops.filter(|hop| shared.carries.contains(hop)).count() as f64
        };
        let entries: Vec<_> = pipelines.iter().map(draws).enumerate().collect();
        let entries = entries.into_iter().filter(|it| it.1 > 0.0).collect();
        program.constrain(f64::NEG_INFINITY, entries, shared.tokens_per_second);
    }
    if program.rows.is_empty() {
        return capacities.iter().sum();
    }
    match program.maximise(&Effort::default()) {
        Answer::Optimal(point) => point.objective,
        _ => 0.0,
    }
}

/// The instance with the hops inside `pipelines` alone, so that what computes flows, routes and
/// pictures of placements does so for pipelines too. Listed pair by pair: memory grows with the
/// square of the hosts.
pub fn confined(instance: &Instance, pipelines: &[Vec<usize>]) -> Instance {
    let hosts = instance.hosts.len();
    let mut confined = instance.clone();
    let mut pairs = vec![None; hosts * hosts];
    confined.network.enter = vec![None; hosts];
    confined.network.leave = vec![None; hosts];
    for pipeline in pipelines {
        for hop in pipeline.windows(2) {
            pairs[hop[0] * hosts + hop[1]] = instance.wire(hop[0], hop[1]);
        }
        if let (Some(&head), Some(&tail)) = (pipeline.first(), pipeline.last()) {
            confined.network.enter[head] = instance.network.enter[head];
            confined.network.leave[tail] = instance.network.leave[tail];
        }
    }
    confined.network.pairs = Pairs::Each(pairs);
    confined
}

fn capacity(instance: &Instance, placement: &Placement, hosts: &[usize]) -> f64 {
    let ranges: Option<Vec<LayerRange>> = hosts.iter().map(|&host| placement[host]).collect();
    let Some(ranges) = ranges else { return 0.0 };
    let whole = ranges.first().is_some_and(|it| it.first() == 0)
        && ranges.last().is_some_and(|it| it.end() == instance.layers)
        && ranges.windows(2).all(|it| it[0].end() == it[1].first());
    if whole { carried(instance, hosts, &ranges).unwrap_or(0.0) } else { 0.0 }
}

fn hop_rate(instance: &Instance, from: usize, to: usize) -> Option<f64> {
    let wire = instance.wire(from, to)?.tokens_per_second;
    Some(wire.min(instance.hosts[from].nic_out).min(instance.hosts[to].nic_in))
}

/// What the pipelines of the first 1, 2, … hosts carry; ends where a longer one is impossible.
fn flows_from(instance: &Instance, hosts: &[usize]) -> Vec<f64> {
    let mut flows = Vec::new();
    let Some(enter) = hosts.first().and_then(|&it| instance.network.enter[it]) else {
        return flows;
    };
    let mut reach = enter.tokens_per_second;
    let mut splits = Splits::new(instance);
    for (at, &host) in hosts.iter().take(instance.layers as usize).enumerate() {
        if at > 0 {
            let Some(rate) = hop_rate(instance, hosts[at - 1], host) else { break };
            reach = reach.min(rate);
        }
        splits.extend(host);
        let leave = instance.network.leave[host].map_or(0.0, |it| it.tokens_per_second);
        flows.push(reach.min(leave).min(splits.widest[instance.layers as usize]));
    }
    flows
}

/// The best splits of the first layers over the hosts so far.
struct Splits<'a> {
    instance: &'a Instance,
    /// `[layers]`: the largest least rate with which the hosts so far hold so many layers, each
    /// host at least one; zero where they cannot.
    widest: Vec<f64>,
}

impl<'a> Splits<'a> {
    fn new(instance: &'a Instance) -> Self {
        let mut widest = vec![0.0; instance.layers as usize + 1];
        widest[0] = f64::INFINITY;
        Self { instance, widest }
    }

    /// Adds a host and returns how many layers it takes for each number of layers held so far.
    fn extend(&mut self, host: usize) -> Vec<usize> {
        let layers = self.widest.len() - 1;
        let most = (self.instance.class(host).rates.count_max() as usize).min(layers);
        let mut taken = vec![0; layers + 1];
        let mut next = vec![0.0; layers + 1];
        for start in 0..layers {
            if self.widest[start] <= 0.0 {
                continue;
            }
            for end in start + 1..=(start + most).min(layers) {
                let Some(range) = range(start as u32, end as u32) else { continue };
                let rate = self.widest[start].min(self.instance.rate(host, range));
                if rate > next[end] {
                    next[end] = rate;
                    taken[end] = end - start;
                }
            }
        }
        self.widest = next;
        taken
    }
}
