//! What a run shows.

use super::world::{Query, World};

/// What a run shows. Latencies are those of iterations: from the gateway and back to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Iterations after the prompt that ended in the window, per second.
    pub decode_tokens_per_second: f64,
    /// Tokens of prompts that ended in the window, per second.
    pub prompt_tokens_per_second: f64,
    /// Seconds of each prompt that ended in the window, in order of its end.
    pub prompt_seconds: Vec<f64>,
    /// Seconds of each later iteration that ended in the window, in order of its end.
    pub decode_seconds: Vec<f64>,
    /// Queries that came in.
    pub issued: usize,
    /// Those that were not rejected.
    pub accepted: usize,
    /// Those that nobody might take.
    pub rejected: usize,
    /// Those that ended before the run did.
    pub finished: usize,
    /// Events entered, also those that the run ended before.
    pub events: u64,
    /// Every query, in order of creation.
    pub queries: Vec<Record>,
}

/// A query of a run. Times are on the run's clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// When it came in.
    pub created_seconds: f64,
    /// Tokens of its prompt.
    pub prompt_tokens: u32,
    /// Tokens of its answer.
    pub output_tokens: u32,
    /// Whether it was rejected.
    pub rejected: bool,
    /// When its prompt had been computed.
    pub prompt_end_seconds: Option<f64>,
    /// When the last iteration so far had ended.
    pub last_end_seconds: Option<f64>,
    /// Iterations after the prompt so far.
    pub decoded: u32,
    /// Links of its route, as far as known.
    pub route: Vec<u32>,
}

/// Mean and percentiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Mean, in seconds.
    pub mean: f64,
    /// In seconds, below which 5, 25, 50, 75 and 95 % lie.
    pub percentiles: [f64; 5],
}

impl Latency {
    /// Of some seconds; `None` of none. A percentile is the one at its share of the sorted list,
    /// rounded down.
    pub fn of(seconds: &[f64]) -> Option<Self> {
        let mut sorted = seconds.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let count = sorted.len() as f64;
        let at = |share: f64| sorted[((count * share) as usize).min(last)];
        Some(Self {
            mean: seconds.iter().sum::<f64>() / count,
            percentiles: [0.05, 0.25, 0.5, 0.75, 0.95].map(at),
        })
    }
}

/// Counts while a run goes on.
#[derive(Debug)]
pub(super) struct Tally {
    start: f64,
    end: f64,
    prompt_tokens: u64,
    prompt_seconds: Vec<f64>,
    decode_seconds: Vec<f64>,
}

impl Tally {
    /// For a window, both ends inside.
    pub fn new((start, end): (f64, f64)) -> Self {
        let (prompt_seconds, decode_seconds) = (Vec::new(), Vec::new());
        Self { start, end, prompt_tokens: 0, prompt_seconds, decode_seconds }
    }

    /// An iteration ends.
    pub fn count(&mut self, now: f64, query: &Query) {
        if !(self.start..=self.end).contains(&now) {
            return;
        }
        let seconds = now - query.began_seconds;
        if query.is_prompt() {
            self.prompt_seconds.push(seconds);
            self.prompt_tokens += u64::from(query.prompt_tokens);
        } else {
            self.decode_seconds.push(seconds);
        }
    }

    pub fn outcome(self, world: World, events: u64) -> Outcome {
        let window = self.end - self.start;
        let rejected = world.queries.iter().filter(|it| it.rejected).count();
        let ended = |it: &&Query| !it.is_prompt() && it.decoded == it.output_tokens;
        Outcome {
            decode_tokens_per_second: self.decode_seconds.len() as f64 / window,
            prompt_tokens_per_second: self.prompt_tokens as f64 / window,
            prompt_seconds: self.prompt_seconds,
            decode_seconds: self.decode_seconds,
            issued: world.queries.len(),
            accepted: world.queries.len() - rejected,
            rejected,
            finished: world.queries.iter().filter(ended).count(),
            events,
            queries: world.queries.into_iter().map(record).collect(),
        }
    }
}

fn record(query: Query) -> Record {
    Record {
        created_seconds: query.created_seconds,
        prompt_tokens: query.prompt_tokens,
        output_tokens: query.output_tokens,
        rejected: query.rejected,
        prompt_end_seconds: query.prompt_seconds,
        last_end_seconds: query.token_seconds,
        decoded: query.decoded,
        route: query.route,
    }
}
