//! Simulated annealing on the coverage of every layer.
//!
//! Without binding links the full-charge flow is the least coverage of any layer. A round takes a
//! target `F` and lowers `sum(max(0, (F - C(l)) / F)^2)`, which also says by how much and where a
//! placement misses it. Where links bind, the shortfall of the exact flow counts as one layer more.

use fastrand::Rng;
use thalweg_wire::LayerRange;

use crate::live::full::{coverage, full_flow};
use crate::live::instance::{Instance, Placement};

/// Where a round starts: one wholly uncovered layer costs 1.
const TEMPERATURE_FIRST: f64 = 0.2;
/// Where it ends: nothing worse is accepted any more.
const TEMPERATURE_LAST: f64 = 2e-5;
/// A move shifts or resizes by this many layers at most, and by a quarter of a small model.
const SHIFT_LAYERS_MAX: u32 = 4;
/// With more hosts than this the exact flow is only computed for placements that cover more.
const FLOW_PER_MOVE_HOSTS_MAX: usize = 32;

/// Changes of one or two hosts.
pub(crate) type Change = Vec<(usize, LayerRange)>;

/// One cooling from a start to the best placement on its way.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    placement: Placement,
    coverage: Vec<f64>,
    penalty: f64,
    target: f64,
    temperature: f64,
    cooling: f64,
    moves_left: u64,
    links: Links,
    best: Option<(f64, Placement)>,
}

/// What links mean for a round.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Links {
    /// Nothing: coverage is the flow.
    Free,
    /// The exact flow is part of the penalty.
    Bind,
    /// The exact flow is too dear for every move.
    BindLate,
}

impl Round {
    /// Creates a round of `moves` moves that aims at `target` tokens/s.
    pub fn new(instance: &Instance, start: &Placement, target: f64, moves: u64) -> Self {
        let links = match (instance.links_bind(), instance.hosts.len()) {
            (false, _) => Links::Free,
            (true, hosts) if hosts <= FLOW_PER_MOVE_HOSTS_MAX => Links::Bind,
            (true, _) => Links::BindLate,
        };
        let ratio: f64 = TEMPERATURE_LAST / TEMPERATURE_FIRST;
        let mut round = Self {
            placement: start.clone(),
            coverage: coverage(instance, start),
            penalty: f64::INFINITY,
            target,
            temperature: TEMPERATURE_FIRST,
            cooling: ratio.powf(1.0 / moves.max(1) as f64),
            moves_left: moves,
            links,
            best: None,
        };
        round.penalty = round.measure(instance);
        round
    }

    /// Moves left.
    pub fn moves_left(&self) -> u64 {
        self.moves_left
    }

    /// The placement of largest full-charge flow met, unless none carried anything.
    pub fn into_best(self) -> Option<Placement> {
        self.best.map(|it| it.1)
    }

    /// Tries one move.
    pub fn step(&mut self, instance: &Instance, rng: &mut Rng) {
        self.moves_left = self.moves_left.saturating_sub(1);
        self.temperature *= self.cooling;
        let Some(change) = neighbour(instance, &self.placement, rng) else { return };
        let before = self.apply(instance, &change);
        let penalty = self.measure(instance);
        let worse = penalty - self.penalty;
        if worse <= 0.0 || rng.f64() < (-worse / self.temperature).exp() {
            self.penalty = penalty;
        } else {
            self.undo(instance, &before);
        }
    }

    /// Makes a change and returns what was there before.
    fn apply(&mut self, instance: &Instance, change: &Change) -> Vec<(usize, Option<LayerRange>)> {
        let before = change.iter().map(|&(host, _)| (host, self.placement[host])).collect();
        for &(host, range) in change {
            self.set(instance, host, Some(range));
        }
        before
    }

    fn undo(&mut self, instance: &Instance, before: &[(usize, Option<LayerRange>)]) {
        for &(host, range) in before {
            self.set(instance, host, range);
        }
    }

    fn set(&mut self, instance: &Instance, host: usize, range: Option<LayerRange>) {
        let before = std::mem::replace(&mut self.placement[host], range);
        for (range, sign) in [(before, -1.0), (range, 1.0)] {
            let Some(range) = range else { continue };
            let change = sign * instance.tokens_per_second(host, range);
            for layer in range.first()..range.end() {
                self.coverage[layer as usize] += change;
            }
        }
    }

