//! The fewest layer loads that cover a demand: annealing on loads and shortfall together.
//!
//! A repair changes little, so that the search keeps to what is near: it fills a layer that is short
//! with a host next to it, takes back a change and fills what that leaves, or moves a border that
//! two hosts share. Each such move may take several hosts and costs time in proportion to the
//! layers it touches, whatever the number of hosts.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::ground::{Ground, Seat};
use super::spots::Spots;

/// What a round does: how far things may get worse, and what a shortfall is worth.
struct Round {
    /// Share of all moves that it takes.
    share: f64,
    /// Temperatures at its ends, in layer loads.
    temperature: (f64, f64),
    /// Layer loads that a shortfall of all of the flow at one layer is worth at least, at the ends.
    worth: (f64, f64),
}

/// Short rounds one after the other, near what hosts hold.
const NEAR: Round = Round { share: 0.05, temperature: (2.0, 0.5), worth: (10.0, 10.0) };

/// A long round that nearly forgets what hosts hold and comes back to it, where near ones found
/// nothing.
const FAR: Round = Round { share: 0.5, temperature: (20.0, 0.5), worth: (100.0, 1000.0) };

/// Near rounds before a far one.
const NEAR_FIRST: usize = 6;

/// A layer that stays short gets dearer by so much every time that the worths are looked at, and
/// once it is not, so much of what it is above the least is kept.
const DEARER: f64 = 0.1;
const CHEAPER: f64 = 0.99;

/// Least shortfall that a short layer counts with when it gets dearer.
const SHORTFALL_FELT: f64 = 0.1;

/// Orders that are looked for at most: placements that cannot be ordered tend to come in flocks.
const ORDERS_MAX: u32 = 1000;

/// Moves between two recounts, and at one temperature.
const MOVES_PER_RECOUNT: u64 = 1 << 16;
const MOVES_PER_COOLING: u64 = 128;

/// Layers between a host and a layer that it still counts as near to.
const NEAR_LAYERS: u32 = 2;

/// Shortfalls below this are rounding; what demands are raised by makes up for it.
const NO_SHORTFALL: f64 = 1e-10;

/// A search from what hosts hold now.
pub(super) struct Search<'a> {
    ground: &'a Ground,
    /// Hosts that may change.
    free: Vec<u32>,
    /// Free hosts near each layer, by what they hold now.
    near: Vec<Vec<u32>>,
    seats: Vec<Seat>,
    /// What is covered beyond the demand.
    slack: Vec<f64>,
    /// Sum over layers of what is missing, each by its worth.
    short: f64,
    loads: u32,
    /// Layer loads that a shortfall of each layer is worth.
    worth: Vec<f64>,
    /// Hosts that hold something else than they did.
    moved: Spots,
    /// What the hosts changed last held before.
    undo: Vec<(usize, Seat)>,
    /// How often hosts were met on seats other than what they hold.
    met: BTreeMap<(usize, Seat), u32>,
    /// Whether a placement can be reached at all: its steps have an order.
    reachable: &'a dyn Fn(&[Seat]) -> bool,
    orders_left: u32,
    /// The fewest loads that cover the demand.
    best: Option<(u32, Vec<Seat>)>,
}

impl<'a> Search<'a> {
    /// Only what is `reachable` counts.
    pub fn new(ground: &'a Ground, reachable: &'a dyn Fn(&[Seat]) -> bool) -> Self {
        let free: Vec<u32> =
            (0..ground.hosts.len() as u32).filter(|&it| ground.free[it as usize]).collect();
        let mut it = Self {
            near: near(ground, &free),
            free,
            seats: Vec::new(),
            slack: Vec::new(),
            short: 0.0,
            loads: 0,
            worth: vec![1.0; ground.layers as usize],
            moved: Spots::new(ground.hosts.len()),
            undo: Vec::new(),
            met: BTreeMap::new(),
            reachable,
            orders_left: ORDERS_MAX,
            best: None,
            ground,
        };
        it.restart(&ground.held);
        it
    }

