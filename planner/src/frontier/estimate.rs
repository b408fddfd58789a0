//! What a placement serves, by a closed loop in a few lines: step times, KV memory, Little's law.
//!
//! At a rate of `X` output tokens/s a host that a share `u` of all tokens visits steps without
//! pause; a step of `t` seconds takes along the tokens that came during the one before:
//!
//! ```text
//! t = layers · (decode(max(X u t, 2)) + prefill(X u t · prompt / output))
//! ```
//!
//! A token waits for half a step and takes one, at each host, and the hops between. A prompt goes in
//! chunks of what prompts arrive during a step, or of `CHUNK_LEAST` where that is little, one more
//! step of the slowest stage each. What is in flight must fit the KV memory of every host, where it
//! stays for as long as tokens of routes through that host take. Batches are taken as paced: convoys,
//! and what a scheduler loses, are for a simulator to find. Good for ranking placements, not for
//! promising.

use crate::Charge;
use crate::cluster::Mix;
use crate::device::Device;
use crate::flow::{self, End, Hop};
use crate::instance::{Instance, Placement};

use super::Score;

/// Share of KV memory that may be in use; the rest is for requests longer than the mean.
const KV_SHARE: f64 = 0.85;

/// A step costs at least as much as one of two decoding requests: weights are read once anyway.
const BATCH_LEAST: f64 = 2.0;

/// Rounds of the step time's fixed point; it shrinks geometrically unless the host is overloaded.
const ROUNDS: usize = 200;

/// A prompt goes in chunks of at least so many tokens.
const CHUNK_LEAST: f64 = 128.0;

/// Parts of the highest rate that are tried, from above, for one that keeps targets.
const SHARES: f64 = 64.0;

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

/// What goes from one stage to another, or from or to the gateways.
#[derive(Clone, Copy)]
struct Arc {
    from: Option<usize>,
    to: Option<usize>,
    /// Share of all tokens.
    share: f64,
    latency_seconds: f64,
}

