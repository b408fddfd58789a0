//! A plan as a graph of hosts and hops.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use thalweg_wire::{End, Hop, HostId, LayerRange, Plan, Route};

/// Numbers the hosts of a plan.
pub(crate) type HostIndex = usize;

/// Where a hop starts: zero is the source, a host has its number plus one.
pub(crate) type Start = usize;

/// The hosts and hops of a plan.
#[derive(Debug)]
pub(crate) struct Graph {
    layers: u32,
    hosts: Vec<(HostId, LayerRange)>,
    indices: BTreeMap<HostId, HostIndex>,
    /// Hosts by where their layers end, last first.
    by_end: Vec<HostIndex>,
    /// Hops that leave each start: to every host that holds the next layer.
    hops: Vec<Vec<Edge>>,
}

/// A hop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edge {
    pub(crate) to: HostIndex,
    /// Flow of the plan, in tokens/s; zero for hops that are a last resort.
    pub(crate) weight: f64,
}

impl Graph {
    /// Reads a plan. Hops below `share_min` of the flow that leaves their start count as having
    /// none.
    pub(crate) fn new(plan: &Plan, share_min: f64) -> Self {
        let hosts: Vec<_> = plan.assignments.iter().map(|it| (it.host, it.layers)).collect();
        let mut by_end: Vec<HostIndex> = (0..hosts.len()).collect();
        by_end.sort_by_key(|&it| Reverse(hosts[it].1.end()));
        let starts = hosts.iter().map(|&(host, layers)| (End::Host(host), layers.end()));
        let starts = [(End::Source, 0)].into_iter().chain(starts);
        Self {
            layers: plan.layers,
            indices: hosts.iter().zip(0..).map(|(it, index)| (it.0, index)).collect(),
            hops: starts.map(|(from, at)| edges(plan, from, at, share_min)).collect(),
            by_end,
            hosts,
        }
    }

    /// Number of hosts.
    pub(crate) fn len(&self) -> usize {
        self.hosts.len()
    }

    /// A host and its layers.
    pub(crate) fn host(&self, index: HostIndex) -> (HostId, LayerRange) {
        self.hosts[index]
    }

    /// The number of a host of the plan.
    pub(crate) fn index_of(&self, host: HostId) -> HostIndex {
        self.indices[&host]
    }

    /// Hosts by where their layers end, last first.
    pub(crate) fn by_end(&self) -> &[HostIndex] {
        &self.by_end
    }

    /// Hops that leave a start.
    pub(crate) fn hops(&self, from: Start) -> &[Edge] {
        &self.hops[from]
    }

    /// Whether nothing follows a host.
    pub(crate) fn is_last(&self, index: HostIndex) -> bool {
        self.hosts[index].1.end() == self.layers
    }

    /// Layers that a host computes for a request that comes from `from`.
    pub(crate) fn layers(&self, from: Start, to: HostIndex) -> LayerRange {
        let at = from.checked_sub(1).map_or(0, |it| self.hosts[it].1.end());
        LayerRange::new(at, self.hosts[to].1.end()).expect("hops lead to hosts that go on")
    }

    /// Marks the hosts that are `usable` and from which a route can be completed over such hosts.
    pub(crate) fn find_live(&self, usable: impl Fn(HostId) -> bool, live: &mut Vec<bool>) {
        live.clear();
        live.resize(self.hosts.len(), false);
        for &index in &self.by_end {
            let complete = self.is_last(index) || self.hops[index + 1].iter().any(|it| live[it.to]);
            live[index] = complete && usable(self.hosts[index].0);
        }
    }

    /// Walks from the source to the last layer. `choose` gets the start and the hops that are open
    /// there, with their positions in [`hops`](Self::hops), and returns one of these positions.
    pub(crate) fn walk(
        &self,
        live: &[bool],
        mut choose: impl FnMut(Start, &[(usize, Edge)]) -> usize,
    ) -> Option<Vec<HostIndex>> {
        let mut hosts = Vec::new();
        let mut from = 0;
        let mut open = Vec::new();
        loop {
            self.open(from, live, &mut open);
            if open.is_empty() {
                return None;
            }
            let to = self.hops[from][choose(from, &open)].to;
            hosts.push(to);
            if self.is_last(to) {
                return Some(hosts);
            }
            from = to + 1;
        }
    }

    /// Writes hosts out as a route.
    pub(crate) fn route(&self, hosts: &[HostIndex]) -> Option<Route> {
        let mut from = 0;
        let hop = |&to: &HostIndex| {
            let layers = self.layers(from, to);
            from = to + 1;
            Hop { host: self.hosts[to].0, layers }
        };
        Route::new(hosts.iter().map(hop).collect()).ok()
    }

    /// The hosts of a route, if the plan has all of them.
    pub(crate) fn hosts_of(&self, route: &Route) -> Option<Vec<HostIndex>> {
        route.hops().iter().map(|hop| self.indices.get(&hop.host).copied()).collect()
    }

    /// Live hops with flow; without any, all live hops, which then count the same.
    fn open(&self, from: Start, live: &[bool], open: &mut Vec<(usize, Edge)>) {
        open.clear();
        let edges = self.hops[from].iter().copied().enumerate();
        open.extend(edges.filter(|(_, it)| live[it.to]));
        if open.iter().any(|(_, it)| it.weight > 0.0) {
            open.retain(|(_, it)| it.weight > 0.0);
        } else {
            open.iter_mut().for_each(|(_, it)| it.weight = 1.0);
        }
    }
}

/// Hops from an end where layers `0..at` are done: to every host that holds layer `at`.
fn edges(plan: &Plan, from: End, at: u32, share_min: f64) -> Vec<Edge> {
    let leaving: BTreeMap<End, f64> = plan
        .weights
        .iter()
        .filter(|it| it.from == from)
        .map(|it| (it.to, it.tokens_per_second.max(0.0)))
        .collect();
    let least = leaving.values().sum::<f64>() * share_min;
    let weight = |to| leaving.get(&End::Host(to)).copied().filter(|&it| it >= least);
    plan.assignments
        .iter()
        .enumerate()
        .filter(|(_, it)| it.layers.contains(at))
        .map(|(to, it)| Edge { to, weight: weight(it.host).unwrap_or(0.0) })
        .collect()
}
