//! Candidates along throughput, latency and cost, ranked by a closed-loop estimate or a judge.
//!
//! Maximum flow is only a proxy of what is served: every stage adds a step and a hop to each token.
//! So placements of much flow stand beside such with fewer and deeper stages and such that leave
//! machines out, each at some loads; those that another beats in every respect are dropped.

mod climb;
mod estimate;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use crate::cluster::Mix;
use crate::flow;
use crate::instance::{Class, Instance, Placement, Rates};
use crate::method::{Progress, Watch};
use crate::place::blocks;
use crate::survive;
pub use climb::improve;
use estimate::Loop;

/// What the operator wants most.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Objective {
    /// Output tokens per second.
    #[default]
    Throughput,
    /// Time per output token.
    Latency,
    /// Output tokens per second within the targets.
    Goodput,
    /// Dollars per output token.
    Cost,
}

/// What is served, and how fast it is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Targets {
    /// Mean lengths of a request.
    pub mix: Mix,
    /// What is wanted most; candidates come in this order.
    pub objective: Objective,
    /// Time to first token at most, in seconds.
    pub ttft_seconds: Option<f64>,
    /// Time per output token at most, in seconds.
    pub tpot_seconds: Option<f64>,
}

/// What a placement serves under some load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Output tokens per second.
    pub tokens_per_second: f64,
    /// Time to first token, in seconds.
    pub ttft_seconds: f64,
    /// Time per output token, in seconds.
    pub tpot_seconds: f64,
    /// Requests in flight: the limit to admit.
    pub in_flight: f64,
    /// Price of all hosts that hold something, in dollars per hour.
    pub price_per_hour: f64,
}

/// A placement that no other beats in every respect.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Who holds what.
    pub placement: Placement,
    /// Its maximum flow, in tokens/s.
    pub flow: f64,
    /// What it serves.
    pub score: Score,
}

/// Loads that each placement is looked at under, as shares of the most it can serve.
const LOADS: [f64; 4] = [1.0, 0.75, 0.5, 0.25];

/// Layers that hosts must hold at least, one after the other: deeper stages, fewer of them.
const COUNTS_LEAST: [u32; 5] = [1, 2, 3, 4, 6];

/// Shares of the best flow that cheaper subsets of the hosts must keep.
const FLOWS_KEPT: [f64; 3] = [0.9, 0.6, 0.3];

/// Moves of the search for each placement and host.
const MOVES_PER_HOST: u64 = 60_000;

/// Moves of each of these searches at most.
const MOVES_MAX: u64 = 4_000_000;

/// Runs of the search over blocks of regions for each placement, where links bind.
const RUNS_MAX: u32 = 6;

/// Layers of a deep stage, at least.
const COUNT_DEEP: u32 = 3;

/// Judges placements, and keeps those that no other beats in every respect, the best for the
/// objective first. Each is scored by the closed-loop estimate under several loads, or by a `judge`
/// in its place. Empty if nothing has a flow, if nothing keeps the targets of goodput, or if curves
/// are not known and there is no judge.
pub fn rank(
    instance: &Instance,
    targets: &Targets,
    placements: &[Placement],
    mut judge: Option<&mut dyn FnMut(&Placement) -> Score>,
) -> Vec<Candidate> {
    let mut best: Vec<Candidate> = Vec::new();
    for placement in placements {
        let flow = flow::value(instance, placement);
        let scores: Vec<Score> = match &mut judge {
            Some(judge) => vec![judge(placement)],
            None => estimates(instance, placement, targets),
        };
        for score in scores {
            if !best.iter().any(|other| beats(&other.score, &score)) {
                best.retain(|other| !beats(&score, &other.score));
                best.push(Candidate { placement: placement.clone(), flow, score });
            }
        }
    }
    best.sort_by(|a, b| worth(targets, &b.score).total_cmp(&worth(targets, &a.score)));
    best
}

/// What a placement serves under several loads, by the closed-loop estimate; for goodput, under
/// those that keep the targets. Empty if curves are not known.
pub fn estimates(instance: &Instance, placement: &Placement, targets: &Targets) -> Vec<Score> {
    let Some(closed) = Loop::new(instance, placement, targets.mix) else { return Vec::new() };
    let goodput = targets.objective == Objective::Goodput;
    let wanted = |it: &Score| !goodput || targets.keeps(it);
    let most = if goodput { closed.most_with(wanted) } else { Some(closed.most()) };
    let rates = LOADS.iter().filter_map(|share| most.map(|it| it * share));
    rates.filter_map(|rate| closed.at(rate)).filter(wanted).collect()
}

