//! A cluster in virtual time: the machines of `thalweg-core`, joined by links and devices of numbers.
//!
//! ```text
//!            ask                 frames over links                       frames
//! source ─────────▶ gateway ──────────────────────▶ stage ◀────────────────────▶ stage
//!    ▲                 │ told, turned away            │ Step            ▲
//!    └─────────────────┴──────▶ ledger                └── compute ──────┘ StepDone
//! ```
//!
//! Every effect of a machine becomes an event of another after the time that links and devices take.
//! Nothing is decided here.

mod build;
mod carry;
mod change;
mod gate;
mod host;
mod report;
#[cfg(test)]
mod tests;
mod watch;
mod wires;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use thalweg_core::machine::{Machine, Time};
use thalweg_core::{gateway, stage};
use thalweg_planner::cluster::Resolved;
use thalweg_wire::{Heartbeat, HostId, Plan};

use crate::agenda::{Agenda, Nanos};
use crate::ledger::Ledger;
use crate::link::{Due, LinkId, Parcel};
use crate::workload::{Arrivals, Source};
pub(crate) use build::late;
pub use build::{Gateways, Settings, WorldError};
pub use change::{Change, Fault, FaultKind, Replan, Replanned, Situation};
use gate::{Gate, to_nanos};
use host::{Common, Host};
use watch::Watch;
pub use wires::Between;
use wires::Wires;

/// Between two checks of what must hold in the world; a debug build checks after every happening.
const CHECK_EVERY_EVENTS: u64 = if cfg!(debug_assertions) { 1 } else { 1024 };

/// A running cluster.
pub struct World<'a> {
    resolved: &'a Resolved,
    settings: Settings,
    now: Nanos,
    events: u64,
    agenda: Agenda<Happening>,
    hosts: Vec<Host>,
    gates: Vec<Gate>,
    /// By seat.
    gate_at: Vec<Option<usize>>,
    /// Seats by their names on the wire, sorted.
    seats: Vec<(HostId, usize)>,
    wires: Wires<'a>,
    /// Frames of hosts to themselves: sender, receiver, what.
    inbox: VecDeque<(usize, usize, Parcel)>,
    source: Source,
    /// Requests of users who were not answered anything before.
    newcomers: BTreeSet<u64>,
    ledger: Ledger,
    watch: Watch,
    rollout: change::Rollout<'a>,
    /// No backlog is kept before.
    backlog_from: Nanos,
    common: Common,
}

/// What can happen.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// A frame left or arrived.
    Link(Due),
    /// The step of a host's life is over.
    StepDone { host: usize, life: u32 },
    /// A gateway has something to do.
    GateTimeout { gate: usize },
    /// The stage of a host's life has something to do.
    StageTimeout { host: usize, life: u32 },
    /// A host tells the gateways of its room.
    Beat { host: usize, life: u32 },
    /// A request comes by itself.
    Arrival { gate: usize },
    /// A user asks, for the first time or again.
    Ask { gate: usize, newcomer: bool },
    /// Something of the script.
    Fault { index: usize },
    /// What follows from it.
    Change(change::Step),
    /// Time to look at everything.
    Look,
}

