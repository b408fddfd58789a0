//! What the cluster agreed on: the fold of the replicated log.
//!
//! Applying the same commands in the same order gives every host the same registry; commands that
//! make no sense (a deposed planner's plan, a revoked host's registration) change nothing. So the
//! log may contain anything, and every host ignores the same entries.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thalweg_wire::{Assignment, Command, Epoch, HostId, HostRecord, LinkMeasure, ModelShape, Plan};

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

/// A plan and the processes it is carried out by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    /// The plan.
    pub plan: Plan,
    /// Every host with a part in the plan, and its incarnation when the plan was proposed. A host
    /// that came back with another one holds none of the plan's layers.
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

/// Join tokens remembered as used at most. More than any cluster enrols; a full memory refuses
/// every further token rather than forget one.
const USED_TOKENS_MAX: usize = 65_536;

impl Registry {
    /// Takes in one command of the log. Returns what it changed; nothing if it is refused.
    pub fn apply(&mut self, command: &Command) -> Vec<Change> {
        match command {
            Command::Serve(shape) => self.serve(shape),
            Command::Register(record) => self.register(record),
            Command::Links { host, links } => self.link(*host, links),
            Command::Remove { host, incarnation } => self.remove(*host, *incarnation),
            Command::Revoke { host } => self.revoke(*host),
            Command::Propose(plan) => self.propose(plan),
            Command::Ready { host, epoch } => self.ready(*host, *epoch),
            Command::Activate { epoch } => self.activate(*epoch),
            Command::UseToken { token } => self.use_token(*token),
        }
    }

    fn serve(&mut self, shape: &ModelShape) -> Vec<Change> {
        if self.shape.is_some() {
            return Vec::new();
        }
        self.shape = Some(shape.clone());
        vec![Change::Serving(shape.clone())]
    }

    fn register(&mut self, record: &HostRecord) -> Vec<Change> {
        let host = record.host;
        let before = self.hosts.get(&host);
        let refused = self.revoked.contains(&host)
            || host != HostId::of(&record.name)
            || record.profile.check().is_err()
            || before.is_some_and(|it| it.incarnation > record.incarnation)
            || before.is_some_and(|it| it.name != record.name);
        if refused || before == Some(record) {
            return Vec::new();
        }
        let mut changes = Vec::new();
        if before.is_some_and(|it| it.incarnation < record.incarnation) {
            changes.extend(self.abandon_if_placed(host));
        }
        self.hosts.insert(host, record.clone());
        changes.push(Change::Registered(host));
        changes
    }

    fn link(&mut self, host: HostId, links: &[LinkMeasure]) -> Vec<Change> {
        let known = self.links.get(&host).is_some_and(|it| it == links);
        if known || !self.hosts.contains_key(&host) {
            return Vec::new();
        }
        self.links.insert(host, links.to_vec());
        vec![Change::Linked(host)]
    }

    fn remove(&mut self, host: HostId, incarnation: u64) -> Vec<Change> {
        if self.hosts.get(&host).is_none_or(|it| it.incarnation > incarnation) {
            return Vec::new();
        }
        self.hosts.remove(&host);
        self.links.remove(&host);
        let mut changes = vec![Change::Removed(host)];
        changes.extend(self.abandon_if_placed(host));
        changes
    }

    fn revoke(&mut self, host: HostId) -> Vec<Change> {
        if !self.revoked.insert(host) {
            return Vec::new();
        }
        let mut changes = self.remove(host, u64::MAX);
        changes.push(Change::Revoked(host));
        changes
    }

    fn propose(&mut self, plan: &Plan) -> Vec<Change> {
        if !self.accepts(plan) {
            return Vec::new();
        }
        self.latest = (plan.term, plan.epoch);
        let incarnation = |it: &Assignment| (it.host, self.hosts[&it.host].incarnation);
        let hosts = plan.assignments.iter().map(incarnation).collect();
        let placed = Placed { plan: plan.clone(), hosts, ready: BTreeSet::new() };
        let before = self.proposed.replace(placed);
        let abandoned = before.map(|it| Change::Abandoned(it.plan.epoch));
        abandoned.into_iter().chain([Change::Proposed(plan.clone())]).collect()
    }

