//! Puts a world together.

use thalweg_core::gateway::{self, Gateway};
use thalweg_core::policy::Pack;
use thalweg_planner::cluster::Resolved;
use thalweg_planner::instance::Placement;
use thalweg_wire::{HostId, Plan};

use super::change::{Fault, FaultKind, Replan, Rollout};
use super::gate::Gate;
use super::host::{Common, Host};
use super::watch::Watch;
use super::wires::Wires;
use super::{Happening, World};
use crate::agenda::{Agenda, Nanos, SECOND};
use crate::compute::{Compute, Curves, Overhead, Sizes};
use crate::ledger::{Ledger, Targets, Window};
use crate::plan::host_id;
use crate::workload::{Source, Workload};

/// Name of the gateway that stands outside of all hosts.
const COORDINATOR: &str = "gateway";

/// How a world runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where requests come in.
    pub gateways: Gateways,
    /// What stages and gateways do one way or another.
    pub pack: Pack,
    /// How step times follow from curves.
    pub curves: Curves,
    /// What hosts do besides computing, by index; nothing where there is no entry.
    pub overheads: Vec<Overhead>,
    /// Between two heartbeats of a host.
    pub heartbeat: Nanos,
    /// Silence after which a host gets no new work.
    pub suspect_after: Nanos,
    /// Silence after which a host is given up.
    pub dead_after: Nanos,
    /// Longest sequence served, in tokens.
    pub context_tokens: u32,
    /// Silence on a route after which a request is replayed.
    pub stall_after: Nanos,
    /// What is measured.
    pub window: Window,
    /// Which answers are good ones.
    pub targets: Targets,
    /// Between two looks at everything.
    pub look_every: Nanos,
}

/// Where requests come in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Gateways {
    /// At one gateway outside of all hosts, over the cluster file's gateway links.
    Outside,
    /// At these hosts, by index.
    At(Vec<usize>),
}

impl Default for Settings {
    /// Like a real host; measures the first ten minutes.
    fn default() -> Self {
        Self {
            gateways: Gateways::Outside,
            pack: Pack::THALWEG,
            curves: Curves::Floored,
            overheads: Vec::new(),
            heartbeat: SECOND / 5,
            suspect_after: SECOND,
            dead_after: SECOND * 12 / 5,
            context_tokens: 16_384,
            stall_after: 60 * SECOND,
            window: Window { from: 0, to: 600 * SECOND },
            targets: Targets { ttft: 5 * SECOND, tpot: SECOND },
            look_every: 5 * SECOND,
        }
    }
}

/// A world that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WorldError {
    /// A host that requests cannot reach, or that cannot answer.
    #[error(
        "nothing joins {from} to {to}, not even over a third host; see network in the cluster file"
    )]
    Unreachable {
        /// Near end.
        from: String,
        /// Far end.
        to: String,
    },
    /// A host that has layers before it exists.
    #[error("{host} holds layers from the start, but joins only later; place nothing on it")]
    HoldsTooEarly {
        /// The host.
        host: String,
    },
    /// No gateway.
    #[error("requests come in nowhere; name at least one gateway")]
    NoGateway,
}

