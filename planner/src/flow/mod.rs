//! Flows of a placement: exact maximum, least latency, shared capacities, minimum cut in words.
//!
//! ```text
//! placement ─▶ Mesh (which hops its ranges allow) ─▶ Graph (Dinic, exact integers)  ─▶ Flow, cut
//!                                                └─▶ linear program where a capacity is shared,
//!                                                    work is charged, or latency is minimised
//! ```
//!
//! Without binding links the maximum flow is the least coverage of any layer: every way crosses a
//! layer in one host that holds it, and the furthest position that a cut leaves reachable has all
//! its holders in the cut.

mod graph;
mod judge;
mod latency;
mod mesh;
mod program;
mod routes;
#[cfg(test)]
mod tests;
mod words;

pub use words::{Addition, Bottleneck, bottleneck};

pub use judge::{Judge, links_bind};

use thalweg_wire::LayerRange;

use crate::Charge;
use crate::instance::Instance;
use graph::{Graph, UNBOUNDED};
use mesh::{Kind, Mesh, SINK, SOURCE};

/// Above this many arcs the pass that looks for the least latency among maximum flows is left out
/// where it takes a linear program (shared capacities that bind, work charge): it would take
/// minutes.
const PROGRAM_ARCS_MAX: usize = 20_000;

/// The same where cost scaling does it: there the graphs of a thousand hosts take seconds, those of
/// four thousand would take minutes.
const SCALING_ARCS_MAX: usize = 200_000;

/// Share of the flow that a flow of less latency may lose; what solvers tolerate is a tenth of it.
const QUICK_LOSS_MAX: f64 = 1e-6;

/// What all hosts pass on when flows of least latency are counted in integers: precise to less than
/// a billionth, and the surplus of [`SCALING_ARCS_MAX`] arcs together still fits 63 bits.
const SCALING_UNITS: i64 = 1 << 40;

/// Costs count in so many units to the second.
const MICROSECONDS: f64 = 1e6;

/// A capacity with less than this share of the flow is not worth naming.
const LIMIT_SHARE_MIN: f64 = 1e-6;

/// An end of a hop, hosts by index.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum End {
    /// The gateways, where tokens come from.
    Source,
    /// A host.
    Host(usize),
    /// The gateways, where tokens go to.
    Sink,
}

/// A hop with what it carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hop {
    /// Near end.
    pub from: End,
    /// Far end.
    pub to: End,
    /// Layers that tokens on this hop have behind them.
    pub position: u32,
    /// What it carries.
    pub tokens_per_second: f64,
}

/// Something that can hold a flow back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// A host computes, or its network card sends or receives, all the time.
    Host(usize),
    /// A link between hosts is full.
    Link(usize, usize),
    /// A host's link from the gateways is full.
    Enter(usize),
    /// A host's link back to the gateways is full.
    Leave(usize),
    /// A shared capacity is full; index into [`Network::shared`](crate::instance::Network::shared).
    Shared(usize),
}

/// A maximum flow.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// Its value, in tokens/s.
    pub value: f64,
    /// How hosts were charged.
    pub charge: Charge,
    /// Hops that carry something. Each host passes on what it receives.
    pub hops: Vec<Hop>,
    /// What holds the flow back, each with its share of it. For a flow without shared capacities
    /// under full charge this is a minimum cut.
    pub limits: Vec<(Limit, f64)>,
    /// Whether no other maximum flow has a smaller mean latency. Not looked for on large clusters.
    pub least_latency: bool,
}

impl Flow {
    /// Hosts that a token passes, in the mean; zero if nothing flows.
    pub fn depth(&self) -> f64 {
        let entered = self.hops.iter().filter(|it| matches!(it.to, End::Host(_)));
        let passed: f64 = entered.map(|it| it.tokens_per_second).sum();
        if self.value > 0.0 { passed / self.value } else { 0.0 }
    }
}

/// Maximum flow of a placement under full charge, in tokens/s.
pub fn value(instance: &Instance, placement: &[Option<LayerRange>]) -> f64 {
    Judge::new(instance).value(placement)
}

