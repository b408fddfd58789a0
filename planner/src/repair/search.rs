//! The fewest layer loads that reach a flow.

use fastrand::Rng;
use thalweg_wire::LayerRange;

use super::stages::loads;
use crate::flow::Judge;
use crate::instance::{Instance, Placement};
use crate::survive::neighbour;

/// Temperatures at the ends of a round, in layer loads.
const TEMPERATURE: (f64, f64) = (1.5, 0.1);

/// Layer loads that a shortfall of all of the flow at one layer is worth, at the ends of a round.
const SHORTFALL_WORTH: (f64, f64) = (10.0, 2000.0);

/// Rounds; each begins with what hosts hold now or with the best so far.
const ROUNDS: u64 = 6;

/// Flows computed at most where links may bind, for each host and round, divided by the hosts'
/// number once more for large clusters.
const EXACT_TRIES: u64 = 4_000;

/// Finds a placement of flow `goal` that is few layer loads away from `old`. Hosts that are `fixed`
/// keep what they hold. `None` if none was found. Deterministic for the state of `rng`.
///
/// Takes `moves` moves of less than a microsecond each on the coverage; where links may bind, some
/// exact flows as well.
pub fn fewest_loads(
    instance: &Instance,
    old: &Placement,
    fixed: &[bool],
    goal: f64,
    moves: u64,
    rng: &mut Rng,
) -> Option<Placement> {
    let free: Vec<usize> = (0..old.len())
        .filter(|&it| !fixed[it] && instance.class(it).rates.count_max() > 0)
        .collect();
    if free.is_empty() || instance.layers == 0 || goal <= 0.0 {
        return None;
    }
    let mut walk = Walk::new(instance, old, goal);
    for round in 0..ROUNDS {
        walk.restart(round % 2 == 1);
        walk.run(&free, moves / ROUNDS, rng);
    }
    let mut judge = Judge::new(instance);
    if judge.links_bind() {
        return exact(&mut judge, instance, old, &free, goal, walk.best.map(|it| it.1), rng);
    }
    walk.best.map(|it| it.1)
}

/// Annealing on loads and shortfall.
struct Walk<'a> {
    instance: &'a Instance,
    old: &'a Placement,
    goal: f64,
    now: Placement,
    coverage: Vec<f64>,
    /// Sum over layers of what is missing, as shares of the goal.
    short: f64,
    loads: u32,
    /// Hosts that differ from `old`, for moves back.
    best: Option<(u32, Placement)>,
}

/// Shortfalls below this are rounding.
const NO_SHORTFALL: f64 = 1e-12;

impl<'a> Walk<'a> {
    fn new(instance: &'a Instance, old: &'a Placement, goal: f64) -> Self {
        let coverage = Vec::new();
        Self { instance, old, goal, now: old.clone(), coverage, short: 0.0, loads: 0, best: None }
    }

    fn restart(&mut self, from_best: bool) {
        match &self.best {
            Some((_, best)) if from_best => self.now.clone_from(best),
            _ => self.now.clone_from(self.old),
        }
        self.recount();
    }

    fn run(&mut self, free: &[usize], moves: u64, rng: &mut Rng) {
        let cooling = (TEMPERATURE.1 / TEMPERATURE.0).powf(1.0 / moves.max(1) as f64);
        let dearer = (SHORTFALL_WORTH.1 / SHORTFALL_WORTH.0).powf(1.0 / moves.max(1) as f64);
        let (mut temperature, mut worth) = (TEMPERATURE.0, SHORTFALL_WORTH.0);
        for count in 0..moves {
            temperature *= cooling;
            worth *= dearer;
            if count % 65_536 == 0 {
                self.recount();
            }
            let host = free[rng.usize(0..free.len())];
            let Some(to) = self.propose(host, rng) else { continue };
            let from = self.now[host];
            let (short, loads) = (self.short, self.loads);
            self.place(host, to);
            let uphill = f64::from(self.loads) - f64::from(loads) + worth * (self.short - short);
            if uphill <= 0.0 || rng.f64() < (-uphill / temperature).exp() {
                self.note();
            } else {
                self.place(host, from);
            }
        }
    }

    /// Back to what the host holds now, over a layer that is short, or somewhere near.
    fn propose(&self, host: usize, rng: &mut Rng) -> Option<Option<LayerRange>> {
        let (now, old) = (self.now[host], self.old[host]);
        match rng.u8(0..8) {
            0 | 1 if now != old => return Some(old),
            2..4 => {
                let short = self.shortest(rng)?;
                let near = reach(self.instance, host, now, short, rng)?;
                return Some(Some(near));
            }
            _ => {}
        }
        neighbour(self.instance, host, now, rng).map(Some)
    }

