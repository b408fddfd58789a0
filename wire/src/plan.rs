//! What a plan tells hosts: who holds which layers, and how much traffic each hop should carry.

use serde::{Deserialize, Serialize};

use crate::{Bytes, Epoch, HostId, LayerRange, ModelId};

/// What the planner must know of a model.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ModelShape {
    /// Content hash.
    pub model: ModelId,
    /// Name shown to users.
    pub name: String,
    /// Number of layers.
    pub layers: u32,
    /// Width of the activations between layers, in values.
    pub hidden: u32,
    /// Weights of each layer, as loaded.
    pub layer_bytes: Vec<Bytes>,
    /// Weights of the embedding, held by holders of layer 0.
    pub embedding_bytes: Bytes,
    /// Weights of final norm and head, held by holders of the last layer.
    pub head_bytes: Bytes,
    /// KV cache of one token in one layer.
    pub kv_bytes_per_token_layer: Bytes,
    /// Longest context served, in tokens.
    pub context_tokens: u32,
}

/// One host's part of a plan.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Assignment {
    /// Who.
    pub host: HostId,
    /// Which layers it holds.
    pub layers: LayerRange,
    /// KV capacity, in tokens, of each of these layers.
    pub kv_tokens: u64,
    /// Requests whose decode steps run together at most (pacing).
    pub batch_max: u32,
    /// Groups in which the requests that decode go round, so that all stages are busy; zero takes
    /// the number of stages.
    pub micro_batches: u32,
    /// Prompt tokens per step at most; at least one.
    pub chunk_tokens: u32,
    /// Time that a step may take, to which parts of prompts are cut, in microseconds; zero sets none.
    pub step_us: u32,
    /// Requests in flight through this host at most; zero leaves that to KV alone.
    pub requests_max: u32,
}

/// An end of a hop.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum End {
    /// Where requests come from: any gateway.
    Source,
    /// A host.
    Host(HostId),
    /// Where tokens go to.
    Sink,
}

/// The traffic a hop should carry.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Weight {
    /// Where the hop starts.
    pub from: End,
    /// Where it ends.
    pub to: End,
    /// Flow over the hop, in tokens/s. Always positive.
    pub tokens_per_second: f64,
}

/// A placement, its flows and its proof.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Plan {
    /// Number of this plan; grows by at least one with each.
    pub epoch: Epoch,
    /// Raft term of the planner that made it. A lower (term, epoch) is refused.
    pub term: u64,
    /// The model placed.
    pub model: ModelId,
    /// Layers of the model.
    pub layers: u32,
    /// Who holds what, in order of first layer.
    pub assignments: Vec<Assignment>,
    /// Hops with positive flow.
    pub weights: Vec<Weight>,
    /// Maximum flow of the placement, in tokens/s.
    pub flow: f64,
    /// No placement reaches more, in tokens/s.
    pub bound: f64,
    /// What limits the flow, in words.
    pub bottleneck: String,
}

impl Plan {
    /// Returns what `host` holds, if anything.
    pub fn assignment(&self, host: HostId) -> Option<&Assignment> {
        self.assignments.iter().find(|it| it.host == host)
    }
}

/// One stage of a route.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Hop {
    /// Who computes.
    pub host: HostId,
    /// Which layers it computes: a part of those it holds.
    pub layers: LayerRange,
}

/// One request's way through the cluster: hops whose layers follow each other from 0 to the last.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "Vec<Hop>", into = "Vec<Hop>")]
pub struct Route(Vec<Hop>);

/// Hops that make no route.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RouteError {
    /// No hop at all.
    #[error("route has no hop")]
    Empty,
    /// A hop does not start where the one before ends.
    #[error("hop {index} starts at layer {first}, but layer {expected} comes next")]
    Gap {
        /// Which hop, from zero.
        index: usize,
        /// Where it starts.
        first: u32,
        /// Where it should start.
        expected: u32,
    },
    /// Longer than any route may be.
    #[error("route has {hops} hops, above the limit of {max}", max = Route::HOPS_MAX)]
    TooLong {
        /// Number of hops.
        hops: usize,
    },
}

impl Route {
    /// Hops of a route at most. Every hop costs a network delay per token.
    pub const HOPS_MAX: usize = 256;

    /// Creates a route.
    ///
    /// # Errors
    ///
    /// If there is no hop, one too many, or a gap between two.
    pub fn new(hops: Vec<Hop>) -> Result<Self, RouteError> {
        if hops.is_empty() {
            return Err(RouteError::Empty);
        }
        if hops.len() > Self::HOPS_MAX {
            return Err(RouteError::TooLong { hops: hops.len() });
        }
        let mut expected = 0;
        for (index, hop) in hops.iter().enumerate() {
            let first = hop.layers.first();
            if first != expected {
                return Err(RouteError::Gap { index, first, expected });
            }
            expected = hop.layers.end();
        }
        Ok(Self(hops))
    }

    /// The hops, in order.
    pub fn hops(&self) -> &[Hop] {
        &self.0
    }

    /// First stage: embeds, and receives sampled tokens.
    pub fn first(&self) -> Hop {
        self.0[0]
    }

    /// Last stage: samples.
    pub fn last(&self) -> Hop {
        self.0[self.0.len() - 1]
    }

    /// One past the last layer computed.
    pub fn end(&self) -> u32 {
        self.last().layers.end()
    }

    /// Returns where `host` stands in the route.
    pub fn index_of(&self, host: HostId) -> Option<usize> {
        self.0.iter().position(|hop| hop.host == host)
    }
}

impl TryFrom<Vec<Hop>> for Route {
    type Error = RouteError;

    fn try_from(hops: Vec<Hop>) -> Result<Self, Self::Error> {
        Self::new(hops)
    }
}

impl From<Route> for Vec<Hop> {
    fn from(route: Route) -> Self {
        route.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(first: u32, end: u32) -> Hop {
        let layers = LayerRange::new(first, end).expect("not empty");
        Hop { host: HostId(u64::from(first)), layers }
    }

    #[test]
    fn a_gap_is_no_route() {
        let error = Route::new(vec![hop(0, 4), hop(5, 8)]).expect_err("layer 4 is missing");
        assert_eq!(error.to_string(), "hop 1 starts at layer 5, but layer 4 comes next");
        assert_eq!(Route::new(Vec::new()), Err(RouteError::Empty));
        let route = Route::new(vec![hop(0, 4), hop(4, 8)]).expect("contiguous");
        assert_eq!(route.end(), 8);
    }
}
