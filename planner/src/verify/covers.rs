//! What the cheapest cover of a layer costs, as a knapsack over a grid.

use crate::instance::Instance;

/// Cells that the flow is cut into. Rates are rounded up to whole cells, so that a cover found is
/// never dearer than a real one; a finer grid refuses fewer sound proofs.
const CELLS: usize = 65_536;

/// Cells of a rate are a hair too many rather than too few.
const ROUND_UP: f64 = 1.0 + 1e-12;

/// Above this many hosts of a class any number of them may be in a cover, which only makes it
/// cheaper.
const COUNTED_MAX: usize = 16;

/// The least a cover costs: hosts whose rates sum to `flow`, where a host of class `t` with `k`
/// layers costs `prices[t] / k`. Never above the true cost; infinite if all hosts together do not
/// reach `flow`.
pub(super) fn least_cost(instance: &Instance, counts: &[usize], prices: &[f64], flow: f64) -> f64 {
    // cost[c]: the least for at least c cells.
    let mut cost = vec![f64::INFINITY; CELLS + 1];
    cost[0] = 0.0;
    for (class, (&count, &price)) in instance.classes.iter().zip(counts.iter().zip(prices)) {
        let items: Vec<(usize, f64)> = (1..=class.rates.count_max())
            .map(|layers| (cells(class.rates.most(layers), flow), price / f64::from(layers)))
            .filter(|it| it.0 > 0)
            .collect();
        if count > COUNTED_MAX {
            any_number(&mut cost, &items);
        } else {
            (0..count).for_each(|_| one_more(&mut cost, &items));
        }
    }
    cost[CELLS]
}

fn cells(rate: f64, flow: f64) -> usize {
    let cells = (rate / flow * CELLS as f64 * ROUND_UP).ceil();
    // Saturates: a rate above the flow fills every cell.
    (cells as usize).min(CELLS)
}

/// Lets one more host in, or none. From the top, so that each cell still reads costs without it.
fn one_more(cost: &mut [f64], items: &[(usize, f64)]) {
    for cell in (1..cost.len()).rev() {
        let with = items.iter().map(|&(size, price)| cost[cell.saturating_sub(size)] + price);
        cost[cell] = with.fold(cost[cell], f64::min);
    }
}

/// Lets any number of hosts in. From the bottom, so that each cell reads costs with some already.
fn any_number(cost: &mut [f64], items: &[(usize, f64)]) {
    for cell in 1..cost.len() {
        let with = items.iter().map(|&(size, price)| cost[cell.saturating_sub(size)] + price);
        cost[cell] = with.fold(cost[cell], f64::min);
    }
}
