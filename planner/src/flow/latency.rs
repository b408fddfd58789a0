//! Among flows of the same value one of least latency, by cost scaling (Goldberg and Tarjan, 1990).
//!
//! Nodes have prices. A flow is *nearly cheapest* by `error` if no arc with room left costs less
//! than `-error`, its own cost and the prices of its ends together. From any flow, each round
//! divides `error` by [`ROUND`]: arcs that have become too cheap are filled, which leaves nodes with
//! more or less than they pass on, and the surplus is pushed along cheap arcs, lowering prices where
//! there are none, until every node balances. With an error below one over the number of nodes no
//! cycle can be saved on any more.

use std::collections::VecDeque;

use super::graph::Graph;

/// Factor between the errors of two rounds; between 4 and 16 the time hardly differs.
const ROUND: i64 = 8;

/// Costs above this are cut to it, so that prices fit their integers: with microseconds 100 s.
pub(super) const COST_MAX: i64 = 100_000_000;

/// Surplus and prices of a graph's nodes.
struct Balance {
    surplus: Vec<i64>,
    price: Vec<i64>,
    /// Nodes with surplus.
    active: VecDeque<u32>,
}

/// Changes the flow of `graph` to one of least cost without changing its value. `costs` has one of
/// zero to [`COST_MAX`] for each arc, in the order they were added. What the arcs can carry together
/// must fit an `i64`.
pub(super) fn cheapen(graph: &mut Graph, costs: &[i64]) {
    let nodes = graph.nodes();
    // Multiplied so that an error of one is below one over the number of nodes.
    let costs: Vec<i64> = costs.iter().map(|it| it * (nodes as i64 + 1)).collect();
    let mut balance =
        Balance { surplus: vec![0; nodes], price: vec![0; nodes], active: VecDeque::new() };
    let mut error = costs.iter().copied().max().unwrap_or(0);
    while error > 1 {
        error = (error / ROUND).max(1);
        balance.refine(graph, &costs, error);
    }
}

impl Balance {
    fn refine(&mut self, graph: &mut Graph, costs: &[i64], error: i64) {
        for arc in 0..graph.arcs.len() {
            let (from, to) = (graph.arcs[arc ^ 1].to, graph.arcs[arc].to);
            if graph.arcs[arc].left > 0 && self.reduced(graph, costs, arc) < 0 {
                self.push(graph, arc, from, to, graph.arcs[arc].left);
            }
        }
        self.active.clear();
        let nodes = 0..self.surplus.len() as u32;
        self.active.extend(nodes.filter(|&it| self.surplus[it as usize] > 0));
        let mut current = graph.last.clone();
        while let Some(node) = self.active.pop_front() {
            self.discharge(graph, costs, error, node, &mut current);
        }
    }

    /// Pushes away all the surplus of a node.
    fn discharge(
        &mut self,
        graph: &mut Graph,
        costs: &[i64],
        error: i64,
        node: u32,
        current: &mut [u32],
    ) {
        while self.surplus[node as usize] > 0 {
            let Some(arc) = graph.arc(current[node as usize]) else {
                if !self.relabel(graph, costs, error, node) {
                    return;
                }
                current[node as usize] = graph.last[node as usize];
                continue;
            };
            let (to, left) = (graph.arcs[arc].to, graph.arcs[arc].left);
            if left > 0 && self.reduced(graph, costs, arc) < 0 {
                let was = self.surplus[to as usize];
                self.push(graph, arc, node, to, left.min(self.surplus[node as usize]));
                if was <= 0 && self.surplus[to as usize] > 0 {
                    self.active.push_back(to);
                }
            } else {
                current[node as usize] = graph.arcs[arc].previous;
            }
        }
    }

    /// Lowers the price of a node until one of its arcs is cheap. Says whether it has an arc left,
    /// which a node with surplus always has: the way the surplus came.
    fn relabel(&mut self, graph: &Graph, costs: &[i64], error: i64, node: u32) -> bool {
        let open = graph.leaving(node).filter(|&arc| graph.arcs[arc].left > 0);
        let price = |arc: usize| self.price[graph.arcs[arc].to as usize] - cost(costs, arc);
        let Some(most) = open.map(price).max() else { return false };
        self.price[node as usize] = most - error;
        true
    }

    fn reduced(&self, graph: &Graph, costs: &[i64], arc: usize) -> i64 {
        let (from, to) = (graph.arcs[arc ^ 1].to, graph.arcs[arc].to);
        cost(costs, arc) + self.price[from as usize] - self.price[to as usize]
    }

    fn push(&mut self, graph: &mut Graph, arc: usize, from: u32, to: u32, amount: i64) {
        graph.arcs[arc].left -= amount;
        graph.arcs[arc ^ 1].left += amount;
        self.surplus[from as usize] -= amount;
        self.surplus[to as usize] += amount;
    }
}

/// Cost of an arc; its reverse gives it back.
fn cost(costs: &[i64], arc: usize) -> i64 {
    if arc.is_multiple_of(2) { costs[arc / 2] } else { -costs[arc / 2] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two ways of capacity 2, one cheap: 3 units cost 2 · 1 + 1 · 10, however they ran before.
    #[test]
    fn the_cheap_way_is_filled_first() {
        let mut graph = Graph::default();
        graph.reset(4);
        for (from, to, capacity) in [(0, 1, 3), (1, 2, 2), (1, 3, 2), (2, 3, 2)] {
            graph.add(from, to, capacity);
        }
        assert_eq!(graph.maximise(0, 3), 3);
        cheapen(&mut graph, &[0, 1, 10, 0]);
        let flows: Vec<i64> = (0..4).map(|it| graph.flow(it)).collect();
        assert_eq!(flows, [3, 2, 1, 2]);
        cheapen(&mut graph, &[0, 10, 1, 0]);
        let flows: Vec<i64> = (0..4).map(|it| graph.flow(it)).collect();
        assert_eq!(flows, [3, 1, 2, 1]);
    }
}
