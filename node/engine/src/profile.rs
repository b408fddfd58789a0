//! Measures how fast this machine computes a layer, for the planner.

use std::time::{Duration, Instant};

use thalweg_wire::{CurvePoint, LayerRange, Profile};

use crate::kv::BLOCK_TOKENS;
use crate::shard::Shard;
use crate::step::{Input, Item, StepError, Want};

/// Layers a measurement runs: enough that their weights come from memory, few enough to be quick.
const LAYERS_MAX: u32 = 4;
/// Prompt tokens per step measured.
const PREFILL_TOKENS: [u32; 3] = [16, 64, 128];
/// Requests per decode step measured.
const DECODE_REQUESTS: [u32; 5] = [1, 2, 4, 8, 16];
/// Runs of a measurement. The fastest counts: other processes only ever add to it.
const RUNS_MAX: usize = 5;

/// The usual period of a processor quota: what is sustained over this long is sustained for good.
const QUOTA_PERIOD: Duration = Duration::from_millis(100);
/// A slowdown below this is other processes' doing, and passes.
const SLOWDOWN_MIN: f64 = 1.25;

/// A shard that cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// A cache too small for the shortest prompt.
    #[error("shard has {blocks} cache blocks, a measurement needs at least {needed}")]
    Blocks {
        /// Blocks there are.
        blocks: u32,
        /// Blocks needed.
        needed: u32,
    },
    /// A step that failed.
    #[error("cannot run the step that is measured")]
    Step(#[from] StepError),
}

/// Measures prefill and decode curves per layer, and the head if the shard has one.
///
/// Takes about `budget`: each point is measured at least once, and again while its share of the
/// budget lasts; the rest goes into one long run, which shows whether a quota lets the fastest steps
/// through only some of the time. Points for which the cache has too few blocks are left out. Overwrites the blocks:
/// call it before the shard serves.
///
/// # Errors
///
/// If the cache has no room for the smallest measurement.
pub fn profile(shard: &mut Shard, budget: Duration) -> Result<Profile, ProfileError> {
    let points = PREFILL_TOKENS.len() + DECODE_REQUESTS.len() + 1;
    let sustained = budget * 2 / 5;
    let share = (budget - sustained) / u32::try_from(points).expect("few points");
    let mut bench = Bench::new(shard, share);
    let needed = columns_for(PREFILL_TOKENS[0]);
    if bench.columns < needed {
        let needed = needed * bench.layers.count();
        return Err(ProfileError::Blocks { blocks: bench.shard.kv_blocks(), needed });
    }
    // The first step brings weights and code into reach; its time says nothing.
    bench.run(1, PREFILL_TOKENS[0])?;
    let mut profile = Profile::default();
    for tokens in PREFILL_TOKENS {
        if columns_for(tokens) <= bench.columns {
            let seconds = bench.seconds_per_layer(1, tokens)?;
            profile.prefill.push(CurvePoint { tokens, seconds });
        }
    }
    for tokens in DECODE_REQUESTS {
        if tokens <= bench.columns {
            let seconds = bench.seconds_per_layer(tokens, 1)?;
            profile.decode.push(CurvePoint { tokens, seconds });
        }
    }
    bench.run_head();
    profile.head_seconds = bench.head.map_or(0.0, |it| it.as_secs_f64());
    let slowdown = slowdown(&bench.marks(sustained)?);
    for point in profile.prefill.iter_mut().chain(&mut profile.decode) {
        point.seconds *= slowdown;
    }
    profile.head_seconds *= slowdown;
    Ok(profile)
}

/// How much longer steps take over [`QUOTA_PERIOD`] than the fastest alone would, given when each
/// ended. The best stretch counts: other processes only ever add to it.
fn slowdown(marks: &[Instant]) -> f64 {
    let step = marks.windows(2).map(|it| it[1] - it[0]).min().unwrap_or_default();
    let stretch = |from: usize| {
        let steps = (from + 1..marks.len()).find(|&to| marks[to] - marks[from] >= QUOTA_PERIOD)?;
        let alone = step.as_secs_f64() * (steps - from) as f64;
        Some((marks[steps] - marks[from]).as_secs_f64() / alone)
    };
    let best = (0..marks.len()).filter_map(stretch).reduce(f64::min);
    best.filter(|&it| it.is_finite() && it >= SLOWDOWN_MIN).unwrap_or(1.0)
}

fn columns_for(tokens: u32) -> u32 {
    tokens.div_ceil(BLOCK_TOKENS as u32)
}

