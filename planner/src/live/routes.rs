//! The work-charge flow by whole routes: fast enough to judge every move of a search.
//!
//! ```text
//! maximise  sum of g(r) f(r) over routes r        g: 1 less the price of the route
//! row i     sum of a(i, r) f(r) <= b(i)           hosts: busy seconds <= 1; links: tokens/s
//! ```
//!
//! This is the program of [`crate::live::work`] with one column per route instead of one per hop. Columns
//! are generated: under dual prices `u` of the rows the route worth most is a longest path through
//! hosts in order of where they end. With few rows and the slacks as first basis, a dense revised
//! simplex does the rest in microseconds. Stopped early it still holds a flow that exists.

use thalweg_wire::LayerRange;

use crate::live::instance::Instance;
use crate::live::network::{Hop, PRICE_WEIGHT, Place, hops};

/// Pivots per row at most; far more than a program of this kind takes.
const PIVOTS_PER_ROW_MAX: usize = 40;

/// A route must be worth this much, of the worth of a token, to enter the basis.
const GAIN_MIN: f64 = 1e-7;

/// A column entry below this cannot be a pivot.
const PIVOT_MIN: f64 = 1e-9;

/// A flow over routes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RouteFlow {
    /// Its value, in tokens/s.
    pub flow: f64,
    /// Flow over each hop that carries some, in tokens/s.
    pub hops: Vec<(Hop, f64)>,
}

/// Computes the maximum flow of a placement under work charge. The program counts in flows of
/// `scale` tokens/s, which no placement exceeds.
pub(crate) fn route_flow(
    instance: &Instance,
    ranges: &[Option<LayerRange>],
    scale: f64,
) -> RouteFlow {
    let program = Program::new(instance, ranges, scale);
    let mut basis = Basis::new(&program.right_sides);
    for _ in 0..PIVOTS_PER_ROW_MAX * program.right_sides.len() {
        let Some(route) = program.best_route(&basis.duals()) else { break };
        if !basis.enter(program.column(&route), program.gain(&route), route) {
            break;
        }
    }
    program.read(&basis)
}

struct Program {
    hops: Vec<Hop>,
    /// Rows that each hop uses, and how much of them a token uses.
    uses: Vec<[Option<(usize, f64)>; 2]>,
    right_sides: Vec<f64>,
    /// Hops in an order in which every route meets its hops backwards.
    backwards: Vec<usize>,
    hosts: usize,
    scale: f64,
}

impl Program {
    fn new(instance: &Instance, ranges: &[Option<LayerRange>], scale: f64) -> Self {
        let hops = hops(instance, ranges);
        let mut right_sides = vec![1.0; ranges.len()];
        let mut uses = Vec::with_capacity(hops.len());
        for hop in &hops {
            let time = match hop.to {
                Place::Host(to) => Some((to, hop.busy_seconds * scale)),
                _ => None,
            };
            let limit = hop.tokens_per_second / scale;
            let link = (limit < 1.0).then(|| {
                right_sides.push(limit);
                (right_sides.len() - 1, 1.0)
            });
            uses.push([time, link]);
        }
        // A hop is left at its position, which only grows along a route.
        let mut backwards: Vec<usize> = (0..hops.len()).collect();
        backwards.sort_by_key(|&it| std::cmp::Reverse(hops[it].position));
        Self { hops, uses, right_sides, backwards, hosts: ranges.len(), scale }
    }

    /// The route worth most under `duals`, as indices of hops, if it is worth entering.
    fn best_route(&self, duals: &[f64]) -> Option<Vec<usize>> {
        // Worth of the best way from each host to the sink, and its first hop.
        let mut onwards: Vec<Option<(f64, usize)>> = vec![None; self.hosts];
        let mut best: Option<(f64, usize)> = None;
        for &at in &self.backwards {
            let hop = &self.hops[at];
            let rest = match hop.to {
                Place::Host(to) => onwards[to].map(|it| it.0),
                _ => Some(0.0),
            };
            let Some(rest) = rest else { continue };
            let paid: f64 = self.uses[at].iter().flatten().map(|it| it.1 * duals[it.0]).sum();
            let worth = rest - paid - PRICE_WEIGHT * hop.cost(self.scale);
            let slot = match hop.from {
                Place::Host(from) => &mut onwards[from],
                _ => &mut best,
            };
            if slot.is_none_or(|it| worth > it.0) {
                *slot = Some((worth, at));
            }
        }
        let (worth, first) = best?;
        if 1.0 + worth <= GAIN_MIN {
            return None;
        }
        let mut route = vec![first];
        while let Place::Host(host) = self.hops[route[route.len() - 1]].to {
            route.push(onwards[host]?.1);
        }
        Some(route)
    }

