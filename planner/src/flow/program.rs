//! The flow as a linear program: shared capacities, work charge, least latency.
//!
//! ```text
//! node    what enters it leaves it
//! line    f <= capacity
//! shared  sum of f over the hops that draw on it <= its capacity
//! time    sum of f entering a host · (end - entry) / (k T(k)) <= 1       (work charge)
//! ```

use thalweg_wire::LayerRange;

use super::judge::crossing;
use super::mesh::{Kind, Line, Mesh, SINK, SOURCE};
use super::{LIMIT_SHARE_MIN, Limit, Solved, limit};
use crate::Charge;
use crate::instance::Instance;
use crate::solver::{Answer, Effort, Point, Program};

/// Simplex iterations at most; a limit in steps, as the crate has no clock.
const ITERATIONS_MAX: i32 = 1_000_000;

/// The pass for latency may give this share of the flow away, far less than anyone could measure, so
/// that the solver's tolerances cannot make it infeasible.
const SLACK: f64 = 1e-7;

/// A hop costs at least this many seconds, so that among ways without delay the shortest is taken.
const HOP_SECONDS_MIN: f64 = 1e-6;

/// Solves for the maximum flow.
pub(super) fn solve(
    instance: &Instance,
    placement: &[Option<LayerRange>],
    mesh: &Mesh,
    charge: Charge,
) -> Option<Solved> {
    let scale = mesh.most.iter().copied().fold(0.0, f64::max);
    if scale <= 0.0 {
        return None;
    }
    let (mut program, named) = build(instance, placement, mesh, charge, scale);
    for (column, line) in program.columns.iter_mut().zip(&mesh.lines) {
        column.cost = if line.from == SOURCE { 1.0 } else { 0.0 };
    }
    let point = optimum(&program)?;
    let share = |(row, limit): &(usize, Limit)| {
        let row_ = &program.rows[*row];
        (*limit, point.duals[*row].abs() * row_.upper / point.objective)
    };
    let limits = named.iter().map(share).filter(|it| it.1 > LIMIT_SHARE_MIN.max(1e-4)).collect();
    let carried = point.values.iter().map(|it| it.max(0.0) * scale).collect();
    Some(Solved { value: point.objective * scale, carried, limits })
}

/// Among flows of `value`, finds one of least mean latency. What each line carries.
pub(super) fn quicken(
    instance: &Instance,
    placement: &[Option<LayerRange>],
    mesh: &Mesh,
    charge: Charge,
    value: f64,
) -> Option<Vec<f64>> {
    if value <= 0.0 {
        return None;
    }
    // In units of the flow itself: in those of the fastest host a thin flow is within the solver's
    // tolerance of none at all.
    let scale = value;
    let (mut program, _) = build(instance, placement, mesh, charge, scale);
    for (column, line) in program.columns.iter_mut().zip(&mesh.lines) {
        column.cost = -seconds(instance, line);
    }
    let leaves = mesh.lines.iter().enumerate().filter(|(_, line)| line.from == SOURCE);
    let entries = leaves.map(|(at, _)| (at, 1.0)).collect();
    program.constrain(1.0 - SLACK, entries, f64::INFINITY);
    let point = optimum(&program)?;
    Some(point.values.iter().map(|it| it.max(0.0) * scale).collect())
}

fn optimum(program: &Program) -> Option<Point> {
    let effort = Effort { iterations_max: Some(ITERATIONS_MAX), ..Effort::default() };
    match program.maximise(&effort) {
        Answer::Optimal(point) if point.objective.is_finite() => Some(point),
        _ => None,
    }
}

/// Rows of the flow, in units of `scale`, and which of them are limits with a name.
fn build(
    instance: &Instance,
    placement: &[Option<LayerRange>],
    mesh: &Mesh,
    charge: Charge,
    scale: f64,
) -> (Program, Vec<(usize, Limit)>) {
    let mut program = Program::default();
    let mut nodes: Vec<Vec<(usize, f64)>> = vec![Vec::new(); mesh.nodes as usize];
    let mut named = Vec::new();
    for line in &mesh.lines {
        let at = program.add(0.0, f64::INFINITY);
        nodes[line.from as usize].push((at, -1.0));
        nodes[line.to as usize].push((at, 1.0));
    }
    for (node, entries) in nodes.into_iter().enumerate() {
        if node != SOURCE as usize && node != SINK as usize && !entries.is_empty() {
            program.constrain(0.0, entries, 0.0);
        }
    }
    for (at, line) in mesh.lines.iter().enumerate().filter(|it| it.1.capacity.is_finite()) {
        let row = program.constrain(f64::NEG_INFINITY, vec![(at, 1.0)], line.capacity / scale);
        named.extend(limit(line.kind).map(|it| (row, it)));
    }
    for (index, shared) in instance.network.shared.iter().enumerate() {
        let drawn = mesh.lines.iter().enumerate().filter(|(_, line)| {
            crossing(instance, line.kind).is_some_and(|pair| shared.carries.contains(&pair))
        });
        let entries: Vec<_> = drawn.map(|(at, _)| (at, 1.0)).collect();
        if !entries.is_empty() && shared.tokens_per_second.is_finite() {
            let most = shared.tokens_per_second / scale;
            let row = program.constrain(f64::NEG_INFINITY, entries, most);
            named.push((row, Limit::Shared(index)));
        }
    }
    if charge == Charge::Work {
        charge_time(instance, placement, mesh, scale, &mut program, &mut named);
    }
    (program, named)
}

/// Adds the rows of work charge: a host's time.
fn charge_time(
    instance: &Instance,
    placement: &[Option<LayerRange>],
    mesh: &Mesh,
    scale: f64,
    program: &mut Program,
    named: &mut Vec<(usize, Limit)>,
) {
    let mut rows: Vec<Vec<(usize, f64)>> = vec![Vec::new(); instance.hosts.len()];
    for (at, line) in mesh.lines.iter().enumerate() {
        let (host, entry) = match line.kind {
            Kind::Enter(host) => (host, 0),
            Kind::Hop(from, to) => (to, placement[from].map_or(0, LayerRange::end)),
            Kind::Spread(position, to) => (to, position),
            _ => continue,
        };
        let Some(range) = placement[host] else { continue };
        let layers_per_second = f64::from(range.count()) * instance.rate(host, range);
        let seconds = f64::from(range.end() - entry) / layers_per_second;
        rows[host].push((at, seconds * scale));
    }
    for (host, entries) in rows.into_iter().enumerate().filter(|it| !it.1.is_empty()) {
        named.push((program.constrain(f64::NEG_INFINITY, entries, 1.0), Limit::Host(host)));
    }
}

/// Seconds a token takes over a line.
pub(super) fn seconds(instance: &Instance, line: &Line) -> f64 {
    let wire = match line.kind {
        Kind::Enter(host) => instance.network.enter[host],
        Kind::Leave(host) => instance.network.leave[host],
        Kind::Hop(from, to) => instance.wire(from, to),
        Kind::Gather(from, region) => {
            // Links between two regions are alike; any host of the far region stands for them.
            let to = instance.hosts.iter().position(|it| it.region == region);
            to.and_then(|to| instance.wire(from, to))
        }
        Kind::Intake(_) | Kind::Compute(_) | Kind::Spread(..) => return 0.0,
    };
    wire.map_or(0.0, |it| it.latency_seconds).max(HOP_SECONDS_MIN)
}
