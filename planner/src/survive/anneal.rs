//! Annealing for flow under a promise: the worst single loss keeps a share of the flow.

use fastrand::Rng;
use thalweg_wire::LayerRange;

use super::moves::{anywhere, draw};
use crate::instance::{Instance, Placement};

/// Temperatures at the ends of a round, in squared relative shortfall.
const TEMPERATURE: (f64, f64) = (0.1, 1e-5);

/// What a promise missed by all of the target costs. More, and the search keeps to what it has.
const PROMISE_WEIGHT: f64 = 0.03;

/// A promise counts as kept within rounding.
pub(super) const KEPT: f64 = 1.0 - 1e-12;

/// Moves between two recounts, so that rounding does not pile up.
const MOVES_PER_RECOUNT: u64 = 65_536;

/// Numbers compared side by side where the least of many is asked for.
const LANES: usize = 8;

/// Annealing on the coverage, where links do not bind.
pub(super) struct Anneal<'a> {
    instance: &'a Instance,
    alpha: f64,
    now: Placement,
    /// Rate of each host at its range.
    rates: Vec<f64>,
    coverage: Vec<f64>,
    /// Coverage without the largest holder; kept only if `alpha` is positive, as are the next two.
    kept: Vec<f64>,
    /// Hosts by layer they hold.
    holders: Vec<Vec<u32>>,
    /// Largest rate that holds a layer.
    largest: Vec<f64>,
    target: f64,
    /// Squared shortfalls of all layers, of the flow and of what a loss leaves.
    short: f64,
    /// The placement of most flow that keeps the promise.
    pub best: Option<Placement>,
    best_flow: f64,
}

impl<'a> Anneal<'a> {
    pub fn new(
        instance: &'a Instance,
        alpha: f64,
        start: Option<&Placement>,
        rng: &mut Rng,
    ) -> Self {
        let hosts = instance.hosts.len();
        let now = match start {
            Some(start) if start.len() == hosts => start.clone(),
            _ => (0..hosts).map(|host| anywhere(instance, host, rng)).collect(),
        };
        let layers = instance.layers as usize;
        let mut it = Self {
            instance,
            alpha,
            now,
            rates: vec![0.0; hosts],
            coverage: vec![0.0; layers],
            kept: vec![0.0; layers],
            holders: vec![Vec::new(); layers],
            largest: vec![0.0; layers],
            target: f64::MAX,
            short: 0.0,
            best: None,
            best_flow: 0.0,
        };
        it.recount();
        it
    }

    /// Flow of the best placement; zero if there is none.
    pub fn best_flow(&self) -> f64 {
        self.best_flow
    }

    /// What the present placement can promise.
    pub fn reached(&self) -> f64 {
        let flow = least(&self.coverage);
        if self.alpha > 0.0 { flow.min(least(&self.kept).max(0.0) / self.alpha) } else { flow }
    }

    /// One round of `moves` moves towards `target`, from the best so far.
    pub fn run(&mut self, target: f64, moves: u64, rng: &mut Rng) {
        if let Some(best) = &self.best {
            self.now.clone_from(best);
        }
        self.target = target;
        let (hot, cold) = TEMPERATURE;
        let cooling = (cold / hot).powf(1.0 / moves as f64);
        let mut temperature = hot;
        let mut energy = 0.0;
        for count in 0..moves {
            if count % MOVES_PER_RECOUNT == 0 {
                self.recount();
                energy = self.energy();
            }
            temperature *= cooling;
            let Some(mut change) = draw(self.instance, &self.now, rng) else { continue };
            change.hosts_mut().iter_mut().for_each(|it| it.1 = self.place(it.0, it.1));
            let after = self.energy();
            let uphill = after - energy;
            if uphill <= 0.0 || rng.f64() < (-uphill / temperature).exp() {
                energy = after;
                self.note();
            } else {
                change.hosts().iter().for_each(|it| _ = self.place(it.0, it.1));
            }
        }
    }

    fn energy(&self) -> f64 {
        self.short + self.fragile()
    }

    /// What a loss takes beyond the promise. Not squared: a promise kept by half is none.
    fn fragile(&self) -> f64 {
        if self.alpha <= 0.0 {
            return 0.0;
        }
        let promised = self.alpha * least(&self.coverage);
        PROMISE_WEIGHT * (promised - least(&self.kept)).max(0.0) / self.target
    }

