//! Survivability: the flow left after the worst loss of one host.
//!
//! A placement of maximum flow is fragile: on small clusters every layer is held once, so that any
//! loss stops all traffic until somebody has loaded what was lost. Every plan therefore names what
//! its worst single loss leaves, by new weights alone, and [`search`] finds placements that keep a
//! share of their flow whatever host is lost.
//!
//! Where links do not bind, the loss of host `h` leaves the least of `C(l)` outside its range and
//! `C(l) - T_h` inside. All losses together leave the least of `C(l) - M(l)`, `M(l)` being the
//! largest rate that holds layer `l`.

mod anneal;
mod bound;
mod exact;
mod moves;
#[cfg(test)]
pub(crate) mod tests;

use fastrand::Rng;

use crate::Charge;
use crate::flow::{self, End, Judge};
use crate::instance::{Instance, Placement};
use crate::method::{Found, Progress, Watch};
use anneal::Anneal;
pub use bound::limit;
use exact::Exact;
pub(crate) use moves::{draw, neighbour};

/// What the loss of one host leaves by new weights alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WorstLoss {
    /// The host whose loss costs most, by index; the first of these.
    pub host: usize,
    /// Maximum flow of the others as they are, in tokens/s.
    pub flow_kept: f64,
    /// The same as a share of the flow before; zero if there was none.
    pub share: f64,
}

/// The worst loss of one host. `None` if no host holds anything.
///
/// Where links may bind this solves a maximum flow for each host that could be the worst.
pub fn worst_loss(instance: &Instance, placement: &Placement) -> Option<WorstLoss> {
    let mut judge = Judge::new(instance);
    if !judge.links_bind() {
        let flow = judge.value(placement);
        return worst_of(&mut judge, instance, placement, flow);
    }
    // What passes through a host says more of what its loss can cost than its rate does.
    let flow = flow::maximum(instance, placement, Charge::Full);
    let mut through = vec![0.0; placement.len()];
    for hop in &flow.hops {
        if let End::Host(host) = hop.to {
            through[host] += hop.tokens_per_second;
        }
    }
    worst_by(&mut judge, instance, placement, flow.value, |host| through[host])
}

/// Rounds of annealing.
const ROUNDS: u32 = 24;

/// A search that gains nothing in so many rounds ends.
const ROUNDS_IDLE_MAX: u32 = 10;

/// Moves of a round, for each host.
const MOVES_PER_HOST: u64 = 25_000;

/// The first round aims at this share of the limit.
const AIM_FIRST: f64 = 0.9;

/// As long as nothing keeps the promise, each round aims at this share of the aim before.
const AIM_LOWER: f64 = 0.95;

/// Then rounds aim at the best so far plus these shares of what is left to the limit, in turn.
const AIMS: [f64; 4] = [0.5, 0.25, 0.12, 0.05];

/// Finds a placement of much flow whose worst single loss keeps at least `alpha` of it.
///
/// Begins with `start`, where it is given; where links bind, begin with a placement made for them.
/// `None` if no such placement was found: some layer may be held by one host only, whatever one
/// does. The same input gives the same placement unless `watch` ends it.
pub fn search(
    instance: &Instance,
    alpha: f64,
    seed: u64,
    start: Option<&Placement>,
    watch: &mut Watch<'_>,
) -> Option<Found> {
    let hosts = instance.hosts.len();
    let limit = limit(instance, alpha);
    if hosts == 0 || limit <= 0.0 {
        return None;
    }
    let mut rng = Rng::with_seed(seed);
    let mut anneal = Anneal::new(instance, alpha, start, &mut rng);
    let mut target = AIM_FIRST * limit;
    let moves = MOVES_PER_HOST * hosts as u64;
    let mut idle = 0;
    for round in 0..ROUNDS {
        let before = anneal.best_flow();
        anneal.run(target, moves, &mut rng);
        let flow = anneal.best_flow();
        idle = if flow > before || flow <= 0.0 { 0 } else { idle + 1 };
        target = if flow > 0.0 {
            flow + (limit - flow) * AIMS[round as usize % AIMS.len()]
        } else {
            target * AIM_LOWER
        };
        let progress = Progress { flow, bound: limit, moves: u64::from(round + 1) * moves };
        if watch(progress).is_break() || idle >= ROUNDS_IDLE_MAX {
            break;
        }
    }
    let mut judge = Judge::new(instance);
    if judge.links_bind() {
        let best =
            Exact::new(&mut judge, instance, alpha).improve(&anneal.best, start, seed, watch);
        return best.map(Found::new);
    }
    anneal.best.map(Found::new)
}

/// How much more than the best a short search asks for.
const STEP_UP: f64 = 1.03;

