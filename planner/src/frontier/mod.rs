//! Candidates along throughput, latency and cost, ranked by a closed-loop estimate or a judge.
//!
//! Maximum flow is only a proxy of what is served: every stage adds a step and a hop to each token.
//! So placements of much flow stand beside such with fewer and deeper stages and such that leave
//! machines out, each at some loads; those that another beats in every respect are dropped.

mod estimate;
#[cfg(test)]
mod tests;

use std::str::FromStr;

use crate::cluster::Mix;
use crate::flow;
use crate::instance::{Instance, Placement};
use crate::method::{Progress, Watch};
use crate::survive;
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

/// A word that names no objective.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not an objective: throughput, latency, goodput or cost")]
pub struct ObjectiveError(String);

impl FromStr for Objective {
    type Err = ObjectiveError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "throughput" => Ok(Self::Throughput),
            "latency" => Ok(Self::Latency),
            "goodput" => Ok(Self::Goodput),
            "cost" => Ok(Self::Cost),
            _ => Err(ObjectiveError(word.into())),
        }
    }
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

/// Finds candidates, the best for the objective first. Empty if nothing has a flow, or if curves
/// are not known and there is no `judge`, which scores a placement in place of the estimate.
///
/// `watch` is told of every placement searched for.
pub fn candidates(
    instance: &Instance,
    targets: &Targets,
    seed: u64,
    mut judge: Option<&mut dyn FnMut(&Placement) -> Score>,
    watch: &mut Watch<'_>,
) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = Vec::new();
    for (count, placement) in placements(instance, seed, watch).into_iter().enumerate() {
        let flow = flow::value(instance, &placement);
        let scores: Vec<Score> = match &mut judge {
            Some(judge) => vec![judge(&placement)],
            None => estimates(instance, &placement, targets),
        };
        let made = |score| Candidate { placement: placement.clone(), flow, score };
        all.extend(scores.into_iter().map(made));
        let progress = Progress { flow, bound: f64::INFINITY, moves: count as u64 };
        if watch(progress).is_break() {
            break;
        }
    }
    let mut best: Vec<Candidate> = Vec::new();
    for it in all {
        if !best.iter().any(|other| beats(&other.score, &it.score)) {
            best.retain(|other| !beats(&it.score, &other.score));
            best.push(it);
        }
    }
    best.sort_by(|a, b| worth(targets, &b.score).total_cmp(&worth(targets, &a.score)));
    best
}

/// What a placement serves under several loads, by the closed-loop estimate; for goodput, under
/// those that keep the targets. Empty if curves are not known.
pub fn estimates(instance: &Instance, placement: &Placement, targets: &Targets) -> Vec<Score> {
    let Some(closed) = Loop::new(instance, placement, targets.mix) else { return Vec::new() };
    let (ttft, tpot) = match targets.objective {
        Objective::Goodput => (targets.ttft_seconds, targets.tpot_seconds),
        _ => (None, None),
    };
    LOADS.iter().filter_map(|&share| closed.score(share, ttft, tpot)).collect()
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
/// types, and what is left of them where the price counts.
fn placements(instance: &Instance, seed: u64, watch: &mut Watch<'_>) -> Vec<Placement> {
    let moves = (MOVES_PER_HOST * instance.hosts.len() as u64).min(MOVES_MAX);
    let classes = instance.classes.len();
    let mut grounds: Vec<Instance> = Vec::new();
    for least in COUNTS_LEAST {
        grounds.push(restricted(instance, |_, count| count >= least));
    }
    for without in 0..classes {
        grounds.push(restricted(instance, |class, _| class != without));
        grounds.push(restricted(instance, |class, count| class != without && count >= 3));
    }
    let mut found: Vec<Placement> = Vec::new();
    let nobody: Placement = vec![None; instance.hosts.len()];
    let mut best = 0.0_f64;
    for ground in grounds {
        let Some(placement) = survive::glimpse(&ground, &nobody, moves, seed) else { continue };
        let flow = flow::value(instance, &placement);
        best = best.max(flow);
        for kept in FLOWS_KEPT {
            found.push(cheapest(instance, &placement, kept * flow));
        }
        found.push(placement);
        let progress = Progress { flow: best, bound: f64::INFINITY, moves };
        if watch(progress).is_break() {
            break;
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The instance with only those numbers of layers that `allowed` takes, by class.
fn restricted(instance: &Instance, allowed: impl Fn(usize, u32) -> bool) -> Instance {
    let mut ground = instance.clone();
    for (at, class) in ground.classes.iter_mut().enumerate() {
        class.rates = class.rates.only(|count| allowed(at, count));
    }
    ground
}

/// Whether one score is at least as good in every respect, and better in one or equal in all.
fn beats(one: &Score, other: &Score) -> bool {
    one.tokens_per_second >= other.tokens_per_second
        && one.tpot_seconds <= other.tpot_seconds
        && one.price_per_hour <= other.price_per_hour
}

/// Larger is better.
fn worth(targets: &Targets, score: &Score) -> f64 {
    let kept = targets.ttft_seconds.is_none_or(|it| score.ttft_seconds <= it)
        && targets.tpot_seconds.is_none_or(|it| score.tpot_seconds <= it);
    match targets.objective {
        Objective::Throughput => score.tokens_per_second,
        Objective::Latency => -score.tpot_seconds,
        Objective::Goodput if kept => score.tokens_per_second,
        // Outside the targets nothing counts; the nearest comes first.
        Objective::Goodput => -score.tpot_seconds,
        Objective::Cost => -score.price_per_hour / score.tokens_per_second.max(f64::MIN_POSITIVE),
    }
}
