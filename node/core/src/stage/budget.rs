//! How much goes into one step: rows of decode by pacing, tokens of prompts by time.

use thalweg_wire::{CurvePoint, LayerRange, Profile};

use super::shards::Shard;
use crate::kv::BLOCK_TOKENS;
use crate::policy::{Pacing, Prefill, StagePolicy};

/// Steps over which prompts that wait are spread. Groups of decode rows go round evenly only if their
/// steps take the same time, so parts of prompts are small while few wait, and large when many do:
/// then most of what a step costs is shared by more of them.
const SPREAD_STEPS: u64 = 32;

/// How long steps take in the layers of a shard, by measured curves.
#[derive(Debug)]
pub(super) struct Curves {
    /// Microseconds for all layers, and tokens of prompts computed in them; never falling.
    prefill: Vec<(f64, f64)>,
    /// Requests that decode, and microseconds for all layers.
    decode: Vec<(f64, f64)>,
    /// Microseconds of norm, head and sampling for one token.
    head_us: f64,
}

impl Curves {
    /// Scales measured curves to `layers`. Only a shard with the head pays for it.
    pub(super) fn new(profile: &Profile, layers: LayerRange, head: bool) -> Self {
        let scale = f64::from(layers.count()) * 1e6;
        let point = |it: &CurvePoint| (f64::from(it.tokens), it.seconds * scale);
        let mut longest = 0.0_f64;
        let turned = |(tokens, us): (f64, f64)| {
            // Measured times waver; more tokens are never taken to be faster.
            longest = longest.max(us);
            (longest, tokens)
        };
        let head_us = if head { profile.head_seconds * 1e6 } else { 0.0 };
        Self {
            prefill: profile.prefill.iter().map(point).map(turned).collect(),
            decode: profile.decode.iter().map(point).collect(),
            head_us,
        }
    }

    /// Time for `rows` decode rows, in microseconds.
    fn decode_us(&self, rows: u32) -> f64 {
        if rows == 0 {
            return 0.0;
        }
        along(&self.decode, f64::from(rows)) + self.head_us * f64::from(rows)
    }

    /// Tokens of prompts that take at most `us` microseconds, rounded down; all without a curve.
    fn prompt_tokens_within(&self, us: f64) -> u32 {
        if self.prefill.is_empty() {
            return u32::MAX;
        }
        // A cast of what is below zero is zero.
        along(&self.prefill, us) as u32
    }
}

/// The value at `x` of a curve through the origin and `points`; beyond the last it goes on straight.
fn along(points: &[(f64, f64)], x: f64) -> f64 {
    let mut before = (0.0, 0.0);
    let mut slope = 0.0;
    for &(x_end, y_end) in points {
        slope = (y_end - before.1) / (x_end - before.0).max(f64::MIN_POSITIVE);
        if x <= x_end {
            break;
        }
        before = (x_end, y_end);
    }
    before.1 + slope * (x - before.0)
}

impl Shard {
    /// Decode rows of one step at most.
    pub(super) fn decode_max(&self, pacing: Pacing) -> u32 {
        let Pacing::MicroBatches { slack } = pacing else { return self.pace.batch_max };
        // Rounded up, so that one request is never held back by the rounding of its share.
        let bound = (self.micro_batch() * slack).ceil() as u32;
        bound.clamp(1, self.pace.batch_max)
    }

    /// Decode rows of an even group: what is here at any time, by the plan's number of groups or if
    /// requests spend the same on all their stages.
    pub(super) fn micro_batch(&self) -> f64 {
        match self.pace.micro_batches {
            0 => self.decode_share as f64 / (1_u64 << 32) as f64,
            groups => f64::from(self.decoding) / f64::from(groups),
        }
    }

    /// Prompt tokens of a step beside `decode_rows` at most.
    pub(super) fn prompt_tokens_max(&self, policy: StagePolicy, decode_rows: u32) -> u32 {
        let step_us = self.pace.step_us;
        if policy.prefill == Prefill::Whole {
            return self.pace.chunk_tokens;
        }
        let most = self.spread().min(self.pace.chunk_tokens);
        if step_us == 0 {
            return most;
        }
        let left = f64::from(step_us) - self.curves.decode_us(decode_rows);
        let within = self.curves.prompt_tokens_within(left);
        // Decode rows may fill every step; a prompt gets on all the same, by a column at a time.
        within.max(BLOCK_TOKENS).min(most)
    }

    /// Prompt tokens of each step that get those that wait done in [`SPREAD_STEPS`]; no limit while
    /// there are no groups that they could hold up.
    fn spread(&self) -> u32 {
        let batch = self.micro_batch();
        if !self.first || batch < 1.0 || f64::from(self.decoding) < 2.0 * batch {
            return u32::MAX;
        }
        let rows = self.prefill_rows.div_ceil(SPREAD_STEPS);
        u32::try_from(rows).unwrap_or(u32::MAX).max(BLOCK_TOKENS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_straight_between_points_and_beyond() {
        let points = [(2.0, 4.0), (4.0, 10.0)];
        for (x, y) in [(0.0, 0.0), (1.0, 2.0), (3.0, 7.0), (4.0, 10.0), (6.0, 16.0)] {
            let found = along(&points, x);
            assert!((found - y).abs() < 1e-9, "{found} at {x}");
        }
        assert!((along(&[], 3.0)).abs() < f64::EPSILON);
    }

    #[test]
    fn time_is_turned_into_tokens() {
        let point = |tokens, seconds| CurvePoint { tokens, seconds };
        let profile = Profile {
            prefill: vec![point(16, 16e-6), point(128, 240e-6)],
            decode: vec![point(1, 5e-6)],
            head_seconds: 1e-6,
        };
        let layers = LayerRange::new(0, 10).expect("not empty");
        let curves = Curves::new(&profile, layers, true);
        assert_eq!(curves.prompt_tokens_within(80.5), 8);
        assert_eq!(curves.prompt_tokens_within(1280.0), 72);
        assert_eq!(curves.prompt_tokens_within(-5.0), 0);
        assert!((curves.decode_us(2) - 102.0).abs() < 1e-9, "the head is paid once, not per layer");
        assert_eq!(
            Curves::new(&Profile::default(), layers, true).prompt_tokens_within(1.0),
            u32::MAX
        );
    }
}
