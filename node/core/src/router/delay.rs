//! The route on which a new row would be computed soonest, by what hosts tell.

use super::graph::{Graph, HostIndex};
use super::{Choose, HostLoad, View};

/// What a hop costs at least, in microseconds: of two routes without a queue the shorter is taken.
const HOP_US: u64 = 1000;
/// What a request costs that a host has not told of yet, in microseconds: about a step. Without it
/// all requests between two heartbeats would take the same route.
const UNSEEN_US: u64 = 10_000;

/// Shortest expected delay, over whole routes.
#[derive(Debug)]
pub(super) struct ShortestDelay;

impl Choose for ShortestDelay {
    fn choose(&mut self, graph: &Graph, live: &[bool], view: &dyn View) -> Option<Vec<HostIndex>> {
        // Delay from a host to the end, and the host behind it; hosts that end last come first.
        let mut best: Vec<Option<(u64, Option<HostIndex>)>> = vec![None; graph.len()];
        let least = |best: &[Option<(u64, Option<HostIndex>)>], from| {
            let reached = graph.hops(from).iter().filter_map(|it| Some((best[it.to]?.0, it.to)));
            reached.min()
        };
        for &index in graph.by_end() {
            if !live[index] {
                continue;
            }
            let own = delay_us(view.load(graph.host(index).0));
            best[index] = if graph.is_last(index) {
                Some((own, None))
            } else {
                least(&best, index + 1).map(|(rest, next)| (own.saturating_add(rest), Some(next)))
            };
        }
        let mut hosts = vec![least(&best, 0)?.1];
        while let Some((_, Some(next))) = hosts.last().and_then(|&it| best[it]) {
            hosts.push(next);
        }
        Some(hosts)
    }
}

/// Time until a host would compute a new row.
fn delay_us(load: HostLoad) -> u64 {
    let unseen = u64::from(load.unseen).saturating_mul(UNSEEN_US);
    load.queue_us.saturating_add(unseen).saturating_add(HOP_US)
}
