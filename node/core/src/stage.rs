//! One stage of every pipeline this host is part of: admits requests, forms batches, keeps order.
//!
//! ```text
//! Open ----> admitted (blocks of the tokens so far) ----> forwarded to the next stage
//!               |
//! first stage:  tokens of the Open, then each Token ---+
//! other stages: Activations, in order of position -----+--> waiting --> Step --> StepDone
//!                                                             |                    |
//!                 Preempted to the gateway <-- no block left -+                    |
//! not last: Activations to the next stage <----------------------------------------+
//! last:     Token to the gateway and to the first stage <--------------------------+
//! ```
//!
//! At most one step runs at a time, so a block freed while a step runs can only be written again
//! by a later step. Requests grow while they generate. When no block is left, the youngest of the
//! least important requests gives way; as all stages agree on who that is, the oldest of the most
//! important ones always gets on.
//!
//! Every [`TensorId`] that comes in by an event goes out once: consumed by [`Effect::Step`] or
//! [`Effect::SendActivations`], or given up by [`Effect::Drop`].

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thalweg_wire::{Activations, Attempt, DType, Epoch, HostId, Refusal, Refuse, RequestId, Token};

use self::batch::Flight;
use self::ended::Ended;
pub use self::event::{
    Effect, Event, Loaded, Pace, StepInput, StepItem, StepOutput, TensorId, Want,
};
use self::hold::UnderWay;
use self::request::{Request, State};
use self::requests::{Requests, Slot};
use self::shards::Shards;
use crate::machine::{Machine, Time};
use crate::policy::StagePolicy;

mod admission;
mod batch;
mod budget;
mod ended;
mod event;
mod hold;
mod outcome;
mod request;
mod requests;
mod shards;
#[cfg(test)]
mod tests;

/// What a stage knows from the start.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Config {
    /// This host.
    pub me: HostId,
    /// Longest sequence served, in tokens.
    pub context_tokens: u32,
    /// Values per row of activations.
    pub hidden: u32,
    /// Type of the values this stage sends.
    pub dtype: DType,
    /// How long a request may wait for its next frame before its blocks are freed. Only finds
    /// what a lost release left behind, so longer than any gateway waits for a token.
    pub idle_after: Duration,
    /// How it schedules.
    pub policy: StagePolicy,
}

/// Full checks of the invariants in a release build: one every so many events. They look at every
/// block, which a stage of 100,000 blocks does in the time of a hundred events.
const CHECK_EVERY_EVENTS: u64 = 65_536;

/// What a stage counted since it was created.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Requests that gave way because KV ran out.
    pub preemptions: u64,
    /// Tokens of the requests that opened, without those generated here.
    pub prefix_queried_tokens: u64,
    /// Of these, tokens whose KV was there already.
    pub prefix_hit_tokens: u64,
}

/// The requests and layers of one host.
#[derive(Debug)]
pub struct Stage {
    config: Config,
    shards: Shards,
    requests: Requests,
    ended: Ended,
    /// The step that runs now.
    flight: Option<Flight>,
    /// The layers that computed last; others go first.
    stepped: Epoch,
    /// Steps begun, modulo 2^32.
    steps: u32,
    under_way: UnderWay,
    /// Until when work waits for rows that belong to the same step.
    held_until: Option<Time>,
    /// No request idles for too long before this.
    idle_check_at: Option<Time>,
    counters: Counters,
    effects: VecDeque<Effect>,
    events: u64,
}

