//! The fewest layer loads that cover a demand: a search in the order of loads.
//!
//! All placements of no load come first, then those of one, and so on, so that the first that covers
//! the demand needs fewest, as far as the search looked: of the placements of as many loads it goes
//! on from some only, those nearest to the demand. What it changes next always covers the first
//! layer that is short, or the last one: whatever covers the demand changes some host there.
//!
//! Near means that few layers are short rather than that little is missing: roots of the shortfalls
//! are summed up. Half of a demand in one layer is filled by one host, a tenth in each of five takes
//! several.

use std::collections::BTreeSet;

use super::ground::{Ground, NO_SHORTFALL, Seat};

/// Layers that one host loads at most.
const LOADS_PER_HOST_MAX: u32 = 3;

/// Above so many hosts, only those that hold a layer near the one that is short are looked at.
const HOSTS_ALL_MAX: usize = 50;

/// A level is trimmed to its width once it is wider by this factor, and by so many.
const EXCESS: usize = 4;
const EXCESS_MORE: usize = 512;

/// Moves that going on from a placement counts as, for the time it takes.
const VISIT_MOVES: u64 = 40;

/// Unit of a sum of roots: far above rounding, far below what matters.
const SHORT_UNIT: f64 = 1e-9;

/// One pass.
pub(super) struct Pass<'a> {
    pub ground: &'a Ground,
    /// Whether a placement can be reached at all: its steps have an order.
    pub reachable: &'a (dyn Fn(&[Seat]) -> bool + Sync),
    /// Placements of as many loads that it goes on from.
    pub width: usize,
    /// Whether the last layer that is short is filled next, not the first.
    pub from_the_end: bool,
    /// Loads at most.
    pub loads_max: u32,
}

/// A placement that the pass goes on from.
struct Node {
    /// Its last change; of no meaning for what is held now, the first node.
    change: Change,
    loads: u32,
    /// Hosts that differ from what they held, and where they are.
    changed: Vec<(usize, Seat)>,
    /// What is covered beyond the demand.
    slack: Vec<f64>,
    /// Root of each layer's shortfall.
    roots: Vec<f64>,
}

/// A placement by what it changes in another one.
#[derive(Clone, Copy)]
struct Change {
    /// The other one, by place in the list of all that the pass went on from.
    node: usize,
    host: usize,
    seat: Seat,
    /// Sum of the roots of all shortfalls, in units that make equal sums of sums that differ by
    /// rounding.
    short: u64,
    /// The same for all orders of the same changes.
    key: u64,
}

/// Placements of as many loads.
struct Level {
    changes: Vec<Change>,
    /// Those as short as this are not among the best any more.
    short_max: u64,
}

/// A pass under way.
struct Run<'a> {
    pass: &'a Pass<'a>,
    /// What led to each placement that it went on from.
    visited: Vec<Change>,
    /// Of what hosts hold now.
    slack: Vec<f64>,
    /// By loads.
    levels: Vec<Level>,
    /// Placements that may still be looked at.
    moves_left: &'a mut u64,
}

impl Pass<'_> {
    /// Seats that cover the demand, if some were found before `moves_left` were used up.
    pub fn run(&self, moves_left: &mut u64) -> Option<Vec<Seat>> {
        let level = || Level { changes: Vec::new(), short_max: u64::MAX };
        let levels = (0..=self.loads_max).map(|_| level()).collect();
        let slack = self.ground.slack(&self.ground.held);
        let mut run = Run { pass: self, visited: Vec::new(), slack, levels, moves_left };
        let held = Change { node: 0, host: 0, seat: Seat::default(), short: 0, key: 0 };
        let node = run.visit(held, 0);
        run.expand(&node);
        (0..=self.loads_max).find_map(|loads| run.level(loads))
    }
}

