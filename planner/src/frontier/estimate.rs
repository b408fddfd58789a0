//! What a placement serves, by a closed loop in a few lines: step times, KV memory, Little's law.
//!
//! At a rate of `X` output tokens/s a host that a share `u` of all tokens visits steps without
//! pause; a step of `t` seconds takes along the tokens that came during the one before:
//!
//! ```text
//! t = layers · (decode(max(X u t, 2)) + prefill(X u t · prompt / output))
//! ```
//!
//! A token waits for half a step and takes one, at each host, and the hops between. Prompts go in
//! chunks, so that each is one more token's way behind its slowest stage. What is in flight must fit
//! the KV memory of every host. Batches are taken as paced: convoys, and what a scheduler loses, are
//! for a simulator to find. Good for ranking placements, not for promising.

use crate::Charge;
use crate::cluster::Mix;
use crate::device::Device;
use crate::flow::{self, End};
use crate::instance::{Instance, Placement};

use super::Score;

/// Share of KV memory that may be in use; the rest is for requests longer than the mean.
const KV_SHARE: f64 = 0.85;

/// A step costs at least as much as one of two decoding requests: weights are read once anyway.
const BATCH_LEAST: f64 = 2.0;

/// Rounds of the step time's fixed point; it shrinks geometrically unless the host is overloaded.
const ROUNDS: usize = 200;

/// Halvings of the rate: to a millionth.
const HALVINGS: usize = 40;

/// A step longer than this means a host that falls behind.
const STEP_SECONDS_MAX: f64 = 60.0;

/// How requests pass through one host.
struct Stage<'a> {
    device: &'a Device,
    /// Share of all tokens that visit.
    share: f64,
    /// Layers computed for a visitor, on average.
    layers: f64,
    kv_token_layers: f64,
    /// Decoding requests in one step at most.
    batch_max: f64,
}

/// A placement, seen by a token.
pub(super) struct Loop<'a> {
    stages: Vec<Stage<'a>>,
    hop_seconds: f64,
    mix: Mix,
    price_per_hour: f64,
}

impl<'a> Loop<'a> {
    /// `None` without flow, or if some host's curves are not known.
    pub fn new(instance: &'a Instance, placement: &Placement, mix: Mix) -> Option<Self> {
        let flow = flow::maximum(instance, placement, Charge::Full);
        if flow.value <= 0.0 || mix.output_tokens <= 0.0 {
            return None;
        }
        let hosts = instance.hosts.len();
        let (mut through, mut work) = (vec![0.0; hosts], vec![0.0; hosts]);
        let mut hop_seconds = 0.0;
        for hop in &flow.hops {
            let share = hop.tokens_per_second / flow.value;
            let wire = match (hop.from, hop.to) {
                (End::Host(from), End::Host(to)) => instance.wire(from, to),
                (End::Source, End::Host(to)) => instance.network.enter[to],
                (End::Host(from), _) => instance.network.leave[from],
                _ => None,
            };
            hop_seconds += share * wire.map_or(0.0, |it| it.latency_seconds);
            if let End::Host(to) = hop.to {
                let end = placement[to].map_or(0, |it| it.end());
                through[to] += share;
                work[to] += share * f64::from(end.saturating_sub(hop.position));
            }
        }
        let mut stages = Vec::new();
        for host in (0..hosts).filter(|&it| through[it] > 0.0) {
            let device = instance.class(host).device.as_ref()?;
            let count = placement[host].map_or(0, |it| it.count()) as usize;
            let kv_token_layers = device.kv_token_layers.get(count).copied().unwrap_or(0.0);
            let layers = work[host] / through[host];
            let batch_max = device.decode_requests_max.get(count).copied().filter(|&it| it > 0);
            let batch_max = batch_max.map_or(f64::INFINITY, f64::from);
            let share = through[host];
            stages.push(Stage { device, share, layers, kv_token_layers, batch_max });
        }
        let held = (0..hosts).filter(|&it| placement[it].is_some());
        let price_per_hour = held.map(|it| instance.hosts[it].price_per_hour).sum();
        Some(Self { stages, hop_seconds, mix, price_per_hour })
    }

    /// The score at a share of the highest rate that KV memory and step times allow, and, where
    /// given, the targets.
    pub fn score(&self, share: f64, ttft: Option<f64>, tpot: Option<f64>) -> Option<Score> {
        let keeps = |it: &Score| {
            ttft.is_none_or(|most| it.ttft_seconds <= most)
                && tpot.is_none_or(|most| it.tpot_seconds <= most)
        };
        // More than one layer's worth of work in no time is possible nowhere.
        let (mut low, mut high) = (0.0, 1e6);
        for _ in 0..HALVINGS {
            let rate = (low + high) / 2.0;
            if self.at(rate).is_some_and(|it| keeps(&it)) { low = rate } else { high = rate }
        }
        self.at(low * share).filter(|it| it.tokens_per_second > 0.0)
    }

    /// What a rate of output tokens/s means. `None` if it is too high.
    fn at(&self, rate: f64) -> Option<Score> {
        let Mix { prompt_tokens, output_tokens } = self.mix;
        let (mut token, mut slowest) = (self.hop_seconds, 0.0_f64);
        let mut chunk = f64::INFINITY;
        for stage in &self.stages {
            let arriving = rate * stage.share;
            let prompts = prompt_tokens / output_tokens;
            let mut step = 0.0;
            for _ in 0..ROUNDS {
                let batch = arriving * step;
                let decode = stage.device.decode_seconds(batch.max(BATCH_LEAST));
                let prefill = stage.device.prefill_seconds(batch * prompts);
                let next = stage.layers * (decode + prefill);
                if next > STEP_SECONDS_MAX || batch > stage.batch_max {
                    return None;
                }
                step = next;
            }
            token += 1.5 * step * stage.share;
            slowest = slowest.max(step);
            chunk = chunk.min((arriving * step * prompts / stage.share).max(1.0));
        }
        let ttft_seconds = token + ((prompt_tokens / chunk).max(1.0) - 1.0) * slowest;
        let requests = rate / output_tokens * (ttft_seconds + output_tokens * token);
        let context = prompt_tokens + output_tokens / 2.0;
        let fits = |it: &Stage<'_>| {
            requests * it.share * context * it.layers <= KV_SHARE * it.kv_token_layers
        };
        self.stages.iter().all(fits).then_some(Score {
            tokens_per_second: rate,
            ttft_seconds,
            tpot_seconds: token,
            in_flight: requests,
            price_per_hour: self.price_per_hour,
        })
    }
}