    /// Computes the penalty, and remembers the placement if none before carried more.
    fn measure(&mut self, instance: &Instance) -> f64 {
        let shortfall = |flow: f64| ((self.target - flow) / self.target).max(0.0).powi(2);
        let mut penalty: f64 = self.coverage.iter().map(|&it| shortfall(it)).sum();
        let covered = self.coverage.iter().copied().fold(f64::INFINITY, f64::min);
        let best = self.best.as_ref().map_or(0.0, |it| it.0);
        // What additions and subtractions leave behind must not pass for coverage.
        let covers_more = covered > best + self.target * 1e-9;
        let flow = match self.links {
            Links::Free => covered,
            Links::Bind => {
                let flow = full_flow(instance, &self.placement).flow;
                penalty += shortfall(flow);
                flow
            }
            Links::BindLate if covers_more => full_flow(instance, &self.placement).flow,
            Links::BindLate => 0.0,
        };
        if covers_more && flow > best {
            self.best = Some((flow, self.placement.clone()));
        }
        penalty
    }
}

/// Draws a random change, `None` if the draw leads nowhere: a range outside of the model, or one
/// that its host cannot hold.
pub(crate) fn neighbour(
    instance: &Instance,
    placement: &Placement,
    rng: &mut Rng,
) -> Option<Change> {
    let host = rng.usize(0..placement.len());
    let most = (instance.model.layers / 4).clamp(1, SHIFT_LAYERS_MAX);
    let change = match (placement[host], rng.u32(0..8)) {
        (Some(range), 0 | 1) => vec![(host, shift(range, most, rng)?)],
        (Some(range), 2) => vec![(host, resize(range, most, rng)?)],
        (Some(range), 3) => vec![(host, mirror(range, most, rng)?)],
        (Some(_), 4 | 5) => move_boundary(placement, host, most, rng)?,
        (Some(_), 6) => swap(placement, host, rng)?,
        _ => vec![(host, jump(instance, host, rng)?)],
    };
    let fits = change
        .iter()
        .all(|&(host, range)| range.end() <= instance.model.layers && instance.holds(host, range));
    fits.then_some(change)
}

/// A step of one to `most` layers up or down.
fn moved(layer: u32, most: u32, rng: &mut Rng) -> Option<u32> {
    let by = rng.u32(1..=most);
    if rng.bool() { layer.checked_add(by) } else { layer.checked_sub(by) }
}

fn shift(range: LayerRange, most: u32, rng: &mut Rng) -> Option<LayerRange> {
    let first = moved(range.first(), most, rng)?;
    LayerRange::new(first, first + range.count()).ok()
}

/// Keeps the first layer and moves the end.
fn resize(range: LayerRange, most: u32, rng: &mut Rng) -> Option<LayerRange> {
    LayerRange::new(range.first(), moved(range.end(), most, rng)?).ok()
}

/// Keeps the end and moves the first layer.
fn mirror(range: LayerRange, most: u32, rng: &mut Rng) -> Option<LayerRange> {
    LayerRange::new(moved(range.first(), most, rng)?, range.end()).ok()
}

/// Moves the boundary between `host` and one that follows it.
fn move_boundary(placement: &Placement, host: usize, most: u32, rng: &mut Rng) -> Option<Change> {
    let range = placement[host]?;
    let follows = |it: &Option<LayerRange>| it.is_some_and(|it| it.first() == range.end());
    let next = placement.iter().position(follows)?;
    let boundary = moved(range.end(), most, rng)?;
    let one = LayerRange::new(range.first(), boundary).ok()?;
    let other = LayerRange::new(boundary, placement[next]?.end()).ok()?;
    Some(vec![(host, one), (next, other)])
}

fn swap(placement: &Placement, host: usize, rng: &mut Rng) -> Option<Change> {
    let other = rng.usize(0..placement.len());
    let theirs = placement[other].filter(|_| other != host)?;
    Some(vec![(host, theirs), (other, placement[host]?)])
}

/// Any range the host can hold, often one that begins or ends with the model.
fn jump(instance: &Instance, host: usize, rng: &mut Rng) -> Option<LayerRange> {
    let layers = instance.model.layers;
    let first = rng.u32(0..layers);
    let most = (1..=layers - first).rev().find(|&count| {
        LayerRange::new(first, first + count).is_ok_and(|it| instance.holds(host, it))
    })?;
    LayerRange::new(first, first + rng.u32(1..=most)).ok()
}