/// A placement, seen by a token.
pub(super) struct Loop<'a> {
    /// By where their ranges end, so that tokens go from earlier ones to later ones.
    stages: Vec<Stage<'a>>,
    arcs: Vec<Arc>,
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
        let end = |host: usize| placement[host].map_or(0, |it| it.end());
        let (mut through, mut work) = (vec![0.0; hosts], vec![0.0; hosts]);
        for hop in &flow.hops {
            if let End::Host(to) = hop.to {
                let share = hop.tokens_per_second / flow.value;
                through[to] += share;
                work[to] += share * f64::from(end(to).saturating_sub(hop.position));
            }
        }
        let mut visited: Vec<usize> = (0..hosts).filter(|&it| through[it] > 0.0).collect();
        visited.sort_by_key(|&it| end(it));
        let mut stages = Vec::new();
        let mut stage_of = vec![None; hosts];
        for (at, &host) in visited.iter().enumerate() {
            stage_of[host] = Some(at);
            let device = instance.class(host).device.as_ref()?;
            let count = placement[host].map_or(0, |it| it.count()) as usize;
            let batch_max = device.decode_requests_max.get(count).copied().filter(|&it| it > 0);
            stages.push(Stage {
                device,
                share: through[host],
                layers: work[host] / through[host],
                kv_token_layers: device.kv_token_layers.get(count).copied().unwrap_or(0.0),
                batch_max: batch_max.map_or(f64::INFINITY, f64::from),
            });
        }
        let arcs = flow.hops.iter().map(|it| arc(instance, it, &stage_of, flow.value));
        let mut arcs: Vec<Arc> = arcs.collect();
        // What reaches a stage comes before what leaves it.
        arcs.sort_by_key(|it| (it.from.map_or(0, |it| it + 1), it.to));
        let held = (0..hosts).filter(|&it| placement[it].is_some());
        let price_per_hour = held.map(|it| instance.hosts[it].price_per_hour).sum();
        Some(Self { stages, arcs, mix, price_per_hour })
    }

    /// The highest rate of output tokens/s that KV memory and step times allow.
    pub fn most(&self) -> f64 {
        // More than one layer's worth of work in no time is possible nowhere.
        self.highest(0.0, 1e6, |_| true)
    }

    /// The highest rate of output tokens/s at which a score is as wanted; `None` if it is at none.
    pub fn most_with(&self, wanted: impl Fn(&Score) -> bool) -> Option<f64> {
        // What is wanted may fail below as well: a prompt passes more quickly in larger chunks.
        let step = self.most() / SHARES;
        let shares = (1..=SHARES as u32).rev().map(|it| f64::from(it) * step);
        let least = shares.into_iter().find(|&it| self.at(it).is_some_and(|it| wanted(&it)))?;
        Some(self.highest(least, least + step, wanted))
    }

    /// The highest rate from `low`, which is as wanted, up to `high`.
    fn highest(&self, mut low: f64, mut high: f64, wanted: impl Fn(&Score) -> bool) -> f64 {
        for _ in 0..HALVINGS {
            let rate = (low + high) / 2.0;
            if self.at(rate).is_some_and(|it| wanted(&it)) { low = rate } else { high = rate }
        }
        low
    }

    /// What a rate of output tokens/s means. `None` if it is zero or too high.
    pub fn at(&self, rate: f64) -> Option<Score> {
        if rate <= 0.0 {
            return None;
        }
        let Mix { prompt_tokens, output_tokens } = self.mix;
        let prompts = prompt_tokens / output_tokens;
        let steps = self.stages.iter().map(|it| it.step_seconds(rate * it.share, prompts));
        let steps: Vec<f64> = steps.collect::<Option<_>>()?;
        let pairs = || self.stages.iter().zip(&steps);
        let waits: f64 = pairs().map(|(it, step)| it.share * 1.5 * step).sum();
        let hops: f64 = self.arcs.iter().map(|it| it.share * it.latency_seconds).sum();
        let token_seconds = waits + hops;
        let chunk = steps.iter().map(|step| rate * step * prompts).fold(f64::INFINITY, f64::min);
        let chunk = chunk.max(CHUNK_LEAST).min(prompt_tokens.max(1.0));
        let slowest =
            pairs().map(|(it, step)| it.seconds(rate * it.share * step, chunk)).fold(0.0, f64::max);
        let behind = (prompt_tokens / chunk - 1.0).max(0.0) * slowest;
        // Requests in flight, if each of their tokens took so long.
        let requests = |token: f64| rate / output_tokens * (token + behind + output_tokens * token);
        let context = prompt_tokens + output_tokens / 2.0;
        let fits = |(it, &token): (&Stage<'_>, &f64)| {
            requests(token) * it.share * context * it.layers <= KV_SHARE * it.kv_token_layers
        };
        let routes = self.route_seconds(&steps);
        self.stages.iter().zip(&routes).all(fits).then_some(Score {
            tokens_per_second: rate,
            ttft_seconds: token_seconds + behind,
            tpot_seconds: token_seconds,
            in_flight: requests(token_seconds),
            price_per_hour: self.price_per_hour,
        })
    }

    /// How long a token of a route through each stage takes from gateway to gateway, on average
    /// over these routes, where each host sends on by its weights whatever it receives.
    fn route_seconds(&self, steps: &[f64]) -> Vec<f64> {
        let stay = |at: usize| 1.5 * steps[at];
        let mut before = vec![0.0; steps.len()];
        let mut after = vec![0.0; steps.len()];
        let share = |at: usize| self.stages[at].share;
        for arc in &self.arcs {
            let Some(to) = arc.to else { continue };
            let reached = arc.from.map_or(0.0, |it| before[it] + stay(it));
            before[to] += arc.share / share(to) * (reached + arc.latency_seconds);
        }
        for arc in self.arcs.iter().rev() {
            let Some(from) = arc.from else { continue };
            let left = arc.to.map_or(0.0, |it| stay(it) + after[it]);
            after[from] += arc.share / share(from) * (arc.latency_seconds + left);
        }
        (0..steps.len()).map(|at| before[at] + stay(at) + after[at]).collect()
    }
}

/// What a hop carries, as a share of a flow of `whole`.
fn arc(instance: &Instance, hop: &Hop, stage_of: &[Option<usize>], whole: f64) -> Arc {
    let wire = match (hop.from, hop.to) {
        (End::Host(from), End::Host(to)) => instance.wire(from, to),
        (End::Source, End::Host(to)) => instance.network.enter[to],
        (End::Host(from), _) => instance.network.leave[from],
        _ => None,
    };
    let stage = |end: End| match end {
        End::Host(host) => stage_of[host],
        End::Source | End::Sink => None,
    };
    Arc {
        from: stage(hop.from),
        to: stage(hop.to),
        share: hop.tokens_per_second / whole,
        latency_seconds: wire.map_or(0.0, |it| it.latency_seconds),
    }
}

impl Stage<'_> {
    /// Time of a step where so many tokens arrive in a second, each with so many prompt tokens.
    /// `None` if the stage falls behind.
    fn step_seconds(&self, arriving: f64, prompts: f64) -> Option<f64> {
        let mut step = 0.0;
        for _ in 0..ROUNDS {
            let batch = arriving * step;
            let next = self.seconds(batch, batch * prompts);
            if next > STEP_SECONDS_MAX || batch > self.batch_max {
                return None;
            }
            // Rounds to what nobody measures.
            let settled = (next - step).abs() <= 1e-12 * next;
            step = next;
            if settled {
                break;
            }
        }
        Some(step)
    }

    /// Time of a step with so many decoding requests and prompt tokens.
    fn seconds(&self, decoding: f64, prompt_tokens: f64) -> f64 {
        let decode = self.device.decode_seconds(decoding.max(BATCH_LEAST));
        self.layers * (decode + self.device.prefill_seconds(prompt_tokens))
    }
}
