//! The fewest layer loads that reach a flow.

use fastrand::Rng;
use thalweg_wire::LayerRange;

use super::stages::loads;
use crate::flow::Judge;
use crate::instance::{Instance, Placement};
use crate::survive::{self, neighbour};

/// Temperatures at the ends of a round, in layer loads.
const TEMPERATURE: (f64, f64) = (1.5, 0.1);

/// Layer loads that a shortfall of all of the flow at one layer is worth, at the ends of a round.
const SHORTFALL_WORTH: (f64, f64) = (10.0, 2000.0);

/// Rounds; each begins with what hosts hold now or with the best so far.
const ROUNDS: u64 = 6;

/// Rounds from a placement made anew, if none of the others found anything.
const ROUNDS_BACK: u64 = 3;

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
    if walk.best.is_none() && !fixed.contains(&true) {
        // Nothing near does: from a placement made anew back towards what hosts hold.
        walk.now = survive::glimpse(instance, old, moves, rng.u64(..)).unwrap_or(old.clone());
        walk.recount();
        for _ in 0..ROUNDS_BACK {
            walk.restart(true);
            walk.run(&free, moves / ROUNDS, rng);
        }
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
    /// What the hosts changed last held before.
    undo: Vec<(usize, Option<LayerRange>)>,
    /// The fewest loads that reach the goal.
    best: Option<(u32, Placement)>,
}

/// Shortfalls below this are rounding.
const NO_SHORTFALL: f64 = 1e-12;

impl<'a> Walk<'a> {
    fn new(instance: &'a Instance, old: &'a Placement, goal: f64) -> Self {
        Self {
            instance,
            old,
            goal,
            now: old.clone(),
            coverage: Vec::new(),
            short: 0.0,
            loads: 0,
            undo: Vec::new(),
            best: None,
        }
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
            let (short, loads) = (self.short, self.loads);
            self.undo.clear();
            self.change(free, rng);
            let uphill = f64::from(self.loads) - f64::from(loads) + worth * (self.short - short);
            if uphill <= 0.0 || rng.f64() < (-uphill / temperature).exp() {
                self.note();
            } else {
                while let Some((host, from)) = self.undo.pop() {
                    self.place(host, from);
                }
            }
        }
    }

    /// Changes one host; or some one after the other, each filling what the last one left; or two
    /// neighbours that share a border.
    fn change(&mut self, free: &[usize], rng: &mut Rng) {
        let host = free[rng.usize(0..free.len())];
        let hosts = match rng.u8(0..8) {
            0 => return self.shift_border(host, free, rng),
            1..5 => 1,
            5..7 => 2,
            _ => 3,
        };
        let mut host = host;
        for _ in 0..hosts {
            if let Some(to) = self.propose(host, rng) {
                self.undo.push((host, self.now[host]));
                self.place(host, to);
            }
            host = free[rng.usize(0..free.len())];
        }
    }

    fn shift_border(&mut self, host: usize, free: &[usize], rng: &mut Rng) {
        let Some(near) = self.now[host] else { return };
        let begin = rng.usize(0..free.len());
        let others = (0..free.len()).map(|it| free[(begin + it) % free.len()]);
        let follows = |it: &usize| self.now[*it].is_some_and(|it| it.first() == near.end());
        let Some(other) = others.into_iter().find(follows) else { return };
        let Some(far) = self.now[other] else { return };
        let border = if rng.bool() { near.end() + 1 } else { near.end() - 1 };
        let (Ok(near), Ok(far)) =
            (LayerRange::new(near.first(), border), LayerRange::new(border, far.end()))
        else {
            return;
        };
        let fits = |host: usize, range: LayerRange| self.instance.rate(host, range) > 0.0;
        if fits(host, near) && fits(other, far) {
            for (host, to) in [(host, near), (other, far)] {
                self.undo.push((host, self.now[host]));
                self.place(host, Some(to));
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
