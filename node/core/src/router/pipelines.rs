//! Disjoint pipelines in turn: each host is in one of them at most, and so is each request.

use super::graph::{Graph, HostIndex};
use super::{Choose, View};

/// Pipelines that share no host.
#[derive(Debug)]
pub(super) struct FixedPipelines {
    pipelines: Vec<Vec<HostIndex>>,
    next: usize,
}

impl FixedPipelines {
    /// Takes routes out of the plan, those with the most flow first, until no more can be made of
    /// hosts that are left.
    pub(super) fn new(graph: &Graph) -> Self {
        let mut left = vec![true; graph.len()];
        let mut live = Vec::new();
        let mut pipelines = Vec::new();
        loop {
            graph.find_live(|host| left[graph.index_of(host)], &mut live);
            let widest = graph.walk(&live, |_, open| {
                let wider = open.iter().reduce(|a, b| if b.1.weight > a.1.weight { b } else { a });
                wider.expect("a start without open hops ends the walk").0
            });
            let Some(pipeline) = widest else { break };
            pipeline.iter().for_each(|&it| left[it] = false);
            pipelines.push(pipeline);
        }
        Self { pipelines, next: 0 }
    }
}

impl Choose for FixedPipelines {
    fn choose(
        &mut self,
        _graph: &Graph,
        live: &[bool],
        _view: &dyn View,
    ) -> Option<Vec<HostIndex>> {
        let count = self.pipelines.len();
        let turns = (0..count).map(|it| (self.next + it) % count);
        let whole = |at: &usize| self.pipelines[*at].iter().all(|&it| live[it]);
        let at = turns.into_iter().find(whole)?;
        self.next = at + 1;
        Some(self.pipelines[at].clone())
    }
}
