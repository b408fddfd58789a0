//! What goes wrong, who notices, and how another plan takes effect.
//!
//! ```text
//! host dies ─ suspected ─ given up ─ replan ─ (planning) ─ load, keep ─ all ready ─ activate ─ retire
//! ```
//!
//! Consensus and conductor are not hosted here: what they do takes the delays given, and happens to
//! all hosts at once.

use std::collections::BTreeSet;

use thalweg_core::{gateway, stage};
use thalweg_planner::instance::Placement;
use thalweg_wire::{Assignment, Epoch, LayerRange, Plan};

use super::wires::Slower;
use super::{Between, Happening, World};
use crate::agenda::{Nanos, SECOND, nanos};

/// From the moment a plan is in effect to the end of the one before: what gateways sent by the old one
/// has arrived.
const RETIRE_AFTER: Nanos = 5 * SECOND;

/// Something of the script.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// When.
    pub at: Nanos,
    /// What.
    pub kind: FaultKind,
}

/// What can go wrong. Hosts and shared capacities by index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FaultKind {
    /// A host is gone, with everything it held.
    HostDies(usize),
    /// A host appears, or comes back empty.
    HostJoins(usize),
    /// Links keep a share of their bandwidth.
    LinksKeep {
        /// Which.
        between: Between,
        /// How much; more than one is faster.
        share: f64,
    },
    /// A shared capacity keeps a share of what it was.
    SharedKeeps {
        /// Which.
        shared: usize,
        /// How much.
        share: f64,
    },
}

/// What a planner is told of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// A host was given up.
    HostLost(usize),
    /// A host can be given work.
    HostJoined(usize),
    /// Links keep a share of their bandwidth.
    LinksSlower {
        /// Which.
        between: Between,
        /// How much.
        share: f64,
    },
    /// A shared capacity keeps a share of what it was.
    SharedSlower {
        /// Which.
        shared: usize,
        /// How much.
        share: f64,
    },
}

/// What another plan starts from.
#[derive(Debug)]
pub struct Situation<'a> {
    /// Who held what before the change.
    pub placement: &'a Placement,
    /// What happened.
    pub change: Change,
    /// Number of the plan to make.
    pub epoch: Epoch,
}

/// Another plan.
#[derive(Clone, Debug)]
pub struct Replanned {
    /// Who is to hold what.
    pub placement: Placement,
    /// The same for hosts.
    pub plan: Plan,
    /// Time that planning and agreeing took.
    pub delay: Nanos,
}

/// Makes another plan, or leaves things as they are.
pub type Replan<'a> = Box<dyn FnMut(&Situation<'_>) -> Option<Replanned> + 'a>;

/// Plans on their way into effect.
pub(super) struct Rollout<'a> {
    pub(super) replan: Option<Replan<'a>>,
    pub(super) faults: Vec<Fault>,
    /// Who holds what by the latest plan.
    pub(super) placement: Placement,
    /// Number of the latest plan, in effect or not.
    pub(super) epoch: Epoch,
    /// A plan that is not in effect yet, and who must still load for it.
    pending: Option<(Plan, BTreeSet<usize>)>,
}

/// What follows from a fault, in time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A silent host gets no new work.
    Suspect(usize),
    /// A silent host is given up.
    GiveUp(usize),
    /// Hosts hear of a plan.
    Propose(Epoch),
    /// A host has loaded for a plan.
    Loaded(Epoch, usize),
    /// A plan is over.
    Retire(Epoch),
}

impl<'a> Rollout<'a> {
    /// With one plan in effect.
    pub(super) fn new(
        placement: Placement,
        epoch: Epoch,
        faults: Vec<Fault>,
        replan: Option<Replan<'a>>,
    ) -> Self {
        Self { replan, faults, placement, epoch, pending: None }
    }
}

