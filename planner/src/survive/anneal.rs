//! Annealing for flow under a promise: the worst single loss keeps a share of the flow.

use fastrand::Rng;
use thalweg_wire::LayerRange;

use super::worst_of;
use crate::flow::Judge;
use crate::instance::{Instance, Placement};
use crate::method::{Progress, Watch};

/// Temperatures at the ends of a round, in squared relative shortfall.
const TEMPERATURE: (f64, f64) = (0.1, 1e-5);

/// A promise counts as kept within rounding.
const KEPT: f64 = 1.0 - 1e-12;

/// Annealing on the coverage, where links do not bind.
pub(super) struct Anneal<'a> {
    instance: &'a Instance,
    alpha: f64,
    now: Placement,
    coverage: Vec<f64>,
    /// Hosts by layer they hold.
    holders: Vec<Vec<u32>>,
    /// Largest rate that holds a layer; kept only if `alpha` is positive.
    largest: Vec<f64>,
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
            coverage: vec![0.0; layers],
            holders: vec![Vec::new(); layers],
            largest: vec![0.0; layers],
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
        if self.alpha > 0.0 { flow.min(self.kept() / self.alpha) } else { flow }
    }

    /// One round of `moves` moves towards `target`, from the best so far.
    pub fn run(&mut self, target: f64, moves: u64, rng: &mut Rng) {
        if let Some(best) = &self.best {
            self.now.clone_from(best);
        }
        self.recount();
        let (hot, cold) = TEMPERATURE;
        let cooling = (cold / hot).powf(1.0 / moves as f64);
        let mut temperature = hot;
        let mut energy = self.energy(target);
        for count in 0..moves {
            temperature *= cooling;
            if count % 65_536 == 0 {
                self.recount();
                energy = self.energy(target);
            }
            let host = rng.usize(0..self.now.len());
            let Some(to) = neighbour(self.instance, host, self.now[host], rng) else { continue };
            let from = self.now[host];
            self.place(host, Some(to));
            let after = self.energy(target);
            let uphill = after - energy;
            if uphill <= 0.0 || rng.f64() < (-uphill / temperature).exp() {
                energy = after;
                self.note();
            } else {
                self.place(host, from);
            }
        }
    }

    /// Squared shortfalls of the flow and of what a loss leaves, as shares of the target.
    fn energy(&self, target: f64) -> f64 {
        let short = |it: f64| (it.max(0.0) / target).powi(2);
        let flow: f64 = self.coverage.iter().map(|it| short(target - it)).sum();
        if self.alpha <= 0.0 {
            return flow;
        }
        // A flow above the target asks for more to be left of it, too.
        let promised = self.alpha * target.max(least(&self.coverage));
        let pairs = self.coverage.iter().zip(&self.largest);
        flow + pairs.map(|(all, largest)| short(promised - (all - largest))).sum::<f64>()
    }

    fn kept(&self) -> f64 {
        let pairs = self.coverage.iter().zip(&self.largest);
        pairs.map(|(all, largest)| all - largest).fold(f64::INFINITY, f64::min).max(0.0)
    }

    fn note(&mut self) {
        let flow = least(&self.coverage);
        let kept = self.alpha <= 0.0 || self.kept() >= self.alpha * flow * KEPT;
        if flow > self.best_flow * (1.0 + 1e-9) && flow > 0.0 && kept {
            self.best_flow = flow;
            self.best = Some(self.now.clone());
        }
    }

    /// Starts the sums again, so that rounding does not pile up.
    fn recount(&mut self) {
        self.coverage = self.instance.coverage(&self.now);
        self.holders.iter_mut().for_each(Vec::clear);
        for (host, range) in self.now.iter().enumerate() {
            let Some(range) = range else { continue };
            (range.first()..range.end()).for_each(|it| self.holders[it as usize].push(host as u32));
        }
        for layer in 0..self.coverage.len() {
            self.largest[layer] = self.largest_of(layer);
        }
        self.note();
    }

    fn place(&mut self, host: usize, to: Option<LayerRange>) {
        let from = std::mem::replace(&mut self.now[host], to);
        let rate = |range: Option<LayerRange>| range.map_or(0.0, |it| self.instance.rate(host, it));
        let (old, new) = (rate(from), rate(to));
        let hull = span(from).start.min(span(to).start)..span(from).end.max(span(to).end);
        for layer in hull.clone() {
            let before = from.is_some_and(|it| it.contains(layer));
            let after = to.is_some_and(|it| it.contains(layer));
            let layer = layer as usize;
            match (before, after) {
                (true, true) => self.coverage[layer] += new - old,
                (true, false) => {
                    self.coverage[layer] -= old;
                    self.holders[layer].retain(|&it| it as usize != host);
                }
                (false, true) => {
                    self.coverage[layer] += new;
                    self.holders[layer].push(host as u32);
                }
                (false, false) => {}
            }
        }
        if self.alpha > 0.0 {
            for layer in hull {
                self.largest[layer as usize] = self.largest_of(layer as usize);
            }
        }
    }

    fn largest_of(&self, layer: usize) -> f64 {
        let rate = |&host: &u32| {
            let host = host as usize;
            self.now[host].map_or(0.0, |range| self.instance.rate(host, range))
        };
        self.holders[layer].iter().map(rate).fold(0.0, f64::max)
    }
}

/// Hill climbing with exact flows, where links may bind.
pub(super) struct Exact<'a, 'b> {
    judge: &'a mut Judge<'b>,
    instance: &'b Instance,
    alpha: f64,
}

/// Placements that the exact search values, at most. Each may take a flow per host.
const EXACT_TRIES: u64 = 20_000;

