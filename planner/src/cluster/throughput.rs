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
    /// Rates are given.
    Given {
        /// Rates when holding which ends and `k` layers: `[ends][k]`.
        tables: [Vec<f64>; 4],
        /// Curves, which the rates need not follow from.
        device: Option<Device>,
    },
    /// Rates follow from curves and KV memory.
    Measured {
        /// Curves.
        device: Device,
        /// KV capacity in token-layers when holding which ends and `k` layers: `[ends][k]`. Ends
        /// are none, the first layer, the last, both, as in [`Rates`].
        kv_token_layers: [Vec<f64>; 4],
        /// The head takes as long in a decode step as so many layers.
        head_layers: f64,
    },
}

/// Rates of every member in a cluster of all of them. A member without a rate to speak of counts
/// for nothing in the others' mean.
pub(super) fn rates(layers: u32, mix: Mix, members: &[Member]) -> Vec<Rates> {
    let held = held(layers, members);
    let mut paces = starts(mix, members, &held);
    for _ in 0..ROUNDS {
        let loops = loops(layers, mix, members, &held, &paces);
        paces = (members.iter().zip(&held).zip(loops))
            .map(|((it, &k), here)| it.speed.tokens_per_second(here, 0, k) * f64::from(k))
            .collect();
    }
    let loops = loops(layers, mix, members, &held, &paces);
    let rates = |(it, here): (&Member, Loop)| {
        let [middle, first, last, both] = std::array::from_fn(|ends| it.speed.table(here, ends));
        Rates::new(middle, first, last, both)
    };
    members.iter().zip(loops).map(rates).collect()
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
        Speed::Given { tables, .. } => {
            tables[0].get(held as usize).copied().unwrap_or(0.0) * f64::from(held)
        }
        Speed::Measured { device, .. } => mix.tokens() / alone_seconds(device, mix),
    };
    members.iter().zip(held).map(derived).collect()
}

/// Time of a layer for a whole request without company.
fn alone_seconds(device: &Device, mix: Mix) -> f64 {
    device.prefill_seconds(mix.prompt_tokens) + mix.output_tokens * device.decode_seconds(1.0)
}

/// What the closed loop knows of a host and the rest.
#[derive(Clone, Copy)]
struct Loop {
    layers: u32,
    mix: Mix,
    /// Time of a token in a layer here.
    here: f64,
    /// The same over the layers that all hosts hold.
    elsewhere: f64,
}

/// The closed loop as each member sees it, from layers per second.
fn loops(layers: u32, mix: Mix, members: &[Member], held: &[u32], paces: &[f64]) -> Vec<Loop> {
    let (mut seconds, mut weights) = (0.0, 0.0);
    for ((member, &held), &pace) in members.iter().zip(held).zip(paces) {
        if pace > 0.0 {
            let weight = f64::from(member.hosts) * f64::from(held);
            seconds += weight * (1.0 / pace);
            weights += weight;
        }
    }
    let elsewhere = if weights > 0.0 { seconds / weights } else { 1.0 };
    let here = |pace: &f64| if *pace > 0.0 { 1.0 / pace } else { elsewhere };
    paces.iter().map(|pace| Loop { layers, mix, here: here(pace), elsewhere }).collect()
}

impl Loop {
    /// Share of its time in the cluster that a request spends at a holder of `count` layers.
    fn share(self, count: u32) -> f64 {
        let here = f64::from(count) * self.here;
        let rest = f64::from(self.layers.saturating_sub(count)) * self.elsewhere;
        here / (rest + here)
    }
}

impl Speed {
    /// Curves, where rates follow from them.
    pub fn device(self) -> Option<Device> {
        match self {
            Self::Given { device, .. } => device,
            Self::Measured { device, .. } => Some(device),
        }
    }

    fn layers_max(&self) -> u32 {
        let entries = match self {
            Self::Given { tables, .. } => tables[0].len(),
            Self::Measured { kv_token_layers, .. } => kv_token_layers[0].len(),
        };
        u32::try_from(entries.saturating_sub(1)).unwrap_or(u32::MAX)
    }

    fn table(&self, here: Loop, ends: usize) -> Vec<f64> {
        let rate = |count| self.tokens_per_second(here, ends, count);
        std::iter::once(0.0).chain((1..=self.layers_max()).map(rate)).collect()
    }

    /// Tokens/s when holding `count` layers and `ends`; zero if they do not fit.
    fn tokens_per_second(&self, here: Loop, ends: usize, count: u32) -> f64 {
        match self {
            Self::Given { tables, .. } => tables[ends].get(count as usize).copied().unwrap_or(0.0),
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
