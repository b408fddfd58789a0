//! The cheapest way to cover one layer: a knapsack on a grid.

use crate::instance::Rates;

/// Above this many hosts of a class a cover may use any number of them: the knapsack then costs less
/// and the cover found is at most cheaper, which is safe.
const BOUNDED_HOSTS_MAX: usize = 16;

/// What hosts of one class can do in a layer.
pub(super) struct Class {
    /// How many there are.
    pub count: usize,
    items: Vec<Item>,
}

/// A host that holds so many layers.
#[derive(Clone, Copy)]
struct Item {
    layers: f64,
    rate: f64,
}

/// Hosts that cover one layer.
#[derive(Clone, Debug)]
pub(super) struct Cover {
    /// For each class the sum of `1 / k` over its hosts in the cover.
    pub hosts: Vec<f64>,
    /// Tokens/s they reach on the grid, which is at least what they reach.
    pub rate: f64,
}

/// The covers of one flow.
pub(super) struct Knapsack<'a> {
    classes: &'a [Class],
    flow: f64,
    cells: usize,
    /// For each class: rates in cells, rounded up.
    sizes: Vec<Vec<usize>>,
    /// After each step, the least cost of reaching each cell or more.
    steps: Vec<Step>,
}

struct Step {
    class: usize,
    /// Whether its hosts may be used any number of times.
    endless: bool,
    cost: Vec<f64>,
}

impl Class {
    /// Leaves out what is never cheaper: fewer layers at no higher rate.
    pub(super) fn new(rates: &Rates, count: usize) -> Self {
        let mut items: Vec<Item> = Vec::new();
        for layers in (1..=rates.count_max()).rev() {
            let rate = rates.most(layers);
            if items.last().map_or(0.0, |it| it.rate) < rate {
                items.push(Item { layers: f64::from(layers), rate });
            }
        }
        Self { count, items }
    }
}

impl Cover {
    /// What the hosts cost at these prices of whole hosts.
    pub(super) fn cost(&self, prices: &[f64]) -> f64 {
        self.hosts.iter().zip(prices).map(|(hosts, price)| hosts * price).sum()
    }
}

impl<'a> Knapsack<'a> {
    pub(super) fn new(classes: &'a [Class], flow: f64, cells: usize) -> Self {
        let size = |it: &Item| {
            // A hair more, so that the division cannot round a rate down.
            let size = (it.rate / flow * cells as f64 * (1.0 + 1e-12)).ceil();
            if size < cells as f64 { size as usize } else { cells }
        };
        let sizes: Vec<Vec<usize>> =
            classes.iter().map(|it| it.items.iter().map(size).collect()).collect();
        let empty = |class, endless| Step { class, endless, cost: vec![0.0; cells + 1] };
        let mut steps = Vec::new();
        for (at, class) in classes.iter().enumerate() {
            let least = sizes[at].iter().copied().min().unwrap_or(0);
            if least == 0 || class.count == 0 {
                continue;
            }
            let needed = cells.div_ceil(least);
            if needed > class.count && class.count <= BOUNDED_HOSTS_MAX {
                steps.extend((0..class.count).map(|_| empty(at, false)));
            } else {
                steps.push(empty(at, true));
            }
        }
        Self { classes, flow, cells, sizes, steps }
    }

    /// The cheapest cover at these prices of whole hosts; `None` if there is no cover.
    pub(super) fn cheapest(&mut self, prices: &[f64]) -> Option<Cover> {
        let mut before = vec![f64::INFINITY; self.cells + 1];
        before[0] = 0.0;
        for step in &mut self.steps {
            step.cost.copy_from_slice(&before);
            let items = self.classes[step.class].items.iter().zip(&self.sizes[step.class]);
            for (item, &size) in items {
                let price = prices[step.class] / item.layers;
                if step.endless {
                    add_endless(&mut step.cost, size, price);
                } else {
                    add_once(&mut step.cost, &before, size, price);
                }
            }
            before.copy_from_slice(&step.cost);
        }
        before[self.cells].is_finite().then(|| self.trace(prices))
    }

    /// Walks back from the last cell.
    fn trace(&self, prices: &[f64]) -> Cover {
        let mut cover = Cover { hosts: vec![0.0; self.classes.len()], rate: 0.0 };
        let (mut cell, mut at) = (self.cells, self.steps.len());
        let mut reached = 0;
        while at > 0 && cell > 0 {
            let step = &self.steps[at - 1];
            let before = |cell: usize| match at {
                1 if cell == 0 => 0.0,
                1 => f64::INFINITY,
                _ => self.steps[at - 2].cost[cell],
            };
            if before(cell) <= step.cost[cell] {
                at -= 1;
                continue;
            }
            let items = self.classes[step.class].items.iter().zip(&self.sizes[step.class]);
            let from = |size: usize| cell.saturating_sub(size);
            let rest = |size| if step.endless { step.cost[from(size)] } else { before(from(size)) };
            let cost = |it: &(&Item, &usize)| prices[step.class] / it.0.layers + rest(*it.1);
            let Some((item, &size)) = items.min_by(|a, b| cost(a).total_cmp(&cost(b))) else {
                break;
            };
            cover.hosts[step.class] += 1.0 / item.layers;
            reached += size;
            cell = from(size);
            at -= usize::from(!step.endless);
        }
        cover.rate = reached as f64 / self.cells as f64 * self.flow;
        cover
    }
}

/// One more host, or none.
fn add_once(cost: &mut [f64], before: &[f64], size: usize, price: f64) {
    let (low, high) = cost.split_at_mut(size);
    low.iter_mut().for_each(|it| *it = it.min(before[0] + price));
    high.iter_mut().zip(before).for_each(|(it, rest)| *it = it.min(rest + price));
}

/// Any number of hosts more, in runs that do not overlap what they read.
fn add_endless(cost: &mut [f64], size: usize, price: f64) {
    let nothing = cost[0];
    cost[1..size].iter_mut().for_each(|it| *it = it.min(nothing + price));
    let mut from = 0;
    while from + size < cost.len() {
        let (low, high) = cost.split_at_mut(from + size);
        let run = high.iter_mut().zip(&low[from..]);
        run.for_each(|(it, rest)| *it = it.min(rest + price));
        from += size;
    }
}
