//! The cheapest covers of a layer by at least so many hosts.
//!
//! Rates are counted in cells of a grid and rounded up, and a class may serve as often as it likes:
//! both make covers cheaper than they are, never dearer, so that a proof from them holds.

use crate::instance::Instance;

/// Cells that a flow is divided into. A host that sustains the flow but for one part in so many
/// counts as if it did, which is what the bound loses.
const CELLS: usize = 1 << 14;
/// A hair more, so that a division cannot round a rate down.
const HAIR: f64 = 1.0 + 1e-12;

/// A host of a class that holds so many layers.
#[derive(Clone, Copy)]
struct Item {
    class: usize,
    layers: f64,
    cells: usize,
}

/// Hosts that cover a layer together.
#[derive(Clone, Debug)]
pub(super) struct Cover {
    /// For each class the sum of `1 / k` over its hosts.
    pub shares: Vec<f64>,
    /// What they cost.
    pub cost: f64,
    /// Tokens/s they reach on the grid, which is at least what they reach.
    pub rate: f64,
}

/// The covers of one flow.
pub(super) struct Knapsack {
    items: Vec<Item>,
    classes: usize,
    flow: f64,
}

/// The cheapest ways to reach each cell with each number of hosts.
struct Table {
    /// `[hosts][cell]`.
    cost: Vec<Vec<f64>>,
    /// The item that was added last, and the hosts and cell before it.
    came: Vec<Vec<(u32, u32, u32)>>,
}

impl Knapsack {
    pub fn new(instance: &Instance, flow: f64) -> Self {
        let mut items = Vec::new();
        for (class, it) in instance.classes.iter().enumerate() {
            if !instance.hosts.iter().any(|host| host.class == class) {
                continue;
            }
            let mut above = 0;
            for count in (1..=it.rates.count_max()).rev() {
                let cells = (it.rates.most(count) / flow * CELLS as f64 * HAIR).ceil();
                let cells = if cells < CELLS as f64 { cells as usize } else { CELLS };
                // More layers at no lower rate are never dearer.
                if cells > above {
                    items.push(Item { class, layers: f64::from(count), cells });
                    above = cells;
                }
            }
        }
        Self { items, classes: instance.classes.len(), flow }
    }

    /// The cheapest cover by `n` hosts or more, for each `n` from 1 to `hosts`. `None` where nothing
    /// covers a layer at any price.
    pub fn cheapest(&self, prices: &[f64], hosts: usize) -> Option<Vec<Cover>> {
        let table = self.fill(prices, hosts);
        // Of all numbers of hosts from `n` up, the last of which stands for all above, too.
        let best = |n: usize| {
            (n..=hosts).min_by(|&a, &b| table.cost[a][CELLS].total_cmp(&table.cost[b][CELLS]))
        };
        let covers = (1..=hosts).filter_map(best).map(|it| self.trace(&table, it));
        let covers: Vec<Cover> = covers.collect();
        covers.iter().all(|it| it.cost.is_finite()).then_some(covers)
    }

    fn fill(&self, prices: &[f64], hosts: usize) -> Table {
        let mut table = Table {
            cost: vec![vec![f64::INFINITY; CELLS + 1]; hosts + 1],
            came: vec![vec![(0, 0, 0); CELLS + 1]; hosts + 1],
        };
        table.cost[0][0] = 0.0;
        for (at, item) in self.items.iter().enumerate() {
            let price = prices[item.class] / item.layers;
            for before in 0..=hosts {
                let after = (before + 1).min(hosts);
                for cell in 0..=CELLS {
                    let cost = table.cost[before][cell] + price;
                    let reached = (cell + item.cells).min(CELLS);
                    if cost < table.cost[after][reached] {
                        table.cost[after][reached] = cost;
                        table.came[after][reached] = (at as u32, before as u32, cell as u32);
                    }
                }
            }
        }
        table
    }

    /// Walks back from the last cell.
    fn trace(&self, table: &Table, hosts: usize) -> Cover {
        let cost = table.cost[hosts][CELLS];
        let mut cover = Cover { shares: vec![0.0; self.classes], cost, rate: 0.0 };
        let (mut hosts, mut cell) = (hosts, CELLS);
        while cover.cost.is_finite() && (hosts, cell) != (0, 0) {
            let (item, before, from) = table.came[hosts][cell];
            let item = self.items[item as usize];
            cover.shares[item.class] += 1.0 / item.layers;
            cover.rate += item.cells as f64 / CELLS as f64 * self.flow;
            (hosts, cell) = (before as usize, from as usize);
        }
        cover
    }
}
