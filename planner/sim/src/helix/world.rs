//! What policies see and change.

use super::mersenne::Mersenne;
use super::network::Network;
use super::scenario::Length;
use super::stage::{Row, Stage};

/// The state of a run apart from its events.
#[derive(Debug)]
pub(super) struct World {
    pub now: f64,
    pub network: Network,
    pub stages: Vec<Stage>,
    pub queries: Vec<Query>,
    pub draws: Mersenne,
}

/// A query with its iteration: first the prompt, then one for each token of the answer.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub prompt_tokens: u32,
    pub output_tokens: u32,
    pub created_seconds: f64,
    pub rejected: bool,
    /// When the prompt had been computed.
    pub prompt_seconds: Option<f64>,
    /// When the last token so far had been.
    pub token_seconds: Option<f64>,
    pub decoded: u32,
    /// When this iteration began.
    pub began_seconds: f64,
    /// Links of the route, as far as known. Found by the prompt, followed ever after.
    pub route: Vec<u32>,
    /// Links of the route that this iteration has taken.
    pub hops: u32,
    /// When it was sent over the last of them, and with what share.
    pub sent_seconds: f64,
    pub share: f64,
}

impl Query {
    pub fn new((prompt_tokens, output_tokens): Length, created_seconds: f64) -> Self {
        Self {
            prompt_tokens,
            output_tokens,
            created_seconds,
            rejected: false,
            prompt_seconds: None,
            token_seconds: None,
            decoded: 0,
            began_seconds: created_seconds,
            route: Vec::new(),
            hops: 0,
            sent_seconds: created_seconds,
            share: 0.0,
        }
    }

    /// Whether this iteration is the prompt.
    pub fn is_prompt(&self) -> bool {
        self.prompt_seconds.is_none()
    }

    /// Tokens of this iteration.
    pub fn tokens(&self) -> u32 {
        if self.is_prompt() { self.prompt_tokens } else { 1 }
    }

    /// This iteration as a host sees it.
    pub fn row(&self, query: u32) -> Row {
        if self.is_prompt() {
            Row { query, prompt_tokens: self.prompt_tokens, context_tokens: 0 }
        } else {
            let context_tokens = self.prompt_tokens + self.decoded;
            Row { query, prompt_tokens: 0, context_tokens }
        }
    }

    /// The link that this iteration takes next, if that is known.
    pub fn next_link(&self) -> Option<u32> {
        self.route.get(self.hops as usize).copied()
    }

    /// The link that it took last.
    pub fn last_link(&self) -> Option<u32> {
        self.hops.checked_sub(1).map(|it| self.route[it as usize])
    }
}