    /// Searches in about `moves` moves.
    pub fn run(&mut self, moves: u64, rng: &mut Rng) {
        if self.free.is_empty() {
            return;
        }
        let (mut done, mut count) = (0.0, 0);
        while done < 1.0 && self.best.as_ref().is_none_or(|it| it.0 > 0) {
            let far = count >= NEAR_FIRST && self.best.is_none();
            let round = if far { &FAR } else { &NEAR };
            match &self.best {
                Some((_, best)) if count % 2 == 1 => self.restart(&best.clone()),
                _ => self.restart(&self.ground.held),
            }
            self.round(round, (round.share * moves as f64) as u64, rng);
            done += round.share;
            count += 1;
        }
    }

    /// The placement of fewest loads that covers the demand, if one was met.
    pub fn best(&self) -> Option<&[Seat]> {
        self.best.as_ref().map(|it| it.1.as_slice())
    }

    /// The `most` seats that hosts were met on most often.
    pub fn met(&self, most: usize) -> impl Iterator<Item = (usize, Seat)> {
        let mut met: Vec<_> = self.met.iter().map(|(choice, times)| (*times, *choice)).collect();
        met.sort_unstable_by(|a, b| b.cmp(a));
        met.truncate(most);
        met.into_iter().map(|it| it.1)
    }

    /// Begins anew at `start`.
    fn restart(&mut self, start: &[Seat]) {
        self.seats = start.to_vec();
        self.moved.clear();
        for (host, seat) in start.iter().enumerate() {
            if *seat != self.ground.held[host] {
                self.moved.insert(host);
            }
        }
        self.recount();
    }

    fn round(&mut self, round: &Round, moves: u64, rng: &mut Rng) {
        let per_cooling = |ends: (f64, f64)| {
            let coolings = (moves / MOVES_PER_COOLING).max(1) as f64;
            (ends.1 / ends.0).powf(1.0 / coolings)
        };
        let (cooling, rising) = (per_cooling(round.temperature), per_cooling(round.worth));
        let (mut temperature, mut worth) = (round.temperature.0, round.worth.0);
        self.worth.fill(worth);
        for count in 0..moves {
            if count % MOVES_PER_RECOUNT == 0 {
                self.recount();
            }
            if count % MOVES_PER_COOLING == 0 {
                temperature *= cooling;
                worth *= rising;
                self.revalue(worth);
                self.look();
            }
            let before = self.cost();
            self.undo.clear();
            self.change(rng);
            let uphill = self.cost() - before;
            if uphill <= 0.0 || rng.f64() < (-uphill / temperature).exp() {
                self.note();
                continue;
            }
            while let Some((host, seat)) = self.undo.pop() {
                self.place(host, seat);
            }
        }
    }

    /// Notes who is where.
    fn look(&mut self) {
        for host in self.moved.iter() {
            *self.met.entry((host, self.seats[host])).or_default() += 1;
        }
    }

    fn cost(&self) -> f64 {
        f64::from(self.loads) + self.short
    }

    /// Layers that are short get dearer, so that nothing stays short for long; those that are not
    /// return to what a shortfall is worth at least.
    fn revalue(&mut self, least: f64) {
        self.short = 0.0;
        for (worth, slack) in self.worth.iter_mut().zip(&self.slack) {
            let short = -slack.min(0.0);
            if short > 0.0 {
                *worth = worth.max(least) + DEARER * (SHORTFALL_FELT + short);
            } else {
                *worth = least + (*worth - least).max(0.0) * CHEAPER;
            }
            self.short += *worth * short;
        }
    }

