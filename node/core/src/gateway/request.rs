//! One request, as its gateway knows it.

use std::sync::Arc;
use std::time::Duration;

use thalweg_wire::{Attempt, Route, Sampling, Token};

use super::Config;
use super::hosts::whole_columns;
use crate::fair::Place;
use crate::kv::{BLOCK_TOKENS, Chain};
use crate::machine::Time;
use crate::policy::Growth;

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
    /// When the machine looks at it next; never later than its deadline.
    pub(super) armed_at: Option<Time>,
    /// Refusals since the last token.
    pub(super) refusals: u32,
    /// Routes that lost it since the last token.
    pub(super) losses: u32,
    /// Whether a claim on a prefix may be made: not again after one was refused.
    pub(super) claims: bool,
    /// Whether a stage computed any of it.
    pub(super) under_way: bool,
    /// Hashes of its whole columns of tokens, as far as they were asked for.
    hashes: Vec<u64>,
    chain: Chain,
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
    pub(super) turn: Turn,
}

/// Whether a request may be given a route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// When its turn comes.
    Queued(Place),
    /// Not before then, as it was refused.
    Paused(Time),
}

/// A request on a route.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) route: Arc<Route>,
    /// Number of tokens when it was opened.
    pub(super) opened_tokens: u32,
    /// Tokens that it claimed to be held.
    pub(super) claimed_tokens: u32,
    /// KV tokens that were counted as taken on every host of the route.
    pub(super) counted_tokens: u64,
    pub(super) opened_at: Time,
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
    pub(super) fn new(now: Time, turn: Turn, arrived_us: u64, asked: Asked) -> Self {
        let Asked { prompt, sampling, priority, tenant } = asked;
        Self {
            prompt_tokens: u32::try_from(prompt.len()).expect("checked against the context"),
            tokens: prompt,
            sampling,
            priority,
            tenant,
            arrived_us,
            attempt: Attempt(0),
            state: State::Waiting(Waiting { since: now, turn }),
            armed_at: None,
            refusals: 0,
            losses: 0,
            claims: true,
            under_way: false,
            hashes: Vec::new(),
            chain: Chain::new(tenant),
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
        self.claims = true;
        self.under_way = true;
        Arrival::New
    }

    /// How long to pause after one more refusal.
    pub(super) fn next_pause(&mut self) -> Duration {
        let doublings = self.refusals.min(BACKOFF_DOUBLINGS_MAX);
        self.refusals = self.refusals.saturating_add(1);
        BACKOFF_FIRST * (1 << doublings)
    }

    /// Whether it waits, but not for its turn.
    pub(super) const fn is_paused(&self) -> bool {
        matches!(self.state, State::Waiting(Waiting { turn: Turn::Paused(_), .. }))
    }

    /// Length of the sequence so far.
    pub(super) fn known_tokens(&self) -> u32 {
        u32::try_from(self.tokens.len()).expect("bounded by the context")
    }

    /// KV tokens that each stage sets aside when the request opens.
    pub(super) fn kv_tokens(&self, growth: Growth) -> u64 {
        let tokens = match growth {
            Growth::WorstCase => self.prompt_tokens.saturating_add(self.sampling.max_tokens),
            Growth::OnDemand { .. } => self.known_tokens(),
        };
        whole_columns(tokens)
    }

    /// Hashes of the whole columns among the first `tokens` tokens.
    pub(super) fn hashes(&mut self, tokens: u32) -> &[u64] {
        let whole = tokens / BLOCK_TOKENS;
        for at in self.chain.columns()..whole {
            let from = (at * BLOCK_TOKENS) as usize;
            let column = self.tokens[from..].first_chunk().expect("counted as whole");
            self.hashes.push(self.chain.push(column));
        }
        &self.hashes[..whole as usize]
    }

    /// When something must be done about the request.
    pub(super) fn deadline(&self, config: &Config) -> Time {
        match &self.state {
            State::Waiting(it) => {
                let expired = it.since.saturating_add(config.policy.patience);
                match it.turn {
                    Turn::Queued(_) => expired,
                    Turn::Paused(until) => until.min(expired),
                }
            }
            State::Running(it) => it.heard_at.saturating_add(config.stall_after),
        }
    }
}