/// Maximum flow of a placement with its hops; among maximum flows one of least latency.
pub fn maximum(instance: &Instance, placement: &[Option<LayerRange>], charge: Charge) -> Flow {
    let mut mesh = Mesh::new(instance);
    mesh.build(instance, placement, charge);
    let plain = plain(instance, placement, &mesh, charge);
    let solved = plain.or_else(|| program::solve(instance, placement, &mesh, charge));
    let Some(solved) = solved else {
        return Flow { value: 0.0, charge, hops: vec![], limits: vec![], least_latency: true };
    };
    let quick = match charge {
        Charge::Full => quickened(instance, &mesh),
        Charge::Work => None,
    };
    let quick = quick.or_else(|| {
        let small = mesh.lines.len() <= PROGRAM_ARCS_MAX;
        small.then(|| program::quicken(instance, placement, &mesh, charge, solved.value))?
    });
    // Of flows that are absurdly thin beside what hosts sustain, rounding may lose a part.
    let entering = |carried: &Vec<f64>| -> f64 {
        let lines = mesh.lines.iter().zip(carried);
        lines.filter(|it| it.0.from == SOURCE).map(|it| it.1).sum()
    };
    let quick = quick.filter(|it| entering(it) >= solved.value * (1.0 - QUICK_LOSS_MAX));
    let least_latency = quick.is_some();
    let carried = quick.unwrap_or(solved.carried);
    let hops = routes::hops(placement, &mesh, &carried);
    Flow { value: solved.value, charge, hops, limits: solved.limits, least_latency }
}

/// A solved flow: what each line of the mesh carries.
struct Solved {
    value: f64,
    carried: Vec<f64>,
    limits: Vec<(Limit, f64)>,
}

/// The maximum by Dinic's algorithm, where it says all there is to say.
fn plain(
    instance: &Instance,
    placement: &[Option<LayerRange>],
    mesh: &Mesh,
    charge: Charge,
) -> Option<Solved> {
    if charge == Charge::Work || placement.iter().all(Option::is_none) {
        return None;
    }
    let mut graph = Graph::default();
    let scale = judge::load(&mut graph, mesh, UNBOUNDED);
    let value = graph.maximise(SOURCE, SINK) as f64 / scale;
    let carried: Vec<f64> =
        (0..mesh.lines.len()).map(|line| graph.flow(line) as f64 / scale).collect();
    if !judge::shared_kept(instance, &mesh.lines, |line| carried[line]) {
        return None;
    }
    let near = graph.source_side(SOURCE);
    let cut = mesh.lines.iter().filter(|it| near[it.from as usize] && !near[it.to as usize]);
    let limits = cut.filter_map(|it| Some((limit(it.kind)?, it.capacity / value)));
    let limits = limits.filter(|it| it.1 > LIMIT_SHARE_MIN && it.1.is_finite()).collect();
    Some(Solved { value, carried, limits })
}

/// A flow of least latency by cost scaling; `None` if the graph is too large for it, or if the flow
/// would draw too much on a shared capacity.
fn quickened(instance: &Instance, mesh: &Mesh) -> Option<Vec<f64>> {
    if mesh.lines.len() > SCALING_ARCS_MAX {
        return None;
    }
    let mut graph = Graph::default();
    let scale = judge::load(&mut graph, mesh, SCALING_UNITS);
    let value = graph.maximise(SOURCE, SINK);
    graph.cut_capacities(value);
    // Rounds to whole microseconds, which nobody measures better; delays are never negative.
    let cost = |it| (program::seconds(instance, it) * MICROSECONDS).round() as i64;
    let costs: Vec<i64> =
        mesh.lines.iter().map(|it| cost(it).clamp(0, latency::COST_MAX)).collect();
    latency::cheapen(&mut graph, &costs);
    let carried: Vec<f64> =
        (0..mesh.lines.len()).map(|line| graph.flow(line) as f64 / scale).collect();
    judge::shared_kept(instance, &mesh.lines, |line| carried[line]).then_some(carried)
}

/// What it means when a line is full.
fn limit(kind: Kind) -> Option<Limit> {
    match kind {
        Kind::Enter(host) => Some(Limit::Enter(host)),
        Kind::Intake(host) | Kind::Compute(host) => Some(Limit::Host(host)),
        Kind::Hop(from, to) => Some(Limit::Link(from, to)),
        Kind::Leave(host) => Some(Limit::Leave(host)),
        Kind::Gather(..) | Kind::Spread(..) => None,
    }
}
