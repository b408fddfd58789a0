//! Sends on what comes of steps.

use std::collections::BTreeMap;

use thalweg_wire::{Activations, Candidate, Finish, HostId, Refusal, Token};

use super::batch::Part;
use super::request::{Request, State};
use super::{Effect, Stage, StepOutput, TensorId};
use crate::machine::Time;

impl Stage {
    /// Sends on what the step computed. Outputs of requests that ended meanwhile are dropped.
    ///
    /// # Panics
    ///
    /// If the outputs do not match the items: the compute thread is broken.
    pub(super) fn step_done(&mut self, now: Time, outputs: Vec<StepOutput>) {
        let flight = self.flight.take().expect("a step ends once");
        assert_eq!(outputs.len(), flight.parts.len(), "one output per item");
        self.shards.held_mut(flight.shard).stepped(now.saturating_sub(flight.started_at));
        let mut rows = Vec::new();
        for (part, output) in flight.parts.into_iter().zip(outputs) {
            if !self.is_here(part) {
                if let StepOutput::Rows(tensor) = output {
                    self.effects.push_back(Effect::Drop(tensor));
                }
                continue;
            }
            let request = &mut self.requests[part.slot];
            request.state = State::Idle;
            request.touched_at = now;
            let kv = &mut self.shards.held_mut(flight.shard).kv;
            let (table, tokens) = request.shared();
            kv.publish(table, tokens, part.work.end());
            match output {
                StepOutput::Rows(tensor) => rows.push((part, tensor)),
                StepOutput::Nothing => {}
                StepOutput::Sampled { sampled, top } => {
                    if self.send_token(part, sampled, top).is_some() {
                        self.end(part.slot);
                        continue;
                    }
                }
            }
            self.enqueue(part.slot);
        }
        self.send_rows(rows);
    }

    /// Gives up every request of a step that failed.
    pub(super) fn step_failed(&mut self) {
        let flight = self.flight.take().expect("a step ends once");
        for part in flight.parts {
            if self.is_here(part) {
                self.give_up(part.slot, Refusal::Gap);
            }
        }
    }

    fn send_rows(&mut self, rows: Vec<(Part, TensorId)>) {
        let next = |slot| self.requests[slot].next().expect("the last stage asks for no rows");
        let to: Vec<HostId> = rows.iter().map(|(part, _)| next(part.slot)).collect();
        let mut frames: BTreeMap<HostId, u32> = BTreeMap::new();
        to.iter().for_each(|&it| *frames.entry(it).or_default() += 1);
        for ((part, tensor), to) in rows.into_iter().zip(to) {
            let Part { request, attempt, work, .. } = part;
            let activations = Activations {
                request,
                attempt,
                first_position: work.first_position,
                count: work.count,
                hidden: self.config.hidden,
                dtype: self.config.dtype,
                phase: work.phase,
                sample: work.sample,
                step: self.steps,
                step_frames: frames[&to],
            };
            self.effects.push_back(Effect::SendActivations { to, activations, tensor });
        }
    }

    /// Sends a sampled token to the gateway and, for the next step, to the first stage. The first
    /// stage needs no last token, and a stage that is first and last keeps its tokens itself.
    fn send_token(
        &mut self,
        part: Part,
        sampled: Candidate,
        top: Vec<Candidate>,
    ) -> Option<Finish> {
        let Part { slot, request: id, attempt, .. } = part;
        let request = &mut self.requests[slot];
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
        finish
    }
}

/// Whether `token`, the latest, ends the request.
fn finish(request: &Request, token: u32) -> Option<Finish> {
    if request.sampling.stop_tokens.contains(&token) {
        return Some(Finish::Stop);
    }
    (request.tokens_known() >= request.total_tokens).then_some(Finish::Length)
}
