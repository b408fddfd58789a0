//! What no placement that keeps its promise can carry, whatever the network.
//!
//! At a flow `F` the holders of every layer sum to `F`, and to `alpha F` without the largest of
//! them. Count, for every such set of hosts, the layers it holds; a host with `k` layers takes part
//! in `k` of them. As in [`bound::configuration`](crate::bound::configuration), whole hosts of each
//! class get prices: if all hosts together cost less than the model has layers, while every set that
//! holds one layer costs at least 1, no placement reaches `F`. Sets are generated on demand: the
//! cheapest at the prices proposed, from a knapsack on a grid that rounds rates up.

use crate::bound::work::{self, counts};
use crate::instance::Instance;
use crate::solver::{Answer, Effort, Program};

/// Cells of the grid for a flow.
const CELLS: usize = 4096;
/// Relative width at which the bisection ends.
const WIDTH: f64 = 1e-3;
/// Sets of holders generated for one flow at most; then it counts as not refuted.
const SETS_MAX: usize = 300;
/// All hosts must cost less than the layers by this fraction, far more than sums are off by.
const MARGIN: f64 = 1e-9;

/// No placement whose worst single loss keeps `alpha` of its flow carries more, in tokens/s, if links
/// do not bind. Zero if some layer would have but one holder, or `alpha` is not 0 to 1.
pub fn limit(instance: &Instance, alpha: f64) -> f64 {
    let copies = if alpha > 0.0 { 2 } else { 1 };
    let fits = instance.layers_held_max() >= copies * u64::from(instance.layers);
    if !fits || instance.layers == 0 || !(0.0..=1.0).contains(&alpha) {
        return 0.0;
    }
    let mut search = Search::new(instance, alpha);
    let (mut low, mut high) = (0.0, work::prove(instance).value);
    let least = high * WIDTH;
    while high - low > WIDTH * high && high > least {
        let flow = (low + high) / 2.0;
        if search.refutes(flow) { high = flow } else { low = flow }
    }
    high
}

/// A host of a class that holds so many layers.
#[derive(Clone, Copy)]
struct Item {
    class: usize,
    layers: f64,
    rate: f64,
}

/// Hosts that hold one layer.
struct Set {
    /// For each class the sum of `1 / k` over its hosts.
    hosts: Vec<f64>,
    /// The most flow it serves with its promise, at rates rounded up.
    serves: f64,
}

struct Search {
    alpha: f64,
    layers: f64,
    /// Hosts of each class.
    counts: Vec<f64>,
    /// By rising rate.
    items: Vec<Item>,
    sets: Vec<Set>,
}

impl Search {
    fn new(instance: &Instance, alpha: f64) -> Self {
        let counts: Vec<f64> = counts(instance).into_iter().map(|it| it as f64).collect();
        let mut items = Vec::new();
        for (class, it) in instance.classes.iter().enumerate().filter(|it| counts[it.0] > 0.0) {
            let most = it.rates.count_max().min(instance.layers);
            let rates = (1..=most).map(|count| (f64::from(count), it.rates.most(count)));
            let rates = rates.filter(|it| it.1 > 0.0);
            items.extend(rates.map(|(layers, rate)| Item { class, layers, rate }));
        }
        items.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        Self { alpha, layers: f64::from(instance.layers), counts, items, sets: Vec::new() }
    }

    /// Whether some prices show that no placement reaches `flow`.
    fn refutes(&mut self, flow: f64) -> bool {
        for _ in 0..SETS_MAX {
            let Some(prices) = self.propose(flow) else { return false };
            let spent: f64 = prices.iter().zip(&self.counts).map(|(price, it)| price * it).sum();
            if spent >= self.layers {
                return false;
            }
            let Some((cost, set)) = self.cheapest(flow, &prices) else { return true };
            if spent < self.layers * cost * (1.0 - MARGIN) {
                return true;
            }
            self.sets.push(set);
        }
        false
    }