impl World<'_> {
    /// Lets time pass until `to`, or until nothing is left to happen.
    pub fn run(&mut self, to: Nanos) {
        while self.agenda.next_at().is_some_and(|it| it <= to) {
            let (at, happening) = self.agenda.take().expect("just looked");
            debug_assert!(at >= self.now, "time runs forward");
            self.now = at;
            self.events += 1;
            self.happen(happening);
            self.settle();
            if self.events.is_multiple_of(CHECK_EVERY_EVENTS) {
                self.check();
            }
        }
        self.now = self.now.max(to);
    }

    /// Virtual time.
    pub const fn now(&self) -> Nanos {
        self.now
    }

    /// Happenings so far.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Asserts what must hold between happenings. Machines check themselves.
    ///
    /// # Panics
    ///
    /// If a request was lost, or a host holds more KV than it has.
    pub fn check(&self) {
        let known: usize = self.gates.iter().map(Gate::requests).sum();
        assert_eq!(known as u64, self.ledger.open(), "a request is lost, or known twice");
        for host in &self.hosts {
            assert!(host.kv_used() <= host.kv_tokens, "{} holds too much", host.id);
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Link(Due::Sent { link, turn }) => {
                self.wires.links.sent(self.now, link, turn);
            }
            Happening::Link(Due::Arrived { link }) => self.arrived(link),
            Happening::StepDone { host, life } => self.step_done(host, life),
            Happening::GateTimeout { gate } => self.gate_timeout(gate),
            Happening::StageTimeout { host, life } => self.stage_timeout(host, life),
            Happening::Beat { host, life } => self.beat(host, life),
            Happening::Arrival { gate } => {
                self.ask(gate, false);
                self.expect_arrival();
            }
            Happening::Ask { gate, newcomer } => self.ask(gate, newcomer),
            Happening::Fault { index } => self.strike(index),
            Happening::Change(step) => self.change(step),
            Happening::Look => self.look(),
        }
    }

    fn arrived(&mut self, link: LinkId) {
        let (from, to) = self.wires.ends(link);
        let parcel = self.wires.links.take(link);
        self.deliver(from, to, parcel);
    }

    fn step_done(&mut self, host: usize, life: u32) {
        let it = &mut self.hosts[host];
        if it.life == life {
            let event = it.end(self.ledger.window, self.now);
            self.tell_stage(host, event);
        }
    }

    /// A host's sign of life.
    fn beat(&mut self, host: usize, life: u32) {
        let it = &mut self.hosts[host];
        let Some(stage) = it.stage.as_ref().filter(|_| it.life == life) else { return };
        let beat = Heartbeat {
            epoch: it.holds.map(|it| it.0).unwrap_or_default(),
            kv_free_tokens: stage.kv_free_tokens(),
            requests: u32::try_from(stage.requests()).unwrap_or(u32::MAX),
            queue_us: stage.queue_us(),
        };
        for gate in 0..self.gates.len() {
            self.send(host, self.gates[gate].seat, Parcel::Heartbeat(beat));
        }
        self.agenda.put(self.now + self.settings.heartbeat, Happening::Beat { host, life });
    }

    fn gate_timeout(&mut self, gate: usize) {
        let now = self.time();
        let it = &mut self.gates[gate];
        it.armed = None;
        if let Some(machine) = &mut it.machine {
            machine.handle_timeout(now);
            self.settle_gate(gate);
        }
    }

    fn stage_timeout(&mut self, host: usize, life: u32) {
        let now = self.time();
        let it = &mut self.hosts[host];
        let Some(stage) = it.stage.as_mut().filter(|_| it.life == life) else { return };
        it.armed = None;
        stage.handle_timeout(now);
        self.settle_stage(host);
    }

    fn look(&mut self) {
        self.watch.look(self.now, &self.hosts, &self.gates, &self.ledger);
        self.agenda.put(self.now + self.settings.look_every, Happening::Look);
    }

    /// Lets the next request that comes by itself come.
    fn expect_arrival(&mut self) {
        if let Some((at, gate)) = self.source.next_arrival(self.now) {
            self.agenda.put(at, Happening::Arrival { gate });
        }
    }

    /// Asks the next request at a gateway.
    fn ask(&mut self, gate: usize, newcomer: bool) {
        let ask = self.source.ask(self.now);
        let ticket = self.ledger.arrived(self.now, gate, ask.length);
        if newcomer {
            self.newcomers.insert(ticket);
        }
        if self.gates[gate].machine.is_none() {
            self.ledger.cut_off(ticket);
            return;
        }
        self.tell_gate(gate, gate::submit(ticket, &ask));
    }

    /// What a user does after a request is over.
    fn over(&mut self, ticket: u64, not_before: Nanos) {
        if let Arrivals::Users { pause_seconds, .. } = self.source.workload().arrivals {
            let at = (self.now + crate::agenda::nanos(pause_seconds)).max(not_before);
            let gate = self.ledger.gateway_of(ticket);
            let newcomer = self.newcomers.remove(&ticket);
            self.agenda.put(at, Happening::Ask { gate, newcomer });
        }
    }

    /// Does what takes no time.
    fn settle(&mut self) {
        loop {
            while let Some((from, to, parcel)) = self.inbox.pop_front() {
                self.deliver(from, to, parcel);
            }
            if !self.top_up() {
                break;
            }
        }
        for (at, due) in self.wires.links.drain_due() {
            self.agenda.put(at, Happening::Link(due));
        }
    }

    /// Asks one more request if the workload is a backlog and there is room in it.
    fn top_up(&mut self) -> bool {
        let Arrivals::Backlog { waiting, in_flight_max } = self.source.workload().arrivals else {
            return false;
        };
        if self.ledger.open() >= u64::from(in_flight_max) || self.now < self.backlog_from {
            return false;
        }
        let short = |it: &Gate| it.machine.is_some() && it.waiting() < waiting as usize;
        let Some(gate) = self.gates.iter().position(short) else { return false };
        let rejected = self.ledger.counts.rejected;
        self.ask(gate, false);
        if self.ledger.counts.rejected > rejected {
            // What is turned away at once would be turned away again.
            self.backlog_from = self.now + to_nanos(self.settings.pack.gateway.retry_after);
        }
        true
    }

    fn tell_stage(&mut self, host: usize, event: stage::Event) {
        let now = self.time();
        if let Some(stage) = &mut self.hosts[host].stage {
            stage.handle(now, event);
            self.settle_stage(host);
        }
    }

    fn tell_gate(&mut self, gate: usize, event: gateway::Event) {
        let now = self.time();
        if let Some(machine) = &mut self.gates[gate].machine {
            machine.handle(now, event);
            self.settle_gate(gate);
        }
    }

    /// Virtual time as machines know it.
    fn time(&self) -> Time {
        Duration::from_nanos(self.now)
    }

    /// Gives all gateways a plan.
    fn activate(&mut self, plan: &Plan) {
        for gate in 0..self.gates.len() {
            self.tell_gate(gate, gateway::Event::Plan(plan.clone()));
        }
    }
}
