//! When the leader plans, with which hosts, and what becomes of the plan.
//!
//! ```text
//! (idle) -- hosts differ, settled --> Searching --> Found --> Proposed --> (in effect)
//!    ^                                   |
//!    |                                   +--> Infeasible, Refused: until the hosts differ
//!    +---- a host of the plan is lost ---+
//! ```
//!
//! A lost host first gets a repair: the survivors keep their layers if these cover the model, and
//! only the weights change, which takes no loading. While the repaired plan serves, a full search
//! looks for a better placement; it is taken if it is worth the loading. A new host gets a full
//! search; it waits for a plan that is still being loaded, as long as that one is whole.

use std::collections::BTreeMap;

use thalweg_wire::{Assignment, Epoch, HostId, Plan};

use super::{Config, PlanOutcome, PlanTask};
use crate::machine::Time;
use crate::registry::{Placed, Registry, covers};

/// A new placement after a repair must carry this many times the flow: every host may have to load
/// layers for it.
const IMPROVEMENT_MIN: f64 = 1.05;

/// Hosts with their incarnations: a host that restarted is another member.
pub(super) type Members = BTreeMap<HostId, u64>;

/// The leader's search for a plan that fits the members.
#[derive(Debug, Default)]
pub(super) struct Planning {
    members: Members,
    /// Since when they are the same.
    since: Time,
    search: Option<Search>,
    /// When a search should start, if one is needed.
    due: Option<Time>,
}

#[derive(Debug)]
struct Search {
    /// Term and epoch: a deposed leader may use the same epoch for another plan.
    term: u64,
    epoch: Epoch,
    /// Hosts the plan takes into account.
    members: Members,
    kind: Kind,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Layers stay where they are.
    Repair,
    Full,
    /// A full search after a repair, which carries `flow` tokens/s.
    Improve {
        flow: f64,
    },
}

#[derive(Debug)]
enum State {
    Searching,
    Found(Plan),
    Proposed,
    Infeasible,
    /// What was found is not worth the loading.
    Refused,
}

impl Planning {
    /// Notes who the members are.
    pub(super) fn watch(&mut self, now: Time, members: &Members) {
        if self.members != *members {
            self.members = members.clone();
            self.since = now;
        }
    }

    /// Starts a search if one is needed and nothing is left to wait for.
    pub(super) fn review(
        &mut self,
        now: Time,
        term: u64,
        config: &Config,
        registry: &Registry,
    ) -> Option<PlanTask> {
        self.follow(registry);
        self.due = None;
        let shape = registry.shape()?;
        let kind = self.needed(registry)?;
        let due = self.since + self.wait(config, registry, kind);
        if now < due {
            self.due = Some(due);
            return None;
        }
        let before = self.search.as_ref().map_or(Epoch::default(), |it| it.epoch);
        let epoch = Epoch(registry.latest_epoch().max(before).0 + 1);
        let keep = (kind == Kind::Repair).then(|| self.survivors(registry.active()));
        let members = self.members_considered(registry, kind);
        let hosts = self.members.keys().map(|host| registry.hosts()[host].clone()).collect();
        let (shape, links) = (shape.clone(), registry.links().clone());
        self.search = Some(Search { term, epoch, members, kind, state: State::Searching });
        Some(PlanTask { epoch, term, shape, hosts, links, keep })
    }

    /// Takes in what a search found. Returns why there is no plan, if there is none.
    pub(super) fn ended(
        &mut self,
        epoch: Epoch,
        outcome: PlanOutcome,
        members: &Members,
    ) -> Option<String> {
        let searching =
            |it: &&mut Search| it.epoch == epoch && matches!(it.state, State::Searching);
        let search = self.search.as_mut().filter(searching)?;
        match outcome {
            PlanOutcome::Planned(plan) if is_whole(&plan, &search.members, members) => {
                let worth_it = match search.kind {
                    Kind::Improve { flow } => plan.flow >= flow * IMPROVEMENT_MIN,
                    Kind::Repair | Kind::Full => true,
                };
                search.state = if worth_it {
                    State::Found(Plan { term: search.term, epoch, ..plan })
                } else {
                    State::Refused
                };
                None
            }
            PlanOutcome::Planned(_) => {
                self.search = None;
                None
            }
            PlanOutcome::Infeasible { reason } => {
                search.state = State::Infeasible;
                (search.kind == Kind::Full).then_some(reason)
            }
        }
    }

    /// Forgets the search: this host no longer leads, or leads anew.
    pub(super) fn stop(&mut self) {
        self.search = None;
        self.due = None;
    }

    /// The plan to be proposed.
    pub(super) fn found(&self) -> Option<&Plan> {
        match &self.search.as_ref()?.state {
            State::Found(plan) => Some(plan),
            _ => None,
        }
    }

    /// When a search should start.
    pub(super) const fn due(&self) -> Option<Time> {
        self.due
    }

