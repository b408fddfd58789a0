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

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thalweg_wire::{Assignment, Command, Epoch, HostId, HostRecord, LinkMeasure, ModelShape, Plan};

use self::asking::{Ask, Asked};
use self::holding::Holding;
use self::planning::{Members, Planning};
use crate::machine::{Machine, Time};
use crate::registry::Registry;
use crate::stage::Pace;

mod asking;
mod holding;
mod planning;
#[cfg(test)]
mod tests;

/// What a conductor knows from the start.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
    /// How long to wait for expected hosts, for measured links, and for the first sign of a host
    /// that the log names, at most.
    pub grace: Duration,
    /// When to repeat a proposal that had no effect.
    pub retry: Duration,
}

/// What the machine wants to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "few events pass, and none waits in a long queue")]
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
        /// How to compute by the new plan.
        pace: Pace,
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

/// One host's part in keeping a plan in effect.
#[derive(Debug)]
pub struct Conductor {
    config: Config,
    registry: Registry,
    /// What this host last measured of itself.
    record: Option<HostRecord>,
    links: Option<Vec<LinkMeasure>>,
    alive: BTreeSet<HostId>,
    /// Registered hosts that are not alive, and when each may be removed.
    absent: BTreeMap<HostId, Time>,
    /// Raft term in which this host leads.
    leading: Option<u64>,
    planning: Planning,
    holding: Holding,
    asked: Asked,
    /// The plan the gateway was last told of.
    told: Epoch,
    effects: VecDeque<Effect>,
}

impl Conductor {
    /// Creates the conductor of a host that holds no layers.
    pub fn new(config: Config) -> Self {
        Self {
            alive: BTreeSet::from([config.me]),
            config,
            registry: Registry::default(),
            record: None,
            links: None,
            absent: BTreeMap::new(),
            leading: None,
            planning: Planning::default(),
            holding: Holding::default(),
            asked: Asked::default(),
            told: Epoch::default(),
            effects: VecDeque::new(),
        }
    }

    /// The log so far.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Asserts what must hold between events.
    ///
    /// # Panics
    ///
    /// If a host plans without leading, or ignores its part of a plan.
    pub fn check(&self) {
        self.registry.check();
        assert!(self.leading.is_some() || self.planning.is_idle(), "a follower plans");
        let active = self.registry.active().map_or(Epoch::default(), |it| it.plan.epoch);
        assert!(self.told >= active, "the gateway does not know of plan {active}");
        if let Some(placed) = self.registry.proposed()
            && self.is_mine(&placed.hosts)
            && placed.plan.assignment(self.config.me).is_some()
        {
            assert!(self.holding.knows(placed.plan.epoch), "a proposed plan is ignored");
        }
    }

    /// Compares what is with what should be, and does what is missing.
    fn review(&mut self, now: Time) {
        self.note_absent(now);
        self.follow_plans();
        let members = self.members();
        self.planning.watch(now, &members);
        if let Some(term) = self.leading {
            let task = self.planning.review(now, term, &self.config, &self.registry);
            self.effects.extend(task.map(Effect::StartPlan));
        }
        let wanted = self.wanted(now);
        let due = self.asked.due(now, self.config.retry, wanted);
        self.effects.extend(due.into_iter().map(Effect::Propose));
        if cfg!(debug_assertions) {
            self.check();
        }
    }

    /// Keeps track of registered hosts that are not alive. One never heard of gets a grace: this
    /// host may have started just now.
    fn note_absent(&mut self, now: Time) {
        let hosts = self.registry.hosts();
        let alive = &self.alive;
        self.absent.retain(|host, _| hosts.contains_key(host) && !alive.contains(host));
        for host in hosts.keys().filter(|host| !alive.contains(host)) {
            self.absent.entry(*host).or_insert(now + self.config.grace);
        }
    }

    /// Loads what a proposed plan assigns to this host, tells the gateway of the active plan, and
    /// gives up layers of plans that are neither.
    fn follow_plans(&mut self) {
        let me = self.config.me;
        if let Some(placed) = self.registry.proposed()
            && self.is_mine(&placed.hosts)
            && let Some(&assignment) = placed.plan.assignment(me)
        {
            let (epoch, layers) = (placed.plan.epoch, placed.plan.layers);
            self.effects.extend(self.holding.take(epoch, assignment, layers));
        }
        if let Some(active) = self.registry.active().filter(|it| it.plan.epoch > self.told) {
            self.told = active.plan.epoch;
            self.effects.push_back(Effect::Activate(active.plan.clone()));
        }
        let placed = [self.registry.proposed(), self.registry.active()];
        let wanted: Vec<Epoch> = placed.into_iter().flatten().map(|it| it.plan.epoch).collect();
        self.effects.extend(self.holding.drop_unwanted(&wanted));
    }