/// A shard under measurement.
struct Bench<'a> {
    shard: &'a mut Shard,
    layers: LayerRange,
    /// Runs of 16 tokens of these layers that the cache has room for.
    columns: u32,
    /// Time for one point.
    share: Duration,
    /// Fastest run of norm and head for one token.
    head: Option<Duration>,
}

impl<'a> Bench<'a> {
    fn new(shard: &'a mut Shard, share: Duration) -> Self {
        let held = shard.layers();
        // Layer 0 takes tokens; any other layer costs the same and takes rows.
        let first = if held.count() > 1 { held.first().max(1) } else { held.first() };
        let end = held.end().min(first + LAYERS_MAX);
        let layers = LayerRange::new(first, end).expect("first is below the end of what is held");
        let columns = shard.kv_blocks() / layers.count();
        Self { shard, layers, columns, share, head: None }
    }

    fn seconds_per_layer(&mut self, requests: u32, tokens: u32) -> Result<f64, ProfileError> {
        let mut fastest = Duration::MAX;
        let start = Instant::now();
        for _ in 0..RUNS_MAX {
            fastest = fastest.min(self.run(requests, tokens)?);
            if start.elapsed() + fastest > self.share {
                break;
            }
        }
        Ok(fastest.as_secs_f64() / f64::from(self.layers.count()))
    }

    /// Decodes one request for `time`, and returns when each step ended.
    fn marks(&mut self, time: Duration) -> Result<Vec<Instant>, ProfileError> {
        let start = Instant::now();
        let mut marks = vec![start];
        while start.elapsed() < time {
            self.run(1, 1)?;
            marks.push(Instant::now());
        }
        Ok(marks)
    }

    /// Runs one step of `requests` items with `tokens` tokens each.
    ///
    /// The head goes first: its weights push those of the layers out of the processor's cache, where
    /// in a whole model they would not be either.
    fn run(&mut self, requests: u32, tokens: u32) -> Result<Duration, ProfileError> {
        self.run_head();
        let hidden = self.shard.config().hidden;
        let rows = vec![0.01; tokens as usize * hidden];
        let ids = vec![0; tokens as usize];
        let input = if self.layers.first() == 0 { Input::Tokens(&ids) } else { Input::Rows(&rows) };
        let table: Vec<u32> = (0..self.columns * self.layers.count()).collect();
        let per_request = (columns_for(tokens) * self.layers.count()) as usize;
        let item = |blocks| Item {
            blocks,
            copies: &[],
            layers: self.layers,
            first_position: 0,
            input,
            want: Want::Nothing,
        };
        let tables = table.chunks(per_request).take(requests as usize);
        let items: Vec<Item<'_>> = tables.map(item).collect();
        let start = Instant::now();
        self.shard.step(&items)?;
        Ok(start.elapsed())
    }

    /// Runs norm and head for one token, if the shard has them.
    fn run_head(&mut self) {
        if !self.shard.has_head() {
            return;
        }
        let row = vec![0.01; self.shard.config().hidden];
        let start = Instant::now();
        let logits = self.shard.logits(&row);
        let time = start.elapsed();
        assert_eq!(logits.len(), self.shard.config().vocab, "one logit per token");
        self.head = Some(self.head.map_or(time, |it| it.min(time)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks of steps of 5 ms, `run` of them in a row before a pause that fills up 100 ms.
    fn marks(run: u32) -> Vec<Instant> {
        let start = Instant::now();
        let step = Duration::from_millis(5);
        let at = |it: u32| start + QUOTA_PERIOD * (it / run) + step * (it % run);
        (0..3 * run).map(at).collect()
    }

    #[test]
    fn half_of_every_period_is_half_the_speed() {
        let slowdown = slowdown(&marks(10));
        assert!((1.8..=2.0).contains(&slowdown), "{slowdown}");
    }

    #[test]
    fn an_unlimited_machine_is_as_fast_as_its_fastest_step() {
        assert!((slowdown(&marks(20)) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_disturbance_outside_of_some_period_does_not_count() {
        let mut marks = marks(20);
        marks.extend(marks.last().map(|it| *it + Duration::from_millis(90)));
        assert!((slowdown(&marks) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn too_few_steps_say_nothing() {
        assert!((slowdown(&[]) - 1.0).abs() < f64::EPSILON);
        assert!((slowdown(&[Instant::now()]) - 1.0).abs() < f64::EPSILON);
    }
}
