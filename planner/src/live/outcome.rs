//! What planning ends with: a solution, or why there is none and what is missing.

use std::fmt;

use thalweg_wire::{Bytes, HostId, LayerRange, ProfileError};

use crate::{ProblemError, Solution};

/// The answer of a search.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Where the layers go.
    Planned(Solution),
    /// Why they go nowhere.
    Infeasible(Infeasible),
}

/// Why a cluster cannot hold the model, with what would help.
#[derive(Clone, Debug, PartialEq)]
pub struct Infeasible {
    /// What stands in the way.
    pub reason: Reason,
    /// Layers that stay without a host in the best attempt.
    pub missing_layers: Vec<LayerRange>,
    /// Memory that one more host would have to offer, linked to all others, to hold the missing
    /// layers. Zero where memory is not what is missing.
    pub missing_memory: Bytes,
    /// Hosts that were left out of the attempt.
    pub excluded: Vec<Excluded>,
}

/// What stands in the way of a plan.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The problem itself makes no sense.
    #[error(transparent)]
    Malformed(#[from] ProblemError),
    /// There is no host, or none that can be used.
    #[error("cluster has no usable host")]
    NoHost,
    /// One layer alone is too large for every host.
    #[error("layer {layer} needs {need} but the largest host offers {largest}")]
    LayerTooLarge {
        /// The first such layer.
        layer: u32,
        /// Its weights, what belongs to it, and the KV of one typical request.
        need: Bytes,
        /// Memory of the largest host.
        largest: Bytes,
    },
    /// All memory together is too little.
    #[error("model needs {need} of memory but the cluster offers {have}")]
    TooLittleMemory {
        /// Weights, and the KV of one typical request.
        need: Bytes,
        /// Sum over all usable hosts.
        have: Bytes,
    },
    /// There is memory enough in sum, but whole layers do not fit into its parts.
    #[error("the cluster's {have} of memory do not divide into {layers} whole layers ({need})")]
    DoesNotDivide {
        /// Layers of the model.
        layers: u32,
        /// Weights, and the KV of one typical request.
        need: Bytes,
        /// Sum over all usable hosts.
        have: Bytes,
    },
    /// Memory would do, but no chain of links joins the hosts that would have to follow each other.
    #[error("no chain of links joins hosts that hold all {layers} layers")]
    NotLinked {
        /// Layers of the model.
        layers: u32,
    },
    /// The hosts left of an earlier placement do not hold all layers.
    #[error("{count} of {layers} layers are on no host any more")]
    Uncovered {
        /// Layers without a host.
        count: u32,
        /// Layers of the model.
        layers: u32,
    },
    /// Nothing was found, and nothing proves that there is nothing: the cluster is too large to
    /// try every order of its hosts.
    #[error("no placement of {layers} layers on {hosts} hosts was found")]
    NotFound {
        /// Layers of the model.
        layers: u32,
        /// Usable hosts.
        hosts: usize,
    },
}

/// A host the planner did not use, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Excluded {
    /// Who.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// Why.
    pub exclusion: Exclusion,
}

/// Why a host cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Exclusion {
    /// Its profile holds an impossible number.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Its profile gives a time per token and layer that no machine has.
    #[error("{seconds} s per token and layer is no plausible time")]
    Implausible {
        /// The time in question.
        seconds: f64,
    },
    /// Another host of the problem has the same id.
    #[error("its id belongs to another host")]
    Duplicate,
    /// It no longer has the memory for the layers of an earlier placement.
    #[error("layers {layers} no longer fit into its {memory}")]
    NoLongerFits {
        /// What it held.
        layers: LayerRange,
        /// What it offers now.
        memory: Bytes,
    },
}

impl fmt::Display for Infeasible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        for (at, layers) in self.missing_layers.iter().enumerate() {
            let before = if at == 0 { "; layers without a host: " } else { ", " };
            write!(f, "{before}{layers}")?;
        }
        if self.missing_memory > Bytes(0) {
            write!(f, "; {} more on one more host would hold them", self.missing_memory)?;
        }
        let left_out = |it: &Excluded| write!(f, "; host `{}` left out: {}", it.name, it.exclusion);
        self.excluded.iter().try_for_each(left_out)
    }
}
