//! What is to be planned.

use serde::{Deserialize, Serialize};
use thalweg_wire::{BitsPerSecond, Bytes, HostId, ModelShape, Profile};

/// A host that may hold layers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PlanHost {
    /// Who.
    pub id: HostId,
    /// Name shown to the operator.
    pub name: String,
    /// Where it stands. Hosts of one region are tried as neighbours first.
    pub region: String,
    /// Memory for weights and KV together.
    pub memory: Bytes,
    /// What it measured of itself.
    pub profile: Profile,
}

/// A measured directed link. A pair of hosts without one cannot follow each other in a route.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct PlanLink {
    /// Near end.
    pub from: HostId,
    /// Far end.
    pub to: HostId,
    /// Round trip of a small frame, in microseconds.
    pub rtt_us: u64,
    /// Rate of bulk data. Zero means that there is no link.
    pub bandwidth: BitsPerSecond,
}

/// The request the plan is made for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Workload {
    /// Tokens of a typical prompt.
    pub prompt_tokens: u32,
    /// Tokens of a typical answer.
    pub output_tokens: u32,
}

impl Default for Workload {
    /// A chat turn: a prompt of 256 tokens and an answer of 128.
    fn default() -> Self {
        Self { prompt_tokens: 256, output_tokens: 128 }
    }
}

/// A model, a cluster and a workload.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Problem {
    /// The model to place.
    pub shape: ModelShape,
    /// Hosts that are up. Their order does not matter.
    pub hosts: Vec<PlanHost>,
    /// Links between them; those of unknown hosts are ignored, the last entry of a pair counts.
    pub links: Vec<PlanLink>,
    /// What the cluster is expected to serve.
    pub workload: Workload,
}

impl Problem {
    /// Layers of a model at most.
    pub const LAYERS_MAX: u32 = 4096;
    /// Hosts of a cluster at most; the planner keeps a table of all pairs.
    pub const HOSTS_MAX: usize = 1024;
}

/// A problem that says nothing that could be planned.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemError {
    /// The model has no layer, or more than any model.
    #[error("model has {layers} layers, where 1 to {max} can be placed", max = Problem::LAYERS_MAX)]
    Layers {
        /// How many it has.
        layers: u32,
    },
    /// The list of layer sizes is not one per layer.
    #[error("model has {layers} layers but {sizes} layer sizes")]
    LayerSizes {
        /// Layers of the model.
        layers: u32,
        /// Length of the list.
        sizes: usize,
    },
    /// Activations without a value.
    #[error("model has activations of zero values")]
    NoActivations,
    /// A model that serves no context.
    #[error("model serves a context of zero tokens")]
    NoContext,
    /// A workload without a token.
    #[error("workload has neither prompt nor output tokens")]
    NoWork,
    /// More hosts than the planner takes.
    #[error("cluster has {hosts} hosts, above the limit of {max}", max = Problem::HOSTS_MAX)]
    TooManyHosts {
        /// How many there are.
        hosts: usize,
    },
}
