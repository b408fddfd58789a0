//! The links of a cluster, made when first used.

use std::collections::BTreeMap;

use thalweg_planner::cluster::Resolved;
use thalweg_planner::instance::{Instance, Wire};

use crate::agenda::{Nanos, nanos};
use crate::link::{FrameSizes, LineId, LinkId, Links, Parcel};

/// Links between seats: hosts by index, then the gateway that stands outside of all.
#[derive(Debug)]
pub(super) struct Wires<'a> {
    pub(super) links: Links,
    pub(super) sizes: FrameSizes,
    resolved: &'a Resolved,
    /// Ends of each link.
    ends: Vec<(usize, usize)>,
    made: BTreeMap<(usize, usize), LinkId>,
    /// Network cards by host: in, out.
    cards: Vec<(LineId, LineId)>,
    /// Shared capacities, in the order of the instance.
    shared: Vec<LineId>,
    /// Links that are slower than the cluster file says.
    slower: Vec<Slower>,
}

/// Links that carry less than they should.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slower {
    /// Which.
    pub(super) between: Between,
    /// Share of the bandwidth that is left.
    pub(super) keeps: f64,
}

/// Some links.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Between {
    /// Those from one host to another, by index.
    Hosts(usize, usize),
    /// All those from the hosts of one region to those of another, by index.
    Regions(usize, usize),
}

/// A link before anything is shared.
#[derive(Clone, Copy, Debug)]
struct Path {
    bytes_per_second: f64,
    latency: Nanos,
}

impl<'a> Wires<'a> {
    /// Links of a cluster, none used yet.
    pub(super) fn new(resolved: &'a Resolved) -> Self {
        let (instance, bytes) = (&resolved.instance, resolved.model.activation_bytes);
        let mut links = Links::default();
        let cards = instance
            .hosts
            .iter()
            .map(|it| (links.add_line(it.nic_in * bytes), links.add_line(it.nic_out * bytes)));
        let cards = cards.collect();
        let shared = instance.network.shared.iter();
        let shared = shared.map(|it| links.add_line(it.tokens_per_second * bytes)).collect();
        Self {
            links,
            sizes: FrameSizes::new(bytes),
            resolved,
            ends: Vec::new(),
            made: BTreeMap::new(),
            cards,
            shared,
            slower: Vec::new(),
        }
    }

    /// Sends a frame. One between seats that nothing joins is lost.
    pub(super) fn send(&mut self, now: Nanos, from: usize, to: usize, parcel: Parcel) {
        if let Some(link) = self.link(from, to) {
            let bytes = self.sizes.bytes(&parcel);
            self.links.put(now, link, parcel.class(), bytes, parcel);
        }
    }

    /// Ends of a link.
    pub(super) fn ends(&self, link: LinkId) -> (usize, usize) {
        self.ends[link.0 as usize]
    }

    /// Links used so far, with their ends.
    pub(super) fn used(&self) -> impl Iterator<Item = (LinkId, (usize, usize))> {
        (0..).map(LinkId).zip(self.ends.iter().copied())
    }

    /// Whether anything joins two seats.
    pub(super) fn joined(&self, from: usize, to: usize) -> bool {
        self.path(from, to).is_some()
    }

    /// Drops what is under way from and to a host.
    pub(super) fn cut(&mut self, now: Nanos, host: usize) {
        for (link, (from, to)) in (0..).map(LinkId).zip(&self.ends) {
            if *from == host || *to == host {
                self.links.cut(now, link);
            }
        }
    }

    /// Makes links slower from now on. Slowdowns of one link multiply.
    pub(super) fn slow_down(&mut self, now: Nanos, slower: Slower) {
        self.slower.push(slower);
        for at in 0..self.ends.len() {
            let (from, to) = self.ends[at];
            if slower.between.holds(&self.resolved.instance, from, to) {
                let path = self.path(from, to).expect("the link is there");
                let rate = path.bytes_per_second * self.kept(from, to);
                self.links.set_rate(now, LinkId(at as u32), rate);
            }
        }
    }

    /// Gives a shared capacity another share of what the cluster file says.
    pub(super) fn set_shared(&mut self, now: Nanos, shared: usize, keeps: f64) {
        let it = &self.resolved.instance.network.shared[shared];
        let rate = it.tokens_per_second * self.resolved.model.activation_bytes * keeps;
        self.links.set_line(now, self.shared[shared], rate);
    }

    fn link(&mut self, from: usize, to: usize) -> Option<LinkId> {
        if let Some(&link) = self.made.get(&(from, to)) {
            return Some(link);
        }
        let path = self.path(from, to)?;
        let lines = self.lines(from, to);
        let rate = path.bytes_per_second * self.kept(from, to);
        let link = self.links.add(rate, path.latency, lines);
        self.ends.push((from, to));
        self.made.insert((from, to), link);
        Some(link)
    }

    /// What a link runs over. What gateways exchange with hosts draws on no shared capacity.
    fn lines(&self, from: usize, to: usize) -> Vec<LineId> {
        let instance = &self.resolved.instance;
        let mut lines = Vec::new();
        lines.extend(self.cards.get(from).map(|it| it.1));
        lines.extend(self.cards.get(to).map(|it| it.0));
        if let (Some(near), Some(far)) = (instance.hosts.get(from), instance.hosts.get(to)) {
            let pair = (near.region, far.region);
            let drawn = instance.network.shared.iter().zip(&self.shared);
            lines.extend(drawn.filter(|it| it.0.carries.contains(&pair)).map(|it| *it.1));
        }
        lines
    }

    /// The link between two seats or, where the cluster file has none, the quickest way over a third
    /// host: the planner's word for hosts without a link is that no activations should go there.
    fn path(&self, from: usize, to: usize) -> Option<Path> {
        let over = |third: usize| {
            let (near, far) = (self.direct(from, third)?, self.direct(third, to)?);
            Some(Path {
                bytes_per_second: near.bytes_per_second.min(far.bytes_per_second),
                latency: near.latency + far.latency,
            })
        };
        let hosts = 0..self.resolved.instance.hosts.len();
        let others = hosts.filter(|&it| it != from && it != to);
        self.direct(from, to).or_else(|| others.filter_map(over).min_by_key(|it| it.latency))
    }

    fn direct(&self, from: usize, to: usize) -> Option<Path> {
        let (instance, model) = (&self.resolved.instance, &self.resolved.model);
        let outside = instance.hosts.len();
        let (wire, bytes) = match (from == outside, to == outside) {
            (true, _) => (instance.network.enter[to], model.token_bytes),
            (_, true) => (instance.network.leave[from], model.token_bytes),
            _ => (instance.wire(from, to), model.activation_bytes),
        };
        let path = |wire: Wire| Path {
            bytes_per_second: wire.tokens_per_second * bytes,
            latency: nanos(wire.latency_seconds),
        };
        wire.map(path)
    }

    /// Share of its bandwidth that a link has left.
    fn kept(&self, from: usize, to: usize) -> f64 {
        let instance = &self.resolved.instance;
        let hit = self.slower.iter().filter(|it| it.between.holds(instance, from, to));
        hit.map(|it| it.keeps).product()
    }
}

impl Between {
    fn holds(self, instance: &Instance, from: usize, to: usize) -> bool {
        let region = |seat: usize| instance.hosts.get(seat).map(|it| it.region);
        match self {
            Self::Hosts(near, far) => (near, far) == (from, to),
            Self::Regions(near, far) => (region(from), region(to)) == (Some(near), Some(far)),
        }
    }
}