/// How far below the best the search may wander, as a share of it, at first.
const EXACT_WANDER: f64 = 0.03;

impl<'a, 'b> Exact<'a, 'b> {
    pub fn new(judge: &'a mut Judge<'b>, instance: &'b Instance, alpha: f64) -> Self {
        Self { judge, instance, alpha }
    }

    /// The best placement near the better one of those found without links and given.
    pub fn improve(
        &mut self,
        found: &Option<Placement>,
        start: Option<&Placement>,
        seed: u64,
        watch: &mut Watch<'_>,
    ) -> Option<Placement> {
        let fits = |it: &&Placement| it.len() == self.instance.hosts.len();
        let starts: Vec<Placement> = found.iter().chain(start.filter(fits)).cloned().collect();
        let mut best: Option<(f64, Placement)> = None;
        let mut now: Option<(f64, Placement)> = None;
        for start in starts {
            let (score, kept) = self.score(&start, 0.0);
            if kept && best.as_ref().is_none_or(|it| score > it.0) && score > 0.0 {
                best = Some((score, start.clone()));
            }
            if now.as_ref().is_none_or(|it| score > it.0) {
                now = Some((score, start));
            }
        }
        let (mut score, mut now) = now?;
        let mut rng = Rng::with_seed(seed);
        for count in 0..EXACT_TRIES {
            let heat = EXACT_WANDER * (1.0 - count as f64 / EXACT_TRIES as f64);
            let host = rng.usize(0..now.len());
            let Some(to) = neighbour(self.instance, host, now[host], &mut rng) else { continue };
            let mut next = now.clone();
            next[host] = Some(to);
            if rng.f64() < 0.3 {
                let other = rng.usize(0..next.len());
                next[other] =
                    neighbour(self.instance, other, next[other], &mut rng).or(next[other]);
            }
            let floor = score * (1.0 - heat * rng.f64());
            let (value, kept) = self.score(&next, floor);
            if value < floor || value <= 0.0 {
                continue;
            }
            if kept && best.as_ref().is_none_or(|it| value > it.0) {
                best = Some((value, next.clone()));
            }
            (score, now) = (value, next);
            let flow = best.as_ref().map_or(0.0, |it| it.0);
            let progress = Progress { flow, bound: f64::INFINITY, moves: count };
            if count % 64 == 0 && watch(progress).is_break() {
                break;
            }
        }
        best.map(|it| it.1)
    }

    /// What the placement can promise, and whether all of its flow is covered by the promise.
    /// Anything below `floor` may come back too large, but below `floor`.
    fn score(&mut self, placement: &Placement, floor: f64) -> (f64, bool) {
        if least(&self.instance.coverage(placement)) < floor {
            return (0.0, false);
        }
        let flow = self.judge.value(placement);
        if flow < floor || flow <= 0.0 || self.alpha <= 0.0 {
            return (flow, true);
        }
        // The coverage alone bounds what a loss leaves, and is cheap.
        let bound = coverage_kept(self.instance, placement) / self.alpha;
        if bound < floor {
            return (bound, false);
        }
        let worst = worst_of(self.judge, self.instance, placement, flow);
        let kept = worst.map_or(0.0, |it| it.flow_kept);
        (flow.min(kept / self.alpha), kept >= self.alpha * flow * KEPT)
    }
}

/// The most that any loss can leave: coverage without the largest holder.
fn coverage_kept(instance: &Instance, placement: &Placement) -> f64 {
    let mut largest = vec![0.0_f64; instance.layers as usize];
    for (host, range) in placement.iter().enumerate() {
        let Some(range) = *range else { continue };
        let rate = instance.rate(host, range);
        span(Some(range)).for_each(|it| largest[it as usize] = largest[it as usize].max(rate));
    }
    let pairs = instance.coverage(placement).into_iter().zip(largest);
    pairs.map(|(all, largest)| all - largest).fold(f64::INFINITY, f64::min).max(0.0)
}

/// A range for `host` near the one it has: shifted, resized, or now and then anywhere. `None` if
/// the host cannot hold it.
pub(crate) fn neighbour(
    instance: &Instance,
    host: usize,
    now: Option<LayerRange>,
    rng: &mut Rng,
) -> Option<LayerRange> {
    let Some(now) = now else { return anywhere(instance, host, rng) };
    let (first, end) = (i64::from(now.first()), i64::from(now.end()));
    let by = rng.i64(1..=4) * if rng.bool() { 1 } else { -1 };
    let (first, end) = match rng.u8(0..10) {
        0..4 => (first + by, end + by),
        4..6 => (first + by.signum(), end),
        6..8 => (first, end + by.signum()),
        8 => (first + by.signum(), end - by.signum()),
        _ => return anywhere(instance, host, rng),
    };
    let range = LayerRange::new(u32::try_from(first).ok()?, u32::try_from(end).ok()?).ok()?;
    (range.end() <= instance.layers && instance.rate(host, range) > 0.0).then_some(range)
}

/// Any range that `host` can hold, by chance. `None` if chance met none.
fn anywhere(instance: &Instance, host: usize, rng: &mut Rng) -> Option<LayerRange> {
    let most = instance.class(host).rates.count_max().min(instance.layers);
    let count = rng.u32(1..=most.max(1));
    let first = rng.u32(0..=instance.layers.checked_sub(count)?);
    let range = LayerRange::new(first, first + count).ok()?;
    (instance.rate(host, range) > 0.0).then_some(range)
}

fn span(range: Option<LayerRange>) -> std::ops::Range<u32> {
    range.map_or(0..0, |it| it.first()..it.end())
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}