    /// Whether there is no search.
    pub(super) const fn is_idle(&self) -> bool {
        self.search.is_none()
    }

    /// Follows the log: a plan found is proposed, overtaken, or no longer whole.
    fn follow(&mut self, registry: &Registry) {
        let Some(search) = &mut self.search else { return };
        let placed = [registry.proposed(), registry.active()];
        let placed = placed.into_iter().flatten().any(|it| search.made(it));
        let overtaken = registry.latest_epoch() >= search.epoch;
        let stale = match &search.state {
            State::Searching => overtaken || lost(&search.members, &self.members),
            State::Found(_) if placed => {
                search.state = State::Proposed;
                false
            }
            State::Found(plan) => overtaken || !is_whole(plan, &search.members, &self.members),
            State::Proposed => !placed,
            State::Infeasible | State::Refused => {
                search.members != self.members && search.kind != Kind::Repair
            }
        };
        if stale {
            self.search = None;
        }
    }

    /// What kind of plan is needed, if one is.
    fn needed(&self, registry: &Registry) -> Option<Kind> {
        if self.members.is_empty() {
            return None;
        }
        match self.search.as_ref().map(|it| (&it.state, it.kind)) {
            Some((State::Infeasible, Kind::Repair)) => return Some(Kind::Full),
            Some((State::Proposed, _)) | None => {}
            Some(_) => return None,
        }
        let placed = registry.proposed().or(registry.active());
        let Some(placed) = placed else { return Some(Kind::Full) };
        if !is_whole(&placed.plan, &placed.hosts, &self.members) {
            let survivors = self.survivors(registry.active());
            let covered = registry.active().is_some_and(|it| covers(&survivors, it.plan.layers));
            return Some(if covered { Kind::Repair } else { Kind::Full });
        }
        if registry.proposed().is_some() {
            return None;
        }
        if lost(&self.members, self.known(placed)) {
            return Some(Kind::Full);
        }
        let repaired = |it: &Search| it.kind == Kind::Repair && it.made(placed);
        let repaired = self.search.as_ref().is_some_and(repaired);
        repaired.then_some(Kind::Improve { flow: placed.plan.flow })
    }

    /// How long the members must be the same before a search of this kind.
    fn wait(&self, config: &Config, registry: &Registry, kind: Kind) -> Time {
        let first = registry.active().is_none();
        let gathered = !first || self.members.len() >= config.hosts_expected;
        let measured = self.members.keys().all(|host| {
            let links = registry.links().get(host).map_or(&[][..], Vec::as_slice);
            let mut others = self.members.keys().filter(|other| *other != host);
            others.all(|other| links.iter().any(|link| link.to == *other))
        });
        let ready = kind == Kind::Repair || (gathered && measured);
        if ready { config.settle } else { config.grace.max(config.settle) }
    }

    /// Assignments of the active plan whose hosts still hold them.
    fn survivors(&self, active: Option<&Placed>) -> Vec<Assignment> {
        let Some(placed) = active else { return Vec::new() };
        let holds = |it: &&Assignment| is_member(&self.members, &placed.hosts, it.host);
        placed.plan.assignments.iter().filter(holds).copied().collect()
    }

    /// The members a search takes into account. A repair passes over those that are new, so that
    /// they get a full search once it is in effect.
    fn members_considered(&self, registry: &Registry, kind: Kind) -> Members {
        let mut members = self.members.clone();
        if let (Kind::Repair, Some(placed)) = (kind, registry.active()) {
            let known = self.known(placed);
            members.retain(|host, incarnation| known.get(host) == Some(incarnation));
        }
        members
    }

    /// The members a plan took into account. The log does not tell: a new leader assumes those
    /// with a part in it, and searches once more if there are others.
    fn known<'a>(&'a self, placed: &'a Placed) -> &'a Members {
        let own = self.search.as_ref().filter(|it| it.made(placed));
        own.map_or(&placed.hosts, |it| &it.members)
    }
}

impl Search {
    /// Whether a plan in the log came of this search.
    fn made(&self, placed: &Placed) -> bool {
        (placed.plan.term, placed.plan.epoch) == (self.term, self.epoch)
    }
}

/// Whether any of `hosts` is not, or is another process, among `members`.
fn lost(hosts: &Members, members: &Members) -> bool {
    hosts.keys().any(|&host| !is_member(members, hosts, host))
}

/// Whether every host of a plan made for `hosts` is still among `members`.
fn is_whole(plan: &Plan, hosts: &Members, members: &Members) -> bool {
    plan.assignments.iter().all(|it| is_member(members, hosts, it.host))
}

/// Whether `host` is the same process in `hosts` as among `members`.
fn is_member(members: &Members, hosts: &Members, host: HostId) -> bool {
    hosts.get(&host).is_some_and(|incarnation| members.get(&host) == Some(incarnation))
}
