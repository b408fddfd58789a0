//! Starts the actors: one machine each, on the threads they need.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter};
use thalweg_core::conductor::{self, Conductor};
use thalweg_core::gateway::{self, Gateway};
use thalweg_core::liveness::Liveness;
use thalweg_core::policy::Pack;
use thalweg_core::stage::{self, Stage, StepOutput};
use thalweg_engine::Output;
use thalweg_sim::replay::{Recorded, Setup};
use thalweg_wire::DType;

use super::compute::{Compute, Rows, StepResult};
use super::conductor::ConductorWorld;
use super::gateway::GatewayWorld;
use super::life::{self, LifeWorld};
use super::network::{Actors, ConductorHost, Network};
use super::runtime::Node;
use super::stage::{StageWorld, Tensor};
use crate::cli::advice::Advice;
use crate::config::HostConfig;
use crate::host::{Clock, Deliver, Entrust, Host, Perform, post};
use crate::journal::{Journal, Redact, wall_clock_us};

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

/// Starts all actors and tells the network where they are. What they see and do goes into the
/// journal, if one was asked for.
///
/// The stage has a thread of its own, because every token of every request passes it; the others
/// share one.
///
/// # Errors
///
/// If the journal cannot be created.
pub(super) fn start(node: &Node) -> Result<(Addr<ConductorHost>, Arc<Journal>), Advice> {
    let setup = setup(node);
    let journal = Arc::new(journal(&node.config, &setup)?);
    let share = Share { clock: Clock::start(), journal: Arc::clone(&journal) };
    let compute = Compute::start(Arc::clone(&node.metrics), {
        let network = Arc::clone(&node.network);
        move |result| report(&network, result)
    });
    let (busy, calm) = (Arbiter::new(), Arbiter::new());
    let (network, load) = (Arc::clone(&node.network), Arc::clone(&node.load));
    let world = StageWorld::new(network, compute.clone(), load, Arc::clone(&node.metrics));
    let stage = share.spawn(&busy, Stage::new(setup.stage), world);
    let (network, board) = (Arc::clone(&node.network), Arc::clone(&node.board));
    let world = GatewayWorld::new(network, board, Arc::clone(&node.metrics));
    let gateway = share.spawn(&calm, Gateway::new(setup.gateway), world);
    let world = LifeWorld(Arc::clone(&node.network));
    let life = share.spawn(&calm, Liveness::new(setup.liveness), world);
    let (network, board) = (Arc::clone(&node.network), Arc::clone(&node.board));
    let world = ConductorWorld::new(network, board, compute, node.loader(), Arc::clone(&node.seat));
    let conductor = share.spawn(&calm, Conductor::new(setup.conductor), world);
    node.network.set_actors(Actors { conductor: conductor.clone(), stage, gateway, life });
    Ok((conductor, journal))
}

/// What all actors of a process share.
struct Share {
    clock: Clock,
    journal: Arc<Journal>,
}

impl Share {
    fn spawn<M, P>(&self, arbiter: &Arbiter, machine: M, world: P) -> Addr<Host<M, P>>
    where
        M: Recorded<Event: Redact> + Send + Unpin + 'static,
        P: Perform<M> + Send + Unpin + 'static,
    {
        let (clock, journal) = (self.clock, Arc::clone(&self.journal));
        let start = move |_: &mut _| Host::new(machine, world, clock, journal);
        Host::start_in_arbiter(&arbiter.handle(), start)
    }
}

fn journal(config: &HostConfig, setup: &Setup) -> Result<Journal, Advice> {
    let Some(path) = &config.journal else { return Ok(Journal::off()) };
    Journal::create(path, setup).map_err(|source| {
        Advice::new(format!("cannot write the journal `{}`", path.display()), source)
            .hint("Name a file in a folder that exists with `--journal`.")
    })
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

/// What the machines are created with.
fn setup(node: &Node) -> Setup {
    let stage = stage::Config {
        me: node.me,
        context_tokens: node.shape.context_tokens,
        hidden: node.shape.hidden,
        dtype: DType::F32,
        idle_after: IDLE,
        policy: Pack::THALWEG.stage,
    };
    let gateway = gateway::Config {
        me: node.me,
        incarnation: node.incarnation,
        context_tokens: node.shape.context_tokens,
        stall_after: STALL,
        policy: Pack::THALWEG.gateway,
    };
    let conductor = conductor::Config {
        me: node.me,
        incarnation: node.incarnation,
        shape: node.shape.clone(),
        hosts_expected: node.config.cluster.hosts_expected,
        settle: SETTLE,
        grace: GRACE,
        retry: RETRY,
    };
    Setup {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_us: wall_clock_us(),
        tokens_kept: node.config.journal_tokens,
        stage,
        gateway,
        liveness: life::patience(node.round_trip),
        conductor,
    }
}
