//! A directed graph with integer capacities, and Dinic's algorithm on it.
//!
//! Integers make the maximum exact and its end certain. Buffers are kept between uses, because a
//! search asks for millions of maxima of graphs of the same size.

/// No arc, or no way to the sink.
const NONE: u32 = u32::MAX;

/// Capacity of an arc that never binds; what all arcs of a graph carry together stays below it.
pub(super) const UNBOUNDED: i64 = 1 << 60;

/// A flow graph. Arc `2 n` is the `n`-th added, arc `2 n + 1` its reverse.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    pub(super) arcs: Vec<Arc>,
    /// The arc last added among those that leave each node.
    pub(super) last: Vec<u32>,
    /// Arcs from each node to the sink, at least.
    steps: Vec<u32>,
    /// The next arc to try from each node.
    current: Vec<u32>,
    queue: Vec<u32>,
    path: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Arc {
    pub to: u32,
    /// The arc added before, among those that leave the same node.
    pub previous: u32,
    pub left: i64,
}

impl Graph {
    /// Empties the graph and gives it `nodes` nodes.
    pub fn reset(&mut self, nodes: usize) {
        self.arcs.clear();
        self.last.clear();
        self.last.resize(nodes, NONE);
    }

    /// Adds an arc of a capacity of at most [`UNBOUNDED`].
    pub fn add(&mut self, from: u32, to: u32, capacity: i64) {
        for (tail, to, left) in [(from, to, capacity), (to, from, 0)] {
            let previous = std::mem::replace(&mut self.last[tail as usize], self.arcs.len() as u32);
            self.arcs.push(Arc { to, previous, left });
        }
    }

    /// Pushes as much as possible from `source` to `sink`, and returns how much that is.
    pub fn maximise(&mut self, source: u32, sink: u32) -> i64 {
        let mut total = 0;
        while self.measure(source, sink) {
            self.current.clone_from(&self.last);
            total += self.block(source, sink);
        }
        total
    }

    /// Number of nodes.
    pub fn nodes(&self) -> usize {
        self.last.len()
    }

    /// Flow over the `n`-th arc added.
    pub fn flow(&self, n: usize) -> i64 {
        self.arcs[2 * n + 1].left
    }

    /// Cuts every capacity to `most`, which no arc's flow may exceed.
    pub fn cut_capacities(&mut self, most: i64) {
        for pair in self.arcs.chunks_exact_mut(2) {
            pair[0].left = pair[0].left.min(most - pair[1].left);
        }
    }

    /// An arc by its number in a list of those that leave a node, `None` at the end of the list.
    pub fn arc(&self, number: u32) -> Option<usize> {
        (number != NONE).then_some(number as usize)
    }

    /// Nodes that can still be reached: the source's side of a minimum cut after
    /// [`maximise`](Self::maximise).
    pub fn source_side(&self, source: u32) -> Vec<bool> {
        let mut reached = vec![false; self.nodes()];
        reached[source as usize] = true;
        let mut queue = vec![source];
        while let Some(node) = queue.pop() {
            for arc in self.leaving(node) {
                let Arc { to, left, .. } = self.arcs[arc];
                if left > 0 && !reached[to as usize] {
                    reached[to as usize] = true;
                    queue.push(to);
                }
            }
        }
        reached
    }

    /// Arcs and reverse arcs that leave a node.
    pub fn leaving(&self, node: u32) -> impl Iterator<Item = usize> {
        let mut number = self.last[node as usize];
        std::iter::from_fn(move || {
            let arc = self.arc(number)?;
            number = self.arcs[arc].previous;
            Some(arc)
        })
    }

    /// Counts the steps to the sink; says whether the source can reach it.
    fn measure(&mut self, source: u32, sink: u32) -> bool {
        self.steps.clear();
        self.steps.resize(self.last.len(), NONE);
        self.steps[sink as usize] = 0;
        self.queue.clear();
        self.queue.push(sink);
        let mut next = 0;
        while let Some(&node) = self.queue.get(next) {
            next += 1;
            if node == source {
                return true;
            }
            let mut arc = self.last[node as usize];
            while arc != NONE {
                let Arc { to, previous, .. } = self.arcs[arc as usize];
                if self.steps[to as usize] == NONE && self.arcs[arc as usize ^ 1].left > 0 {
                    self.steps[to as usize] = self.steps[node as usize] + 1;
                    self.queue.push(to);
                }
                arc = previous;
            }
        }
        false
    }

