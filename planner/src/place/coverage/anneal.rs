//! Simulated annealing on the coverage of every layer.
//!
//! Without binding links the full-charge flow is the least coverage `C(l)` of any layer. A round
//! aims at a flow `F` and lowers `sum(max(0, 1 - C(l) / F)^2)`, which says by how much and where a
//! placement misses it. A move costs time in proportion to the layers it touches, whatever the
//! number of hosts.

use fastrand::Rng;

use super::crossings::{Crossings, Shift};
use super::ground::{Ground, Seat};
use super::moves::{Change, Starts};
use crate::flow::Judge;
use crate::instance::Instance;

/// Moves between two exact recounts; what sums and differences leave behind stays negligible.
const MOVES_PER_RECOUNT: u64 = 1 << 16;
/// Moves at one temperature.
const MOVES_PER_COOLING: u64 = 64;
/// Less than this fraction more is no gain, but a rounding error.
const GAIN_MIN: f64 = 1e-9;

/// A placement under change, and the best one met.
pub(super) struct Anneal<'a> {
    ground: &'a Ground,
    /// Values placements whose flow may be below their coverage.
    judge: Option<Judge<'a>>,
    /// Keeps what regions hand over within their links; `best` then is what is counted on, not an
    /// exact flow.
    crossings: Option<Crossings>,
    /// Share of each link that is counted on.
    trust: f64,
    seats: Vec<Seat>,
    starts: Starts,
    /// Coverage of each layer, as a fraction of the target.
    cover: Vec<f64>,
    target: f64,
    penalty: f64,
    best: f64,
    best_seats: Vec<Seat>,
}

/// How much worse a move may make things, falling from move to move.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heat {
    temperature: f64,
    factor: f64,
    moves_left: u64,
}

impl Heat {
    /// Falls from `first` to `last` in `moves`.
    pub fn new(first: f64, last: f64, moves: u64) -> Self {
        let steps = (moves / MOVES_PER_COOLING).max(1) as f64;
        Self { temperature: first, factor: (last / first).powf(1.0 / steps), moves_left: moves }
    }

    /// Whether it has cooled down.
    pub fn is_cold(&self) -> bool {
        self.moves_left == 0
    }
}

impl<'a> Anneal<'a> {
    /// Begins at `seats`, one for each host.
    pub fn new(instance: &'a Instance, ground: &'a Ground, seats: Vec<Seat>, target: f64) -> Self {
        let judge = Judge::new(instance);
        let judge = judge.links_bind().then_some(judge);
        Self::with(ground, judge, None, seats, (target, 1.0))
    }

    /// Begins at `seats`, for hosts of several regions with thin links between them, each of which
    /// is counted on by the share `trust`.
    pub fn across(
        ground: &'a Ground,
        crossings: Crossings,
        seats: Vec<Seat>,
        (target, trust): (f64, f64),
    ) -> Self {
        Self::with(ground, None, Some(crossings), seats, (target, trust))
    }

    fn with(
        ground: &'a Ground,
        judge: Option<Judge<'a>>,
        crossings: Option<Crossings>,
        seats: Vec<Seat>,
        (target, trust): (f64, f64),
    ) -> Self {
        let mut anneal = Self {
            ground,
            judge,
            crossings,
            trust,
            starts: Starts::new(ground, &seats),
            best_seats: seats.clone(),
            seats,
            cover: Vec::new(),
            target,
            penalty: 0.0,
            best: 0.0,
        };
        anneal.recount();
        anneal
    }

    /// Aims from here on at the best flow met plus a fraction of what is left to `bound`.
    pub fn aim_between(&mut self, bound: f64, fraction: f64) {
        self.target = self.best + (bound - self.best) * fraction;
        self.recount();
    }

    /// Aims at `target` from here on, counts on links by the share `trust`, and forgets what was best.
    pub fn restart(&mut self, target: f64, trust: f64) {
        (self.target, self.trust, self.best) = (target, trust, 0.0);
        self.recount();
    }

    /// Whether the target is reached.
    pub fn is_there(&self) -> bool {
        self.best >= self.target
    }

    /// Makes up to [`MOVES_PER_RECOUNT`] moves and returns how many.
    pub fn run(&mut self, heat: &mut Heat, rng: &mut Rng) -> u64 {
        let moves = heat.moves_left.min(MOVES_PER_RECOUNT);
        for at in 0..moves {
            if at % MOVES_PER_COOLING == 0 {
                heat.temperature *= heat.factor;
            }
            if let Some(change) = self.starts.draw(self.ground, &self.seats, rng) {
                // Accepting with probability exp(-worse / temperature), with the draw made first.
                let worse_max = -heat.temperature * rng.f64().max(f64::MIN_POSITIVE).ln();
                self.attempt(&change, worse_max);
            }
        }
        heat.moves_left -= moves;
        self.recount();
        moves
    }

