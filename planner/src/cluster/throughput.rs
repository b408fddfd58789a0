//! `T(k)` from curves and KV memory: the closed-loop fixed point of the Helix paper's artifact
//! (Helix, ASPLOS 2025, repository Thesys-lab/Helix-ASPLOS25), to the last rounding.
//!
//! A host's KV memory holds so many requests; of these a share is at this host at a time, as long as
//! it takes here against elsewhere (Little's law); the batch they make sets the step times, and
//! these set how long a request is here. The estimate therefore depends on the whole cluster. It is
//! iterated a fixed number of times, not to convergence: batches are whole numbers, and with some
//! clusters the iteration ends in a cycle of two.

use crate::device::Device;
use crate::instance::Rates;

/// Mean lengths of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// Tokens of a prompt.
    pub prompt_tokens: f64,
    /// Tokens of an answer.
    pub output_tokens: f64,
}

impl Default for Mix {
    /// The means that the paper plans for.
    fn default() -> Self {
        Self { prompt_tokens: 750.0, output_tokens: 240.0 }
    }
}

impl Mix {
    fn tokens(self) -> f64 {
        self.prompt_tokens + self.output_tokens
    }
}

/// Share of KV memory that is planned to be in use. The rest is for requests longer than the mean.
const KV_SHARE: f64 = 0.3;

/// Rounds of the fixed point before the rates are read off.
const ROUNDS: usize = 10;

/// Where hosts could hold this many times the layers needed, they are taken to hold their typical
/// number, else as many as they can.
const ROOM_TO_SPARE: f64 = 1.2;

/// Which ends of the model a range holds: none, the first layer, the last, both. As in [`Rates`].
const ENDS: std::ops::Range<usize> = 0..4;

/// A kind of hosts.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// How many there are.
    pub hosts: u32,
    /// Layers that such a host holds where there is room to spare.
    pub layers_typical: u32,
    /// Layers per second to start from, in any unit common to all.
    pub start: Option<f64>,
    /// How fast it is.
    pub speed: Speed,
}

/// What a rate comes from.
#[derive(Clone, Debug)]
pub(super) enum Speed {
    /// Rates are given: `[k]`.
    Given(Vec<f64>),
    /// Rates follow from curves and KV memory.
    Measured {
        /// Curves.
        device: Device,
        /// KV capacity in token-layers when holding `k` layers and which ends: `[ends][k]`.
        kv_token_layers: [Vec<f64>; 4],
        /// The head takes as long in a decode step as so many layers.
        head_layers: f64,
    },
}

/// Rates of every member in a cluster of all of them.
pub(super) fn rates(layers: u32, mix: Mix, members: &[Member]) -> Vec<Rates> {
    let held = held(layers, members);
    let mut paces = starts(mix, members, &held);
    for _ in 0..ROUNDS {
        let mean = mean_layer_seconds(members, &held, &paces);
        paces = (0..members.len())
            .map(|at| {
                let here = Here { layers, mix, layer_seconds: 1.0 / paces[at], elsewhere: mean };
                members[at].speed.tokens_per_second(here, 0, held[at]) * f64::from(held[at])
            })
            .map(|pace| pace.max(f64::MIN_POSITIVE))
            .collect();
    }
    let mean = mean_layer_seconds(members, &held, &paces);
    members
        .iter()
        .zip(paces)
        .map(|(member, pace)| {
            let here = Here { layers, mix, layer_seconds: 1.0 / pace, elsewhere: mean };
            let [middle, first, last, both] =
                std::array::from_fn(|ends| member.speed.table(here, ends));
            Rates::new(middle, first, last, both)
        })
        .collect()
}

/// Layers that each member is taken to hold.
fn held(layers: u32, members: &[Member]) -> Vec<u32> {
    let most = |it: &Member| it.speed.layers_max();
    let typical = |it: &Member| it.layers_typical.clamp(1, most(it).max(1));
    let room: f64 = members.iter().map(|it| f64::from(it.hosts) * f64::from(typical(it))).sum();
    let spare = room >= ROOM_TO_SPARE * f64::from(layers);
    members.iter().map(|it| if spare { typical(it) } else { most(it).max(1) }).collect()
}

