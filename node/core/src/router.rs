//! Chooses routes, hop by hop or whole, over hosts that can be used now.
//!
//! ```text
//! plan ---> Graph: hosts, hops, weights
//!              |  live: usable, and a route can be completed behind
//!              v
//!           Choose: weighted | delay | queue | random | swarm | pipelines ---> Route
//! ```
//!
//! Hops without flow in the plan are taken when no hop with flow is usable: after a loss the
//! surviving stages serve what they can until the next plan.

use std::fmt;
use std::time::Duration;

use thalweg_wire::{HostId, LayerRange, Plan, Route};

use self::graph::{Graph, HostIndex};
use crate::policy::{GatewayPolicy, Routing};

mod delay;
mod graph;
mod pipelines;
mod queue;
mod random;
mod swarm;
#[cfg(test)]
mod tests;
mod weighted;

/// Routes requests by one plan.
#[derive(Debug)]
pub struct Router {
    graph: Graph,
    policy: Box<dyn Choose>,
    /// Hosts on a live route, from call to call only to keep the memory.
    live: Vec<bool>,
}

/// A way to choose a route.
pub(crate) trait Choose: fmt::Debug + Send {
    /// Chooses hosts that follow each other through all layers, all of them live; `None` if there
    /// is no such route.
    fn choose(&mut self, graph: &Graph, live: &[bool], view: &dyn View) -> Option<Vec<HostIndex>>;

    /// Takes in how long a route took from the open to its first token.
    fn answered(&mut self, _route: &[HostIndex], _time: Duration) {}
}

/// What is known of hosts while one request is routed.
pub trait View {
    /// Whether the request can be sent there.
    fn usable(&self, host: HostId) -> bool;
    /// How busy a host is.
    fn load(&self, host: HostId) -> HostLoad;
    /// Tokens of the request's start that a host holds for these layers.
    fn held_tokens(&self, host: HostId, layers: LayerRange) -> u32;
}

/// How busy a host is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HostLoad {
    /// Time until rows that arrive would be computed, in microseconds, as it told.
    pub queue_us: u64,
    /// Requests it works on.
    pub requests: u32,
    /// Of these, requests sent to it since it told.
    pub unseen: u32,
}

impl Router {
    /// Creates a router for `plan`.
    pub fn new(plan: &Plan, policy: &GatewayPolicy) -> Self {
        let graph = Graph::new(plan, policy.flow_share_min);
        let policy: Box<dyn Choose> = match policy.routing {
            Routing::Weighted => Box::new(weighted::Weighted::new(&graph, policy.affinity)),
            Routing::ShortestDelay => Box::new(delay::ShortestDelay),
            Routing::ShortestQueue => Box::new(queue::ShortestQueue),
            Routing::Random { seed } => Box::new(random::Random::new(seed)),
            Routing::Swarm { gamma } => Box::new(swarm::Swarm::new(&graph, gamma)),
            Routing::FixedPipelines => Box::new(pipelines::FixedPipelines::new(&graph)),
        };
        Self { graph, policy, live: Vec::new() }
    }

    /// Returns the next route over usable hosts, or `None` if they do not cover the model.
    pub fn route(&mut self, view: &dyn View) -> Option<Route> {
        self.graph.find_live(|host| view.usable(host), &mut self.live);
        let hosts = self.policy.choose(&self.graph, &self.live, view)?;
        self.graph.route(&hosts)
    }

    /// Whether hosts that are `usable` cover the model.
    pub fn covers(&mut self, usable: impl Fn(HostId) -> bool) -> bool {
        self.graph.find_live(usable, &mut self.live);
        self.graph.hops(0).iter().any(|hop| self.live[hop.to])
    }

    /// Takes in how long a route took from the open to its first token.
    pub fn answered(&mut self, route: &Route, time: Duration) {
        // A route of an older plan may be over hosts that this one does not know.
        if let Some(hosts) = self.graph.hosts_of(route) {
            self.policy.answered(&hosts, time);
        }
    }
}
