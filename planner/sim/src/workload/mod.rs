//! Who asks, when, and for how much.
//!
//! Times, lengths and contents are drawn from generators of their own, so that the n-th request is the
//! same request whatever the cluster does with those before it.

mod lengths;
mod rates;

use std::f64::consts::TAU;

use fastrand::Rng;

use crate::agenda::{Nanos, nanos, seconds};
pub use lengths::{Length, Lengths};
use rates::Rate;

/// What is asked of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// When.
    pub arrivals: Arrivals,
    /// How much.
    pub lengths: Lengths,
    /// Prompts that begin alike.
    pub prefixes: Option<Prefixes>,
    /// Prompts that are longer for a while.
    pub longer: Option<Longer>,
    /// Seeds all draws.
    pub seed: u64,
}

/// When requests come.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// Each on its own, at a mean rate.
    Poisson {
        /// Requests per second.
        per_second: f64,
    },
    /// The same, but `factor` times as many for the first seconds of each period.
    Bursts {
        /// Requests per second between bursts.
        per_second: f64,
        /// From the beginning of a burst to that of the next.
        every_seconds: f64,
        /// How long a burst lasts.
        lasting_seconds: f64,
        /// How much higher the rate is then.
        factor: f64,
    },
    /// Day and night: each gateway's rate swings around the mean, one after the other.
    Diurnal {
        /// Requests per second of all gateways together, on average.
        per_second: f64,
        /// Length of a day.
        period_seconds: f64,
        /// Swing as a share of the mean, at most one.
        depth: f64,
    },
    /// Recorded times, ascending.
    Recorded(Vec<Nanos>),
    /// Users who ask again once they were answered.
    Users {
        /// How many.
        count: u32,
        /// So many of them begin by themselves; whoever got a first token lets another begin, so
        /// that so many at a time come, as fast as they are served.
        start: u32,
        /// The first requests of those are spread over this time.
        ramp_seconds: f64,
        /// Time from an answer to the next request.
        pause_seconds: f64,
    },
    /// There is always more to do: so many requests wait at each gateway.
    Backlog {
        /// How many.
        waiting: u32,
        /// Requests in flight at most, all gateways together.
        in_flight_max: u32,
    },
}

/// Prompts that begin with one of a few system prompts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prefixes {
    /// Share of requests that do.
    pub share: f64,
    /// How many system prompts there are.
    pub count: u32,
    /// Tokens of each; they come on top of the prompt's own.
    pub tokens: u32,
}

/// A while with longer prompts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Longer {
    /// How much longer.
    pub factor: f64,
    /// From when.
    pub from: Nanos,
    /// Until when.
    pub to: Nanos,
}

/// A request to be asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ask {
    /// Counts requests from zero.
    pub serial: u64,
    /// Tokens, those of the system prompt included.
    pub length: Length,
    /// System prompt it begins with, and its tokens.
    pub prefix: Option<(u32, u32)>,
}

/// Draws the requests of a workload.
#[derive(Clone, Debug)]
pub struct Source {
    workload: Workload,
    gateways: usize,
    rate: Option<Rate>,
    times: Rng,
    lengths: Rng,
    contents: Rng,
    asked: u64,
    arrived: usize,
    /// Users that have begun.
    users: u32,
}

impl Source {
    /// Begins a workload that comes in by so many gateways.
    pub fn new(workload: Workload, gateways: usize) -> Self {
        let stream = |salt: u64| {
            Rng::with_seed(workload.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(salt))
        };
        Self {
            rate: Rate::of(&workload.arrivals),
            times: stream(1),
            lengths: stream(2),
            contents: stream(3),
            workload,
            gateways,
            asked: 0,
            arrived: 0,
            users: 0,
        }
    }

    /// The workload.
    pub const fn workload(&self) -> &Workload {
        &self.workload
    }

    /// When, after `now`, the next request comes by itself, and to which gateway. `None` if no more
    /// do, or if users and backlog decide.
    pub fn next_arrival(&mut self, now: Nanos) -> Option<(Nanos, usize)> {
        if let Arrivals::Recorded(times) = &self.workload.arrivals {
            let at = *times.get(self.arrived)?;
            let gateway = self.arrived % self.gateways;
            self.arrived += 1;
            return Some((at.max(now), gateway));
        }
        let (wait, gateway) = self.rate?.draw(seconds(now), self.gateways, &mut self.times);
        Some((now + nanos(wait), gateway))
    }

    /// When each user that begins by itself first asks; empty unless there are users.
    pub fn users(&mut self) -> Vec<Nanos> {
        let Arrivals::Users { count, start, ramp_seconds, .. } = self.workload.arrivals else {
            return Vec::new();
        };
        self.users = start.min(count);
        let at = |user: u32| nanos(ramp_seconds * f64::from(user) / f64::from(self.users));
        (0..self.users).map(at).collect()
    }

    /// Whether one more user begins now that another one got a first token.
    pub fn next_user(&mut self) -> bool {
        let Arrivals::Users { count, .. } = self.workload.arrivals else { return false };
        let more = self.users < count;
        self.users += u32::from(more);
        more
    }

    /// Draws the next request, which is asked at `now`.
    pub fn ask(&mut self, now: Nanos) -> Ask {
        let serial = self.asked;
        self.asked += 1;
        let mut length = self.workload.lengths.draw(serial, &mut self.lengths);
        if let Some(longer) = self.workload.longer.filter(|it| (it.from..it.to).contains(&now)) {
            length.prompt = (f64::from(length.prompt) * longer.factor).round().max(1.0) as u32;
        }
        let (chance, which) = (self.contents.f64(), self.contents.f64());
        let prefix = self.workload.prefixes.filter(|it| chance < it.share).map(|it| {
            length.prompt = length.prompt.saturating_add(it.tokens);
            ((which * f64::from(it.count)) as u32, it.tokens)
        });
        Ask { serial, length, prefix }
    }
}

impl Ask {
    /// The token ids of the prompt: those of a system prompt are alike, all others differ from those
    /// of every other request.
    pub fn prompt(&self) -> Vec<u32> {
        let (which, shared) = self.prefix.unwrap_or((0, 0));
        let id = |position: u32| {
            if position < shared {
                token(u64::from(which) << 1, position)
            } else {
                token(self.serial << 1 | 1, position)
            }
        };
        (0..self.length.prompt).map(id).collect()
    }
}

/// A token id that stands for a text and a position in it.
pub fn token(text: u64, position: u32) -> u32 {
    let mut z = text.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(position) + 1);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z >> 33) as u32
}

/// Share of the mean rate that gateway `gateway` of `gateways` has at `at`, of a day of `period`.
fn daylight(at: f64, period: f64, depth: f64, gateway: usize, gateways: usize) -> f64 {
    let noon = gateway as f64 / gateways as f64;
    1.0 + depth * (TAU * (at / period - noon)).sin()
}

#[cfg(test)]
mod tests;