    /// Flow of the best placement met, in tokens/s.
    pub fn best(&self) -> f64 {
        self.best
    }

    /// The best placement met.
    pub fn best_seats(&self) -> &[Seat] {
        &self.best_seats
    }

    /// Makes a change unless the penalty grows by more than `worse_max`.
    fn attempt(&mut self, change: &Change, worse_max: f64) {
        let mut worse = 0.0;
        for &(host, seat) in change.seats() {
            worse += self.add(self.seats[host], -self.rate(host, self.seats[host]));
            worse += self.add(seat, self.rate(host, seat));
        }
        if !self.may(change, worse_max - worse) {
            for &(host, seat) in change.seats() {
                self.take_back(seat, self.rate(host, seat));
                self.take_back(self.seats[host], -self.rate(host, self.seats[host]));
            }
            return;
        }
        for &(host, seat) in change.seats() {
            self.starts.seat(host, self.seats[host], seat);
            self.seats[host] = seat;
        }
        self.penalty += worse;
        self.note();
    }

    /// Whether the change may be made: the penalty may grow by `worse_max` more, excesses at
    /// crossings included. If so, the crossings know of it.
    fn may(&mut self, change: &Change, worse_max: f64) -> bool {
        if self.crossings.is_none() {
            return worse_max >= 0.0;
        }
        let mut shifts = [Shift::default(); 2];
        for (shift, &(host, to)) in shifts.iter_mut().zip(change.seats()) {
            let from = self.seats[host];
            let (before, after) = (self.rate(host, from), self.rate(host, to));
            *shift = Shift { host, from: (from, before), to: (to, after) };
        }
        let shifts = &shifts[..change.seats().len()];
        self.crossings.as_mut().is_some_and(|it| it.attempt(shifts, worse_max))
    }

    /// What a host gives on a seat, as a fraction of the target.
    #[inline]
    fn rate(&self, host: usize, seat: Seat) -> f64 {
        self.ground.rate(host, seat) / self.target
    }

    /// Adds to the coverage of a seat and returns what that adds to the penalty.
    #[inline]
    fn add(&mut self, seat: Seat, rate: f64) -> f64 {
        let mut worse = 0.0;
        for it in &mut self.cover[seat.span()] {
            worse -= shortfall(*it);
            *it += rate;
            worse += shortfall(*it);
        }
        worse
    }

    #[inline]
    fn take_back(&mut self, seat: Seat, rate: f64) {
        self.cover[seat.span()].iter_mut().for_each(|it| *it -= rate);
    }

    /// Computes coverage and penalty afresh.
    fn recount(&mut self) {
        self.cover.clear();
        self.cover.resize(self.ground.layers as usize, 0.0);
        for host in 0..self.seats.len() {
            let rate = self.rate(host, self.seats[host]);
            self.take_back(self.seats[host], -rate);
        }
        self.penalty = self.cover.iter().copied().map(shortfall).sum();
        let Self { ground, crossings, seats, target, trust, .. } = self;
        if let Some(crossings) = crossings {
            let rate = |(host, &seat)| (seat, ground.rate(host, seat) / *target);
            crossings.recount((*target, *trust), seats.iter().enumerate().map(rate));
        }
        self.note();
    }

    /// Remembers the placement if it covers more than any before.
    fn note(&mut self) {
        // With this penalty no layer can be short by less than the mean, which costs less to tell.
        let mean = self.penalty.max(0.0) / self.cover.len() as f64;
        if self.penalty > GAIN_MIN && self.target * (1.0 - mean.sqrt()) <= self.best {
            return;
        }
        let excess = self.crossings.as_ref().map_or(0.0, Crossings::worst);
        let least = self.cover.iter().copied().fold(f64::INFINITY, f64::min);
        let least = self.target * (least - excess);
        if least <= self.best * (1.0 + GAIN_MIN) {
            return;
        }
        let flow = match &mut self.judge {
            Some(judge) => judge.value(&self.ground.placement(&self.seats)).min(least),
            None => least,
        };
        if flow > self.best * (1.0 + GAIN_MIN) {
            self.best = flow;
            self.best_seats.clone_from(&self.seats);
        }
    }
}

#[inline]
fn shortfall(cover: f64) -> f64 {
    let short = (1.0 - cover).max(0.0);
    short * short
}