/// A cheap subset of the hosts of `placement` that still has a flow of `flow` tokens/s: hosts are
/// dropped, the dearest first, for as long as the others reach it as they are.
pub fn cheapest(instance: &Instance, placement: &Placement, flow: f64) -> Placement {
    let mut kept = placement.clone();
    let mut judge = flow::Judge::new(instance);
    let price = |host: usize| instance.hosts[host].price_per_hour;
    let mut hosts: Vec<usize> = (0..kept.len()).filter(|&it| kept[it].is_some()).collect();
    hosts.sort_by(|&a, &b| price(b).total_cmp(&price(a)));
    for host in hosts {
        let range = kept[host].take();
        if judge.value(&kept) < flow {
            kept[host] = range;
        }
    }
    kept
}

/// Placements that might be best for somebody: of much flow, with deep stages, without some machine
/// type or some region, of one machine type, and what is left of them where the price counts.
///
/// `watch` is told of every placement searched for; after its `Break` those found so far are
/// returned.
pub fn placements(instance: &Instance, seed: u64, watch: &mut Watch<'_>) -> Vec<Placement> {
    let mut found: Vec<Placement> = Vec::new();
    let mut best = 0.0_f64;
    for (count, ground) in (1..).zip(grounds(instance)) {
        if let Some(placement) = glimpse(&ground, seed, best, watch) {
            let flow = flow::value(instance, &placement);
            best = best.max(flow);
            for kept in FLOWS_KEPT {
                found.push(cheapest(instance, &placement, kept * flow));
            }
            found.push(placement);
        }
        let progress = Progress { flow: best, bound: f64::INFINITY, moves: count };
        if watch(progress).is_break() {
            break;
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The instance, and such in which less is allowed.
fn grounds(instance: &Instance) -> Vec<Instance> {
    let mut grounds: Vec<Instance> = Vec::new();
    for least in COUNTS_LEAST {
        grounds.push(restricted(instance, |_, count| count >= least));
    }
    if instance.classes.len() > 1 {
        for this in 0..instance.classes.len() {
            grounds.push(restricted(instance, |class, _| class != this));
            let deep = |class, count| class != this && count >= COUNT_DEEP;
            grounds.push(restricted(instance, deep));
            grounds.push(restricted(instance, |class, _| class == this));
        }
    }
    if instance.regions.len() > 1 {
        grounds.extend((0..instance.regions.len()).map(|region| without_region(instance, region)));
    }
    grounds.retain(|it| it.layers_held_max() >= u64::from(it.layers));
    grounds
}

/// What a short search finds. `best` is the best flow so far, for those who watch.
fn glimpse(ground: &Instance, seed: u64, best: f64, watch: &mut Watch<'_>) -> Option<Placement> {
    if !flow::links_bind(ground) {
        let moves = (MOVES_PER_HOST * ground.hosts.len() as u64).min(MOVES_MAX);
        let nobody: Placement = vec![None; ground.hosts.len()];
        return survive::glimpse(ground, &nobody, moves, seed);
    }
    let mut runs = 0;
    let mut watch_runs = |it: Progress| {
        runs += 1;
        let over = watch(Progress { flow: best.max(it.flow), ..it }).is_break();
        if over || runs >= RUNS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    blocks::search(ground, seed, &mut watch_runs).map(|it| it.placement)
}

/// The instance with only those numbers of layers that `allowed` takes, by class.
fn restricted(instance: &Instance, allowed: impl Fn(usize, u32) -> bool) -> Instance {
    let mut ground = instance.clone();
    for (at, class) in ground.classes.iter_mut().enumerate() {
        class.rates = class.rates.only(|count| allowed(at, count));
    }
    ground
}

/// The instance with nothing in one region.
fn without_region(instance: &Instance, region: usize) -> Instance {
    let mut ground = instance.clone();
    let idle = ground.classes.len();
    ground.classes.push(Class { name: "idle".into(), rates: Rates::default(), device: None });
    ground.hosts.iter_mut().filter(|it| it.region == region).for_each(|it| it.class = idle);
    ground
}

/// Whether one score is at least as good in every respect.
fn beats(one: &Score, other: &Score) -> bool {
    one.tokens_per_second >= other.tokens_per_second
        && one.tpot_seconds <= other.tpot_seconds
        && one.price_per_hour <= other.price_per_hour
}

impl Targets {
    /// Whether both times are kept, where they are given.
    fn keeps(&self, score: &Score) -> bool {
        self.ttft_seconds.is_none_or(|it| score.ttft_seconds <= it)
            && self.tpot_seconds.is_none_or(|it| score.tpot_seconds <= it)
    }
}

/// Larger is better.
fn worth(targets: &Targets, score: &Score) -> f64 {
    match targets.objective {
        Objective::Throughput => score.tokens_per_second,
        Objective::Latency => -score.tpot_seconds,
        Objective::Goodput if targets.keeps(score) => score.tokens_per_second,
        // Outside the targets, where only a judge may lead, nothing counts; the nearest comes first.
        Objective::Goodput => -score.tpot_seconds,
        Objective::Cost => -score.price_per_hour / score.tokens_per_second.max(f64::MIN_POSITIVE),
    }
}
