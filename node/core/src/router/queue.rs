//! The hop whose host works on the fewest requests.

use super::graph::{Graph, HostIndex};
use super::{Choose, View};

/// Shortest queue, hop by hop; of equal ones the first.
#[derive(Debug)]
pub(super) struct ShortestQueue;

impl Choose for ShortestQueue {
    fn choose(&mut self, graph: &Graph, live: &[bool], view: &dyn View) -> Option<Vec<HostIndex>> {
        graph.walk(live, |_, open| {
            let shortest =
                open.iter().min_by_key(|(_, it)| view.load(graph.host(it.to).0).requests);
            shortest.expect("a start without open hops ends the walk").0
        })
    }
}