/// What a short search from `start` finds, links left out. Cheap next to [`search`].
pub(crate) fn glimpse(
    instance: &Instance,
    start: &Placement,
    moves: u64,
    seed: u64,
) -> Option<Placement> {
    let mut rng = Rng::with_seed(seed);
    let mut anneal = Anneal::new(instance, 0.0, Some(start), &mut rng);
    let target = first_target(instance).max(anneal.reached());
    if instance.layers > 0 && target > 0.0 && !start.is_empty() {
        anneal.run(target, moves / 2, &mut rng);
        let target = anneal.best_flow().max(0.1 * target) * STEP_UP;
        anneal.run(target, moves / 2, &mut rng);
    }
    anneal.best
}

/// What all hosts could reach together if layers had no borders: a flow to ask for at first.
fn first_target(instance: &Instance) -> f64 {
    let most = |host: &crate::instance::Host| {
        let rates = &instance.classes[host.class].rates;
        (1..=rates.count_max()).map(|it| f64::from(it) * rates.most(it)).fold(0.0, f64::max)
    };
    let sum: f64 = instance.hosts.iter().map(most).sum();
    0.75 * sum / f64::from(instance.layers)
}

/// The worst loss, knowing the flow: a loss cannot cost more than the host's rate.
pub(crate) fn worst_of(
    judge: &mut Judge<'_>,
    instance: &Instance,
    placement: &Placement,
    flow: f64,
) -> Option<WorstLoss> {
    let rate = |host: usize| placement[host].map_or(0.0, |range| instance.rate(host, range));
    worst_by(judge, instance, placement, flow, rate)
}

/// The worst loss, given what the loss of each host can cost at most. Hosts come by falling cost, so
/// that once the cost is too small no further host can be the worst.
fn worst_by(
    judge: &mut Judge<'_>,
    instance: &Instance,
    placement: &Placement,
    flow: f64,
    cost_max: impl Fn(usize) -> f64,
) -> Option<WorstLoss> {
    let mut hosts: Vec<usize> =
        (0..placement.len()).filter(|&it| placement[it].is_some()).collect();
    hosts.sort_by(|&a, &b| cost_max(b).total_cmp(&cost_max(a)));
    let loss = Loss::new(judge, instance, placement);
    let mut worst: Option<(usize, f64)> = None;
    let mut left = placement.clone();
    for host in hosts {
        if worst.is_some_and(|(_, kept)| flow - cost_max(host) > kept) {
            break;
        }
        let kept = match &loss {
            Some(loss) => loss.kept(instance, placement, host),
            None => {
                let range = left[host].take();
                let kept = judge.value(&left);
                left[host] = range;
                kept
            }
        };
        if worst.is_none_or(|(at, least)| kept < least || (kept <= least && host < at)) {
            worst = Some((host, kept));
        }
    }
    worst.map(|(host, kept)| {
        // What differences of sums leave may be a hair below zero.
        let flow_kept = kept.max(0.0);
        let share = if flow > 0.0 { flow_kept / flow } else { 0.0 };
        WorstLoss { host, flow_kept, share }
    })
}

/// Coverage with its least from either end, so that one loss is a look at one range.
struct Loss {
    coverage: Vec<f64>,
    /// Least coverage of the layers before `[l]`.
    before: Vec<f64>,
    /// Least coverage of layer `[l]` and those after.
    after: Vec<f64>,
}

impl Loss {
    /// `None` where the flow is not the least coverage.
    fn new(judge: &Judge<'_>, instance: &Instance, placement: &Placement) -> Option<Self> {
        if judge.links_bind() {
            return None;
        }
        let coverage = instance.coverage(placement);
        let running = |least: &mut f64, it: &f64| {
            let now = *least;
            *least = least.min(*it);
            Some(now)
        };
        let mut before: Vec<f64> = coverage.iter().scan(f64::INFINITY, running).collect();
        before.push(coverage.iter().copied().fold(f64::INFINITY, f64::min));
        let mut after: Vec<f64> = coverage.iter().rev().scan(f64::INFINITY, running).collect();
        after.push(coverage.iter().copied().fold(f64::INFINITY, f64::min));
        after.reverse();
        Some(Self { coverage, before, after })
    }

    fn kept(&self, instance: &Instance, placement: &Placement, host: usize) -> f64 {
        let Some(range) = placement[host] else { return self.after[0] };
        let (first, end) = (range.first() as usize, range.end() as usize);
        // Summed again without the host: what a subtraction leaves is not exactly zero.
        let rest = |layer: usize| -> f64 {
            let holds = |&(at, it): &(usize, &Option<_>)| {
                at != host
                    && it.is_some_and(|it: thalweg_wire::LayerRange| it.contains(layer as u32))
            };
            let rate = |(at, it): (usize, &Option<_>)| it.map_or(0.0, |it| instance.rate(at, it));
            placement.iter().enumerate().filter(holds).map(rate).sum()
        };
        let inside = (first..end).map(|layer| {
            let left = self.coverage[layer] - instance.rate(host, range);
            if left < self.coverage[layer] * 1e-9 { rest(layer) } else { left }
        });
        inside.fold(self.before[first].min(self.after[end]), f64::min)
    }
}