    /// One move of one host or several.
    fn change(&mut self, rng: &mut Rng) {
        match rng.u8(0..16) {
            0 | 1 => self.shift_border(rng),
            2 | 3 => {
                let host = self.any(rng);
                self.wander(host, rng);
                self.fill(rng);
            }
            4..=8 => {
                self.go_back(rng);
                let more = rng.u8(0..3);
                (0..more).for_each(|_| self.fill(rng));
            }
            9..=13 => self.fill(rng),
            _ => {
                self.fill(rng);
                self.fill(rng);
            }
        }
    }

    fn any(&self, rng: &mut Rng) -> usize {
        self.free[rng.usize(0..self.free.len())] as usize
    }

    /// Takes all or a part of a host's change back.
    fn go_back(&mut self, rng: &mut Rng) {
        let Some(host) = self.moved.choose(rng) else { return };
        let (now, held) = (self.seats[host], self.ground.held[host]);
        let step = |from: u32, to: u32| from + u32::from(from < to) - u32::from(from > to);
        let (first, end) = match rng.u8(0..8) {
            0 => (held.first, now.end),
            1 => (now.first, held.end),
            2 => (step(now.first, held.first), now.end),
            3 => (now.first, step(now.end, held.end)),
            4 => (step(now.first, held.first), step(now.end, held.end)),
            _ => (held.first, held.end),
        };
        self.put(host, first, end);
    }

    /// Brings a host near a short layer there; or a host that holds it gets faster by dropping
    /// another one.
    fn fill(&mut self, rng: &mut Rng) {
        let Some(layer) = self.short_layer(rng) else {
            let host = self.any(rng);
            return self.wander(host, rng);
        };
        let near = &self.near[layer as usize];
        let host = if near.is_empty() || rng.u8(0..16) == 0 {
            self.any(rng)
        } else {
            near[rng.usize(0..near.len())] as usize
        };
        let now = self.seats[host];
        if now.contains(layer) {
            if rng.bool() {
                self.put(host, (now.first + 1).min(layer), now.end);
            } else {
                self.put(host, now.first, (now.end - 1).max(layer + 1));
            }
        } else {
            self.reach(host, layer, rng);
        }
    }

    /// A layer that is short: the first one from a random layer on.
    fn short_layer(&self, rng: &mut Rng) -> Option<u32> {
        if self.short < NO_SHORTFALL {
            return None;
        }
        let begin = rng.usize(0..self.slack.len());
        let (low, high) = self.slack.split_at(begin);
        let found = high.iter().position(|it| *it < 0.0).map(|it| it + begin);
        found.or_else(|| low.iter().position(|it| *it < 0.0)).map(|it| it as u32)
    }

    /// Makes a host hold `layer`: what it has, longer or shifted, or any range there.
    fn reach(&mut self, host: usize, layer: u32, rng: &mut Rng) {
        let most = self.ground.count_max(host);
        let now = self.seats[host];
        if now.count() == 0 || rng.u8(0..16) == 0 {
            let count = rng.u32(1..=most);
            let first = layer.saturating_sub(rng.u32(0..count)).min(self.ground.layers - count);
            return self.put(host, first, first + count);
        }
        let (first, end) = (now.first.min(layer), now.end.max(layer + 1));
        // Mostly no longer than it fits, and now and then shorter than it was.
        let over = (end - first).saturating_sub(most);
        let added = end - first - now.count();
        let dropped = if rng.bool() { over } else { rng.u32(0..=added + 1).max(over) };
        if dropped >= end - first {
            return;
        }
        if layer < now.first {
            self.put(host, first, end - dropped);
        } else {
            self.put(host, first + dropped, end);
        }
    }

    /// Shifts or resizes a host a little, or puts it anywhere.
    fn wander(&mut self, host: usize, rng: &mut Rng) {
        let Seat { first, end } = self.seats[host];
        let by = if rng.bool() { 1 } else { u32::MAX };
        let (first, end) = match rng.u8(0..10) {
            0..=3 if end > first => (first.wrapping_add(by), end.wrapping_add(by)),
            4 | 5 if end > first => (first.wrapping_add(by), end),
            6 | 7 if end > first => (first, end.wrapping_add(by)),
            8 if end > first => (first.wrapping_add(by), end.wrapping_sub(by)),
            _ => {
                let count = rng.u32(1..=self.ground.count_max(host));
                let first = rng.u32(0..=self.ground.layers - count);
                (first, first + count)
            }
        };
        self.put(host, first, end);
    }

