//! Keeps a plan in effect that fits the hosts that are alive.
//!
//! ```text
//!   every host:   own record, links  --> Register, Links
//!                 proposed plan      --> Load or Keep --> Ready
//!                 activated plan     --> Activate; layers of older plans: Retire
//!   leader:       dead host          --> Remove
//!                 other hosts than planned for, stable --> StartPlan --> Propose
//!                 all ready          --> Activate
//! ```
//!
//! The machine compares what is with what should be after every event and asks again for whatever
//! did not come about within `retry`: proposals may be lost with a leader, so nothing here relies on
//! one being heard.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thalweg_wire::{Assignment, Command, Epoch, HostId, HostRecord, LinkMeasure, ModelShape, Plan};

use crate::registry::Registry;

/// What a conductor knows from the start.
#[derive(Clone, Debug)]
pub struct Config {
    /// This host.
    pub me: HostId,
    /// Start of this process, in microseconds since 1970.
    pub incarnation: u64,
    /// The model this host has.
    pub shape: ModelShape,
    /// Hosts to wait for before the first plan.
    pub hosts_expected: usize,
    /// How long the set of hosts must not have changed before a plan is made.
    pub settle: Duration,
    /// How long to wait for expected hosts and for measured links, at most.
    pub grace: Duration,
    /// When to repeat a proposal that had no effect.
    pub retry: Duration,
}

/// What the machine wants to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// This host measured itself. Registered until removed for good.
    Measured(HostRecord),
    /// This host measured its links.
    LinksMeasured(Vec<LinkMeasure>),
    /// The log grew by an entry.
    Committed(Command),
    /// The log was replaced by its fold: at start, or after a long absence.
    Restored(Registry),
    /// The leader changed.
    Leadership {
        /// Who leads, if known.
        leader: Option<HostId>,
        /// Raft term.
        term: u64,
        /// Whether it is this host.
        mine: bool,
    },
    /// A host is reachable.
    Alive(HostId),
    /// A host was given up.
    Dead(HostId),
    /// A search ended.
    Planned {
        /// As in the [`Effect::StartPlan`].
        epoch: Epoch,
        /// What it found.
        outcome: PlanOutcome,
    },
    /// The layers of a plan are loaded and warm.
    Loaded {
        /// As in the [`Effect::Load`].
        epoch: Epoch,
    },
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PlanOutcome {
    /// A plan.
    Planned(Plan),
    /// The hosts cannot hold the model.
    Infeasible {
        /// Which layers cannot be covered and what would fix it, in words.
        reason: String,
    },
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Propose a command to the leader. May fail silently; the machine asks again.
    Propose(Command),
    /// Search for a plan, then answer with [`Event::Planned`]. Replaces a search still running.
    StartPlan(PlanTask),
    /// Load layers beside those already held, then answer with [`Event::Loaded`].
    Load {
        /// Names the layers.
        epoch: Epoch,
        /// Which layers, and how much KV.
        assignment: Assignment,
        /// Layers of the model.
        layers: u32,
    },
    /// The plan's layers are those held for `from`: tell the stage by its event `Kept`.
    Keep {
        /// The new plan.
        epoch: Epoch,
        /// An epoch whose layers are held.
        from: Epoch,
        /// Requests whose decode steps run together at most, by the new plan.
        batch_max: u32,
    },
    /// The plan is in effect: tell the gateway.
    Activate(Plan),
    /// The layers of a plan are not needed any more: tell the stage.
    Retire {
        /// Which plan.
        epoch: Epoch,
    },
    /// Tell the operator that the hosts cannot hold the model.
    Infeasible {
        /// Which layers cannot be covered and what would fix it, in words.
        reason: String,
    },
}

/// A search to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanTask {
    /// Number of the plan.
    pub epoch: Epoch,
    /// Term of the planner.
    pub term: u64,
    /// The model.
    pub shape: ModelShape,
    /// Hosts to plan with; their profiles were checked.
    pub hosts: Vec<HostRecord>,
    /// Links by near end; some may be missing.
    pub links: BTreeMap<HostId, Vec<LinkMeasure>>,
    /// Where layers must stay: only new weights are wanted. `None` asks for a new placement.
    pub keep: Option<Vec<Assignment>>,
}
