//! Forms steps, and sends on what comes of them.
//!
//! Decode rows go first, as each is a user waiting for a token; then parts of prompts until the
//! step has [`PREFILL_CHUNK_TOKENS`] of them. The bound on decode rows is the plan's pacing: one
//! large batch that walks the stages would leave all others without work.

use thalweg_wire::{Activations, Attempt, Candidate, Epoch, Finish, Refusal, RequestId, Token};

use super::request::{Request, State, Work};
use super::{Effect, PREFILL_CHUNK_TOKENS, Stage, StepItem, StepOutput, TensorId, Want};
use crate::machine::Time;

/// The step that runs.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) shard: Epoch,
    /// In the order of the step's items.
    pub(super) parts: Vec<Part>,
}

/// One item of the step that runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    request: RequestId,
    attempt: Attempt,
    work: Work,
}

impl Stage {
    /// Starts a step if any layers have work.
    pub(super) fn start_step(&mut self) {
        let Some(shard) = self.shards.next_queued(self.stepped) else { return };
        self.stepped = shard;
        let mut parts = Vec::new();
        let mut items = Vec::new();
        for (id, limit) in self.take_batch(shard) {
            let request = self.requests.get_mut(&id).expect("queued requests are at hand");
            let (work, input) = request.take_work(limit).expect("queued requests have work");
            request.state = State::Running;
            parts.push(Part { request: id, attempt: request.attempt, work });
            items.push(StepItem {
                epoch: shard,
                layers: request.hop().layers,
                blocks: request.blocks.clone(),
                first_position: work.first_position,
                input,
                want: want(request, work),
            });
        }
        self.flight = Some(Flight { shard, parts });
        self.effects.push_back(Effect::Step(items));
    }

    /// Takes the requests of the next step out of their queues, with the rows each may compute.
    fn take_batch(&mut self, shard: Epoch) -> Vec<(RequestId, u32)> {
        let shard = self.shards.held_mut(shard);
        let decode_rows = shard.decode.len().min(shard.batch_max as usize);
        let mut batch: Vec<_> = shard.decode.drain(..decode_rows).map(|id| (id, 1)).collect();
        let mut budget = PREFILL_CHUNK_TOKENS;
        while let Some(id) = shard.prefill.front() {
            let request = &self.requests[id];
            let rows = request.work().expect("queued requests have work").count;
            let fits = rows <= budget || request.is_first() || budget == PREFILL_CHUNK_TOKENS;
            if budget == 0 || !fits {
                break;
            }
            batch.push((*id, budget));
            budget = budget.saturating_sub(rows);
            shard.prefill.pop_front();
        }
        batch
    }

    /// Sends on what the step computed. Outputs of requests that ended meanwhile are dropped.
    ///
    /// # Panics
    ///
    /// If the outputs do not match the items: the compute thread is broken.
    pub(super) fn step_done(&mut self, now: Time, outputs: Vec<StepOutput>) {
        let flight = self.flight.take().expect("a step ends once");
        assert_eq!(outputs.len(), flight.parts.len(), "one output per item");
        for (part, output) in flight.parts.into_iter().zip(outputs) {
            let id = part.request;
            let Some(request) = self.requests.get_mut(&id).filter(|it| it.attempt == part.attempt)
            else {
                if let StepOutput::Rows(tensor) = output {
                    self.effects.push_back(Effect::Drop(tensor));
                }
                continue;
            };
            request.state = State::Idle;
            request.touched_at = now;
            match output {
                StepOutput::Rows(tensor) => self.send_rows(part, tensor),
                StepOutput::Nothing => {}
                StepOutput::Sampled { sampled, top } => self.send_token(part, sampled, top),
            }
            self.enqueue(id);
        }
    }

    /// Gives up every request of a step that failed.
    pub(super) fn step_failed(&mut self) {
        let flight = self.flight.take().expect("a step ends once");
        for Part { request, attempt, .. } in flight.parts {
            if self.requests.get(&request).is_some_and(|it| it.attempt == attempt) {
                self.give_up(request, Refusal::Gap);
            }
        }
    }

    fn send_rows(&mut self, part: Part, tensor: TensorId) {
        let Part { request, attempt, work } = part;
        let to = self.requests[&request].next().expect("the last stage asks for no rows");
        let activations = Activations {
            request,
            attempt,
            first_position: work.first_position,
            count: work.count,
            hidden: self.config.hidden,
            dtype: self.config.dtype,
            phase: work.phase,
            sample: work.sample,
        };
        self.effects.push_back(Effect::SendActivations { to, activations, tensor });
    }

    /// Sends a sampled token to the gateway and, for the next step, to the first stage. The first
    /// stage needs no last token, and a stage that is first and last keeps its tokens itself.
    fn send_token(&mut self, part: Part, sampled: Candidate, top: Vec<Candidate>) {
        let Part { request: id, attempt, .. } = part;
        let request = self.requests.get_mut(&id).expect("its step just ended");
        let position = request.tokens_known();
        request.push_token(position, sampled.token).expect("positions follow each other");
        let finish = finish(request, sampled.token);
        let first = (!request.is_first()).then(|| request.route.first().host);
        let token = Token { request: id, attempt, position, sampled, top, finish };
        if let Some(to) = first.filter(|&it| it != id.gateway && finish.is_none()) {
            let token = Token { top: Vec::new(), ..token.clone() };
            self.effects.push_back(Effect::SendToken { to, token });
        }
        self.effects.push_back(Effect::SendToken { to: id.gateway, token });
        if finish.is_some() {
            self.end(id, attempt);
        }
    }
}

/// What a stage computes rows for.
fn want(request: &Request, work: Work) -> Want {
    if !request.is_last() {
        return Want::Rows;
    }
    if !work.sample {
        return Want::Nothing;
    }
    Want::Sample {
        sampling: request.sampling.clone(),
        history: request.tokens().to_vec(),
        prompt_tokens: request.prompt_tokens,
    }
}

/// Whether `token`, the latest, ends the request.
fn finish(request: &Request, token: u32) -> Option<Finish> {
    if request.sampling.stop_tokens.contains(&token) {
        return Some(Finish::Stop);
    }
    (request.tokens_known() >= request.total_tokens).then_some(Finish::Length)
}
