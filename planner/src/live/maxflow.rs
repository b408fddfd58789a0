//! Exact maximum flow by Dinic's algorithm, in integers.

/// A directed graph with integer capacities.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    /// Arcs come in pairs: the arc and, at the next odd index, its reverse.
    arcs: Vec<Arc>,
    /// Arcs that leave each node.
    leaving: Vec<Vec<usize>>,
}

#[derive(Clone, Copy, Debug)]
struct Arc {
    to: usize,
    left: u64,
}

impl Graph {
    /// Creates a graph of `nodes` nodes without arcs.
    pub fn new(nodes: usize) -> Self {
        Self { arcs: Vec::new(), leaving: vec![Vec::new(); nodes] }
    }

    /// Adds an arc and returns its number.
    pub fn add(&mut self, from: usize, to: usize, capacity: u64) -> usize {
        let arc = self.arcs.len();
        self.arcs.push(Arc { to, left: capacity });
        self.arcs.push(Arc { to: from, left: 0 });
        self.leaving[from].push(arc);
        self.leaving[to].push(arc + 1);
        arc
    }

    /// Flow over an arc, after [`maximise`](Self::maximise).
    pub fn flow(&self, arc: usize) -> u64 {
        self.arcs[arc + 1].left
    }

    /// Pushes as much as possible from `source` to `sink`, and returns how much that is.
    pub fn maximise(&mut self, source: usize, sink: usize) -> u64 {
        let mut total = 0_u64;
        while let Some(levels) = self.levels(source, sink) {
            let mut next = vec![0; self.leaving.len()];
            while let Some(pushed) = self.augment(source, sink, &levels, &mut next) {
                total = total.saturating_add(pushed);
            }
        }
        total
    }

    /// Nodes on the source's side of a minimum cut, after [`maximise`](Self::maximise).
    #[cfg(test)]
    pub fn source_side(&self, source: usize) -> Vec<bool> {
        self.distances(source).into_iter().map(|it| it.is_some()).collect()
    }

    fn levels(&self, source: usize, sink: usize) -> Option<Vec<Option<usize>>> {
        let levels = self.distances(source);
        levels[sink].is_some().then_some(levels)
    }

    /// Number of arcs with capacity left from `source` to each node.
    fn distances(&self, source: usize) -> Vec<Option<usize>> {
        let mut distance = vec![None; self.leaving.len()];
        distance[source] = Some(0);
        let mut queue = std::collections::VecDeque::from([(source, 0)]);
        while let Some((node, steps)) = queue.pop_front() {
            for &arc in &self.leaving[node] {
                let Arc { to, left } = self.arcs[arc];
                if left > 0 && distance[to].is_none() {
                    distance[to] = Some(steps + 1);
                    queue.push_back((to, steps + 1));
                }
            }
        }
        distance
    }

    /// Pushes along one shortest path, if one is left. `next` remembers arcs found useless.
    fn augment(
        &mut self,
        source: usize,
        sink: usize,
        levels: &[Option<usize>],
        next: &mut [usize],
    ) -> Option<u64> {
        let mut path: Vec<usize> = Vec::new();
        let mut node = source;
        while node != sink {
            let Some(&arc) = self.leaving[node].get(next[node]) else {
                // A dead end: step back, and never come here again.
                let back = path.pop()?;
                node = self.arcs[back ^ 1].to;
                next[node] += 1;
                continue;
            };
            let Arc { to, left } = self.arcs[arc];
            let closer = levels[to].is_some() && levels[to] == levels[node].map(|it| it + 1);
            if left > 0 && closer {
                path.push(arc);
                node = to;
            } else {
                next[node] += 1;
            }
        }
        let pushed = path.iter().map(|&arc| self.arcs[arc].left).min()?;
        for arc in path {
            self.arcs[arc].left -= pushed;
            self.arcs[arc ^ 1].left = self.arcs[arc ^ 1].left.saturating_add(pushed);
        }
        Some(pushed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maximum(nodes: usize, arcs: &[(usize, usize, u64)]) -> (u64, Graph) {
        let mut graph = Graph::new(nodes);
        for &(from, to, capacity) in arcs {
            graph.add(from, to, capacity);
        }
        (graph.maximise(0, nodes - 1), graph)
    }

    #[test]
    fn textbook_network_and_its_cut() {
        // Cormen et al., figure 26.1: 23.
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
    fn a_path_must_be_undone() {
        let arcs = [(0, 1, 1), (0, 2, 1), (1, 2, 1), (1, 3, 1), (2, 3, 1)];
        assert_eq!(maximum(4, &arcs).0, 2);
    }

    #[test]
    fn no_path_no_flow() {
        assert_eq!(maximum(3, &[(0, 1, 5)]).0, 0);
    }

    #[test]
    fn flow_equals_the_cut_on_random_graphs() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let nodes = rng.usize(2..9);
            let arcs: Vec<(usize, usize, u64)> = (0..rng.usize(0..25))
                .map(|_| (rng.usize(0..nodes), rng.usize(0..nodes), rng.u64(0..20)))
                .filter(|(from, to, _)| from != to)
                .collect();
            let (flow, graph) = maximum(nodes, &arcs);
            let near = graph.source_side(0);
            let cut: u64 = arcs.iter().filter(|it| near[it.0] && !near[it.1]).map(|it| it.2).sum();
            assert_eq!(flow, cut);
        }
    }
}
