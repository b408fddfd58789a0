//! What the cluster agreed on: the fold of the replicated log.
//!
//! Applying the same commands in the same order gives every host the same registry; commands that
//! make no sense (a deposed planner's plan, a revoked host's registration) change nothing. So the
//! log may contain anything, and every host ignores the same entries.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thalweg_wire::{Epoch, HostId, HostRecord, LinkMeasure, ModelShape, Plan};

/// The agreed state of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Registry {
    shape: Option<ModelShape>,
    hosts: BTreeMap<HostId, HostRecord>,
    links: BTreeMap<HostId, Vec<LinkMeasure>>,
    proposed: Option<Placed>,
    active: Option<Placed>,
    revoked: BTreeSet<HostId>,
    used_tokens: BTreeSet<[u8; 32]>,
    /// Term and epoch of the latest plan ever accepted.
    latest: (u64, Epoch),
}

/// A plan and the hosts it was made for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    /// The plan.
    pub plan: Plan,
    /// Every host registered when the plan was proposed, with its incarnation. A host that came
    /// back with another one holds none of the plan's layers.
    pub hosts: BTreeMap<HostId, u64>,
    /// Hosts that hold what the plan assigns to them.
    pub ready: BTreeSet<HostId>,
}

/// What a command changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// The model is settled.
    Serving(ModelShape),
    /// A host is part of the cluster, for the first time or with new numbers.
    Registered(HostId),
    /// A host's links are known.
    Linked(HostId),
    /// A host is no longer part of the cluster.
    Removed(HostId),
    /// A host will never be part of the cluster again. Follows its `Removed`, if it was one.
    Revoked(HostId),
    /// A plan waits for its hosts to load.
    Proposed(Plan),
    /// A proposed plan will not take effect: another was proposed, or a host it needs is gone.
    Abandoned(Epoch),
    /// A host is ready for the proposed plan.
    Ready {
        /// Who.
        host: HostId,
        /// For which plan.
        epoch: Epoch,
    },
    /// The proposed plan took effect.
    Activated(Plan),
    /// A join token was used for the first time.
    TokenUsed([u8; 32]),
    /// A join token was used again: whoever shows it is to be refused.
    TokenReused([u8; 32]),
}
