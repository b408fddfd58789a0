//! The compute thread: owns the loaded layers, runs one step at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use thalweg_core::stage::{StepInput, StepItem, Want};
use thalweg_engine::{Input, Item, Output, Shard};
use thalweg_wire::Epoch;

use crate::metrics::Metrics;

/// Jobs that may wait: a step, and the few loads and frees around a change of plan.
const JOBS_MAX: usize = 64;

/// Rows of activations, as they came.
#[derive(Debug)]
pub enum Rows {
    /// From another host, F32 little endian.
    Wire(Bytes),
    /// From the compute thread of this host.
    Local(Vec<f32>),
}

impl Rows {
    /// Returns the values.
    pub fn into_values(self) -> Vec<f32> {
        match self {
            Self::Local(values) => values,
            Self::Wire(bytes) => {
                let value = |it: &[u8]| f32::from_le_bytes(it.try_into().expect("four bytes"));
                bytes.chunks_exact(4).map(value).collect()
            }
        }
    }

    /// Returns the values as they go on the wire.
    pub fn into_wire(self) -> Bytes {
        match self {
            Self::Wire(bytes) => bytes,
            Self::Local(values) => values.iter().flat_map(|it| it.to_le_bytes()).collect(),
        }
    }
}

/// One item of a step and the rows its handle stands for.
#[derive(Debug)]
pub struct Work {
    /// What the stage asks for.
    pub item: StepItem,
    /// Blocks to copy first: from, to.
    pub copies: Vec<(u32, u32)>,
    /// The rows, if the item starts from rows.
    pub rows: Option<Vec<f32>>,
}

/// Something for the compute thread to do.
pub enum Job {
    /// Own freshly loaded layers.
    Adopt(Epoch, Box<Shard>),
    /// Free layers.
    Free(Epoch),
    /// Run one forward.
    Step(Vec<Work>),
}

/// What became of a step: outputs in the order of its items, or nothing.
pub type StepResult = Option<Vec<Output>>;

/// A way to give jobs to the compute thread. The thread ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Compute(mpsc::SyncSender<Job>);

impl Compute {
    /// Starts the thread. `done` hears of every step, on that thread.
    ///
    /// # Panics
    ///
    /// If the operating system refuses a thread.
    pub fn start(metrics: Arc<Metrics>, done: impl Fn(StepResult) + Send + 'static) -> Self {
        let (sender, jobs) = mpsc::sync_channel(JOBS_MAX);
        let thread = thread::Builder::new().name("compute".to_owned());
        let _detached_until_the_senders_go = thread
            .spawn(move || run(&jobs, &metrics, done))
            .expect("a process that cannot start a thread cannot serve");
        Self(sender)
    }

    /// Gives a job to the thread.
    ///
    /// # Panics
    ///
    /// If more jobs wait than the stage machine ever asks for: a broken invariant.
    pub fn give(&self, job: Job) {
        let given = self.0.try_send(job);
        assert!(given.is_ok(), "the compute thread is behind or gone: one step may run at a time");
    }
}

fn run(jobs: &mpsc::Receiver<Job>, metrics: &Metrics, done: impl Fn(StepResult)) {
    let mut shards: BTreeMap<Epoch, Box<Shard>> = BTreeMap::new();
    for job in jobs {
        match job {
            Job::Adopt(epoch, shard) => {
                shards.insert(epoch, shard);
            }
            Job::Free(epoch) => {
                shards.remove(&epoch);
            }
            Job::Step(work) => {
                let started = Instant::now();
                metrics.shard_parts.inc_by(work.len() as u64);
                let result = step(&mut shards, &work);
                // The stage changes what the items share once it hears that the step is over.
                drop(work);
                metrics.shard_busy.inc_by(started.elapsed().as_secs_f64());
                metrics.shard_steps.inc();
                done(result);
            }
        }
    }
}

fn step(shards: &mut BTreeMap<Epoch, Box<Shard>>, work: &[Work]) -> StepResult {
    let epoch = work.first()?.item.epoch;
    let shard = shards.get_mut(&epoch)?;
    let items: Vec<Item<'_>> = work.iter().map(item).collect();
    match shard.step(&items) {
        Ok(outputs) => Some(outputs),
        Err(error) => {
            tracing::error!(%error, %epoch, "step failed; its requests are replayed");
            None
        }
    }
}

fn item(work: &Work) -> Item<'_> {
    let StepItem { layers, blocks, first_position, input, want, .. } = &work.item;
    let input = match (input, &work.rows) {
        (StepInput::Tokens(tokens), _) => Input::Tokens(tokens),
        (StepInput::Tensor(_), Some(rows)) => Input::Rows(rows),
        (StepInput::Tensor(_), None) => Input::Rows(&[]),
    };
    let want = match want {
        Want::Rows => thalweg_engine::Want::Rows,
        Want::Nothing => thalweg_engine::Want::Nothing,
        Want::Sample { sampling, history, prompt_tokens } => {
            thalweg_engine::Want::Sample { sampling, history, prompt_tokens: *prompt_tokens }
        }
    };
    let (layers, first_position, copies) = (*layers, *first_position, &work.copies[..]);
    Item { blocks, copies, layers, first_position, input, want }
}
