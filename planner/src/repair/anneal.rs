//! Annealing on loads and shortfall together, for changes that take more than a few steps.

use fastrand::Rng;

use super::ground::{Ground, NO_SHORTFALL, Seat};
use super::spots::Spots;

/// How far things may get worse, and what a shortfall is worth, from the beginning of a round
/// to its end.
struct Heat {
    /// In layer loads.
    temperature: (f64, f64),
    /// Layer loads that a shortfall of all of the demand at one layer is worth.
    worth: (f64, f64),
}

/// From what hosts hold, as long as nothing is found.
const HOT: Heat = Heat { temperature: (8.0, 0.5), worth: (100.0, 1000.0) };

/// From the best found, towards fewer loads.
const WARM: Heat = Heat { temperature: (1.0, 0.2), worth: (100.0, 100.0) };

/// Rounds take these shares of the moves. Each begins anew until something is found: that is luck, and
/// three tries find more than a long one.
const ROUNDS: [f64; 3] = [0.4, 0.3, 0.3];

/// Rounds from what is known already, one after the other.
const ROUNDS_BETTER: u64 = 4;

/// Moves between two recounts, and at one temperature.
const MOVES_PER_RECOUNT: u64 = 1 << 16;
const MOVES_PER_COOLING: u64 = 64;

/// Layers that a host shifts by at most, and grows or shrinks by.
const SHIFT_MAX: i64 = 4;
const RESIZE_MAX: i64 = 2;

/// New seats of one host or two.
struct Change {
    seats: [(usize, Seat); 2],
    hosts: usize,
}

/// A placement under change, and the one of fewest loads that covers the demand.
pub(super) struct Anneal<'a> {
    ground: &'a Ground,
    reachable: &'a (dyn Fn(&[Seat]) -> bool + Sync),
    /// Hosts that may change.
    free: Vec<usize>,
    seats: Vec<Seat>,
    /// What is covered beyond the demand.
    slack: Vec<f64>,
    /// Sum of what is missing.
    short: f64,
    loads: u32,
    /// Hosts that hold something else than they did.
    moved: Spots,
    /// Free hosts by the first layer they hold.
    starts: Vec<Spots>,
    best: Option<(u32, Vec<Seat>)>,
}

impl<'a> Anneal<'a> {
    /// Only what is `reachable` counts.
    pub fn new(ground: &'a Ground, reachable: &'a (dyn Fn(&[Seat]) -> bool + Sync)) -> Self {
        let hosts = ground.hosts.len();
        Self {
            free: (0..hosts).filter(|&it| ground.free[it]).collect(),
            seats: Vec::new(),
            slack: Vec::new(),
            short: 0.0,
            loads: 0,
            moved: Spots::new(hosts),
            starts: Vec::new(),
            best: None,
            ground,
            reachable,
        }
    }

    /// Seats of few loads that cover the demand.
    pub fn run(mut self, moves: u64, rng: &mut Rng) -> Option<Vec<Seat>> {
        for share in ROUNDS {
            let moves = (share * moves as f64) as u64;
            match self.best.clone() {
                Some((_, best)) => self.round(&best, &WARM, moves, rng),
                None => self.round(&self.ground.held, &HOT, moves, rng),
            }
        }
        self.best.map(|it| it.1)
    }

    /// Seats of no more loads than `found`, which covers the demand.
    pub fn better(mut self, found: Vec<Seat>, moves: u64, rng: &mut Rng) -> Vec<Seat> {
        let mut best = (self.ground.loads(&found), found);
        for _ in 0..ROUNDS_BETTER {
            self.best = Some(best.clone());
            self.round(&best.1, &WARM, moves / ROUNDS_BETTER, rng);
            best = self.best.take().unwrap_or(best);
        }
        best.1
    }

    fn round(&mut self, start: &[Seat], heat: &Heat, moves: u64, rng: &mut Rng) {
        self.restart(start);
        let coolings = (moves / MOVES_PER_COOLING).max(1) as f64;
        let per_cooling = |ends: (f64, f64)| (ends.1 / ends.0).powf(1.0 / coolings);
        let (cooling, rising) = (per_cooling(heat.temperature), per_cooling(heat.worth));
        let (mut temperature, mut worth) = (heat.temperature.0, heat.worth.0);
        for count in 0..moves {
            if count % MOVES_PER_COOLING == 0 {
                temperature *= cooling;
                worth *= rising;
            }
            if count % MOVES_PER_RECOUNT == 0 {
                self.recount();
            }
            if let Some(change) = self.draw(rng) {
                // Accepting with probability exp(-worse / temperature), with the draw made first.
                let worse_max = -temperature * rng.f64().max(f64::MIN_POSITIVE).ln();
                self.attempt(&change, worth, worse_max);
            }
        }
    }

    fn restart(&mut self, start: &[Seat]) {
        let hosts = start.len();
        self.seats = start.to_vec();
        self.moved.clear();
        self.starts = vec![Spots::new(hosts); self.ground.layers as usize + 1];
        for (host, seat) in start.iter().enumerate() {
            if *seat != self.ground.held[host] {
                self.moved.insert(host);
            }
            if self.ground.free[host] && seat.count() > 0 {
                self.starts[seat.first as usize].insert(host);
            }
        }
        self.recount();
    }