/// Layers per second to start from: as given if all are, else from the curves of a small batch.
fn starts(mix: Mix, members: &[Member], held: &[u32]) -> Vec<f64> {
    if let Some(given) = members.iter().map(|it| it.start).collect() {
        return given;
    }
    let derived = |(member, &held): (&Member, &u32)| match &member.speed {
        Speed::Given(table) => table.get(held as usize).copied().unwrap_or(0.0) * f64::from(held),
        Speed::Measured { device, .. } => mix.tokens() / alone_seconds(device, mix),
    };
    members.iter().zip(held).map(derived).map(|it| it.max(f64::MIN_POSITIVE)).collect()
}

/// Time of a layer for a whole request without company.
fn alone_seconds(device: &Device, mix: Mix) -> f64 {
    device.prefill_seconds(mix.prompt_tokens) + mix.output_tokens * device.decode_seconds(1.0)
}

/// Time per layer of a token, over the layers that all hosts hold.
fn mean_layer_seconds(members: &[Member], held: &[u32], paces: &[f64]) -> f64 {
    let weights = members.iter().zip(held).map(|(it, &k)| f64::from(it.hosts) * f64::from(k));
    let (mut seconds, mut layers) = (0.0, 0.0);
    for (weight, pace) in weights.zip(paces) {
        seconds += weight * (1.0 / pace);
        layers += weight;
    }
    seconds / layers
}

/// What the closed loop knows of a host and the rest.
#[derive(Clone, Copy)]
struct Here {
    layers: u32,
    mix: Mix,
    layer_seconds: f64,
    elsewhere: f64,
}

impl Here {
    /// Share of its time in the cluster that a request spends at a holder of `count` layers.
    fn share(self, count: u32) -> f64 {
        let here = f64::from(count) * self.layer_seconds;
        let rest = f64::from(self.layers.saturating_sub(count)) * self.elsewhere;
        here / (rest + here)
    }
}

impl Speed {
    fn layers_max(&self) -> u32 {
        let entries = match self {
            Self::Given(table) => table.len(),
            Self::Measured { kv_token_layers, .. } => kv_token_layers[0].len(),
        };
        u32::try_from(entries.saturating_sub(1)).unwrap_or(u32::MAX)
    }

    fn table(&self, here: Here, ends: usize) -> Vec<f64> {
        debug_assert!(ENDS.contains(&ends));
        let rate = |count| self.tokens_per_second(here, ends, count);
        std::iter::once(0.0).chain((1..=self.layers_max()).map(rate)).collect()
    }

    /// Tokens/s when holding `count` layers and `ends`; zero if they do not fit.
    fn tokens_per_second(&self, here: Here, ends: usize, count: u32) -> f64 {
        match self {
            Self::Given(table) => table.get(count as usize).copied().unwrap_or(0.0),
            Self::Measured { device, kv_token_layers, head_layers } => {
                let kv = kv_token_layers[ends].get(count as usize).copied().unwrap_or(0.0);
                let head = if ends >= 2 { *head_layers } else { 0.0 };
                let requests = (KV_SHARE * kv / f64::from(count)).trunc() / here.mix.tokens()
                    * here.share(count);
                closed_loop(device, here.mix, f64::from(count), head, requests)
            }
        }
    }
}

/// Tokens/s of a host where `requests` are present at a time.
///
/// Of a request's steps one is its prompt and the rest make one token each, so that a steady mixed
/// step would hold a fraction of a prompt. The host is taken to run one step with a prompt and then
/// as many without that the lengths come out right. Half-way cases round to even.
fn closed_loop(device: &Device, mix: Mix, layers: f64, head: f64, requests: f64) -> f64 {
    let decoding = requests.round_ties_even();
    if decoding < 1.0 {
        // Less than half a request: one at a time, and nothing to do in between.
        let seconds = layers * alone_seconds(device, mix)
            + head * mix.output_tokens * device.decode_seconds(1.0);
        return requests * mix.tokens() / seconds;
    }
    let prompts = requests / mix.output_tokens;
    let (prompts, prompt_tokens, decoding) = if prompts > 1.0 {
        (1.0, mix.prompt_tokens, mix.output_tokens)
    } else {
        (prompts, (mix.prompt_tokens * prompts).round_ties_even(), decoding)
    };
    let steps = 1.0 / prompts;
    let prefill = device.prefill_seconds((prompt_tokens * steps).trunc());
    let decode = steps * device.decode_seconds(decoding);
    (prompt_tokens + decoding) * steps / (layers * (prefill + decode) + head * decode)
}
