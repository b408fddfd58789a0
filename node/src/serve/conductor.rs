//! Carries out what the conductor machine decides: proposals, searches, loads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use thalweg_core::conductor::{Conductor, Effect, Event, PlanTask};
use thalweg_core::kv::BLOCK_TOKENS;
use thalweg_core::{gateway, stage};
use thalweg_engine::{ComputeDevice, KvType, LoadOptions, ModelSource, Precision, Shard};
use thalweg_wire::{Assignment, Command, Epoch};

use super::board::Board;
use super::compute::{Compute, Job};
use super::network::Network;
use super::planning;
use crate::consensus::Consensus;
use crate::host::{Deliver, Perform, post};

/// What loading needs besides the assignment.
#[derive(Clone, Debug)]
pub struct Loader {
    /// The model's files.
    pub source: Arc<ModelSource>,
    /// What to compute with.
    pub device: ComputeDevice,
    /// Compute threads.
    pub threads: usize,
    /// How to keep weights.
    pub precision: Precision,
    /// How to keep keys and values.
    pub kv_type: KvType,
}

/// Where the conductor's effects happen.
pub struct ConductorWorld {
    network: Arc<Network>,
    board: Arc<Board>,
    compute: Compute,
    loader: Loader,
    /// Counts searches, so that a replaced one stops.
    search: Arc<AtomicU64>,
    runtime: tokio::runtime::Handle,
    consensus: Arc<std::sync::OnceLock<Arc<Consensus>>>,
}

impl ConductorWorld {
    /// Creates the world. `consensus` is filled in while the process starts.
    pub fn new(
        network: Arc<Network>,
        board: Arc<Board>,
        compute: Compute,
        loader: Loader,
        consensus: Arc<std::sync::OnceLock<Arc<Consensus>>>,
    ) -> Self {
        let runtime = tokio::runtime::Handle::current();
        let search = Arc::new(AtomicU64::new(0));
        Self { network, board, compute, loader, search, runtime, consensus }
    }

    /// Proposes a command; the machine asks again if it does not come about.
    fn propose(&self, command: Command) {
        let Some(consensus) = self.consensus.get().map(Arc::clone) else { return };
        self.runtime.spawn(async move {
            if let Err(error) = consensus.propose(command).await {
                tracing::debug!(%error, "proposal not committed");
            }
        });
    }

    fn plan(&self, task: PlanTask) {
        let mine = self.search.fetch_add(1, Ordering::Relaxed) + 1;
        let search = Arc::clone(&self.search);
        let network = Arc::clone(&self.network);
        spawn("planner", move || {
            let epoch = task.epoch;
            let current = || search.load(Ordering::Relaxed) == mine;
            if let Some(outcome) = planning::search(&task, current)
                && let Some(actors) = network.actors()
            {
                post(&actors.conductor, Deliver(Event::Planned { epoch, outcome }));
            }
        });
    }

    fn load(&self, epoch: Epoch, assignment: Assignment, layers: u32) {
        let (network, board) = (Arc::clone(&self.network), Arc::clone(&self.board));
        let (compute, loader) = (self.compute.clone(), self.loader.clone());
        spawn("loader", move || {
            let (shard, loaded) = load(&loader, &board, epoch, assignment, layers);
            compute.give(Job::Adopt(epoch, Box::new(shard)));
            let Some(actors) = network.actors() else { return };
            post(&actors.stage, Deliver(stage::Event::Loaded(loaded)));
            post(&actors.conductor, Deliver(Event::Loaded { epoch }));
        });
    }
}

impl Perform<Conductor> for ConductorWorld {
    fn perform(&mut self, effect: Effect) {
        let Some(actors) = self.network.actors() else { return };
        match effect {
            Effect::Propose(command) => self.propose(command),
            Effect::StartPlan(task) => self.plan(task),
            Effect::Load { epoch, assignment, layers } => self.load(epoch, assignment, layers),
            Effect::Keep { epoch, from, pace } => {
                post(&actors.stage, Deliver(stage::Event::Kept { epoch, from, pace }));
            }
            Effect::Activate(plan) => {
                tracing::info!(epoch = %plan.epoch, flow = plan.flow, "plan is in effect");
                self.board.activate(plan.epoch);
                post(&actors.gateway, Deliver(gateway::Event::Plan(plan)));
            }
            Effect::Retire { epoch } => {
                post(&actors.stage, Deliver(stage::Event::Retire { epoch }));
            }
            Effect::Infeasible { reason } => {
                tracing::warn!(reason, "no plan fits the hosts that are alive");
                self.board.infeasible(reason);
            }
        }
    }

    fn settled(&mut self, machine: &Conductor) {
        self.board.registry(machine.registry());
    }
}

fn load(
    loader: &Loader,
    board: &Board,
    epoch: Epoch,
    assignment: Assignment,
    layers: u32,
) -> (Shard, stage::Loaded) {
    let held = assignment.layers;
    let first = held.first() == 0;
    let last = held.end() == layers;
    let columns = assignment.kv_tokens / u64::from(BLOCK_TOKENS);
    let kv_blocks = columns.saturating_mul(u64::from(held.count()));
    let kv_blocks = u32::try_from(kv_blocks).unwrap_or(u32::MAX);
    tracing::info!(%epoch, layers = %held, kv_blocks, "loading");
    let options = LoadOptions {
        embed: first,
        head: last,
        device: loader.device,
        kv_blocks,
        threads: loader.threads,
        precision: loader.precision,
        kv_type: loader.kv_type,
        on_progress: &|it| board.loading(it.done, it.total),
    };
    let shard = Shard::load(&loader.source, held, options);
    loader.source.release_pages();
    board.loaded();
    match shard {
        Ok(shard) => {
            let (pace, profile) = (stage::Pace::from(&assignment), board.profile(assignment.host));
            let layers = held;
            (shard, stage::Loaded { epoch, layers, kv_blocks, pace, profile, first, last })
        }
        Err(error) => {
            // Without its layers the plan can never be ready; the cluster plans around a dead host.
            tracing::error!(%error, %epoch, layers = %held, "cannot load; this host gives up");
            std::process::exit(1)
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    // The thread answers with an event; nobody joins it.
    let _detached = thread.expect("a process that cannot start a thread cannot serve");
}