    fn column(&self, route: &[usize]) -> Vec<f64> {
        let mut column = vec![0.0; self.right_sides.len()];
        for (row, used) in route.iter().flat_map(|&it| self.uses[it]).flatten() {
            column[row] += used;
        }
        column
    }

    fn gain(&self, route: &[usize]) -> f64 {
        1.0 - PRICE_WEIGHT * route.iter().map(|&it| self.hops[it].cost(self.scale)).sum::<f64>()
    }

    fn read(&self, basis: &Basis) -> RouteFlow {
        let mut carried = vec![0.0; self.hops.len()];
        let mut flow = 0.0;
        for (column, &value) in basis.columns.iter().zip(&basis.values) {
            let value = value.max(0.0) * self.scale;
            flow += if column.route.is_empty() { 0.0 } else { value };
            column.route.iter().for_each(|&it| carried[it] += value);
        }
        let hops = self.hops.iter().copied().zip(carried).filter(|it| it.1 > 0.0);
        RouteFlow { flow, hops: hops.collect() }
    }
}

/// A basis of the simplex method with its inverse.
struct Basis {
    inverse: Vec<Vec<f64>>,
    columns: Vec<Column>,
    values: Vec<f64>,
}

/// A route, or the slack of a row if it is empty.
#[derive(Clone, Default)]
struct Column {
    gain: f64,
    route: Vec<usize>,
}

impl Basis {
    /// The slacks.
    fn new(right_sides: &[f64]) -> Self {
        let rows = right_sides.len();
        let unit = |row| (0..rows).map(|it| if it == row { 1.0 } else { 0.0 }).collect();
        let inverse = (0..rows).map(unit).collect();
        Self { inverse, columns: vec![Column::default(); rows], values: right_sides.to_vec() }
    }

    /// Price of each row. Rounding below zero would pay routes for using a row.
    fn duals(&self) -> Vec<f64> {
        let mut duals = vec![0.0; self.values.len()];
        for (column, row) in self.columns.iter().zip(&self.inverse).filter(|it| it.0.gain > 0.0) {
            for (dual, entry) in duals.iter_mut().zip(row) {
                *dual += column.gain * entry;
            }
        }
        duals.iter_mut().for_each(|it| *it = it.max(0.0));
        duals
    }

    /// Brings a column in, for the one that limits it first. False if nothing limits it.
    fn enter(&mut self, column: Vec<f64>, gain: f64, route: Vec<usize>) -> bool {
        let direction: Vec<f64> = self
            .inverse
            .iter()
            .map(|row| row.iter().zip(&column).map(|(a, b)| a * b).sum())
            .collect();
        let ratio = |row: usize| self.values[row].max(0.0) / direction[row];
        let Some(pivot) = (0..direction.len())
            .filter(|&row| direction[row] > PIVOT_MIN)
            .min_by(|&a, &b| ratio(a).total_cmp(&ratio(b)))
        else {
            return false;
        };
        let step = ratio(pivot);
        let scaled: Vec<f64> = self.inverse[pivot].iter().map(|it| it / direction[pivot]).collect();
        for row in (0..direction.len()).filter(|&row| row != pivot) {
            for (entry, change) in self.inverse[row].iter_mut().zip(&scaled) {
                *entry -= direction[row] * change;
            }
            self.values[row] -= direction[row] * step;
        }
        self.inverse[pivot] = scaled;
        self.values[pivot] = step;
        self.columns[pivot] = Column { gain, route };
        true
    }
}
