//! Nanoseconds per event of a stage, in a ring of stages under full load.
//!
//! `cargo bench -p thalweg-core --bench stage` prints, for the first, a middle and the last of eight
//! stages of ten layers: events handled, and nanoseconds for each and for each row computed.

#![allow(missing_docs, reason = "a bench is read, not documented")]
#![allow(clippy::disallowed_methods, reason = "a bench takes the time")]

use std::time::{Duration, Instant};

use thalweg_core::machine::Machine;
use thalweg_core::policy::Pack;
use thalweg_core::stage::{
    Config, Effect, Event, Loaded, Pace, Stage, StepInput, StepItem, StepOutput, TensorId, Want,
};
use thalweg_wire::{
    Activations, Attempt, Candidate, DType, Epoch, Hop, HostId, LayerRange, Open, Phase, Profile,
    RequestId, Route, Sampling, Token,
};

const STAGES: u64 = 8;
const LAYERS: u32 = 10;
const GATEWAY: HostId = HostId(99);
/// Requests in flight, as many at a time as the ring holds.
const REQUESTS: u64 = 256;
const PROMPT: u32 = 763;
const OUTPUT: u32 = 1024;
/// Rounds of the ring that are timed: a decode row of every request in each.
const ROUNDS: u32 = 1000;

fn main() {
    for index in [0, STAGES / 2, STAGES - 1] {
        let mut bench = Bench::new(index);
        bench.open();
        let start = Instant::now();
        let (mut events, mut rows) = (0, 0);
        for round in 0..ROUNDS {
            let (e, r) = bench.round(round);
            events += e;
            rows += r;
        }
        let ns = start.elapsed().as_nanos() as f64;
        println!(
            "stage {index} of {STAGES}: {events} events, {:.0} ns each, {:.0} ns per row",
            ns / f64::from(events),
            ns / f64::from(rows),
        );
    }
}

/// One stage, and the frames of the others.
struct Bench {
    stage: Stage,
    index: u64,
    now: Duration,
    tensors: u64,
    /// Items of the step that runs.
    running: Vec<StepItem>,
}

impl Bench {
    fn new(index: u64) -> Self {
        let mut stage = Stage::new(Config {
            me: HostId(index),
            context_tokens: 4096,
            hidden: 8192,
            dtype: DType::F16,
            idle_after: Duration::from_secs(600),
            policy: Pack::THALWEG.stage,
        });
        let pace = Pace {
            batch_max: 40,
            chunk_tokens: 128,
            step_us: 0,
            requests_max: 0,
            micro_batches: 0,
        };
        stage.handle(
            Duration::ZERO,
            Event::Loaded(Loaded {
                epoch: Epoch(1),
                layers: layers(index),
                kv_blocks: 300_000,
                pace,
                profile: Profile::default(),
                first: index == 0,
                last: index == STAGES - 1,
            }),
        );
        Self { stage, index, now: Duration::ZERO, tensors: 0, running: Vec::new() }
    }

    fn handle(&mut self, event: Event) {
        self.now += Duration::from_micros(10);
        self.stage.handle(self.now, event);
        while let Some(effect) = self.stage.poll_effect() {
            if let Effect::Step(items) = effect {
                self.running = items;
            }
        }
    }

    /// Opens all requests and computes their prompts.
    fn open(&mut self) {
        for counter in 0..REQUESTS {
            let from = if self.index == 0 { GATEWAY } else { HostId(self.index - 1) };
            let open = Open {
                request: id(counter),
                attempt: Attempt(0),
                epoch: Epoch(1),
                route: route(),
                sampling: Sampling { max_tokens: OUTPUT, ..Sampling::default() },
                prompt_tokens: PROMPT,
                arrived_us: counter,
                priority: Open::PRIORITY_DEFAULT,
                tenant: 0,
                cached_tokens: 0,
            };
            let tokens = (0..PROMPT).map(|it| it + counter as u32 * PROMPT).collect();
            self.handle(Event::Open { from, open, tokens });
            if self.index > 0 {
                self.rows(counter, 0, PROMPT);
            }
        }
        self.drain();
    }

    /// One decode row of every request. Returns events and rows.
    fn round(&mut self, round: u32) -> (u32, u32) {
        let position = PROMPT + round;
        for counter in 0..REQUESTS {
            if self.index == 0 {
                let sampled = Candidate { token: round, logprob: 0.0 };
                let (request, attempt) = (id(counter), Attempt(0));
                let (top, finish) = (Vec::new(), None);
                let token = Token { request, attempt, position, sampled, top, finish };
                self.handle(Event::Token(token));
            } else {
                self.rows(counter, position, 1);
            }
        }
        let (steps, rows) = self.drain();
        (REQUESTS as u32 + steps, rows)
    }

    fn rows(&mut self, counter: u64, first_position: u32, count: u32) {
        self.tensors += 1;
        let activations = Activations {
            request: id(counter),
            attempt: Attempt(0),
            first_position,
            count,
            hidden: 8192,
            dtype: DType::F16,
            phase: if count > 1 { Phase::Prefill } else { Phase::Decode },
            sample: true,
            step: 0,
            step_frames: 1,
        };
        let (from, tensor) = (HostId(self.index - 1), TensorId(self.tensors));
        self.handle(Event::Activations { from, activations, tensor });
    }

    /// Ends steps until none runs. Returns how many ran, and their rows.
    fn drain(&mut self) -> (u32, u32) {
        let (mut steps, mut rows) = (0, 0);
        while !self.running.is_empty() {
            let items = std::mem::take(&mut self.running);
            steps += 1;
            rows += items.len() as u32;
            let outputs = items.iter().map(|it| self.output(it)).collect();
            drop(items);
            self.handle(Event::StepDone { outputs });
        }
        (steps, rows)
    }

    fn output(&mut self, item: &StepItem) -> StepOutput {
        assert!(matches!(item.input, StepInput::Tokens(_)) == (self.index == 0));
        match item.want {
            Want::Nothing => StepOutput::Nothing,
            Want::Sample { .. } => {
                let sampled = Candidate { token: 1, logprob: 0.0 };
                StepOutput::Sampled { sampled, top: Vec::new() }
            }
            Want::Rows => {
                self.tensors += 1;
                StepOutput::Rows(TensorId(self.tensors))
            }
        }
    }
}

fn id(counter: u64) -> RequestId {
    RequestId { gateway: GATEWAY, incarnation: 1, counter }
}

fn layers(index: u64) -> LayerRange {
    let first = index as u32 * LAYERS;
    LayerRange::new(first, first + LAYERS).expect("not empty")
}

fn route() -> Route {
    let hop = |index| Hop { host: HostId(index), layers: layers(index) };
    Route::new((0..STAGES).map(hop).collect()).expect("contiguous")
}
