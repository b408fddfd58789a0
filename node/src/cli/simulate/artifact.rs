//! A scenario under the rules of the Helix artifact, for comparison with the paper.

use std::time::Instant;

use serde_json::json;
use thalweg_sim::helix::{Latency, Outcome, simulate};
use thalweg_sim::scenario::Scenario;

use super::{files, place};
use crate::cli::advice::Advice;

/// What the artifact's model makes of a scenario.
pub(super) struct Artifact {
    policy: &'static str,
    outcome: Outcome,
    prompt: Latency,
    decode: Latency,
    wall_seconds: f64,
}

impl Artifact {
    /// Places the layers as the scenario says, and runs it.
    pub fn run(scenario: &Scenario) -> Result<Self, Advice> {
        let placed = place(scenario)?;
        let theirs = scenario.as_helix(&placed).map_err(files::refused)?;
        let begin = Instant::now();
        let outcome = simulate(&theirs)
            .map_err(|error| Advice::new("the artifact's model cannot run the scenario", error))?;
        let nothing = || {
            Advice::plain("nothing ended in the window")
                .hint("Make `window_seconds` longer, or ask for more.")
        };
        Ok(Self {
            policy: scenario.settings.pack.name,
            prompt: Latency::of(&outcome.prompt_seconds).ok_or_else(nothing)?,
            decode: Latency::of(&outcome.decode_seconds).ok_or_else(nothing)?,
            outcome,
            wall_seconds: begin.elapsed().as_secs_f64(),
        })
    }

    /// As one JSON object. An iteration's time is from the gateway and back to it, so that those of
    /// prompts stand for TTFT without queueing, and the others for TPOT.
    pub fn to_json(&self) -> String {
        let Self { policy, outcome, prompt, decode, wall_seconds } = self;
        let [_, _, ttft_p50, _, ttft_p95] = prompt.percentiles;
        let [_, _, tpot_p50, _, tpot_p95] = decode.percentiles;
        json!({
            "policy": policy,
            "model_as": "helix",
            "decode_tokens_per_second": outcome.decode_tokens_per_second,
            "prompt_tokens_per_second": outcome.prompt_tokens_per_second,
            "prompt_latency_mean_seconds": prompt.mean,
            "decode_latency_mean_seconds": decode.mean,
            "ttft_mean_seconds": prompt.mean,
            "ttft_p50_seconds": ttft_p50,
            "ttft_p95_seconds": ttft_p95,
            "tpot_mean_seconds": decode.mean,
            "tpot_p50_seconds": tpot_p50,
            "tpot_p95_seconds": tpot_p95,
            "accepted": outcome.accepted,
            "rejected": outcome.rejected,
            "finished": outcome.finished,
            "events": outcome.events,
            "wall_seconds": wall_seconds,
            "events_per_second": outcome.events as f64 / wall_seconds.max(f64::MIN_POSITIVE),
        })
        .to_string()
    }

    /// As text.
    pub fn table(&self) -> String {
        let Self { policy, outcome, prompt, decode, wall_seconds } = self;
        let latency = |name: &str, it: &Latency| {
            let [_, _, p50, _, p95] = it.percentiles;
            format!("  {name:<18}{:8.3} s{p50:8.3} s{p95:8.3} s\n", it.mean)
        };
        format!(
            "As the Helix artifact models it, scheduled as {policy}\n\n  decode  {:9.1} tokens/s\n  \
             prompt  {:9.1} tokens/s\n\n                        mean       p50       p95\n{}{}\n  \
             accepted {}, rejected {}, finished {}\n\n{} events in {wall_seconds:.1} s\n",
            outcome.decode_tokens_per_second,
            outcome.prompt_tokens_per_second,
            latency("prompt iteration", prompt),
            latency("decode iteration", decode),
            outcome.accepted,
            outcome.rejected,
            outcome.finished,
            outcome.events
        )
    }
}
