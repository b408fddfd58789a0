//! The flow graph of a placement: which hops its ranges allow, and what each of them carries.
//!
//! ```text
//! source ──enter──▶ [intake] ──▶ host in ──compute──▶ host out ──hop──▶ host in … ──leave──▶ sink
//!                                                        └─gather─▶ group ─spread─▶ host in
//! ```
//!
//! A token with layers `0..x` done may go from any host whose range ends at `x` to any host that
//! holds layer `x`. Thousands of hosts have millions of such pairs. Where no link of a pair of
//! regions can bind, because the hosts on one side of it do not carry more, a *group*, all hosts of
//! a region that hold layer `x`, stands for the pairs.

use thalweg_wire::LayerRange;

use crate::Charge;
use crate::instance::{Instance, Pairs, Wire};

/// Node where tokens come from.
pub(super) const SOURCE: u32 = 0;
/// Node where tokens go to.
pub(super) const SINK: u32 = 1;

/// Rates above this, in tokens/s, are cut to it, so that sums and ratios of rates stay finite.
const RATE_MAX: f64 = 1e15;

/// A flow graph.
#[derive(Clone, Debug, Default)]
pub(super) struct Mesh {
    /// Number of nodes.
    pub nodes: u32,
    /// Arcs.
    pub lines: Vec<Line>,
    /// Tokens/s that each host passes on at most, whatever its share of each token; zero if it
    /// takes no part.
    pub most: Vec<f64>,
    /// Hosts by region, so that those of a region stand together below.
    order: Vec<usize>,
    /// Hosts whose range ends at each position.
    ending: Vec<Vec<usize>>,
    /// Hosts that a token at each position may enter.
    open: Vec<Vec<usize>>,
    /// Node at which hops from other hosts enter each host.
    door: Vec<u32>,
}

/// An arc.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    /// Node it leaves.
    pub from: u32,
    /// Node it enters.
    pub to: u32,
    /// Tokens/s; infinite where it cannot bind.
    pub capacity: f64,
    /// What it stands for.
    pub kind: Kind,
}

/// What an arc stands for. Hosts and regions by index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// From the source to a host.
    Enter(usize),
    /// All the tokens that other hosts send to a host, through its network card.
    Intake(usize),
    /// Through a host.
    Compute(usize),
    /// From a host to another.
    Hop(usize, usize),
    /// From a host to the group of those in a region that hold its end.
    Gather(usize, usize),
    /// From a group at a position to one of its hosts.
    Spread(u32, usize),
    /// From a host to the sink.
    Leave(usize),
}

impl Mesh {
    /// Prepares for placements of `instance`.
    pub fn new(instance: &Instance) -> Self {
        let mut order: Vec<usize> = (0..instance.hosts.len()).collect();
        order.sort_by_key(|&host| instance.hosts[host].region);
        let positions = instance.layers as usize + 1;
        Self {
            order,
            ending: vec![Vec::new(); positions],
            open: vec![Vec::new(); positions],
            ..Self::default()
        }
    }

    /// Builds the graph of a placement; `charge` says what a host passes on at most.
    pub fn build(&mut self, instance: &Instance, placement: &[Option<LayerRange>], charge: Charge) {
        self.lines.clear();
        self.read(instance, placement, charge);
        self.pass(instance, placement);
        for position in 1..instance.layers {
            match instance.network.pairs {
                Pairs::Each(_) => self.join_each(instance, position),
                Pairs::ByRegion(_) => self.join_regions(instance, position),
            }
        }
    }

    /// Sorts the hosts that take part by where their ranges end and which positions they take.
    fn read(&mut self, instance: &Instance, placement: &[Option<LayerRange>], charge: Charge) {
        self.ending.iter_mut().chain(&mut self.open).for_each(Vec::clear);
        self.most.clear();
        self.most.resize(instance.hosts.len(), 0.0);
        let held = |host: usize| placement.get(host).copied().flatten();
        for &host in &self.order {
            let Some(range) = held(host) else { continue };
            let units = match charge {
                Charge::Full => 1.0,
                Charge::Work => f64::from(range.count()),
            };
            let most = instance.rate(host, range) * units;
            if most > 0.0 && range.end() <= instance.layers {
                self.most[host] = most.min(RATE_MAX);
                self.ending[range.end() as usize].push(host);
            }
        }
        for &host in &self.order {
            let Some(range) = held(host).filter(|_| self.most[host] > 0.0) else { continue };
            let end = if instance.partial { range.end() } else { range.first() + 1 };
            for position in range.first() as usize..end as usize {
                if !self.ending[position].is_empty() {
                    self.open[position].push(host);
                }
            }
        }
    }