    /// The least costly prices at which every known set for `flow` costs at least 1.
    fn propose(&self, flow: f64) -> Option<Vec<f64>> {
        let mut program = Program::default();
        self.counts.iter().for_each(|it| _ = program.add(-it, f64::INFINITY));
        for set in self.sets.iter().filter(|it| it.serves >= flow) {
            let entries = set.hosts.iter().copied().enumerate().filter(|it| it.1 > 0.0);
            program.constrain(1.0, entries.collect(), f64::INFINITY);
        }
        match program.maximise(&Effort::default()) {
            Answer::Optimal(point) => Some(point.values),
            _ => None,
        }
    }

    /// The cheapest set for `flow` at these prices of whole hosts, and its cost; `None` if there is
    /// none. Items come by rising rate, so that each is in turn the largest of its set.
    fn cheapest(&self, flow: f64, prices: &[f64]) -> Option<(f64, Set)> {
        let cost = |it: &Item| prices[it.class] / it.layers;
        let mut grid = Grid::new();
        let mut best: Option<(f64, usize)> = None;
        for (at, item) in self.items.iter().enumerate() {
            grid.add(at, size(item.rate, flow), cost(item));
            let whole = cost(item) + grid.cost[self.rest(item.rate, flow)];
            if whole.is_finite() && best.is_none_or(|it| whole < it.0) {
                best = Some((whole, at));
            }
        }
        let (whole, largest) = best?;
        let mut grid = Grid::new();
        for (at, item) in self.items[..=largest].iter().enumerate() {
            grid.add(at, size(item.rate, flow), cost(item));
        }
        let others = grid.trace(self.rest(self.items[largest].rate, flow));
        Some((whole, self.set(flow, largest, &others)))
    }

    /// Cells that the others must fill where the largest has this rate.
    fn rest(&self, largest: f64, flow: f64) -> usize {
        let share = self.alpha.max(1.0 - largest / flow);
        (share * CELLS as f64 * (1.0 - MARGIN)).ceil() as usize
    }

    fn set(&self, flow: f64, largest: usize, others: &[usize]) -> Set {
        let mut hosts = vec![0.0; self.counts.len()];
        let mut filled = 0;
        for &at in others {
            hosts[self.items[at].class] += 1.0 / self.items[at].layers;
            filled += size(self.items[at].rate, flow);
        }
        let Item { class, layers, rate } = self.items[largest];
        hosts[class] += 1.0 / layers;
        let filled = filled as f64 / CELLS as f64 * flow;
        let kept = if self.alpha > 0.0 { filled / self.alpha } else { f64::INFINITY };
        Set { hosts, serves: kept.min(filled + rate) * (1.0 + MARGIN) }
    }
}

/// Cells that a rate fills, all of them at most; rounded up.
fn size(rate: f64, flow: f64) -> usize {
    ((rate / flow * CELLS as f64 * (1.0 + 1e-12)).ceil() as usize).clamp(1, CELLS)
}

/// The cheapest ways to fill so many cells or more, each item any number of times.
struct Grid {
    cost: Vec<f64>,
    /// The item last added, and its size.
    last: Vec<(usize, usize)>,
}

impl Grid {
    fn new() -> Self {
        let mut cost = vec![f64::INFINITY; CELLS + 1];
        cost[0] = 0.0;
        Self { cost, last: vec![(0, 0); CELLS + 1] }
    }

    fn add(&mut self, item: usize, size: usize, cost: f64) {
        for cell in 1..=CELLS {
            let with = self.cost[cell.saturating_sub(size)] + cost;
            if with < self.cost[cell] {
                self.cost[cell] = with;
                self.last[cell] = (item, size);
            }
        }
    }

    /// The items of the cheapest way to fill `cell`.
    fn trace(&self, mut cell: usize) -> Vec<usize> {
        let mut items = Vec::new();
        while cell > 0 {
            let (item, size) = self.last[cell];
            items.push(item);
            cell = cell.saturating_sub(size.max(1));
        }
        items
    }
}