    /// Commands that should be in the log and are not.
    fn wanted(&self, now: Time) -> Vec<(Ask, Command)> {
        let mut wanted = self.wanted_of_myself();
        if self.leading.is_none() {
            return wanted;
        }
        if self.registry.shape().is_none() {
            wanted.push((Ask::Serve, Command::Serve(self.config.shape.clone())));
        }
        for (&host, _) in self.absent.iter().filter(|&(_, &removable_at)| removable_at <= now) {
            let incarnation = self.registry.hosts()[&host].incarnation;
            wanted.push((Ask::Remove(host), Command::Remove { host, incarnation }));
        }
        if let Some(plan) = self.planning.found() {
            wanted.push((Ask::Propose(plan.epoch), Command::Propose(plan.clone())));
        }
        if let Some(placed) = self.registry.proposed().filter(|it| it.is_ready()) {
            let epoch = placed.plan.epoch;
            wanted.push((Ask::Activate(epoch), Command::Activate { epoch }));
        }
        wanted
    }

    fn wanted_of_myself(&self) -> Vec<(Ask, Command)> {
        let mut wanted = Vec::new();
        let host = self.config.me;
        let registered = self.registry.hosts().get(&host);
        let replaced = registered.is_some_and(|it| it.incarnation > self.config.incarnation);
        if let Some(record) = &self.record
            && registered != Some(record)
            && !replaced
            && !self.registry.revoked().contains(&host)
        {
            wanted.push((Ask::Register, Command::Register(record.clone())));
        }
        if let Some(links) = &self.links
            && registered.is_some()
            && self.registry.links().get(&host) != Some(links)
        {
            wanted.push((Ask::Links, Command::Links { host, links: links.clone() }));
        }
        if let Some(placed) = self.registry.proposed() {
            let epoch = placed.plan.epoch;
            if self.holding.is_loaded(epoch) && !placed.ready.contains(&host) {
                wanted.push((Ask::Ready(epoch), Command::Ready { host, epoch }));
            }
        }
        wanted
    }

    /// Registered hosts that are alive, with their incarnations.
    fn members(&self) -> Members {
        let alive = self.registry.hosts().values().filter(|it| self.alive.contains(&it.host));
        alive.map(|it| (it.host, it.incarnation)).collect()
    }

    /// Whether a plan was made for this process, not for one before it.
    fn is_mine(&self, hosts: &Members) -> bool {
        hosts.get(&self.config.me) == Some(&self.config.incarnation)
    }

    fn lead(&mut self, term: Option<u64>) {
        if self.leading != term {
            self.leading = term;
            self.planning.stop();
        }
    }

    fn planned(&mut self, epoch: Epoch, outcome: PlanOutcome) {
        let members = self.members();
        let reason = self.planning.ended(epoch, outcome, &members);
        self.effects.extend(reason.map(|reason| Effect::Infeasible { reason }));
    }
}

impl Machine for Conductor {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Measured(record) => self.record = Some(record),
            Event::LinksMeasured(links) => self.links = Some(links),
            Event::Committed(command) => {
                self.registry.apply(&command);
            }
            Event::Restored(registry) => self.registry = registry,
            Event::Leadership { term, mine, .. } => self.lead(mine.then_some(term)),
            Event::Alive(host) => {
                self.alive.insert(host);
            }
            // A host that stalls may miss its own heartbeats; whoever can say so is alive.
            Event::Dead(host) if host == self.config.me => {}
            Event::Dead(host) => {
                self.alive.remove(&host);
                self.absent.insert(host, now);
            }
            Event::Planned { epoch, outcome } => self.planned(epoch, outcome),
            Event::Loaded { epoch } => self.effects.extend(self.holding.loaded(epoch)),
        }
        self.review(now);
    }

    fn handle_timeout(&mut self, now: Time) {
        self.review(now);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn next_timeout(&self) -> Option<Time> {
        let removable = self.absent.iter().filter(|(host, _)| !self.asked.has(Ask::Remove(**host)));
        let removable = removable.map(|(_, &at)| at).filter(|_| self.leading.is_some()).min();
        let planned = self.planning.due().filter(|_| self.leading.is_some());
        [removable, planned, self.asked.next(self.config.retry)].into_iter().flatten().min()
    }
}