impl<'a> World<'a> {
    /// A cluster that has loaded `plan`, which is `placement` in the words of hosts, at time zero.
    ///
    /// # Errors
    ///
    /// If hosts that need each other are not joined.
    pub fn new(
        resolved: &'a Resolved,
        (placement, plan): (&Placement, &Plan),
        workload: Workload,
        (faults, replan): (Vec<Fault>, Option<Replan<'a>>),
        settings: Settings,
    ) -> Result<Self, WorldError> {
        let instance = &resolved.instance;
        let gates = gates(resolved, &settings)?;
        let wires = Wires::new(resolved);
        check_joined(&wires, resolved, placement, &gates)?;
        let late = late(&faults);
        if let Some(&host) = late.iter().find(|&&it| placement[it].is_some()) {
            return Err(WorldError::HoldsTooEarly { host: instance.hosts[host].name.clone() });
        }
        let hosts = (0..instance.hosts.len()).map(|it| host(resolved, it, &settings));
        let hosts: Vec<Host> = hosts.collect();
        let mut seats: Vec<_> = (0..).zip(&hosts).map(|(seat, it)| (it.id, seat)).collect();
        if settings.gateways == Gateways::Outside {
            seats.push((gates[0].id, gates[0].seat));
        }
        seats.sort_unstable();
        let mut gate_at = vec![None; hosts.len() + 1];
        gates.iter().enumerate().for_each(|(gate, it)| gate_at[it.seat] = Some(gate));
        let window = settings.window;
        let mut world = Self {
            resolved,
            now: 0,
            events: 0,
            agenda: Agenda::new(),
            source: Source::new(workload, gates.len()),
            newcomers: std::collections::BTreeSet::new(),
            watch: Watch::new(hosts.len()),
            hosts,
            gates,
            gate_at,
            seats,
            wires,
            inbox: std::collections::VecDeque::new(),
            ledger: Ledger::new(window, settings.targets),
            rollout: Rollout::new(placement.clone(), plan.epoch, faults, replan),
            backlog_from: 0,
            common: Common {
                context_tokens: settings.context_tokens,
                hidden: ((resolved.model.activation_bytes / 2.0) as u32).max(1),
                idle: 3 * settings.stall_after,
                policy: settings.pack.stage,
            },
            settings,
        };
        world.start(plan, &late);
        Ok(world)
    }

    /// Starts machines and clocks.
    fn start(&mut self, plan: &Plan, late: &[usize]) {
        for host in (0..self.hosts.len()).filter(|it| !late.contains(it)) {
            self.hosts[host].start(self.common);
            if let Some(assignment) = plan.assignment(self.hosts[host].id) {
                let event = self.hosts[host].loaded(assignment, plan.epoch, plan.layers);
                self.tell_stage(host, event);
            }
            // Hosts did not start at the same moment.
            let hosts = self.hosts.len() as Nanos;
            let at = self.settings.heartbeat * host as Nanos / hosts;
            self.agenda.put(at, Happening::Beat { host, life: 0 });
            for gate in 0..self.gates.len() {
                let id = self.hosts[host].id;
                self.tell_gate(gate, gateway::Event::HostUp(id));
            }
        }
        self.activate(plan);
        for (index, fault) in self.rollout.faults.iter().enumerate() {
            self.agenda.put(fault.at, Happening::Fault { index });
        }
        for (user, at) in self.source.users().into_iter().enumerate() {
            let gate = user % self.gates.len();
            self.agenda.put(at, Happening::Ask { gate, newcomer: true });
        }
        self.expect_arrival();
        self.agenda.put(self.settings.look_every, Happening::Look);
    }
}

fn gates(resolved: &Resolved, settings: &Settings) -> Result<Vec<Gate>, WorldError> {
    let instance = &resolved.instance;
    let gate = |(seat, id): (usize, HostId)| Gate {
        id,
        seat,
        machine: Some(Gateway::new(gateway::Config {
            me: id,
            incarnation: 1,
            context_tokens: settings.context_tokens,
            stall_after: std::time::Duration::from_nanos(settings.stall_after),
            policy: settings.pack.gateway,
        })),
        armed: None,
    };
    match &settings.gateways {
        Gateways::Outside => Ok(vec![gate((instance.hosts.len(), HostId::of(COORDINATOR)))]),
        Gateways::At(hosts) if hosts.is_empty() => Err(WorldError::NoGateway),
        Gateways::At(hosts) => {
            Ok(hosts.iter().map(|&it| gate((it, host_id(instance, it)))).collect())
        }
    }
}

fn host(resolved: &Resolved, index: usize, settings: &Settings) -> Host {
    let (instance, model) = (&resolved.instance, &resolved.model);
    let sizes = Sizes {
        layer_bytes: model.layer_bytes,
        activation_bytes: model.activation_bytes,
        head_layers: model.head_layers,
    };
    let overhead = settings.overheads.get(index).copied().unwrap_or_default();
    let compute = |it| Compute::new(it, sizes, settings.curves).with_overhead(overhead);
    Host::new(host_id(instance, index), instance.class(index).device.clone().map(compute))
}

/// Hosts that only join later.
pub(crate) fn late(faults: &[Fault]) -> Vec<usize> {
    let mut in_order: Vec<&Fault> = faults.iter().collect();
    in_order.sort_by_key(|it| it.at);
    let (mut seen, mut late) = (Vec::new(), Vec::new());
    for fault in in_order {
        match fault.kind {
            FaultKind::HostJoins(host) if !seen.contains(&host) => {
                seen.push(host);
                late.push(host);
            }
            FaultKind::HostDies(host) => seen.push(host),
            _ => {}
        }
    }
    late
}

/// Gateways reach all holders, and the other way round.
fn check_joined(
    wires: &Wires<'_>,
    resolved: &Resolved,
    placement: &Placement,
    gates: &[Gate],
) -> Result<(), WorldError> {
    let name = |seat: usize| match resolved.instance.hosts.get(seat) {
        Some(host) => host.name.clone(),
        None => COORDINATOR.to_owned(),
    };
    for (host, _) in placement.iter().enumerate().filter(|it| it.1.is_some()) {
        for seat in gates.iter().map(|it| it.seat).filter(|&it| it != host) {
            for (from, to) in [(seat, host), (host, seat)] {
                if !wires.joined(from, to) {
                    return Err(WorldError::Unreachable { from: name(from), to: name(to) });
                }
            }
        }
    }
    Ok(())
}
