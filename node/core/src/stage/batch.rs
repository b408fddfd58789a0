//! Forms steps, and makes room for them.
//!
//! Decode rows go first, as each is a user waiting for a token; then parts of prompts, as many as
//! plan and time allow. The bound on decode rows is pacing: one large batch that walks the stages
//! would leave all others without work.

use thalweg_wire::{Attempt, Epoch, Phase, Refusal, RequestId};

use super::request::{Request, State, Work};
use super::requests::Slot;
use super::{Effect, Stage, StepItem, Want};
use crate::kv::{BlockCopy, Short};
use crate::machine::Time;
use crate::policy::Prefill;

/// The step that runs.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) shard: Epoch,
    pub(super) started_at: Time,
    /// In the order of the step's items.
    pub(super) parts: Vec<Part>,
}

/// One item of the step that runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) slot: Slot,
    pub(super) request: RequestId,
    pub(super) attempt: Attempt,
    pub(super) work: Work,
}

impl Stage {
    /// Starts a step if any layers have work. Requests that find no room for it give way.
    pub(super) fn start_step(&mut self, now: Time) {
        while let Some(shard) = self.shards.next_queued(self.stepped) {
            self.held_until = self.held_until(shard, now);
            if self.held_until.is_some() {
                return;
            }
            self.stepped = shard;
            let batch = self.take_batch(shard);
            let ready = self.make_room(batch);
            if ready.is_empty() {
                continue;
            }
            let items = ready.into_iter().map(|(part, copies)| (part, self.item(part, copies)));
            let (parts, items) = items.unzip();
            self.steps = self.steps.wrapping_add(1);
            self.flight = Some(Flight { shard, started_at: now, parts });
            self.effects.push_back(Effect::Step(items));
            return;
        }
    }

    /// Takes the requests of the next step out of their queues, with the rows each computes.
    fn take_batch(&mut self, epoch: Epoch) -> Vec<Part> {
        let policy = self.config.policy;
        let shard = self.shards.held_mut(epoch);
        shard.ready_since = None;
        let decode_max = shard.decode_max(policy.pacing) as usize;
        let mut batch = Vec::with_capacity(decode_max.min(shard.decode.len()) + 1);
        while batch.len() < decode_max
            && let Some(slot) = shard.decode.take()
        {
            batch.push(part(slot, &mut self.requests[slot], 1));
        }
        let decode_rows = u32::try_from(batch.len()).expect("bounded by the plan");
        let budget = shard.prompt_tokens_max(policy, decode_rows);
        let limit = |left| if policy.prefill == Prefill::Whole { u32::MAX } else { left };
        let mut left = budget;
        while left > 0
            && let Some(&slot) = shard.prefill.peek()
        {
            let request = &mut self.requests[slot];
            let work = request.work(limit(left)).expect("queued requests have work");
            // What cannot be cut goes alone if it is too long for any step.
            if work.count > left && left < budget {
                break;
            }
            shard.prefill.take();
            shard.dequeued(request.state);
            batch.push(part(slot, request, limit(left)));
            left = left.saturating_sub(work.count);
        }
        batch
    }

    /// Makes the rows of a batch writable. Whoever ranks last gives way to one that finds no
    /// block; the batch goes on without those who did.
    fn make_room(&mut self, batch: Vec<Part>) -> Vec<(Part, Vec<BlockCopy>)> {
        let mut ready = Vec::with_capacity(batch.len());
        let mut gave_way = false;
        for part in batch {
            while self.is_here(part) {
                match self.prepare(part) {
                    Ok(copies) => {
                        ready.push((part, copies));
                        break;
                    }
                    Err(Short { .. }) => {
                        self.preempt_for(part.slot);
                        gave_way = true;
                    }
                }
            }
        }
        if gave_way {
            ready.retain(|&(part, _)| self.is_here(part));
        }
        ready
    }

    fn prepare(&mut self, part: Part) -> Result<Vec<BlockCopy>, Short> {
        let request = &mut self.requests[part.slot];
        let kv = &mut self.shards.held_mut(request.shard).kv;
        kv.prepare(&mut request.table, part.work.first_position, part.work.end())
    }

    /// Takes the blocks of the request that ranks last, which may be the one that needs them. The
    /// first of all is never taken from: with all blocks its own it needs no more.
    fn preempt_for(&mut self, slot: Slot) {
        let shard = self.shards.held_mut(self.requests[slot].shard);
        let last = shard.ranks.last().expect("the one that asks holds blocks").1;
        let victim = if self.config.policy.preemption { last } else { slot };
        self.counters.preemptions += 1;
        self.give_up(victim, Refusal::Preempted);
    }

    /// Whether the request that a part is of still is what it was.
    pub(super) fn is_here(&self, part: Part) -> bool {
        let request = self.requests.get(part.slot);
        request.is_some_and(|it| it.id == part.request && it.attempt == part.attempt)
    }

    fn item(&mut self, part: Part, copies: Vec<BlockCopy>) -> StepItem {
        let request = &mut self.requests[part.slot];
        let input = request.take(part.work);
        StepItem {
            epoch: request.shard,
            layers: request.hop().layers,
            blocks: request.table.blocks().clone(),
            copies,
            first_position: part.work.first_position,
            rows: part.work.count,
            input,
            want: want(request, part.work),
        }
    }
}

/// Takes a request out of its queue for a step.
fn part(slot: Slot, request: &mut Request, limit: u32) -> Part {
    let work = request.work(limit).expect("queued requests have work");
    assert!(work.phase == Phase::Prefill || work.count == 1, "decode steps are of one row");
    request.state = State::Running;
    Part { slot, request: request.id, attempt: request.attempt, work }
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
        history: request.tokens().clone(),
        prompt_tokens: request.prompt_tokens,
    }
}
