//! Times one generation for the metrics.

use std::sync::Arc;
use std::time::Instant;

use crate::metrics::Metrics;

/// Counts the tokens of a generation and the time between them. Dropped before
/// [`end`](Self::end), it counts the generation as aborted.
pub(super) struct Meter {
    metrics: Arc<Metrics>,
    started: Instant,
    first_token: Option<Instant>,
    last_token: Instant,
    tokens: u32,
    ended: bool,
}

impl Meter {
    /// Starts timing a generation with a prompt of `prompt_tokens`.
    pub(super) fn start(metrics: Arc<Metrics>, prompt_tokens: usize) -> Self {
        metrics.requests_waiting.inc();
        metrics.prompt_tokens.inc_by(prompt_tokens as u64);
        metrics.request_prompt_tokens.observe(prompt_tokens as f64);
        let now = Instant::now();
        Self { metrics, started: now, first_token: None, last_token: now, tokens: 0, ended: false }
    }

    /// Takes note of a token.
    pub(super) fn token(&mut self) {
        let now = Instant::now();
        let metrics = &self.metrics;
        metrics.generation_tokens.inc();
        if self.first_token.is_none() {
            self.first_token = Some(now);
            metrics.requests_waiting.dec();
            metrics.requests_running.inc();
            metrics.time_to_first_token.observe((now - self.started).as_secs_f64());
        } else {
            metrics.inter_token_latency.observe((now - self.last_token).as_secs_f64());
        }
        self.last_token = now;
        self.tokens += 1;
    }

    /// Takes note of the end; later calls do nothing.
    pub(super) fn end(&mut self, reason: &'static str) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let metrics = &self.metrics;
        if let Some(first_token) = self.first_token {
            metrics.requests_running.dec();
            metrics.request_decode_time.observe((self.last_token - first_token).as_secs_f64());
        } else {
            metrics.requests_waiting.dec();
        }
        metrics.observe_end(reason, self.started.elapsed(), self.tokens);
    }

    /// Tokens noted.
    pub(super) fn tokens(&self) -> u32 {
        self.tokens
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.end("abort");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_meter_counts_an_abort_and_leaves_no_one_running() {
        let metrics = Metrics::new("m", "h");
        let mut meter = Meter::start(Arc::clone(&metrics), 3);
        assert_eq!((metrics.requests_waiting.get(), metrics.requests_running.get()), (1, 0));
        meter.token();
        assert_eq!((metrics.requests_waiting.get(), metrics.requests_running.get()), (0, 1));
        drop(meter);
        assert_eq!((metrics.requests_waiting.get(), metrics.requests_running.get()), (0, 0));
        assert!(metrics.render().contains(r#"finished_reason="abort"} 1"#));
    }
}
