//! By how fast hops answered lately (SWARM parallelism, appendix C).
//!
//! Every hop has a moving average of its time and a priority. The hop of the lowest priority is
//! chosen, and its average is added to its priority: over time hops are used in inverse proportion
//! to their times. A gateway sees whole routes, so a route's time counts for each of its hops in
//! equal parts.

use std::time::Duration;

use super::graph::{Graph, HostIndex, Start};
use super::{Choose, View};

/// Time that a hop is taken to need before it was used, in seconds, as in Helix's comparison.
const FIRST_SECONDS: f64 = 0.05;

/// Stochastic wiring.
#[derive(Debug)]
pub(super) struct Swarm {
    gamma: f64,
    /// By start and position.
    hops: Vec<Vec<Timed>>,
    /// For each start, the position of the hop to each host.
    positions: Vec<Vec<(HostIndex, usize)>>,
}

#[derive(Clone, Copy, Debug)]
struct Timed {
    seconds: f64,
    priority: f64,
}

impl Swarm {
    /// Starts with all hops alike.
    pub(super) fn new(graph: &Graph, gamma: f64) -> Self {
        let fresh = Timed { seconds: FIRST_SECONDS, priority: 0.0 };
        let starts = || 0..=graph.len();
        let positions =
            |from: Start| graph.hops(from).iter().enumerate().map(|(at, it)| (it.to, at)).collect();
        Self {
            gamma,
            hops: starts().map(|it| vec![fresh; graph.hops(it).len()]).collect(),
            positions: starts().map(positions).collect(),
        }
    }
}

impl Choose for Swarm {
    fn choose(&mut self, graph: &Graph, live: &[bool], _view: &dyn View) -> Option<Vec<HostIndex>> {
        graph.walk(live, |from, open| {
            let hops = &mut self.hops[from];
            let lower =
                |a: usize, b: usize| if hops[b].priority < hops[a].priority { b } else { a };
            let chosen = open.iter().map(|it| it.0).reduce(lower);
            let chosen = chosen.expect("a start without open hops ends the walk");
            hops[chosen].priority += hops[chosen].seconds;
            chosen
        })
    }

    fn answered(&mut self, route: &[HostIndex], time: Duration) {
        let part = time.as_secs_f64() / route.len() as f64;
        let mut from = 0;
        for &to in route {
            if let Some(&(_, at)) = self.positions[from].iter().find(|it| it.0 == to) {
                let seconds = &mut self.hops[from][at].seconds;
                *seconds = self.gamma * part + (1.0 - self.gamma) * *seconds;
            }
            from = to + 1;
        }
    }
}
