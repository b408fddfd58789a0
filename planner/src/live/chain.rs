//! Exact chains: hosts that follow each other, each holding the layers after the one before.
//!
//! For a flow `F` a host can hold any range whose `T` is at least `F`, and it is never worse to hold
//! more, so that the furthest layer a set of hosts can reach, with a given host last, follows from
//! the sets without that host. The largest `F` whose chain reaches the last layer is found by
//! bisection. With `F = 0` the same table decides whether the model fits at all: every route is a
//! chain.

use thalweg_wire::LayerRange;

use crate::live::instance::{Instance, Placement};

/// Hosts whose every order is tried. The table has `2^n · n` entries.
pub(crate) const EVERY_ORDER_HOSTS_MAX: usize = 10;

/// Halvings of the interval of flows; a part in 10^9 is beyond any measurement.
const BISECTIONS: u32 = 32;

/// Hosts and what each holds, in order.
pub(crate) type Chain = Vec<(usize, LayerRange)>;

/// Returns the chain over `hosts` with the largest bottleneck, and among equals one of fewest hosts;
/// `None` if none holds all layers.
pub(crate) fn best_chain(instance: &Instance, hosts: &[usize]) -> Option<Chain> {
    let layers = instance.model.layers;
    let whole = |flow| Some(longest(instance, hosts, flow)).filter(|it| end(it) == layers);
    let mut best = whole(0.0)?;
    let fastest = |&host: &usize| {
        let seconds = instance.hosts[host].capacity.least_layer_seconds(&instance.model, 1);
        seconds.map_or(0.0, |it| 1.0 / it)
    };
    let (mut low, mut high) = (0.0, hosts.iter().map(fastest).fold(0.0, f64::max));
    for _ in 0..BISECTIONS {
        let flow = low + (high - low) / 2.0;
        match whole(flow) {
            Some(chain) => (low, best) = (flow, chain),
            None => high = flow,
        }
    }
    Some(best)
}

/// Returns the chain that reaches the furthest layer when every host and link must carry `flow`.
pub(crate) fn longest(instance: &Instance, hosts: &[usize], flow: f64) -> Chain {
    if hosts.len() <= EVERY_ORDER_HOSTS_MAX {
        return Orders::new(instance, hosts, flow).longest();
    }
    let mut by_region = hosts.to_vec();
    by_region.sort_by(|&a, &b| instance.hosts[a].region.cmp(&instance.hosts[b].region));
    let mut by_memory = hosts.to_vec();
    by_memory.sort_by_key(|&it| std::cmp::Reverse(instance.hosts[it].capacity.memory()));
    let one = in_order(instance, &by_region, flow);
    let other = in_order(instance, &by_memory, flow);
    if end(&other) > end(&one) { other } else { one }
}

/// One past the last layer of a chain.
pub(crate) fn end(chain: &Chain) -> u32 {
    chain.last().map_or(0, |it| it.1.end())
}

/// Lays a chain out as a placement.
pub(crate) fn place(chain: &Chain, placement: &mut Placement) {
    for &(host, range) in chain {
        placement[host] = Some(range);
    }
}

/// The table over all sets of a few hosts.
struct Orders<'a> {
    instance: &'a Instance,
    hosts: &'a [usize],
    flow: f64,
    /// `reach[host][x]`: where the host ends when it starts at layer `x`; `x` if it cannot.
    reach: Vec<Vec<u32>>,
}

/// The furthest layer of a set of hosts with one of them last, and who came before.
#[derive(Clone, Copy, Default)]
struct Entry {
    end: u32,
    before: Option<usize>,
}

impl<'a> Orders<'a> {
    fn new(instance: &'a Instance, hosts: &'a [usize], flow: f64) -> Self {
        let starts = 0..instance.model.layers;
        let row = |&host: &usize| starts.clone().map(|x| reach(instance, host, x, flow)).collect();
        Self { instance, hosts, flow, reach: hosts.iter().map(row).collect() }
    }

    fn longest(&self) -> Chain {
        let count = self.hosts.len();
        let mut table = vec![Entry::default(); count << count];
        let mut best: Option<(usize, usize)> = None;
        for set in 1..1_usize << count {
            for last in (0..count).filter(|it| set & (1 << it) != 0) {
                let entry = self.entry(&table, set, last);
                table[set * count + last] = entry;
                // Sets with more hosts must reach further to be worth it.
                let order = |set: usize, end: u32| (end, usize::MAX - set.count_ones() as usize);
                let better = best.is_none_or(|(other, host)| {
                    order(set, entry.end) > order(other, table[other * count + host].end)
                });
                if entry.end > 0 && better {
                    best = Some((set, last));
                }
            }
        }
        self.unroll(&table, best)
    }

    /// The best way to have `last` follow the others of `set`.
    fn entry(&self, table: &[Entry], set: usize, last: usize) -> Entry {
        let count = self.hosts.len();
        let rest = set & !(1 << last);
        if rest == 0 {
            return Entry { end: self.reach[last][0], before: None };
        }
        let mut best = Entry::default();
        for before in (0..count).filter(|it| rest & (1 << it) != 0) {
            let start = table[rest * count + before].end;
            if start == 0 || start == self.instance.model.layers {
                continue;
            }
            let wire = self.instance.wire(self.hosts[before], self.hosts[last]);
            let end = self.reach[last][start as usize];
            let carries = wire.is_some_and(|it| it.tokens_per_second >= self.flow);
            if carries && end > start && end > best.end {
                best = Entry { end, before: Some(before) };
            }
        }
        best
    }

    fn unroll(&self, table: &[Entry], best: Option<(usize, usize)>) -> Chain {
        let count = self.hosts.len();
        let mut chain = Chain::new();
        let mut at = best;
        while let Some((set, last)) = at {
            let Entry { end, before } = table[set * count + last];
            let rest = set & !(1 << last);
            let first = before.map_or(0, |it| table[rest * count + it].end);
            let range = LayerRange::new(first, end).expect("every entry goes further");
            chain.push((self.hosts[last], range));
            at = before.map(|it| (rest, it));
        }
        chain.reverse();
        chain
    }
}

/// Extends a chain by each host in turn, skipping those that cannot go further.
fn in_order(instance: &Instance, hosts: &[usize], flow: f64) -> Chain {
    let mut chain = Chain::new();
    for &host in hosts {
        let start = end(&chain);
        if start == instance.model.layers {
            break;
        }
        let linked = chain.last().is_none_or(|&(before, _)| {
            instance.wire(before, host).is_some_and(|it| it.tokens_per_second >= flow)
        });
        if let (true, Ok(range)) =
            (linked, LayerRange::new(start, reach(instance, host, start, flow)))
        {
            chain.push((host, range));
        }
    }
    chain
}

/// Where `host` ends at most if it starts at `start` and must sustain `flow`; `start` if it cannot.
fn reach(instance: &Instance, host: usize, start: u32, flow: f64) -> u32 {
    let layers = instance.model.layers;
    let can = |end| {
        LayerRange::new(start, end).is_ok_and(|range| {
            instance.holds(host, range) && instance.tokens_per_second(host, range) >= flow
        })
    };
    if can(layers) {
        return layers;
    }
    // Short of the head, whoever can hold more can hold less.
    let (mut low, mut high) = (start, layers);
    while high - low > 1 {
        let end = low + (high - low) / 2;
        if can(end) { low = end } else { high = end }
    }
    low
}
