//! Starts the actors: one machine each, on the threads they need.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter};
use thalweg_core::conductor::{self, Conductor};
use thalweg_core::gateway::{self, Gateway};
use thalweg_core::liveness::Liveness;
use thalweg_core::machine::Machine;
use thalweg_core::policy::Pack;
use thalweg_core::stage::{self, Stage, StepOutput};
use thalweg_engine::Output;
use thalweg_wire::DType;

use super::compute::{Compute, Rows, StepResult};
use super::conductor::{ConductorWorld, Loader};
use super::gateway::GatewayWorld;
use super::life::{self, LifeWorld};
use super::network::{Actors, ConductorHost, Network};
use super::runtime::Node;
use super::stage::{StageWorld, Tensor};
use crate::host::{Clock, Deliver, Entrust, Host, Perform, post};
use crate::journal::Journal;

/// Silence on a route after which a request is replayed.
const STALL: Duration = Duration::from_secs(60);
/// Silence of a request after which a stage frees it. Above [`STALL`], so that the gateway, which
/// knows more, acts first.
const IDLE: Duration = Duration::from_secs(180);
/// How long the set of hosts must not have changed before a plan is made.
const SETTLE: Duration = Duration::from_millis(300);
/// How long the first plan waits for expected hosts and measured links, at most.
const GRACE: Duration = Duration::from_secs(30);
/// When a proposal without effect is repeated.
const RETRY: Duration = Duration::from_secs(2);

/// Starts all actors and tells the network where they are.
///
/// The stage has a thread of its own, because every token of every request passes it; the others
/// share one.
pub(super) fn start(node: &Node) -> Addr<ConductorHost> {
    let clock = Clock::start();
    let compute = Compute::start(Arc::clone(&node.metrics), {
        let network = Arc::clone(&node.network);
        move |result| report(&network, result)
    });
    let (busy, calm) = (Arbiter::new(), Arbiter::new());
    let journal = &node.journal;
    let (network, load) = (Arc::clone(&node.network), Arc::clone(&node.load));
    let world = StageWorld::new(network, compute.clone(), load, Arc::clone(&node.metrics));
    let stage = spawn(&busy, "stage", Stage::new(stage_config(node)), world, clock, journal);
    let (network, board) = (Arc::clone(&node.network), Arc::clone(&node.board));
    let world = GatewayWorld::new(network, board, Arc::clone(&node.metrics));
    let gateway =
        spawn(&calm, "gateway", Gateway::new(gateway_config(node)), world, clock, journal);
    let liveness = Liveness::new(life::patience(node.round_trip));
    let world = LifeWorld(Arc::clone(&node.network));
    let life = spawn(&calm, "liveness", liveness, world, clock, journal);
    let loader = Loader { source: Arc::clone(&node.source), threads: node.threads };
    let (network, board) = (Arc::clone(&node.network), Arc::clone(&node.board));
    let world = ConductorWorld::new(network, board, compute, loader, Arc::clone(&node.seat));
    let machine = Conductor::new(conductor_config(node));
    let conductor = spawn(&calm, "conductor", machine, world, clock, journal);
    node.network.set_actors(Actors { conductor: conductor.clone(), stage, gateway, life });
    conductor
}

fn spawn<M, P>(
    arbiter: &Arbiter,
    name: &'static str,
    machine: M,
    world: P,
    clock: Clock,
    journal: &Arc<Journal>,
) -> Addr<Host<M, P>>
where
    M: Machine + Send + Unpin + 'static,
    P: Perform<M> + Send + Unpin + 'static,
{
    let journal = Arc::clone(journal);
    let start = move |_: &mut _| Host::new(name, machine, world, clock, journal);
    Host::start_in_arbiter(&arbiter.handle(), start)
}

/// Tells the stage what became of a step: rows first, then the event that names them.
fn report(network: &Network, result: StepResult) {
    let Some(actors) = network.actors() else { return };
    let Some(outputs) = result else {
        post(&actors.stage, Deliver(stage::Event::StepFailed));
        return;
    };
    let outputs = outputs.into_iter().map(|output| match output {
        Output::Rows(values) => {
            let id = network.tensor_id();
            post(&actors.stage, Entrust(Tensor { id, rows: Rows::Local(values), hold: None }));
            StepOutput::Rows(id)
        }
        Output::Nothing => StepOutput::Nothing,
        Output::Sampled { sampled, top } => StepOutput::Sampled { sampled, top },
    });
    let outputs = outputs.collect();
    post(&actors.stage, Deliver(stage::Event::StepDone { outputs }));
}

fn stage_config(node: &Node) -> stage::Config {
    stage::Config {
        me: node.me,
        context_tokens: node.shape.context_tokens,
        hidden: node.shape.hidden,
        dtype: DType::F32,
        idle_after: IDLE,
        policy: Pack::THALWEG.stage,
    }
}

fn gateway_config(node: &Node) -> gateway::Config {
    gateway::Config {
        me: node.me,
        incarnation: node.incarnation,
        context_tokens: node.shape.context_tokens,
        stall_after: STALL,
        policy: Pack::THALWEG.gateway,
    }
}

fn conductor_config(node: &Node) -> conductor::Config {
    conductor::Config {
        me: node.me,
        incarnation: node.incarnation,
        shape: node.shape.clone(),
        hosts_expected: node.config.cluster.hosts_expected,
        settle: SETTLE,
        grace: GRACE,
        retry: RETRY,
    }
}
