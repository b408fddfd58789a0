//! The value of the maximum flow, fast: what a search asks of each of its candidates.

use thalweg_wire::LayerRange;

use super::graph::{Graph, UNBOUNDED};
use super::mesh::{Kind, Line, Mesh, SINK, SOURCE};
use super::program;
use crate::Charge;
use crate::instance::{Instance, Network, Pairs, Wire};

/// Values placements of one instance under full charge. Keep it: its buffers are used again.
#[derive(Clone, Debug)]
pub struct Judge<'a> {
    instance: &'a Instance,
    links_bind: bool,
    mesh: Mesh,
    graph: Graph,
}

impl<'a> Judge<'a> {
    /// Prepares for placements of `instance`.
    pub fn new(instance: &'a Instance) -> Self {
        let links_bind = links_bind(instance);
        Self { instance, links_bind, mesh: Mesh::new(instance), graph: Graph::default() }
    }

    /// Whether a placement may have a flow below its least coverage ([`links_bind`]).
    pub fn links_bind(&self) -> bool {
        self.links_bind
    }

    /// Maximum flow in tokens/s. Ranges that do not fit, or that policy forbids, count as empty.
    ///
    /// With a shared capacity that holds the flow back this is a linear program, and a thousand
    /// times slower than without.
    pub fn value(&mut self, placement: &[Option<LayerRange>]) -> f64 {
        if !self.links_bind {
            return least_coverage(self.instance, placement);
        }
        self.mesh.build(self.instance, placement, Charge::Full);
        let scale = load(&mut self.graph, &self.mesh, UNBOUNDED);
        let value = self.graph.maximise(SOURCE, SINK) as f64 / scale;
        if shared_kept(self.instance, &self.mesh.lines, |line| self.graph.flow(line) as f64 / scale)
        {
            return value;
        }
        program::solve(self.instance, placement, &self.mesh, Charge::Full)
            .map_or(0.0, |it| it.value)
    }
}

/// Fills `graph` with the arcs of `mesh`, which count in units so small that all hosts together pass
/// on less than `most`, at most [`UNBOUNDED`]. Returns the units of a token/s: a power of two, so
/// that rates lose nothing but what is beyond the last bit of their sum.
pub(super) fn load(graph: &mut Graph, mesh: &Mesh, most: i64) -> f64 {
    let total: f64 = mesh.most.iter().sum();
    let scale = (most as f64 / total.max(f64::MIN_POSITIVE)).log2().floor() - 1.0;
    let scale = scale.min(1000.0).exp2();
    graph.reset(mesh.nodes as usize);
    for line in &mesh.lines {
        // Rounds to the nearest; the cast cannot overflow below `UNBOUNDED`.
        let capacity = (line.capacity * scale).round().min(most as f64) as i64;
        graph.add(line.from, line.to, capacity);
    }
    scale
}

/// Whether flows over `lines` draw no more on any shared capacity than there is.
pub(super) fn shared_kept(
    instance: &Instance,
    lines: &[Line],
    flow: impl Fn(usize) -> f64,
) -> bool {
    instance.network.shared.iter().all(|shared| {
        let drawn = lines.iter().enumerate().filter(|(_, line)| {
            crossing(instance, line.kind).is_some_and(|pair| shared.carries.contains(&pair))
        });
        drawn.map(|(at, _)| flow(at)).sum::<f64>() <= shared.tokens_per_second
    })
}

/// Regions that a hop goes from and to.
pub(super) fn crossing(instance: &Instance, kind: Kind) -> Option<(usize, usize)> {
    let region = |host: usize| instance.hosts[host].region;
    match kind {
        Kind::Hop(from, to) => Some((region(from), region(to))),
        Kind::Gather(from, to) => Some((region(from), to)),
        _ => None,
    }
}

/// Least coverage of any layer: the maximum flow where links do not bind.
fn least_coverage(instance: &Instance, placement: &[Option<LayerRange>]) -> f64 {
    // What a range adds where it begins, and takes away where it ends, would add up rounding.
    instance.coverage(placement).into_iter().reduce(f64::min).unwrap_or(0.0)
}

/// Whether links, network cards, shared capacities, missing links or whole stages (no partial
/// inference) may hold a placement back. If not, the maximum flow of every placement is its least
/// [`coverage`](Instance::coverage).
///
/// Decided from the largest rates of the hosts, before any placement: `false` is certain, `true` is
/// not. Takes time in the number of hosts and region pairs, or of host pairs where these have
/// links of their own.
pub fn links_bind(instance: &Instance) -> bool {
    let largest = |class: usize| {
        let rates = &instance.classes[class].rates;
        (1..=rates.count_max()).map(|count| rates.most(count)).fold(0.0, f64::max)
    };
    let by_class: Vec<f64> = (0..instance.classes.len()).map(largest).collect();
    let most: Vec<f64> = instance.hosts.iter().map(|it| by_class[it.class]).collect();
    !instance.partial
        || ends_bind(instance, &most)
        || pairs_bind(instance, &most)
        || shared_binds(instance, &most)
}

/// Network cards, and the links from and to the gateways.
fn ends_bind(instance: &Instance, most: &[f64]) -> bool {
    let Network { enter, leave, .. } = &instance.network;
    let short = |wires: &[Option<Wire>], host: usize| {
        wires.get(host).copied().flatten().is_none_or(|it| !carries(it, most[host]))
    };
    instance.hosts.iter().enumerate().any(|(host, at)| {
        at.nic_in.min(at.nic_out) < most[host]
            || (at.may_be_first && short(enter, host))
            || (at.may_be_last && short(leave, host))
    })
}

/// Links between hosts.
fn pairs_bind(instance: &Instance, most: &[f64]) -> bool {
    let short = |wire: Option<Wire>, most: f64| wire.is_none_or(|it| !carries(it, most));
    let hosts = instance.hosts.len();
    let Pairs::ByRegion(table) = &instance.network.pairs else {
        return (0..hosts).any(|from| {
            (0..hosts)
                .any(|to| from != to && short(instance.wire(from, to), most[from].min(most[to])))
        });
    };
    let regions = instance.regions.len();
    let mut members = vec![0_usize; regions];
    let mut largest = vec![0.0_f64; regions];
    for (at, &most) in instance.hosts.iter().zip(most) {
        members[at.region] += 1;
        largest[at.region] = largest[at.region].max(most);
    }
    (0..regions).any(|from| {
        (0..regions).any(|to| {
            let joined = members[from] > 0 && members[to] > usize::from(from == to);
            joined && short(table[from * regions + to], largest[from].min(largest[to]))
        })
    })
}

/// Shared capacities: all the tokens that leave the hosts on one side, or reach those on the other.
fn shared_binds(instance: &Instance, most: &[f64]) -> bool {
    instance.network.shared.iter().any(|shared| {
        let sum = |side: fn(&(usize, usize)) -> usize| -> f64 {
            let drawn = |region: usize| shared.carries.iter().any(|it| side(it) == region);
            let hosts = instance.hosts.iter().zip(most).filter(|it| drawn(it.0.region));
            hosts.map(|it| it.1).sum()
        };
        shared.tokens_per_second < sum(|it| it.0).min(sum(|it| it.1))
    })
}

fn carries(wire: Wire, most: f64) -> bool {
    wire.tokens_per_second >= most
}
