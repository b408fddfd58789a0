//! The configuration bound: what covers of single layers allow, whatever the network.
//!
//! At a flow `F` every layer is covered by hosts whose rates sum to `F`. Count, for every possible
//! cover, how many layers it covers; a host of class `t` with `k` layers takes part in `k` of them.
//! Relaxing both counts to fractions gives a linear program that knows no positions, and whose dual
//! has one price per class ([`Reason::Configuration`]). If the hosts cost less than `L` while every
//! cover costs 1, `F` cannot be reached; the least such `F` is found by bisection.
//!
//! Covers are generated on demand: a linear program over those known proposes prices, the cheapest
//! cover at these prices refutes them or proves them. It comes from a knapsack over a grid
//! on which rates are rounded up, so that it is never cheaper than the cheapest true cover.

mod knapsack;

use crate::bound::work::counts;
use crate::bound::{Price, Proof, Reason};
use crate::instance::Instance;
use crate::solver::{Answer, Effort, Program};
use knapsack::{Class, Cover, Knapsack};

/// Grids and relative widths of the two bisections: a quick one, and one that ends it.
const PASSES: [(usize, f64); 2] = [(2048, 2e-3), (32_768, 1e-5)];
/// Covers generated for one flow at most; then it counts as not refuted.
const COVERS_MAX: usize = 400;
/// Hosts must cost less than `L` by this fraction, which is far more than sums are off by.
const MARGIN: f64 = 1e-9;

/// Proves a bound below `above`, which must itself be one. `None` if none is found.
pub fn prove(instance: &Instance, above: f64) -> Option<Proof> {
    let mut search = Search::new(instance);
    let (mut low, mut best) = (0.0, (above, None));
    for (cells, width) in PASSES {
        // The coarse grid refutes less, so that what it failed to refute is tried again.
        low *= 1.0 - 2.0 * PASSES[0].1;
        while best.0 - low > width * best.0 {
            let flow = if low > 0.0 { (low + best.0) / 2.0 } else { best.0 * 0.8 };
            match search.refute(flow, cells) {
                Some(prices) => best = (flow, Some(prices)),
                None => low = flow,
            }
            if best.0 < above * 1e-6 {
                break;
            }
        }
    }
    let prices = best.1?.into_iter().zip(&instance.classes);
    let prices = prices.map(|(price, it)| Price { class: it.name.clone(), price }).collect();
    Some(Proof { value: best.0, reason: Reason::Configuration { prices } })
}

/// Covers known so far.
struct Search {
    classes: Vec<Class>,
    layers: f64,
    covers: Vec<Cover>,
}

impl Search {
    fn new(instance: &Instance) -> Self {
        let counts = counts(instance);
        let classes = instance.classes.iter().zip(counts);
        Self {
            classes: classes.map(|(it, count)| Class::new(&it.rates, count)).collect(),
            layers: f64::from(instance.layers),
            covers: Vec::new(),
        }
    }

    /// Finds prices that show that no placement reaches `flow`.
    fn refute(&mut self, flow: f64, cells: usize) -> Option<Vec<f64>> {
        let mut knapsack = Knapsack::new(&self.classes, flow, cells);
        for _ in 0..COVERS_MAX {
            let prices = self.propose(flow)?;
            let spent = |prices: &[f64]| -> f64 {
                prices.iter().zip(&self.classes).map(|(it, class)| it * class.count as f64).sum()
            };
            if spent(&prices) >= self.layers {
                return None;
            }
            let Some(cover) = knapsack.cheapest(&prices) else {
                // Nothing covers a layer at all, at any price.
                return Some(prices);
            };
            let cost = cover.cost(&prices);
            let scaled: Vec<f64> = prices.iter().map(|it| it / cost).collect();
            if spent(&scaled) < self.layers * (1.0 - MARGIN) {
                return Some(scaled);
            }
            self.covers.push(cover);
        }
        None
    }

    /// The least costly prices at which every known cover of `flow` costs at least 1.
    fn propose(&self, flow: f64) -> Option<Vec<f64>> {
        let mut program = Program::default();
        for class in &self.classes {
            program.add(-(class.count as f64), f64::INFINITY);
        }
        for cover in self.covers.iter().filter(|it| it.rate >= flow) {
            let entries = cover.hosts.iter().copied().enumerate().filter(|it| it.1 > 0.0);
            program.constrain(1.0, entries.collect(), f64::INFINITY);
        }
        match program.maximise(&Effort::default()) {
            Answer::Optimal(point) => Some(point.values),
            _ => None,
        }
    }
}