    /// Makes a change unless it makes things worse by more than `worse_max` layer loads.
    fn attempt(&mut self, change: &Change, worth: f64, worse_max: f64) {
        let (mut short, mut loads) = (0.0, self.loads);
        for &(host, seat) in change.seats() {
            let (from, held) = (self.seats[host], self.ground.held[host]);
            loads = loads + seat.beyond(held) - from.beyond(held);
            short += self.add(from, -self.ground.rate(host, from));
            short += self.add(seat, self.ground.rate(host, seat));
        }
        if f64::from(loads) - f64::from(self.loads) + worth * short > worse_max {
            for &(host, seat) in change.seats() {
                let from = self.seats[host];
                self.add(seat, -self.ground.rate(host, seat));
                self.add(from, self.ground.rate(host, from));
            }
            return;
        }
        for &(host, seat) in change.seats() {
            self.seat(host, seat);
        }
        self.short += short;
        self.loads = loads;
        self.note();
    }

    /// Notes that a host moved.
    fn seat(&mut self, host: usize, to: Seat) {
        let from = std::mem::replace(&mut self.seats[host], to);
        let held = self.ground.held[host];
        if from == to {
            return;
        }
        if from == held {
            self.moved.insert(host);
        } else if to == held {
            self.moved.remove(host);
        }
        if from.count() > 0 {
            self.starts[from.first as usize].remove(host);
        }
        if to.count() > 0 {
            self.starts[to.first as usize].insert(host);
        }
    }

    /// Adds to what is covered and returns what that adds to the shortfall.
    #[inline]
    fn add(&mut self, seat: Seat, rate: f64) -> f64 {
        let mut short = 0.0;
        for it in &mut self.slack[seat.span()] {
            short += it.min(0.0);
            *it += rate;
            short -= it.min(0.0);
        }
        short
    }

    /// Starts the sums again, so that rounding does not pile up.
    fn recount(&mut self) {
        self.slack = self.ground.slack(&self.seats);
        self.short = -self.slack.iter().map(|it| it.min(0.0)).sum::<f64>();
        self.loads = self.ground.loads(&self.seats);
        self.note();
    }

    /// Remembers the placement if it covers the demand with fewer loads than any before.
    fn note(&mut self) {
        let fewer = self.best.as_ref().is_none_or(|it| self.loads < it.0);
        if fewer && self.short < NO_SHORTFALL && (self.reachable)(&self.seats) {
            self.best = Some((self.loads, self.seats.clone()));
        }
    }

    /// Draws a change; `None` if the draw leads nowhere: outside of the model, or to a seat that a
    /// host cannot take.
    fn draw(&self, rng: &mut Rng) -> Option<Change> {
        let host = self.free[rng.usize(0..self.free.len())];
        let seat = self.seats[host];
        let (first, count) = (i64::from(seat.first), i64::from(seat.count()));
        let within = |first, count| self.within(first, count);
        let change = match rng.u8(0..20) {
            0..8 => Change::one(host, self.wander(host, rng)?),
            8 | 9 => {
                let other = self.free[rng.usize(0..self.free.len())];
                Change::two((host, self.seats[other]), (other, seat))
            }
            10..12 => {
                let other = self.starts[seat.end as usize].choose(rng)?;
                let theirs = i64::from(self.seats[other].count());
                Change::two((host, within(first + theirs, count)?), (other, within(first, theirs)?))
            }
            12..15 => {
                let other = self.starts[seat.end as usize].choose(rng)?;
                let (by, theirs) = (by(RESIZE_MAX, rng), i64::from(self.seats[other].count()));
                let next = within(first + count + by, theirs - by)?;
                Change::two((host, within(first, count + by)?), (other, next))
            }
            _ => {
                let host = self.moved.choose(rng)?;
                Change::one(host, self.ground.held[host])
            }
        };
        let may = |&(host, seat): &(usize, Seat)| {
            self.ground.rate(host, seat) > 0.0 || seat == self.ground.held[host]
        };
        let apart = change.hosts == 1 || change.seats[0].0 != change.seats[1].0;
        (apart && change.seats().iter().all(may)).then_some(change)
    }

    /// Shifts or resizes a host, or puts it anywhere.
    fn wander(&self, host: usize, rng: &mut Rng) -> Option<Seat> {
        let seat = self.seats[host];
        let (first, count) = (i64::from(seat.first), i64::from(seat.count()));
        match rng.u8(0..8) {
            0..3 if count > 0 => self.within(first + by(SHIFT_MAX, rng), count),
            3..5 if count > 0 => self.within(first, count + by(RESIZE_MAX, rng)),
            5..7 if count > 0 => {
                let by = by(RESIZE_MAX, rng);
                self.within(first + by, count - by)
            }
            _ => {
                let count = rng.u32(1..=self.ground.count_max(host));
                let first = rng.u32(0..=self.ground.layers - count);
                Some(Seat { first, end: first + count })
            }
        }
    }

    fn within(&self, first: i64, count: i64) -> Option<Seat> {
        let (first, count) = (u32::try_from(first).ok()?, u32::try_from(count).ok()?);
        (count > 0 && count <= self.ground.layers && first <= self.ground.layers - count)
            .then_some(Seat { first, end: first + count })
    }
}

impl Change {
    fn one(host: usize, seat: Seat) -> Self {
        Self { seats: [(host, seat); 2], hosts: 1 }
    }

    fn two(one: (usize, Seat), other: (usize, Seat)) -> Self {
        Self { seats: [one, other], hosts: 2 }
    }

    /// Each host with its new seat.
    fn seats(&self) -> &[(usize, Seat)] {
        &self.seats[..self.hosts]
    }
}

/// One to `most`, up or down.
fn by(most: i64, rng: &mut Rng) -> i64 {
    let by = rng.i64(1..=most);
    if rng.bool() { by } else { -by }
}