    /// Adds the way through each host, and those from the source and to the sink.
    fn pass(&mut self, instance: &Instance, placement: &[Option<LayerRange>]) {
        let hosts = instance.hosts.len() as u32;
        self.nodes = 2 + 2 * hosts;
        self.door.clear();
        self.door.extend((0..hosts).map(entrance));
        for host in 0..instance.hosts.len() {
            let Some(range) = placement.get(host).copied().flatten() else { continue };
            let most = self.most[host];
            if most <= 0.0 {
                continue;
            }
            let (at, node) = (&instance.hosts[host], entrance(host as u32));
            let mut capacity = most;
            if range.first() == 0 {
                if let Some(wire) = instance.network.enter.get(host).copied().flatten() {
                    self.add(SOURCE, node, binding(wire, most), Kind::Enter(host));
                }
                if at.nic_in < most {
                    self.door[host] = self.nodes;
                    self.nodes += 1;
                    self.add(self.door[host], node, at.nic_in, Kind::Intake(host));
                }
            } else {
                capacity = capacity.min(at.nic_in);
            }
            if range.end() == instance.layers {
                if let Some(wire) = instance.network.leave.get(host).copied().flatten() {
                    self.add(node + 1, SINK, binding(wire, most), Kind::Leave(host));
                }
            } else {
                capacity = capacity.min(at.nic_out);
            }
            self.add(node, node + 1, capacity, Kind::Compute(host));
        }
    }

    /// Joins all pairs at a position one by one.
    fn join_each(&mut self, instance: &Instance, position: u32) {
        for near in 0..self.ending[position as usize].len() {
            for far in 0..self.open[position as usize].len() {
                let from = self.ending[position as usize][near];
                let to = self.open[position as usize][far];
                if let Some(wire) = instance.wire(from, to) {
                    self.hop(from, to, wire);
                }
            }
        }
    }

    /// Joins all pairs at a position, by groups where links cannot bind and where that saves arcs.
    fn join_regions(&mut self, instance: &Instance, position: u32) {
        let near = std::mem::take(&mut self.ending[position as usize]);
        let far = std::mem::take(&mut self.open[position as usize]);
        let region = |host: usize| instance.hosts[host].region;
        for receivers in far.chunk_by(|&a, &b| region(a) == region(b)) {
            let to = receivers[0];
            let most = receivers.iter().map(|&it| self.most[it]).fold(0.0, f64::max);
            let saves = near.len() * receivers.len() > near.len() + receivers.len();
            let mut group = None;
            for &from in &near {
                let Some(wire) = instance.wire(from, to) else { continue };
                if saves && wire.tokens_per_second >= most.min(self.most[from]) {
                    let node = *group.get_or_insert(self.nodes);
                    self.nodes = self.nodes.max(node + 1);
                    let kind = Kind::Gather(from, region(to));
                    self.add(entrance(from as u32) + 1, node, f64::INFINITY, kind);
                } else {
                    receivers.iter().for_each(|&to| self.hop(from, to, wire));
                }
            }
            for &to in receivers.iter().filter(|_| group.is_some()) {
                let node = group.expect("asked just now");
                self.add(node, self.door[to], f64::INFINITY, Kind::Spread(position, to));
            }
        }
        self.ending[position as usize] = near;
        self.open[position as usize] = far;
    }

    fn hop(&mut self, from: usize, to: usize, wire: Wire) {
        let capacity = binding(wire, self.most[from].min(self.most[to]));
        self.add(entrance(from as u32) + 1, self.door[to], capacity, Kind::Hop(from, to));
    }

    fn add(&mut self, from: u32, to: u32, capacity: f64, kind: Kind) {
        if capacity > 0.0 {
            self.lines.push(Line { from, to, capacity, kind });
        }
    }
}

/// Node at which tokens enter a host; they leave it at the next one.
fn entrance(host: u32) -> u32 {
    2 + 2 * host
}

/// What a link between ends that carry at most `most` adds to their limits: its capacity, or
/// nothing at all.
fn binding(wire: Wire, most: f64) -> f64 {
    if wire.tokens_per_second >= most { f64::INFINITY } else { wire.tokens_per_second }
}