impl World<'_> {
    pub(super) fn strike(&mut self, index: usize) {
        match self.rollout.faults[index].kind {
            FaultKind::HostDies(host) => self.die(host),
            FaultKind::HostJoins(host) => self.join(host),
            FaultKind::LinksKeep { between, share } => {
                self.wires.slow_down(self.now, Slower { between, keeps: share });
                self.replan(Change::LinksSlower { between, share });
            }
            FaultKind::SharedKeeps { shared, share } => {
                self.wires.set_shared(self.now, shared, share);
                self.replan(Change::SharedSlower { shared, share });
            }
        }
    }

    pub(super) fn change(&mut self, step: Step) {
        match step {
            Step::Suspect(host) if self.hosts[host].stage.is_none() => {
                let id = self.hosts[host].id;
                self.tell_gates(&gateway::Event::HostSuspect(id));
            }
            Step::GiveUp(host) if self.hosts[host].stage.is_none() => self.give_up(host),
            Step::Suspect(_) | Step::GiveUp(_) => {}
            Step::Propose(epoch) => self.propose(epoch),
            Step::Loaded(epoch, host) => self.loaded(epoch, host),
            Step::Retire(epoch) => {
                for host in 0..self.hosts.len() {
                    self.tell_stage(host, stage::Event::Retire { epoch });
                    self.hosts[host].retired(epoch);
                }
            }
        }
    }

    fn die(&mut self, host: usize) {
        if self.hosts[host].stage.is_none() {
            return;
        }
        self.hosts[host].die(self.ledger.window, self.now);
        self.wires.cut(self.now, host);
        for gate in 0..self.gates.len() {
            if self.gates[gate].seat == host {
                self.gates[gate].machine = None;
                self.ledger.gateway_died(gate);
            }
        }
        let (suspect, dead) = (self.settings.suspect_after, self.settings.dead_after);
        self.agenda.put(self.now + suspect, Happening::Change(Step::Suspect(host)));
        self.agenda.put(self.now + dead, Happening::Change(Step::GiveUp(host)));
    }

    fn give_up(&mut self, host: usize) {
        self.tell_all_down(host);
        self.replan(Change::HostLost(host));
        self.rollout.placement[host] = None;
    }

    fn tell_all_down(&mut self, host: usize) {
        let id = self.hosts[host].id;
        self.tell_gates(&gateway::Event::HostDown(id));
        for other in 0..self.hosts.len() {
            self.tell_stage(other, stage::Event::HostDown(id));
        }
    }

    fn join(&mut self, host: usize) {
        if self.hosts[host].stage.is_some() {
            return;
        }
        // What it held before is gone, whether or not anyone noticed.
        self.tell_all_down(host);
        self.rollout.placement[host] = None;
        self.hosts[host].start(self.common);
        let (id, life) = (self.hosts[host].id, self.hosts[host].life);
        self.agenda.put(self.now, Happening::Beat { host, life });
        self.tell_gates(&gateway::Event::HostUp(id));
        self.replan(Change::HostJoined(host));
    }

    fn replan(&mut self, change: Change) {
        let Some(replan) = &mut self.rollout.replan else { return };
        let epoch = Epoch(self.rollout.epoch.0 + 1);
        let situation = Situation { placement: &self.rollout.placement, change, epoch };
        let Some(Replanned { placement, plan, delay }) = replan(&situation) else { return };
        assert_eq!(plan.epoch, epoch, "plans are numbered one after the other");
        self.rollout.epoch = epoch;
        self.rollout.placement = placement;
        // A plan that was on its way will not take effect.
        self.rollout.pending = Some((plan, BTreeSet::new()));
        self.agenda.put(self.now + delay, Happening::Change(Step::Propose(epoch)));
    }

    fn propose(&mut self, epoch: Epoch) {
        let Some((plan, _)) = self.rollout.pending.take_if(|it| it.0.epoch == epoch) else {
            return;
        };
        let mut loading = BTreeSet::new();
        for assignment in &plan.assignments {
            let host = self.seat_of(assignment.host).expect("plans are of hosts of the cluster");
            let held = self.hosts[host].holds;
            if let Some((from, _)) = held.filter(|it| it.1 == assignment.layers) {
                self.keep(host, from, assignment, epoch);
                continue;
            }
            let layers = new_layers(assignment.layers, held.map(|it| it.1));
            let instance = &self.resolved.instance;
            let bytes = f64::from(layers) * instance.layer_bytes;
            let takes = nanos(bytes / instance.hosts[host].load_bytes_per_second);
            self.agenda.put(self.now + takes, Happening::Change(Step::Loaded(epoch, host)));
            loading.insert(host);
        }
        self.rollout.pending = Some((plan, loading));
        self.try_activate();
    }

    /// A host goes on with the layers it holds.
    fn keep(&mut self, host: usize, from: Epoch, assignment: &Assignment, epoch: Epoch) {
        self.hosts[host].holds = Some((epoch, assignment.layers));
        let pace = assignment.into();
        self.tell_stage(host, stage::Event::Kept { epoch, from, pace });
    }

    fn loaded(&mut self, epoch: Epoch, host: usize) {
        let Some((plan, loading)) = &mut self.rollout.pending else { return };
        if plan.epoch != epoch || self.hosts[host].stage.is_none() {
            return;
        }
        loading.remove(&host);
        let assignment = plan.assignment(self.hosts[host].id).copied();
        let layers = plan.layers;
        if let Some(assignment) = assignment {
            let event = self.hosts[host].loaded(&assignment, epoch, layers);
            self.tell_stage(host, event);
        }
        self.try_activate();
    }

    /// Puts the pending plan into effect once all hosts are ready.
    fn try_activate(&mut self) {
        let Some((plan, _)) = self.rollout.pending.take_if(|it| it.1.is_empty()) else { return };
        self.activate(&plan);
        let at = self.now + RETIRE_AFTER;
        for before in 1..plan.epoch.0 {
            self.agenda.put(at, Happening::Change(Step::Retire(Epoch(before))));
        }
    }

    fn tell_gates(&mut self, event: &gateway::Event) {
        for gate in 0..self.gates.len() {
            self.tell_gate(gate, event.clone());
        }
    }
}

/// Layers to load where some are held.
fn new_layers(wanted: LayerRange, held: Option<LayerRange>) -> u32 {
    let held = held.map_or(0, |held| {
        let (first, end) = (wanted.first().max(held.first()), wanted.end().min(held.end()));
        end.saturating_sub(first)
    });
    wanted.count() - held
}