impl Run<'_> {
    /// Goes on from the best placements of so many loads. Changes without a load lead to others of
    /// the same level.
    fn level(&mut self, loads: u32) -> Option<Vec<Seat>> {
        let mut seen = BTreeSet::new();
        loop {
            let level = &mut self.levels[loads as usize];
            level.trim(self.pass.width);
            let new: Vec<Change> =
                level.changes.iter().filter(|it| seen.insert(it.key)).copied().collect();
            if new.is_empty() {
                return None;
            }
            for change in new {
                if *self.moves_left == 0 {
                    return None;
                }
                let node = self.visit(change, loads);
                if node.slack.iter().any(|it| *it < -NO_SHORTFALL) {
                    self.expand(&node);
                    continue;
                }
                let seats = self.seats(&node);
                if (self.pass.reachable)(&seats) {
                    return Some(seats);
                }
            }
        }
    }

    /// The placement after a change.
    fn visit(&mut self, change: Change, loads: u32) -> Node {
        let ground = self.pass.ground;
        *self.moves_left = self.moves_left.saturating_sub(VISIT_MOVES);
        let mut changed = Vec::new();
        let mut slack = self.slack.clone();
        self.visited.push(change);
        let mut at = self.visited.len() - 1;
        while at > 0 {
            let Change { node, host, seat, .. } = self.visited[at];
            let held = ground.held[host];
            let (before, after) = (ground.rate(host, held), ground.rate(host, seat));
            slack[held.span()].iter_mut().for_each(|it| *it -= before);
            slack[seat.span()].iter_mut().for_each(|it| *it += after);
            changed.push((host, seat));
            at = node;
        }
        let roots = slack.iter().map(|it| root(*it)).collect();
        Node { change, loads, changed, slack, roots }
    }

    fn seats(&self, node: &Node) -> Vec<Seat> {
        let mut seats = self.pass.ground.held.clone();
        node.changed.iter().for_each(|&(host, seat)| seats[host] = seat);
        seats
    }

    /// Looks at all ways to give the next short layer more.
    fn expand(&mut self, node: &Node) {
        let ground = self.pass.ground;
        let is_short = |it: &f64| *it < -NO_SHORTFALL;
        let layer = match self.pass.from_the_end {
            false => node.slack.iter().position(is_short),
            true => node.slack.iter().rposition(is_short),
        };
        let Some(layer) = layer.map(|it| it as u32) else { return };
        let short = node.roots.iter().sum();
        for host in 0..ground.hosts.len() {
            let far = ground.hosts.len() > HOSTS_ALL_MAX && !near(ground.held[host], layer);
            if !far && ground.free[host] && !node.changed.iter().any(|it| it.0 == host) {
                self.options(node, short, host, layer);
            }
        }
        for level in &mut self.levels[node.loads as usize..] {
            if level.changes.len() > EXCESS * self.pass.width + EXCESS_MORE {
                level.trim(self.pass.width);
            }
        }
    }

    /// Seats of `host` that give `layer` more.
    fn options(&mut self, node: &Node, short: f64, host: usize, layer: u32) {
        let ground = self.pass.ground;
        let held = ground.held[host];
        let before = ground.rate(host, held);
        let given = if held.contains(layer) { before } else { 0.0 };
        for count in 1..=ground.count_max(host) {
            for first in (layer + 1).saturating_sub(count)..=layer.min(ground.layers - count) {
                let seat = Seat { first, end: first + count };
                let loads = seat.beyond(held);
                if loads > LOADS_PER_HOST_MAX || node.loads + loads > self.pass.loads_max {
                    continue;
                }
                let after = ground.rate(host, seat);
                if after <= given {
                    continue;
                }
                *self.moves_left = self.moves_left.saturating_sub(1);
                let short = short + node.more_short((held, before), (seat, after));
                let short = (short.max(0.0) / SHORT_UNIT).round() as u64;
                let level = &mut self.levels[(node.loads + loads) as usize];
                if short < level.short_max {
                    let (key, node) = (node.change.key ^ key(host, seat), self.visited.len() - 1);
                    level.changes.push(Change { node, host, seat, short, key });
                }
            }
        }
    }
}

impl Node {
    /// What the sum of roots grows by if a host leaves a seat, where it gave so much, for another.
    fn more_short(&self, (held, before): (Seat, f64), (seat, after): (Seat, f64)) -> f64 {
        let mut more = 0.0;
        for layer in held.first..held.end {
            let at = layer as usize;
            let after = if seat.contains(layer) { after } else { 0.0 };
            more += root(self.slack[at] - before + after) - self.roots[at];
        }
        for layer in (seat.first..seat.end).filter(|it| !held.contains(*it)) {
            let at = layer as usize;
            if self.roots[at] > 0.0 {
                more += root(self.slack[at] + after) - self.roots[at];
            }
        }
        more
    }
}

impl Level {
    /// Keeps the best, each once.
    fn trim(&mut self, width: usize) {
        self.changes.sort_unstable_by_key(|it| (it.short, it.key));
        self.changes.dedup_by_key(|it| it.key);
        if self.changes.len() >= width {
            self.changes.truncate(width);
            self.short_max = self.changes.last().map_or(u64::MAX, |it| it.short);
        }
    }
}

fn near(held: Seat, layer: u32) -> bool {
    let (from, to) = (held.first.saturating_sub(LOADS_PER_HOST_MAX), held.end + LOADS_PER_HOST_MAX);
    held.count() == 0 || (from..to).contains(&layer)
}

#[inline]
fn root(slack: f64) -> f64 {
    if slack < -NO_SHORTFALL { (-slack).sqrt() } else { 0.0 }
}

/// A number that hardly any two choices share (splitmix64).
fn key(host: usize, seat: Seat) -> u64 {
    let choice = (host as u64) << 32 | u64::from(seat.first) << 16 | u64::from(seat.end);
    let mut key = choice.wrapping_add(0x9e37_79b9_7f4a_7c15);
    key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}
