//! One request, as its gateway knows it.

use std::time::Duration;

use thalweg_wire::{Attempt, Route, Sampling, Token};

use super::Config;
use crate::kv::{BLOCK_TOKENS, columns_for};
use crate::machine::Time;

/// First pause after a refusal; doubles with each that follows.
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
/// Doublings of the pause at most: 1.28 s, about what a stale view of the cluster lasts.
const BACKOFF_DOUBLINGS_MAX: u32 = 6;

/// A request that is not over.
#[derive(Debug)]
pub(super) struct Request {
    /// Prompt, then every token the client was told.
    pub(super) tokens: Vec<u32>,
    pub(super) prompt_tokens: u32,
    pub(super) sampling: Sampling,
    pub(super) priority: u8,
    pub(super) tenant: u64,
    /// When the client asked, in microseconds since 1970.
    pub(super) arrived_us: u64,
    pub(super) attempt: Attempt,
    pub(super) state: State,
    /// Refusals since the last token.
    pub(super) refusals: u32,
    /// Routes that lost it since the last token.
    pub(super) losses: u32,
}

/// What a client asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) prompt: Vec<u32>,
    pub(super) sampling: Sampling,
    pub(super) priority: u8,
    pub(super) tenant: u64,
}

#[derive(Debug)]
pub(super) enum State {
    Waiting(Waiting),
    Running(Running),
}

/// A request without a route.
#[derive(Debug)]
pub(super) struct Waiting {
    /// What its patience counts from.
    pub(super) since: Time,
    /// Set while it pauses after a refusal.
    pub(super) paused_until: Option<Time>,
}

/// A request on a route.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) route: Route,
    /// What its patience counts from if it is refused: the latest token, or the wait before.
    pub(super) since: Time,
    /// When it got the route, or the latest token.
    pub(super) heard_at: Time,
}

/// What a token is to a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Arrival {
    /// The next one.
    New,
    /// One the client has, or of an attempt that was given up.
    Known,
    /// One behind a token that was lost.
    Gap,
}

impl Request {
    /// Creates a request that waits since `now`.
    pub(super) fn new(now: Time, arrived_us: u64, asked: Asked) -> Self {
        let Asked { prompt, sampling, priority, tenant } = asked;
        Self {
            prompt_tokens: u32::try_from(prompt.len()).expect("checked against the context"),
            tokens: prompt,
            sampling,
            priority,
            tenant,
            arrived_us,
            attempt: Attempt(0),
            state: State::Waiting(Waiting { since: now, paused_until: None }),
            refusals: 0,
            losses: 0,
        }
    }

    /// Takes in a token if it is the next one.
    pub(super) fn arrived(&mut self, now: Time, token: &Token) -> Arrival {
        let State::Running(running) = &mut self.state else { return Arrival::Known };
        let next = self.tokens.len() as u64;
        let position = u64::from(token.position);
        if token.attempt != self.attempt || position < next {
            return Arrival::Known;
        }
        if position > next {
            return Arrival::Gap;
        }
        running.heard_at = now;
        running.since = now;
        self.tokens.push(token.sampled.token);
        self.refusals = 0;
        self.losses = 0;
        Arrival::New
    }

    /// How long to pause after one more refusal.
    pub(super) fn next_pause(&mut self) -> Duration {
        let doublings = self.refusals.min(BACKOFF_DOUBLINGS_MAX);
        self.refusals = self.refusals.saturating_add(1);
        BACKOFF_FIRST * (1 << doublings)
    }

    /// Ends a pause.
    pub(super) fn unpause(&mut self) {
        if let State::Waiting(waiting) = &mut self.state {
            waiting.paused_until = None;
        }
    }

    /// KV tokens that each stage reserves for the request: whole blocks for its longest course.
    pub(super) fn kv_tokens(&self) -> u64 {
        let total = self.prompt_tokens.saturating_add(self.sampling.max_tokens);
        u64::from(columns_for(total)) * u64::from(BLOCK_TOKENS)
    }

    /// When something must be done about the request.
    pub(super) fn deadline(&self, config: &Config) -> Time {
        let &Config { patience, stall_after, .. } = config;
        match &self.state {
            State::Waiting(it) => {
                let expired = it.since + patience;
                it.paused_until.map_or(expired, |until: Duration| until.min(expired))
            }
            State::Running(it) => it.heard_at + stall_after,
        }
    }
}