    /// A layer that is short of coverage, by chance; the first found from a random one on.
    fn shortest(&self, rng: &mut Rng) -> Option<u32> {
        let layers = self.instance.layers;
        let begin = rng.u32(0..layers);
        (0..layers)
            .map(|it| (begin + it) % layers)
            .find(|&it| self.coverage[it as usize] < self.goal)
    }

    fn place(&mut self, host: usize, to: Option<LayerRange>) {
        let from = std::mem::replace(&mut self.now[host], to);
        self.loads = self.loads + loads(self.old[host], to) - loads(self.old[host], from);
        self.add(host, from, -1.0);
        self.add(host, to, 1.0);
    }

    fn add(&mut self, host: usize, range: Option<LayerRange>, sign: f64) {
        let Some(range) = range else { return };
        let rate = sign * self.instance.rate(host, range);
        let goal = self.goal;
        let mut change = 0.0;
        for it in &mut self.coverage[range.first() as usize..range.end() as usize] {
            change -= (goal - *it).max(0.0);
            *it += rate;
            change += (goal - *it).max(0.0);
        }
        self.short += change / goal;
    }

    fn recount(&mut self) {
        self.coverage = self.instance.coverage(&self.now);
        self.short = self.coverage.iter().map(|it| (self.goal - it).max(0.0) / self.goal).sum();
        self.loads = self.now.iter().zip(self.old).map(|(to, from)| loads(*from, *to)).sum();
        self.note();
    }

    fn note(&mut self) {
        let fewer = self.best.as_ref().is_none_or(|it| self.loads < it.0);
        if fewer && self.short < 1e-7 {
            // The running sum may be off by rounding; what is kept must not be.
            let least = self.coverage.iter().copied().fold(f64::INFINITY, f64::min);
            if least >= self.goal * (1.0 - NO_SHORTFALL) {
                self.best = Some((self.loads, self.now.clone()));
            }
        }
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

/// The same with exact flows, from what the coverage alone found.
fn exact(
    judge: &mut Judge<'_>,
    instance: &Instance,
    old: &Placement,
    free: &[usize],
    goal: f64,
    start: Option<Placement>,
    rng: &mut Rng,
) -> Option<Placement> {
    let total = |it: &Placement| -> u32 { old.iter().zip(it).map(|(a, b)| loads(*a, *b)).sum() };
    let mut best: Option<(u32, Placement)> = None;
    let hosts = old.len() as u64;
    let tries = (EXACT_TRIES * 24 * 24 / (hosts * hosts).max(1)).clamp(20, EXACT_TRIES);
    for start in [start, Some(old.clone())].into_iter().flatten() {
        let mut now = start;
        let mut cost = (judge.value(&now), total(&now));
        for count in 0..tries {
            if cost.0 >= goal && best.as_ref().is_none_or(|it| cost.1 < it.0) {
                best = Some((cost.1, now.clone()));
            }
            let late = count as f64 / tries as f64;
            let worth = SHORTFALL_WORTH.0 * (SHORTFALL_WORTH.1 / SHORTFALL_WORTH.0).powf(late);
            let temperature = TEMPERATURE.0 * (TEMPERATURE.1 / TEMPERATURE.0).powf(late);
            let host = free[rng.usize(0..free.len())];
            let coverage = instance.coverage(&now);
            let thin = (0..instance.layers).find(|&it| coverage[it as usize] < goal);
            let to = match (rng.u8(0..8), thin) {
                (0..2, _) => old[host],
                (2..5, Some(layer)) => reach(instance, host, now[host], layer, rng),
                _ => neighbour(instance, host, now[host], rng),
            };
            if to == now[host] || (to.is_none() && old[host].is_some()) {
                continue;
            }
            let from = std::mem::replace(&mut now[host], to);
            let next = (judge.value(&now), total(&now));
            let short = |flow: f64| (goal - flow).max(0.0) / goal;
            let uphill =
                f64::from(next.1) - f64::from(cost.1) + worth * (short(next.0) - short(cost.0));
            if uphill <= 0.0 || rng.f64() < (-uphill / temperature).exp() {
                cost = next;
            } else {
                now[host] = from;
            }
        }
    }
    best.map(|it| it.1)
}
