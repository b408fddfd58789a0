//! The fewest layer loads where links bind: annealing on exact flows.
//!
//! An exact flow takes tens of microseconds and more, so that there are thousands of moves at most,
//! and only those are valued that coverage alone does not rule out.

use fastrand::Rng;
use thalweg_wire::LayerRange;

use super::stages::{Schedule, loads};
use crate::flow::Judge;
use crate::instance::{Instance, Placement};
use crate::survive::neighbour;

/// Hosts at most: an exact flow takes time in the square of their number.
const HOSTS_MAX: usize = 64;

/// Moves from each start, with so many hosts.
const MOVES: u64 = 20_000;
const HOSTS_USUAL: u64 = 24;

/// Temperatures at the ends, in layer loads.
const TEMPERATURE: (f64, f64) = (1.5, 0.1);

/// Layer loads that a shortfall of all of the flow is worth, at the ends.
const SHORTFALL_WORTH: (f64, f64) = (10.0, 1000.0);

/// Few loads from `old` to an exact flow of `goal`, looked for from each of `starts`. With `keeping`
/// only placements count whose steps keep all layers covered. `None` if none was found, or if there
/// are too many hosts for it.
pub(super) fn fewest_loads(
    instance: &Instance,
    old: &Placement,
    starts: &[Placement],
    goal: f64,
    keeping: bool,
    rng: &mut Rng,
) -> Option<Placement> {
    let can = |it: &usize| instance.class(*it).rates.count_max() > 0;
    let free: Vec<usize> = (0..old.len()).filter(can).collect();
    if free.is_empty() || old.len() > HOSTS_MAX {
        return None;
    }
    let hosts = old.len() as u64;
    let moves = (MOVES * HOSTS_USUAL * HOSTS_USUAL / (hosts * hosts)).min(MOVES);
    let mut walk = Walk { instance, old, goal, keeping, judge: Judge::new(instance), best: None };
    for start in starts {
        walk.run(start.clone(), &free, moves, rng);
    }
    walk.best.map(|it| it.1)
}

struct Walk<'a> {
    instance: &'a Instance,
    old: &'a Placement,
    goal: f64,
    keeping: bool,
    judge: Judge<'a>,
    /// The fewest loads that reach the goal.
    best: Option<(u32, Placement)>,
}

impl Walk<'_> {
    fn run(&mut self, mut now: Placement, free: &[usize], moves: u64, rng: &mut Rng) {
        let mut cost = f64::INFINITY;
        for count in 0..moves {
            let late = count as f64 / moves as f64;
            let between = |ends: (f64, f64)| ends.0 * (ends.1 / ends.0).powf(late);
            let (temperature, worth) = (between(TEMPERATURE), between(SHORTFALL_WORTH));
            let host = free[rng.usize(0..free.len())];
            let before = now[host];
            if count > 0 {
                let Some(to) = self.propose(&now, host, rng) else { continue };
                now[host] = to;
            }
            let limit = cost - temperature * rng.f64().max(f64::MIN_POSITIVE).ln();
            match self.cost(&now, worth, limit) {
                Some(next) => cost = next,
                None => now[host] = before,
            }
        }
    }

    /// Loads and shortfalls of a placement; `None` if that is above `limit`.
    fn cost(&mut self, now: &Placement, worth: f64, limit: f64) -> Option<f64> {
        let total: u32 = self.old.iter().zip(now).map(|(from, to)| loads(*from, *to)).sum();
        let short = |flow: f64| (self.goal - flow).max(0.0) / self.goal;
        let uncovered: f64 = self.instance.coverage(now).into_iter().map(short).sum();
        let least = f64::from(total) + worth * uncovered;
        if least > limit {
            return None;
        }
        let missing = short(self.judge.value(now));
        let fewer = self.best.as_ref().is_none_or(|it| total < it.0);
        if missing <= 0.0 && fewer && self.is_reachable(now) {
            self.best = Some((total, now.clone()));
        }
        let cost = least + worth * missing;
        (cost <= limit).then_some(cost)
    }

    fn is_reachable(&self, to: &Placement) -> bool {
        !self.keeping || Schedule::order(self.instance, self.old, to).is_ok()
    }

    /// Back to what the host held, over a layer that is short, or somewhere near. `None` if that
    /// changes nothing.
    fn propose(&self, now: &Placement, host: usize, rng: &mut Rng) -> Option<Option<LayerRange>> {
        let to = match rng.u8(0..8) {
            0..2 => return (now[host] != self.old[host]).then_some(self.old[host]),
            2..5 => match self.short_layer(now, rng) {
                Some(layer) => reach(self.instance, host, now[host], layer, rng),
                None => neighbour(self.instance, host, now[host], rng),
            },
            _ => neighbour(self.instance, host, now[host], rng),
        };
        to.filter(|_| to != now[host]).map(Some)
    }

    /// A layer that is short: the first one from a random layer on.
    fn short_layer(&self, now: &Placement, rng: &mut Rng) -> Option<u32> {
        let coverage = self.instance.coverage(now);
        let begin = rng.u32(0..self.instance.layers);
        let mut turned = (begin..self.instance.layers).chain(0..begin);
        turned.find(|&it| coverage[it as usize] < self.goal)
    }
}

/// A range of `host` over `layer`: the one it has, longer or shifted, or one anywhere around.
fn reach(
    instance: &Instance,
    host: usize,
    now: Option<LayerRange>,
    layer: u32,
    rng: &mut Rng,
) -> Option<LayerRange> {
    let most = instance.class(host).rates.count_max().min(instance.layers);
    let range = match now {
        Some(now) if !now.contains(layer) && rng.bool() => {
            let (first, end) = (now.first().min(layer), now.end().max(layer + 1));
            let spare = (end - first).saturating_sub(rng.u32(1..=most));
            if layer < now.first() {
                LayerRange::new(first, end - spare)
            } else {
                LayerRange::new(first + spare, end)
            }
        }
        _ => {
            let count = rng.u32(1..=most);
            let first = layer.saturating_sub(rng.u32(0..count)).min(instance.layers - count);
            LayerRange::new(first, first + count)
        }
    };
    range.ok().filter(|it| instance.rate(host, *it) > 0.0)
}