    /// Pushes along shortest ways until each of them has a full arc.
    fn block(&mut self, source: u32, sink: u32) -> i64 {
        let mut total = 0;
        let mut node = source;
        self.path.clear();
        loop {
            if node == sink {
                let least = self.path.iter().map(|&arc| self.arcs[arc as usize].left).min();
                let pushed = least.expect("source and sink differ");
                total += pushed;
                // Goes on from the first arc that is now full.
                let mut full = 0;
                for (at, &arc) in self.path.iter().enumerate().rev() {
                    self.arcs[arc as usize].left -= pushed;
                    self.arcs[arc as usize ^ 1].left += pushed;
                    if self.arcs[arc as usize].left == 0 {
                        full = at;
                    }
                }
                node = self.arcs[self.path[full] as usize ^ 1].to;
                self.path.truncate(full);
            }
            let arc = self.current[node as usize];
            if arc == NONE {
                // A dead end: back, and never here again.
                let Some(back) = self.path.pop() else { return total };
                node = self.arcs[back as usize ^ 1].to;
                self.current[node as usize] = self.arcs[back as usize].previous;
                continue;
            }
            let Arc { to, previous, left } = self.arcs[arc as usize];
            if left > 0 && self.steps[to as usize] < self.steps[node as usize] {
                self.path.push(arc);
                node = to;
            } else {
                self.current[node as usize] = previous;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maximum(nodes: usize, arcs: &[(u32, u32, i64)]) -> (i64, Graph) {
        let mut graph = Graph::default();
        graph.reset(nodes);
        for &(from, to, capacity) in arcs {
            graph.add(from, to, capacity);
        }
        (graph.maximise(0, nodes as u32 - 1), graph)
    }

    #[test]
    fn textbook_network_and_its_cut() {
        // Cormen et al., Introduction to Algorithms, figure 26.1: 23.
        let arcs = [
            (0, 1, 16),
            (0, 2, 13),
            (1, 3, 12),
            (2, 1, 4),
            (2, 4, 14),
            (3, 2, 9),
            (3, 5, 20),
            (4, 3, 7),
            (4, 5, 4),
        ];
        let (flow, graph) = maximum(6, &arcs);
        assert_eq!(flow, 23);
        assert_eq!(graph.source_side(0), [true, true, true, false, true, false]);
    }

    #[test]
    fn a_way_must_be_undone() {
        let arcs = [(0, 1, 1), (0, 2, 1), (1, 2, 1), (1, 3, 1), (2, 3, 1)];
        assert_eq!(maximum(4, &arcs).0, 2);
    }

    #[test]
    fn flow_equals_the_cut_on_random_graphs() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..500 {
            let nodes = rng.u32(2..9);
            let arcs: Vec<(u32, u32, i64)> = (0..rng.usize(0..25))
                .map(|_| (rng.u32(0..nodes), rng.u32(0..nodes), rng.i64(0..20)))
                .filter(|(from, to, _)| from != to)
                .collect();
            let (flow, graph) = maximum(nodes as usize, &arcs);
            let near = graph.source_side(0);
            let crosses = |it: &&(u32, u32, i64)| near[it.0 as usize] && !near[it.1 as usize];
            let cut: i64 = arcs.iter().filter(crosses).map(|it| it.2).sum();
            assert_eq!(flow, cut);
            let carried: Vec<i64> = (0..arcs.len()).map(|it| graph.flow(it)).collect();
            for node in 1..nodes - 1 {
                let sum = |end: fn(&(u32, u32, i64)) -> u32| -> i64 {
                    let pairs = arcs.iter().zip(&carried);
                    pairs.filter(|it| end(it.0) == node).map(|it| it.1).sum()
                };
                assert_eq!(sum(|it| it.0), sum(|it| it.1), "what enters a node leaves it");
            }
        }
    }
}