    /// Squared shortfall of one layer, as a share of the target.
    fn short_of(&self, layer: usize) -> f64 {
        let short = |it: f64| (it.max(0.0) / self.target).powi(2);
        let flow = short(self.target - self.coverage[layer]);
        if self.alpha <= 0.0 {
            return flow;
        }
        flow + short(self.alpha * self.target - self.kept[layer])
    }

    /// Remembers the present placement if it is the best.
    fn note(&mut self) {
        // With this shortfall no layer can be short by less than the mean, which costs less to tell.
        let mean = self.short / self.coverage.len() as f64;
        if self.target * (1.0 - mean.max(0.0).sqrt()) * (1.0 + 1e-9) < self.best_flow {
            return;
        }
        let flow = least(&self.coverage);
        let kept = || self.alpha <= 0.0 || least(&self.kept) >= self.alpha * flow * KEPT;
        if flow > self.best_flow * (1.0 + 1e-9) && flow > 0.0 && kept() {
            self.best_flow = flow;
            self.best = Some(self.now.clone());
        }
    }

    /// Starts the sums again.
    fn recount(&mut self) {
        self.coverage = self.instance.coverage(&self.now);
        self.holders.iter_mut().for_each(Vec::clear);
        for (host, range) in self.now.iter().enumerate() {
            self.rates[host] = range.map_or(0.0, |it| self.instance.rate(host, it));
            if self.alpha > 0.0 {
                span(*range).for_each(|it| self.holders[it as usize].push(host as u32));
            }
        }
        self.short = 0.0;
        for layer in 0..self.coverage.len() {
            self.largest[layer] = self.largest_of(layer);
            self.kept[layer] = self.coverage[layer] - self.largest[layer];
            self.short += self.short_of(layer);
        }
        self.note();
    }

    /// Gives a host another range, and returns the one it had.
    fn place(&mut self, host: usize, to: Option<LayerRange>) -> Option<LayerRange> {
        let from = std::mem::replace(&mut self.now[host], to);
        let old = self.rates[host];
        let new = to.map_or(0.0, |it| self.instance.rate(host, it));
        self.rates[host] = new;
        let hull = match (from, to) {
            (Some(a), Some(b)) => a.first().min(b.first())..a.end().max(b.end()),
            (one, other) => span(one.or(other)),
        };
        for layer in hull {
            let before = from.is_some_and(|it| it.contains(layer));
            let after = to.is_some_and(|it| it.contains(layer));
            if before || after {
                let old = if before { Some(old) } else { None };
                let new = if after { Some(new) } else { None };
                self.replace(layer as usize, host, old, new);
            }
        }
        from
    }

    /// Replaces what a host does for one layer.
    fn replace(&mut self, layer: usize, host: usize, old: Option<f64>, new: Option<f64>) {
        self.short -= self.short_of(layer);
        self.coverage[layer] += new.unwrap_or(0.0) - old.unwrap_or(0.0);
        if self.alpha > 0.0 {
            let holders = &mut self.holders[layer];
            match (old, new) {
                (Some(_), None) => {
                    if let Some(at) = holders.iter().position(|&it| it as usize == host) {
                        holders.swap_remove(at);
                    }
                }
                (None, Some(_)) => holders.push(host as u32),
                _ => {}
            }
            let (old, new) = (old.unwrap_or(0.0), new.unwrap_or(0.0));
            if new >= self.largest[layer] {
                self.largest[layer] = new;
            } else if old >= self.largest[layer] {
                self.largest[layer] = self.largest_of(layer);
            }
            self.kept[layer] = self.coverage[layer] - self.largest[layer];
        }
        self.short += self.short_of(layer);
    }

    fn largest_of(&self, layer: usize) -> f64 {
        let rates = self.holders[layer].iter().map(|&it| self.rates[it as usize]);
        rates.fold(0.0, f64::max)
    }
}

pub(super) fn span(range: Option<LayerRange>) -> std::ops::Range<u32> {
    range.map_or(0..0, |it| it.first()..it.end())
}

/// The least of some numbers; infinite if there are none.
pub(super) fn least(values: &[f64]) -> f64 {
    let less = |a: f64, b: f64| if b < a { b } else { a };
    let (lanes, rest) = values.as_chunks::<LANES>();
    let mut least = [f64::INFINITY; LANES];
    for lane in lanes {
        least.iter_mut().zip(lane).for_each(|(a, b)| *a = less(*a, *b));
    }
    least.iter().chain(rest).copied().fold(f64::INFINITY, less)
}
