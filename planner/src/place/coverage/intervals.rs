//! The interval program: a mixed-integer program that counts hosts, whatever their number.
//!
//! ```text
//! x_gs  hosts of group g on seat s (first layer, number of layers), whole numbers
//!
//! maximise  F
//! sum over g and the seats s that hold layer l of  T_g(s) x_gs  >=  F      each layer l
//! sum over s of  x_gs  <=  hosts of group g                               each group g
//! ```
//!
//! It says what the program of Helix (`place::milp`) says where links do not bind, without a binary
//! for every pair of hosts. It takes a placement to begin with, and a bound that is known.

use super::Best;
use super::ground::{Ground, Seat};
use crate::Charge;
use crate::bound;
use crate::instance::Instance;
use crate::method::{Found, Method, Progress, Watch};
use crate::solver::{Answer, Effort, Program};

/// The interval program alone: HiGHS without a start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Intervals;

impl Method for Intervals {
    fn name(&self) -> &'static str {
        "intervals"
    }

    fn place(&self, instance: &Instance, seed: u64, watch: &mut Watch<'_>) -> Option<Found> {
        let bound = bound::prove(instance, Charge::Full).value;
        let ground = Ground::new(instance, false);
        let effort = Effort { seed: Some(seed as u32), ..Effort::default() };
        let (best, bound) = solve(&ground, bound, None, effort, watch)?;
        Some(Found { bound: Some(bound), ..Found::new(best.placement) })
    }
}

/// Seats to choose from, each of which is a column.
pub(super) fn columns(ground: &Ground) -> usize {
    ground.groups.iter().map(|it| it.seats(ground.layers).count()).sum()
}

/// A program with where its columns are.
struct Counting<'a> {
    ground: &'a Ground,
    /// Tokens/s that stand for 1.
    unit: f64,
    program: Program,
    /// Group and seat of each column.
    columns: Vec<(usize, Seat)>,
    flow: usize,
}

/// Solves the program of an instance in which no flow is above `bound`, beginning at `start`.
/// Returns the best placement with its least coverage, and the least bound.
pub(super) fn solve(
    ground: &Ground,
    bound: f64,
    start: Option<&[Seat]>,
    effort: Effort,
    watch: &mut Watch<'_>,
) -> Option<(Best, f64)> {
    let counting = Counting::new(ground, bound);
    let start = start.map(|it| counting.values(it));
    let effort = Effort { start, gap: Some(super::GAP), ..effort };
    let mut moves = 0;
    let answer = counting.program.maximise_watched(&effort, &mut |step| {
        moves = step.iterations;
        let (flow, bound) = (step.objective.max(0.0) * bound, step.bound.min(1.0) * bound);
        watch(Progress { flow, bound, moves })
    });
    let (Answer::Optimal(point) | Answer::Feasible(point)) = answer else { return None };
    let seats = counting.seats(&point.values);
    let flow = ground.least_coverage(&seats);
    let placement = ground.placement(&seats);
    (flow > 0.0).then_some((Best { placement, flow, moves }, point.bound.min(1.0) * bound))
}

impl<'a> Counting<'a> {
    fn new(ground: &'a Ground, unit: f64) -> Self {
        let mut program = Program::default();
        let flow = program.add(1.0, 1.0);
        let (mut columns, layers) = (Vec::new(), ground.layers);
        let mut covers = vec![vec![(flow, -1.0)]; layers as usize];
        for (at, group) in ground.groups.iter().enumerate() {
            let hosts = group.hosts.len() as f64;
            let mut all = Vec::new();
            for (seat, rate) in group.seats(layers) {
                let column = program.add_integer(0.0, hosts);
                columns.push((at, seat));
                all.push((column, 1.0));
                let covered = &mut covers[seat.span()];
                covered.iter_mut().for_each(|it| it.push((column, rate / unit)));
            }
            program.constrain(f64::NEG_INFINITY, all, hosts);
        }
        for cover in covers {
            program.constrain(0.0, cover, f64::INFINITY);
        }
        Self { ground, unit, program, columns, flow }
    }

    /// A value for every column.
    fn values(&self, seats: &[Seat]) -> Vec<f64> {
        let mut values = vec![0.0; self.program.columns.len()];
        values[self.flow] = self.ground.least_coverage(seats) / self.unit;
        for (host, seat) in seats.iter().enumerate() {
            let column = (self.ground.group[host], *seat);
            if let Some(at) = self.columns.iter().position(|it| *it == column) {
                values[self.flow + 1 + at] += 1.0;
            }
        }
        values
    }

    fn seats(&self, values: &[f64]) -> Vec<Seat> {
        let mut seats = vec![Seat::default(); self.ground.group.len()];
        let mut free: Vec<_> = self.ground.groups.iter().map(|it| it.hosts.iter()).collect();
        for (&(group, seat), value) in self.columns.iter().zip(&values[self.flow + 1..]) {
            for &host in free[group].by_ref().take(value.round() as usize) {
                seats[host] = seat;
            }
        }
        seats
    }
}
