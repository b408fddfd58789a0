//! Work charge: the flow when a token costs a host only the layers it computes there.
//!
//! With `f` the flow over each hop, `x` the position at which a hop enters a host, `[s, e)` what the
//! host holds, `c` its seconds per token and layer and `h` its seconds per token in the head:
//!
//! ```text
//! maximise  sum of f over hops that leave the source  -  price · sum of hop prices · f
//! host      sum of f entering = sum of f leaving
//! time      sum of f entering · ((e - x) c + h) <= 1
//! link      f <= tokens/s of the link
//! ```
//!
//! The dual value of a time or link row is what more of it would bring; they sum up to the flow, and
//! so name the bottleneck. This is the one module that knows the solver.

use good_lp::solvers::highs::{HighsParallelType, HighsProblem, HighsSolution, highs};
use good_lp::{
    Constraint, Expression, ProblemVariables, Solution as _, SolutionWithDual, SolverModel,
    Variable, solvers::DualValues, variable,
};
use thalweg_wire::LayerRange;

use crate::live::instance::Instance;
use crate::live::network::{Hop, PRICE_WEIGHT, Place, hops};

/// Flows below this share of the total are the solver's rounding.
const FLOW_SHARE_MIN: f64 = 1e-6;

/// Work charge allows at most this many times the flow of full charge before a link row may be
/// missed; a token is computed in at least one of a host's layers.
const UNITS_MAX: f64 = 4096.0;

/// A dual value below this share of the flow is not worth naming.
const LIMIT_SHARE_MIN: f64 = 0.01;

/// Simplex iterations at most; a limit in steps, as the crate has no clock.
const ITERATIONS_MAX: i32 = 200_000;

/// What holds a flow back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Held {
    /// The time of a host.
    Host(usize),
    /// A link between two hosts.
    Link(usize, usize, f64),
}

/// A maximum flow under work charge.
#[derive(Clone, Debug)]
pub(crate) struct WorkFlow {
    /// Its value, in tokens/s.
    pub flow: f64,
    /// Hops with positive flow, in tokens/s.
    pub hops: Vec<(Hop, f64)>,
    /// What limits it, each with its share of the limit, largest first.
    pub held: Vec<(Held, f64)>,
}

impl WorkFlow {
    fn nothing() -> Self {
        Self { flow: 0.0, hops: Vec::new(), held: Vec::new() }
    }
}

/// The solver gave up, which its documentation leaves room for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("linear program of {variables} variables was not solved")]
pub(crate) struct Unsolved {
    /// Size of the program.
    pub variables: usize,
}

/// Computes the maximum flow of a placement under work charge.
///
/// The program counts in flows of `unit`, which should be near the result so that its numbers are
/// near one. `scale` is the flow at which time is priced. Both are in tokens/s.
pub(crate) fn work_flow(
    instance: &Instance,
    ranges: &[Option<LayerRange>],
    unit: f64,
    scale: f64,
) -> Result<WorkFlow, Unsolved> {
    let hops = hops(instance, ranges);
    let leaves_source = |hop: &Hop| hop.from == Place::Source;
    if !hops.iter().any(leaves_source) || !hops.iter().any(|hop| hop.to == Place::Sink) {
        return Ok(WorkFlow::nothing());
    }
    let mut variables = ProblemVariables::new();
    let flows: Vec<Variable> = hops.iter().map(|_| variables.add(variable().min(0.0))).collect();
    let mut objective = Expression::with_capacity(flows.len());
    for (hop, &flow) in hops.iter().zip(&flows) {
        let gain = if leaves_source(hop) { 1.0 } else { 0.0 };
        objective.add_mul(gain - PRICE_WEIGHT * hop.cost(scale), flow);
    }
    let unsolved = Unsolved { variables: flows.len() };
    let mut model = configured(variables.maximise(objective).using(highs));
    let rows = add_rows(&mut model, ranges, &Program { hops: &hops, flows: &flows, unit });
    let mut solution = model.solve().map_err(|_| unsolved.clone())?;
    let carried: Vec<f64> = flows.iter().map(|&it| solution.value(it) * unit).collect();
    let flow: f64 = hops.iter().zip(&carried).filter(|it| leaves_source(it.0)).map(|it| it.1).sum();
    if !flow.is_finite() {
        return Err(unsolved);
    }
    let held = held(&mut solution, &rows, flow / unit);
    let kept = hops.into_iter().zip(carried).filter(|it| it.1 > flow * FLOW_SHARE_MIN);
    Ok(WorkFlow { flow: flow.max(0.0), hops: kept.collect(), held })
}

/// The variables of the program: the flow over each hop, in units of `unit`.
struct Program<'a> {
    hops: &'a [Hop],
    flows: &'a [Variable],
    unit: f64,
}

/// A row that may hold the flow back.
struct Row {
    held: Held,
    right_side: f64,
    constraint: good_lp::constraint::ConstraintReference,
}

fn configured(model: HighsProblem) -> HighsProblem {
    model
        .set_threads(1)
        .set_parallel(HighsParallelType::Off)
        .set_option("simplex_iteration_limit", ITERATIONS_MAX)
        .set_option("random_seed", 0)
}

fn add_rows(
    model: &mut HighsProblem,
    ranges: &[Option<LayerRange>],
    program: &Program<'_>,
) -> Vec<Row> {
    let hosts = ranges.len();
    let mut balance: Vec<Expression> = vec![Expression::default(); hosts];
    let mut time: Vec<Expression> = vec![Expression::default(); hosts];
    let mut rows = Vec::new();
    for (hop, &flow) in program.hops.iter().zip(program.flows) {
        if let Place::Host(from) = hop.from {
            balance[from].add_mul(-1.0, flow);
        }
        let Place::Host(to) = hop.to else { continue };
        balance[to].add_mul(1.0, flow);
        time[to].add_mul(hop.busy_seconds * program.unit, flow);
        let right_side = hop.tokens_per_second / program.unit;
        if let (Place::Host(from), true) = (hop.from, right_side < UNITS_MAX) {
            let constraint = model.add_constraint(Expression::from(flow).leq(right_side));
            let held = Held::Link(from, to, hop.tokens_per_second);
            rows.push(Row { held, right_side, constraint });
        }
    }
    for (host, (balance, time)) in balance.into_iter().zip(time).enumerate() {
        if ranges[host].is_none() {
            continue;
        }
        let conserved: Constraint = balance.eq(0.0);
        model.add_constraint(conserved);
        let constraint = model.add_constraint(time.leq(1.0));
        rows.push(Row { held: Held::Host(host), right_side: 1.0, constraint });
    }
    rows
}

/// Reads off the duals which rows make up the limit, largest first.
fn held(solution: &mut HighsSolution, rows: &[Row], flow: f64) -> Vec<(Held, f64)> {
    let duals = solution.compute_dual();
    let share = |row: &Row| duals.dual(row.constraint.clone()).abs() * row.right_side / flow;
    let mut held: Vec<(Held, f64)> = rows
        .iter()
        .map(|row| (row.held, share(row)))
        .filter(|it| it.1.is_finite() && it.1 > LIMIT_SHARE_MIN)
        .collect();
    held.sort_by(|a, b| b.1.total_cmp(&a.1));
    held
}