    /// Whether a plan is newer than any before, of this model, whole, and on registered hosts.
    fn accepts(&self, plan: &Plan) -> bool {
        let (term, epoch) = self.latest;
        let model = self
            .shape
            .as_ref()
            .is_some_and(|shape| shape.model == plan.model && shape.layers == plan.layers);
        let held =
            |it: &Assignment| self.hosts.contains_key(&it.host) && it.layers.end() <= plan.layers;
        plan.term >= term
            && plan.epoch > epoch
            && model
            && plan.assignments.iter().all(held)
            && covers(&plan.assignments, plan.layers)
    }

    fn ready(&mut self, host: HostId, epoch: Epoch) -> Vec<Change> {
        let Some(placed) = self.proposed.as_mut().filter(|it| it.plan.epoch == epoch) else {
            return Vec::new();
        };
        if placed.plan.assignment(host).is_none() || !placed.ready.insert(host) {
            return Vec::new();
        }
        vec![Change::Ready { host, epoch }]
    }

    fn activate(&mut self, epoch: Epoch) -> Vec<Change> {
        let ready = |it: &mut Placed| it.plan.epoch == epoch && it.is_ready();
        let Some(placed) = self.proposed.take_if(ready) else {
            return Vec::new();
        };
        let plan = placed.plan.clone();
        self.active = Some(placed);
        vec![Change::Activated(plan)]
    }

    fn use_token(&mut self, token: [u8; 32]) -> Vec<Change> {
        let room = self.used_tokens.len() < USED_TOKENS_MAX;
        let first = room && self.used_tokens.insert(token);
        vec![if first { Change::TokenUsed(token) } else { Change::TokenReused(token) }]
    }

    /// Gives up the proposed plan if `host`, which lost its layers, has a part in it.
    fn abandon_if_placed(&mut self, host: HostId) -> Option<Change> {
        let placed = self.proposed.take_if(|it| it.plan.assignment(host).is_some())?;
        Some(Change::Abandoned(placed.plan.epoch))
    }

    /// The model served, once settled.
    pub const fn shape(&self) -> Option<&ModelShape> {
        self.shape.as_ref()
    }

    /// Every host of the cluster.
    pub const fn hosts(&self) -> &BTreeMap<HostId, HostRecord> {
        &self.hosts
    }

    /// Measured links, by near end.
    pub const fn links(&self) -> &BTreeMap<HostId, Vec<LinkMeasure>> {
        &self.links
    }

    /// The plan that hosts load now.
    pub const fn proposed(&self) -> Option<&Placed> {
        self.proposed.as_ref()
    }

    /// The plan in effect.
    pub const fn active(&self) -> Option<&Placed> {
        self.active.as_ref()
    }

    /// Hosts that must not be admitted.
    pub const fn revoked(&self) -> &BTreeSet<HostId> {
        &self.revoked
    }

    /// Whether a join token, named by its hash, was used.
    pub fn token_used(&self, token: &[u8; 32]) -> bool {
        self.used_tokens.contains(token)
    }

    /// Number of the latest plan ever accepted.
    pub const fn latest_epoch(&self) -> Epoch {
        self.latest.1
    }

    /// Asserts what must hold after every command.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn check(&self) {
        for placed in [&self.proposed, &self.active].into_iter().flatten() {
            let plan = &placed.plan;
            assert!(plan.epoch <= self.latest.1, "epoch {} is unheard of", plan.epoch);
            assert!(placed.ready.iter().all(|&host| plan.assignment(host).is_some()));
            assert!(covers(&plan.assignments, plan.layers), "epoch {} has a hole", plan.epoch);
        }
        if let (Some(proposed), Some(active)) = (&self.proposed, &self.active) {
            assert!(active.plan.epoch < proposed.plan.epoch);
        }
        assert!(self.active.as_ref().is_none_or(Placed::is_ready));
        assert!(self.revoked.iter().all(|host| !self.hosts.contains_key(host)));
        assert!(self.links.keys().all(|host| self.hosts.contains_key(host)));
    }
}

impl Placed {
    /// Whether every host holds what the plan assigns to it.
    pub fn is_ready(&self) -> bool {
        self.plan.assignments.iter().all(|it| self.ready.contains(&it.host))
    }
}

/// Whether every one of `layers` layers is held by a host.
pub fn covers(assignments: &[Assignment], layers: u32) -> bool {
    (0..layers).all(|layer| assignments.iter().any(|it| it.layers.contains(layer)))
}

#[cfg(test)]
mod tests;
