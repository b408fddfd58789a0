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
const HOSTS_ALL_MAX: usize = 100;

/// Most placements that a level holds are in excess of its width by this factor before it is
/// trimmed, and by as many more.
const EXCESS: usize = 4;
const EXCESS_MORE: usize = 512;

/// One pass.
pub(super) struct Pass<'a> {
    pub ground: &'a Ground,
    /// Whether a placement can be reached at all: its steps have an order.
    pub reachable: &'a dyn Fn(&[Seat]) -> bool,
    /// Placements of as many loads that it goes on from.
    pub width: usize,
    /// Whether the last layer that is short is filled next, not the first.
    pub from_the_end: bool,
    /// Loads at most.
    pub loads_max: u32,
}

/// A placement that the pass goes on from.
struct Node {
    change: Change,
    loads: u32,
    /// What is covered beyond the demand.
    slack: Vec<f64>,
    /// Root of each layer's shortfall.
    roots: Vec<f64>,
}

/// A placement by what it changes in a node.
#[derive(Clone, Copy)]
struct Change {
    node: usize,
    host: usize,
    seat: Seat,
    /// Sum of the roots of all shortfalls.
    short: f64,
    /// The same for all orders of the same changes.
    key: u64,
}

/// Placements of as many loads.
struct Level {
    changes: Vec<Change>,
    /// Those as short as this are not among the best any more.
    short_max: f64,
}

/// A pass under way.
struct Run<'a> {
    pass: &'a Pass<'a>,
    nodes: Vec<Node>,
    /// By loads.
    levels: Vec<Level>,
    /// Placements that may still be looked at.
    moves_left: &'a mut u64,
}

impl Pass<'_> {
    /// Seats that cover the demand, if some were found before `moves_left` were used up.
    pub fn run(&self, moves_left: &mut u64) -> Option<Vec<Seat>> {
        let level = || Level { changes: Vec::new(), short_max: f64::INFINITY };
        let levels = (0..=self.loads_max).map(|_| level()).collect();
        let mut run = Run { pass: self, nodes: Vec::new(), levels, moves_left };
        let ground = self.ground;
        let none = Change { node: 0, host: 0, seat: Seat::default(), short: 0.0, key: 0 };
        let slack = ground.slack(&ground.held);
        run.nodes.push(Node { change: none, loads: 0, roots: roots(&slack), slack });
        run.expand(0);
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
                if self.nodes[node].slack.iter().any(|it| *it < -NO_SHORTFALL) {
                    self.expand(node);
                    continue;
                }
                let seats = self.seats(node);
                if (self.pass.reachable)(&seats) {
                    return Some(seats);
                }
            }
        }
    }

    /// Makes a node of a change.
    fn visit(&mut self, change: Change, loads: u32) -> usize {
        let ground = self.pass.ground;
        let held = ground.held[change.host];
        let mut slack = self.nodes[change.node].slack.clone();
        let (before, after) = (ground.rate(change.host, held), ground.rate(change.host, change.seat));
        slack[held.span()].iter_mut().for_each(|it| *it -= before);
        slack[change.seat.span()].iter_mut().for_each(|it| *it += after);
        self.nodes.push(Node { change, loads, roots: roots(&slack), slack });
        self.nodes.len() - 1
    }

    /// Hosts that were changed on the way to a node, and where they are.
    fn changed(&self, mut node: usize) -> Vec<(usize, Seat)> {
        let mut changed = Vec::new();
        while node > 0 {
            let change = &self.nodes[node].change;
            changed.push((change.host, change.seat));
            node = change.node;
        }
        changed
    }

    fn seats(&self, node: usize) -> Vec<Seat> {
        let mut seats = self.pass.ground.held.clone();
        self.changed(node).into_iter().for_each(|(host, seat)| seats[host] = seat);
        seats
    }

    /// Looks at all ways to give the next short layer more.
    fn expand(&mut self, node: usize) {
        let ground = self.pass.ground;
        let is_short = |it: &f64| *it < -NO_SHORTFALL;
        let slack = &self.nodes[node].slack;
        let layer = match self.pass.from_the_end {
            false => slack.iter().position(is_short),
            true => slack.iter().rposition(is_short),
        };
        let Some(layer) = layer.map(|it| it as u32) else { return };
        let changed = self.changed(node);
        for host in 0..ground.hosts.len() {
            let far = ground.hosts.len() > HOSTS_ALL_MAX && !near(ground.held[host], layer);
            if !far && ground.free[host] && !changed.iter().any(|it| it.0 == host) {
                self.options(node, host, layer);
            }
        }
        for level in &mut self.levels[self.nodes[node].loads as usize..] {
            if level.changes.len() > EXCESS * self.pass.width + EXCESS_MORE {
                level.trim(self.pass.width);
            }
        }
    }

    /// Seats of `host` that give `layer` more.
    fn options(&mut self, at: usize, host: usize, layer: u32) {
        let ground = self.pass.ground;
        let node = &self.nodes[at];
        let held = ground.held[host];
        let before = ground.rate(host, held);
        let given = if held.contains(layer) { before } else { 0.0 };
        let short: f64 = node.roots.iter().sum();
        for count in 1..=ground.count_max(host) {
            for first in (layer + 1).saturating_sub(count)..=layer.min(ground.layers - count) {
                let seat = Seat { first, end: first + count };
                let (loads, after) = (seat.beyond(held), ground.rate(host, seat));
                let level = node.loads + loads;
                if loads > LOADS_PER_HOST_MAX || level > self.pass.loads_max || after <= given {
                    continue;
                }
                *self.moves_left = self.moves_left.saturating_sub(1);
                let short = short + node.more_short((held, before), (seat, after));
                let level = &mut self.levels[level as usize];
                if short < level.short_max {
                    let key = node.change.key ^ key(host, seat);
                    level.changes.push(Change { node: at, host, seat, short, key });
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
        self.changes.sort_unstable_by(|a, b| a.key.cmp(&b.key).then(a.short.total_cmp(&b.short)));
        self.changes.dedup_by_key(|it| it.key);
        self.changes.sort_by(|a, b| a.short.total_cmp(&b.short));
        if self.changes.len() >= width {
            self.changes.truncate(width);
            self.short_max = self.changes.last().map_or(f64::INFINITY, |it| it.short);
        }
    }
}

fn near(held: Seat, layer: u32) -> bool {
    let (from, to) = (held.first.saturating_sub(LOADS_PER_HOST_MAX), held.end + LOADS_PER_HOST_MAX);
    held.count() == 0 || (from..to).contains(&layer)
}

fn roots(slack: &[f64]) -> Vec<f64> {
    slack.iter().map(|it| root(*it)).collect()
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
