//! Carries out what the stage machine decides.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use thalweg_core::stage::{Counters, Effect, Stage, StepInput, StepItem, TensorId};
use thalweg_wire::{Frame, Message};

use super::compute::{Compute, Job, Rows, Work};
use super::network::Network;
use crate::host::{Keep, Perform};
use crate::metrics::Metrics;
use crate::transport::Hold;

/// Rows behind a handle.
#[derive(Debug)]
pub struct Tensor {
    /// The handle.
    pub id: TensorId,
    /// The rows.
    pub rows: Rows,
    /// Keeps the sender from sending more than this host can take.
    #[expect(dead_code, reason = "it works by being dropped with the rows")]
    pub hold: Option<Hold>,
}

/// What heartbeats tell of this host.
#[derive(Debug, Default)]
pub struct Load {
    /// KV tokens that could still be taken.
    pub kv_free_tokens: AtomicU64,
    /// Requests worked on.
    pub requests: AtomicU32,
    /// Time until new rows would be computed, in microseconds.
    pub queue_us: AtomicU64,
}

/// Where the stage's effects happen.
#[derive(Debug)]
pub struct StageWorld {
    network: Arc<Network>,
    compute: Compute,
    load: Arc<Load>,
    metrics: Arc<Metrics>,
    /// What of the machine's counts the metrics have.
    counted: Counters,
    tensors: HashMap<TensorId, Tensor>,
}

impl StageWorld {
    /// Creates the world of a stage that computes on `compute`.
    pub fn new(
        network: Arc<Network>,
        compute: Compute,
        load: Arc<Load>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (counted, tensors) = (Counters::default(), HashMap::new());
        Self { network, compute, load, metrics, counted, tensors }
    }

    fn work(&mut self, item: StepItem) -> Work {
        let rows = match &item.input {
            StepInput::Tokens(_) => None,
            StepInput::Tensor(id) => self.tensors.remove(id).map(|it| it.rows.into_values()),
        };
        let copies = item.copies.iter().map(|it| (it.from, it.to)).collect();
        Work { item, copies, rows }
    }
}

impl Keep<Tensor> for StageWorld {
    fn keep(&mut self, tensor: Tensor) {
        self.tensors.insert(tensor.id, tensor);
    }
}

impl Perform<Stage> for StageWorld {
    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Step(items) => {
                let work = items.into_iter().map(|it| self.work(it)).collect();
                self.compute.give(Job::Step(work));
            }
            Effect::SendOpen { to, open, tokens } => {
                self.network.send(to, open_frame(open, &tokens));
            }
            Effect::SendActivations { to, activations, tensor } => {
                let tensor = self.tensors.remove(&tensor);
                let payload = tensor.map(|it| it.rows.into_wire()).unwrap_or_default();
                let message = Message::Activations(activations);
                self.network.send(to, Frame { message, payload });
            }
            Effect::SendToken { to, token } => {
                self.network.send(to, Frame::bare(Message::Token(token)));
            }
            Effect::SendRefuse { to, refuse } => {
                self.network.send(to, Frame::bare(Message::Refuse(refuse)));
            }
            Effect::Drop(tensor) => {
                self.tensors.remove(&tensor);
            }
            Effect::Retired { epoch } => self.compute.give(Job::Free(epoch)),
        }
    }

    fn settled(&mut self, stage: &Stage) {
        self.load.kv_free_tokens.store(stage.kv_free_tokens(), Ordering::Relaxed);
        let requests = u32::try_from(stage.requests()).unwrap_or(u32::MAX);
        self.load.requests.store(requests, Ordering::Relaxed);
        self.load.queue_us.store(stage.queue_us(), Ordering::Relaxed);
        let (before, now) = (self.counted, stage.counters());
        if now != before {
            self.metrics.preemptions.inc_by(now.preemptions - before.preemptions);
            let queried = now.prefix_queried_tokens - before.prefix_queried_tokens;
            self.metrics.prefix_cache_queries.inc_by(queried);
            self.metrics.prefix_cache_hits.inc_by(now.prefix_hit_tokens - before.prefix_hit_tokens);
            self.counted = now;
        }
    }
}

/// Returns the frame that opens a request.
pub fn open_frame(open: thalweg_wire::Open, tokens: &[u32]) -> Frame {
    let payload = tokens.iter().flat_map(|it| it.to_le_bytes()).collect();
    Frame { message: Message::Open(open), payload }
}
