//! Traffic follows the plan's flow.
//!
//! Every start of a hop keeps an interleaved weighted round robin over the hops that leave it: each
//! choice adds its weight to every candidate and takes the total from the one chosen, so shares are
//! met after every few requests and not only on average.
//!
//! A hop that holds the start of the prompt is chosen before its turn, as long as that does not put
//! it too far ahead of its share: prefixes are worth a detour of time, not of flow.

use super::graph::{Edge, Graph, HostIndex, Start};
use super::{Choose, View};

/// Requests by which a hop may be ahead of its share for the sake of a prefix.
const AHEAD_MAX: f64 = 4.0;

/// Interleaved weighted round robin.
#[derive(Debug)]
pub(super) struct Weighted {
    /// How far behind its share each hop is, in tokens/s, by start and position.
    due: Vec<Vec<f64>>,
    affinity: bool,
}

impl Weighted {
    /// Starts with every hop at its share.
    pub(super) fn new(graph: &Graph, affinity: bool) -> Self {
        let due = (0..=graph.len()).map(|it| vec![0.0; graph.hops(it).len()]).collect();
        Self { due, affinity }
    }

    /// Takes the candidate that is most behind its share, or one that holds a prefix.
    fn next(
        &mut self,
        graph: &Graph,
        from: Start,
        open: &[(usize, Edge)],
        view: &dyn View,
    ) -> usize {
        let due = &mut self.due[from];
        let mut total = 0.0;
        for &(at, Edge { weight, .. }) in open {
            due[at] += weight;
            total += weight;
        }
        let positions = || open.iter().map(|&(at, _)| at);
        let behind = positions().reduce(|a, b| if due[b] > due[a] { b } else { a });
        let behind = behind.expect("a start without open hops ends the walk");
        let mut chosen = behind;
        if self.affinity {
            let mut longest = 0;
            for &(at, Edge { to, .. }) in open {
                let held = view.held_tokens(graph.host(to).0, graph.layers(from, to));
                let better = held > longest || held == longest && held > 0 && due[at] > due[chosen];
                if better && due[at] - total >= -AHEAD_MAX * total {
                    (chosen, longest) = (at, held);
                }
            }
        }
        due[chosen] -= total;
        chosen
    }
}

impl Choose for Weighted {
    fn choose(&mut self, graph: &Graph, live: &[bool], view: &dyn View) -> Option<Vec<HostIndex>> {
        graph.walk(live, |from, open| self.next(graph, from, open, view))
    }
}