    /// Moves the border between a host and one that begins where it ends.
    fn shift_border(&mut self, rng: &mut Rng) {
        let host = self.any(rng);
        let near = self.seats[host];
        let Some(others) = self.near.get(near.end as usize).filter(|it| !it.is_empty()) else {
            return;
        };
        let other = others[rng.usize(0..others.len())] as usize;
        let far = self.seats[other];
        if far.first != near.end || near.count() == 0 || other == host {
            return;
        }
        let border = if rng.bool() { near.end + 1 } else { near.end - 1 };
        if near.first < border && border < far.end {
            self.put(host, near.first, border);
            self.put(other, border, far.end);
        }
    }

    /// Lets a host hold layers if it can.
    fn put(&mut self, host: usize, first: u32, end: u32) {
        let to = Seat { first, end };
        let from = self.seats[host];
        let fits = first < end && end <= self.ground.layers && self.ground.rate(host, to) > 0.0;
        let idle = first == end && self.ground.held[host].count() == 0;
        if to != from && (fits || idle) {
            self.undo.push((host, from));
            self.place(host, to);
        }
    }

    fn place(&mut self, host: usize, to: Seat) {
        let from = std::mem::replace(&mut self.seats[host], to);
        let held = self.ground.held[host];
        self.loads = self.loads + to.beyond(held) - from.beyond(held);
        if from == held {
            self.moved.insert(host);
        } else if to == held {
            self.moved.remove(host);
        }
        let (less, more) = (self.ground.rate(host, from), self.ground.rate(host, to));
        self.add(from, -less);
        self.add(to, more);
    }

    #[inline]
    fn add(&mut self, seat: Seat, rate: f64) {
        let mut short = 0.0;
        let span = seat.first as usize..seat.end as usize;
        for (it, worth) in self.slack[span.clone()].iter_mut().zip(&self.worth[span]) {
            let before = it.min(0.0);
            *it += rate;
            short += worth * (before - it.min(0.0));
        }
        self.short += short;
    }

    /// Starts the sums again, so that rounding does not pile up.
    fn recount(&mut self) {
        self.slack = self.ground.slack(&self.seats);
        let pairs = self.slack.iter().zip(&self.worth);
        self.short = pairs.map(|(slack, worth)| -slack.min(0.0) * worth).sum();
        let pairs = self.seats.iter().zip(&self.ground.held);
        self.loads = pairs.map(|(seat, held)| seat.beyond(*held)).sum();
        self.note();
    }

    /// Remembers the placement if it covers the demand with fewer loads than any before.
    fn note(&mut self) {
        let fewer = self.best.as_ref().is_none_or(|it| self.loads < it.0);
        if !fewer || self.short > NO_SHORTFALL || self.orders_left == 0 {
            return;
        }
        self.orders_left -= 1;
        if (self.reachable)(&self.seats) {
            self.best = Some((self.loads, self.seats.clone()));
        }
    }
}

/// Free hosts near each layer. Those without layers are near to all.
fn near(ground: &Ground, free: &[u32]) -> Vec<Vec<u32>> {
    let mut near = vec![Vec::new(); ground.layers as usize];
    for &host in free {
        let held = ground.held[host as usize];
        let (first, end) = match held.count() {
            0 => (0, ground.layers),
            _ => (held.first.saturating_sub(NEAR_LAYERS), held.end + NEAR_LAYERS),
        };
        for layer in first..end.min(ground.layers) {
            near[layer as usize].push(host);
        }
    }
    near
}
