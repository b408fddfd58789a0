//! A host of a world: its stage, and the time its steps take.

use std::time::Duration;

use thalweg_core::kv::BLOCK_TOKENS;
use thalweg_core::machine::Machine;
use thalweg_core::policy::StagePolicy;
use thalweg_core::stage::{self, Stage, StepInput, StepItem, StepOutput, TensorId, Want};
use thalweg_wire::{Assignment, Candidate, DType, Epoch, HostId, LayerRange};

use super::gate::rearm;
use crate::agenda::Nanos;
use crate::compute::{Compute, Part};
use crate::ledger::{Window, Work};
use crate::workload::token;

/// A host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) id: HostId,
    /// `None` while it is dead.
    pub(super) stage: Option<Stage>,
    /// Layers it was loaded with last, and the latest plan that uses them.
    pub(super) holds: Option<(Epoch, LayerRange)>,
    /// KV capacity of those, in tokens.
    pub(super) kv_tokens: u64,
    /// `None` if the step times of its machine are not known; it then holds no layers.
    pub(super) compute: Option<Compute>,
    /// Counts its deaths: what was meant for an earlier life is dropped.
    pub(super) life: u32,
    pub(super) step: Option<Step>,
    /// When its stage is looked after next.
    pub(super) armed: Option<Nanos>,
    pub(super) work: Work,
    tensors_made: u64,
    /// Tensors that came in or were made, less those that went out.
    tensors_held: i64,
}

/// The step that runs.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) began: Nanos,
    outputs: Vec<StepOutput>,
}

/// What every stage knows from the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    pub(super) context_tokens: u32,
    pub(super) hidden: u32,
    pub(super) idle: Nanos,
    pub(super) policy: StagePolicy,
}

impl Host {
    /// A host without layers.
    pub(super) fn new(id: HostId, compute: Option<Compute>) -> Self {
        Self {
            id,
            stage: None,
            holds: None,
            kv_tokens: 0,
            compute,
            life: 0,
            step: None,
            armed: None,
            work: Work::default(),
            tensors_made: 0,
            tensors_held: 0,
        }
    }

    /// Starts the host's machines.
    pub(super) fn start(&mut self, common: Common) {
        self.stage = Some(Stage::new(stage::Config {
            me: self.id,
            context_tokens: common.context_tokens,
            hidden: common.hidden,
            dtype: DType::F16,
            idle_after: Duration::from_nanos(common.idle),
            policy: common.policy,
        }));
    }

    /// The host dies with everything it holds.
    pub(super) fn die(&mut self, window: Window, now: Nanos) {
        self.life += 1;
        self.stage = None;
        self.armed = None;
        self.holds = None;
        self.kv_tokens = 0;
        self.tensors_held = 0;
        if let Some(step) = self.step.take() {
            self.work.ended(window, step.began, now);
        }
    }

    /// What the stage is told once it holds the layers of `assignment`.
    pub(super) fn loaded(
        &mut self,
        assignment: &Assignment,
        epoch: Epoch,
        layers: u32,
    ) -> stage::Event {
        let held = assignment.layers;
        self.holds = Some((epoch, held));
        let columns = assignment.kv_tokens / u64::from(BLOCK_TOKENS);
        self.kv_tokens = columns * u64::from(BLOCK_TOKENS);
        let kv_blocks = columns * u64::from(held.count());
        stage::Event::Loaded(stage::Loaded {
            epoch,
            layers: held,
            kv_blocks: u32::try_from(kv_blocks).unwrap_or(u32::MAX),
            pace: assignment.into(),
            profile: self.compute.as_ref().map(Compute::profile).unwrap_or_default(),
            first: held.first() == 0,
            last: held.end() == layers,
        })
    }

    /// A plan is over. A host that no later plan gives layers holds none.
    pub(super) fn retired(&mut self, epoch: Epoch) {
        if self.holds.is_some_and(|it| it.0 == epoch) {
            self.holds = None;
            self.kv_tokens = 0;
        }
    }

    /// Takes rows in from the network.
    pub(super) fn receive_rows(&mut self) -> TensorId {
        self.tensors_made += 1;
        self.tensors_held += 1;
        TensorId(self.tensors_made)
    }

    /// Gives rows up: they were sent on, or nobody needs them.
    pub(super) fn give_up_rows(&mut self) {
        self.tensors_held -= 1;
        debug_assert!(self.tensors_held >= 0, "{}: a tensor was given up twice", self.id);
    }

    /// Starts a step. Returns how long it takes.
    pub(super) fn begin(&mut self, window: Window, now: Nanos, items: Vec<StepItem>) -> Nanos {
        assert!(self.step.is_none(), "{}: two steps at a time", self.id);
        let parts: Vec<Part> = items.iter().map(part).collect();
        let rows = |prompt: bool| {
            let of = parts.iter().filter(|it| it.prompt_after.is_some() == prompt);
            of.map(|it| it.rows).sum()
        };
        self.work.began(window, now, rows(false), rows(true));
        let outputs = items.iter().map(|it| self.output(it)).collect();
        self.step = Some(Step { began: now, outputs });
        let compute = self.compute.as_ref().expect("hosts without step times hold no layers");
        compute.step(&parts)
    }

    /// The step that runs is over.
    pub(super) fn end(&mut self, window: Window, now: Nanos) -> stage::Event {
        let Step { began, outputs } = self.step.take().expect("a step ends once");
        self.work.ended(window, began, now);
        stage::Event::StepDone { outputs }
    }

    /// KV tokens in use.
    pub(super) fn kv_used(&self) -> u64 {
        if self.kv_tokens == 0 {
            return 0;
        }
        let free = self.stage.as_ref().map_or(self.kv_tokens, Stage::kv_free_tokens);
        assert!(free <= self.kv_tokens, "{}: {free} tokens free of {}", self.id, self.kv_tokens);
        self.kv_tokens - free
    }

    /// When the stage must be looked after, if that is earlier than it will be anyway.
    pub(super) fn rearm(&mut self) -> Option<Nanos> {
        rearm(self.stage.as_ref()?.next_timeout(), &mut self.armed)
    }

    fn output(&mut self, item: &StepItem) -> StepOutput {
        if matches!(item.input, StepInput::Tensor(_)) {
            self.give_up_rows();
        }
        match &item.want {
            Want::Rows => StepOutput::Rows(self.receive_rows()),
            Want::Nothing => StepOutput::Nothing,
            Want::Sample { sampling, history, .. } => {
                let position = u32::try_from(history.len()).unwrap_or(u32::MAX);
                let token = token(sampling.seed, position);
                StepOutput::Sampled { sampled: Candidate { token, logprob: 0.0 }, top: Vec::new() }
            }
        }
    }
}

/// What an item is to the machine. A single row counts as a decode step, also where it is the last
/// of a prompt.
fn part(item: &StepItem) -> Part {
    Part {
        layers: item.layers,
        rows: item.rows,
        prompt_after: (item.rows > 1).then_some(item.first_position),
        received: matches!(item.input, StepInput::Tensor(_)),
        sampled: matches!(item.want, Want::Sample { .. }),
    }
}