impl Stage {
    /// Creates a stage without layers.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            shards: Shards::default(),
            requests: Requests::default(),
            ended: Ended::default(),
            flight: None,
            stepped: Epoch::default(),
            steps: 0,
            under_way: UnderWay::default(),
            held_until: None,
            idle_check_at: None,
            counters: Counters::default(),
            effects: VecDeque::new(),
            events: 0,
        }
    }

    /// KV tokens (of all layers) that could still be taken under the latest plan; cached prefixes
    /// that nobody uses count as free.
    pub fn kv_free_tokens(&self) -> u64 {
        self.shards.latest().map_or(0, |shard| shard.kv_free_tokens())
    }

    /// Requests that hold blocks.
    pub fn requests(&self) -> usize {
        self.requests.len()
    }

    /// Time until rows of a prompt that arrive now would be computed under the latest plan, in
    /// microseconds, if steps go on as they did.
    pub fn queue_us(&self) -> u64 {
        let running = u64::from(self.flight.is_some());
        self.shards.latest().map_or(0, |shard| shard.queue_us(running, self.config.policy))
    }

    /// What was counted so far.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Asserts what must hold between events.
    ///
    /// # Panics
    ///
    /// If a block leaked, a request with work is not queued, or work waits while nothing runs.
    pub fn check(&self) {
        for (_, request) in self.requests.iter() {
            let (id, work) = (request.id, request.has_work());
            assert!(work || !request.state.is_queued(), "{id} is queued for nothing");
            assert!(!work || request.state != State::Idle, "{id} has work but is idle");
            assert!(request.tokens_known() <= request.total_tokens, "{id} grew past its end");
        }
        self.requests.check();
        self.shards.check(&self.requests);
        let running = self.requests.iter().filter(|(_, it)| it.state == State::Running).count();
        match &self.flight {
            Some(flight) => assert!(running <= flight.parts.len()),
            None => {
                let waits = self.held_until.is_some() || !self.shards.any_queued();
                assert!(running == 0 && waits, "work waits for nothing");
            }
        }
    }

    fn token(&mut self, now: Time, token: &Token) {
        let Some(slot) = self.requests.find(token.request) else { return };
        let request = &mut self.requests[slot];
        if request.attempt != token.attempt || !request.takes_tokens() {
            return;
        }
        request.touched_at = now;
        if token.finish.is_some() {
            return self.end(slot);
        }
        match request.push_token(token.position, token.sampled.token) {
            Ok(()) => self.enqueue(slot),
            Err(request::Gap) => self.give_up(slot, Refusal::Gap),
        }
    }

    fn activations(&mut self, now: Time, from: HostId, header: Activations, tensor: TensorId) {
        self.rows_arrived(now, from, &header);
        let id = header.request;
        let slot = self.requests.find(id);
        let slot = slot.filter(|&slot| self.requests[slot].attempt == header.attempt);
        let Some(slot) = slot else {
            self.effects.push_back(Effect::Drop(tensor));
            return self.unknown(id, header.attempt);
        };
        let request = &mut self.requests[slot];
        if request.previous() != Some(from) || header.hidden != self.config.hidden {
            return self.effects.push_back(Effect::Drop(tensor));
        }
        request.touched_at = now;
        match request.push_rows(&header, tensor) {
            Ok(None) => self.enqueue(slot),
            Ok(Some(duplicate)) => self.effects.push_back(Effect::Drop(duplicate)),
            Err(request::Gap) => {
                self.effects.push_back(Effect::Drop(tensor));
                self.give_up(slot, Refusal::Gap);
            }
        }
    }

    /// Tells a gateway that its request is not here, unless it ended here: this host restarted, or
    /// the frames before were lost.
    fn unknown(&mut self, id: RequestId, attempt: Attempt) {
        let known = self.requests.find(id).map(|slot| self.requests[slot].attempt);
        let newer = known.is_some_and(|it| it > attempt);
        if !newer && !self.ended.covers(id, attempt) {
            self.refuse(id, attempt, Refusal::Gap);
        }
    }

    /// Queues a request for the next step if it has work and is not queued or running.
    fn enqueue(&mut self, slot: Slot) {
        let request = &mut self.requests[slot];
        if request.state == State::Idle && request.has_work() {
            let shard = self.shards.held_mut(request.shard);
            request.state = shard.enqueue(slot, request);
        }
    }

    /// Ends a request that cannot go on, and tells its gateway why.
    fn give_up(&mut self, slot: Slot, reason: Refusal) {
        let Request { id, attempt, .. } = self.requests[slot];
        self.end(slot);
        self.refuse(id, attempt, reason);
    }

    fn refuse(&mut self, request: RequestId, attempt: Attempt, reason: Refusal) {
        let refuse = Refuse { request, attempt, reason };
        self.effects.push_back(Effect::SendRefuse { to: request.gateway, refuse });
    }

    /// Frees what is held of a request, and remembers that this attempt is over.
    fn end(&mut self, slot: Slot) {
        let Request { id, attempt, .. } = self.requests[slot];
        self.ended.insert(id, attempt);
        self.free(slot);
    }

    fn free(&mut self, slot: Slot) {
        let request = self.requests.remove(slot);
        let tensors = self.shards.held_mut(request.shard).take_back(slot, request);
        self.effects.extend(tensors.map(Effect::Drop));
        if self.requests.len() == 0 {
            self.idle_check_at = None;
        }
    }

    /// Does what follows from the event just taken in: the next step, layers nobody needs.
    fn settle(&mut self, now: Time) {
        self.held_until = None;
        if self.flight.is_none() {
            self.start_step(now);
        }
        let busy = self.flight.as_ref().map(|it| it.shard);
        let gone = self.shards.remove_unneeded(busy);
        self.effects.extend(gone.into_iter().map(|epoch| Effect::Retired { epoch }));
        self.events += 1;
        if cfg!(debug_assertions) || self.events.is_multiple_of(CHECK_EVERY_EVENTS) {
            self.check();
        }
    }

    /// When a request is given up unless something comes for it; `None` while it is computed.
    fn idle_until(&self, request: &Request) -> Option<Time> {
        (request.state == State::Idle)
            .then(|| request.touched_at.saturating_add(self.config.idle_after))
    }
}

impl Machine for Stage {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Loaded(loaded) => self.shards.load(loaded, self.config.policy),
            Event::Kept { epoch, from, pace } => self.shards.keep(epoch, from, pace),
            Event::Retire { epoch } => self.shards.retire(epoch),
            Event::Open { from, open, tokens } => self.open(now, from, open, tokens),
            Event::Activations { from, activations, tensor } => {
                self.activations(now, from, activations, tensor);
            }
            Event::Token(token) => self.token(now, &token),
            Event::Release(release) => self.release(release),
            Event::StepDone { outputs } => self.step_done(now, outputs),
            Event::StepFailed => self.step_failed(),
            // A host that stalls may miss its own heartbeats; whoever can say so is alive.
            Event::HostDown(host) if host == self.config.me => {}
            Event::HostDown(host) => self.host_down(host),
        }
        self.settle(now);
    }

    fn handle_timeout(&mut self, now: Time) {
        if self.idle_check_at.is_some_and(|at| at <= now) {
            let due = |request: &Request| self.idle_until(request).is_some_and(|it| it <= now);
            let idle: Vec<Slot> =
                self.requests.iter().filter(|(_, it)| due(it)).map(|(slot, _)| slot).collect();
            for slot in idle {
                self.give_up(slot, Refusal::Gap);
            }
            // What is computed now can idle only later; so can what is touched meanwhile.
            let busy_until = now.saturating_add(self.config.idle_after);
            let until = |it: &Request| self.idle_until(it).unwrap_or(busy_until);
            self.idle_check_at = self.requests.iter().map(|(_, it)| until(it)).min();
        }
        self.settle(now);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn next_timeout(&self) -> Option<Time> {
        self.idle_check_at.into_iter().chain(self.held_until).min()
    }
}
