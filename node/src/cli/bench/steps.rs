//! `thalweg bench steps`: how long steps take here, sustained, beside whatever else runs.
//!
//! What a host measures of itself at its start is the quickest that it can do alone. For a prediction
//! of hosts that share a machine, each is measured while all of them compute.

use std::fmt;
use std::io::{self, BufRead, Write as _};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thalweg_engine::{
    BLOCK_TOKENS, ComputeDevice, Input, Item, KvType, LoadOptions, ModelSource, Precision, Shard,
    Want, sample,
};
use thalweg_wire::{CurvePoint, LayerRange, Profile, Sampling};

use crate::cli::advice::Advice;

/// Prompt tokens of the steps measured.
const PREFILL_TOKENS: [u32; 4] = [16, 32, 64, 128];
/// Decoding requests of the steps measured.
const DECODE_REQUESTS: [u32; 6] = [1, 2, 4, 6, 8, 16];
/// Rows of the heads measured.
const HEAD_ROWS: [u32; 3] = [1, 4, 8];

/// Least share of the time in which steps run: with less, the measurement takes too long.
pub const BUSY_MIN: f64 = 0.05;

/// The golden ratio: its multiples are spread evenly, whatever their number.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// Rounds through all kinds of steps: what disturbs one for a while disturbs all alike.
const ROUNDS: u32 = 3;

/// Measure how long steps take on this machine, beside whatever else runs on it
#[derive(Clone, Debug, clap::Args)]
pub struct StepsArgs {
    /// Model file
    #[arg(long)]
    model: PathBuf,

    /// Layers to measure together
    #[arg(long, default_value_t = 8)]
    layers: u32,

    /// Tokens that decoding requests have behind them
    #[arg(long, default_value_t = 64)]
    context: u32,

    /// Seconds for each kind of step, all rounds together
    #[arg(long, default_value_t = 1.2)]
    seconds: f64,

    /// How to keep weights: `stored` or `f32`
    #[arg(long, default_value_t = Precision::Stored)]
    weights: Precision,

    /// Share of the time in which steps run: after each there is a pause in proportion
    #[arg(long, default_value_t = 1.0, value_parser = busy)]
    busy: f64,

    /// Say `ready` and wait for a line of input before the measurement
    #[arg(long, hide = true)]
    wait: bool,
}

/// Reads the share of the time in which steps run.
fn busy(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (BUSY_MIN..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("must be a number from {BUSY_MIN} to 1")),
    }
}

/// Mean times of steps, printed as JSON.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct StepsReport {
    /// Times per layer; `head_seconds` is that of one row.
    pub profile: Profile,
    /// Times of norm and head for several rows.
    pub head: Vec<CurvePoint>,
    /// Time from the end of a decode step until two other threads have passed something on, in seconds; zero
    /// if steps follow each other without a pause.
    pub pass_on_seconds: f64,
    /// Time from when something is there for a waiting host, until two threads have passed it on and the
    /// next step begins.
    pub take_in_seconds: f64,
}

impl fmt::Display for StepsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        writeln!(f, "{text}")
    }
}

/// Measures steps.
///
/// # Errors
///
/// If the model cannot be used or has fewer layers.
pub fn measure(args: &StepsArgs) -> Result<StepsReport, Advice> {
    let mut bench = Bench::load(args)?;
    if args.wait {
        let waited = writeln!(io::stdout(), "ready")
            .and_then(|()| io::stdout().flush())
            .and_then(|()| io::stdin().lock().read_line(&mut String::new()));
        waited.map_err(|source| Advice::new("nobody waits for the measurement", source))?;
    }
    // The first step brings weights and code into reach; its time says nothing.
    bench.step(1, PREFILL_TOKENS[0], 0)?;
    let rounds = (0..ROUNDS).map(|_| bench.round(args.context)).collect::<Result<Vec<_>, _>>()?;
    Ok(mean(&rounds))
}

/// The mean of several rounds.
fn mean(rounds: &[StepsReport]) -> StepsReport {
    let points = |of: fn(&StepsReport) -> &Vec<CurvePoint>| {
        let first = of(&rounds[0]).iter().enumerate();
        let mean = |(at, it): (usize, &CurvePoint)| {
            let sum: f64 = rounds.iter().map(|round| of(round)[at].seconds).sum();
            CurvePoint { tokens: it.tokens, seconds: sum / rounds.len() as f64 }
        };
        first.map(mean).collect::<Vec<_>>()
    };
    let head = points(|it| &it.head);
    let profile = Profile {
        prefill: points(|it| &it.profile.prefill),
        decode: points(|it| &it.profile.decode),
        head_seconds: head[0].seconds,
    };
    let mean =
        |of: fn(&StepsReport) -> f64| rounds.iter().map(of).sum::<f64>() / rounds.len() as f64;
    StepsReport {
        profile,
        head,
        pass_on_seconds: mean(|it| it.pass_on_seconds),
        take_in_seconds: mean(|it| it.take_in_seconds),
    }
}

/// Layers under measurement.
struct Bench {
    shard: Shard,
    range: LayerRange,
    blocks: Vec<u32>,
    time: Duration,
    /// Mean pause after a step, in times of the step.
    pause: f64,
    relay: Relay,
}

impl Bench {
    fn load(args: &StepsArgs) -> Result<Self, Advice> {
        let path = args.model.display();
        let failed = |source| Advice::new(format!("cannot use model `{path}`"), source);
        let source = ModelSource::open(&args.model).map_err(failed)?;
        let end = u32::try_from(source.config().layers).unwrap_or(u32::MAX);
        let range = LayerRange::new(end.saturating_sub(args.layers), end)
            .map_err(|source| Advice::new("there is nothing to measure", source))?;
        let columns = (args.context + PREFILL_TOKENS[3]) / BLOCK_TOKENS as u32 + 1;
        let kv_blocks = columns * range.count() * DECODE_REQUESTS[5];
        let options = LoadOptions {
            embed: false,
            head: true,
            device: ComputeDevice::Cpu,
            kv_blocks,
            threads: 1,
            precision: args.weights,
            kv_type: KvType::default(),
            on_progress: &|_| {},
        };
        let shard = Shard::load(&source, range, options)
            .map_err(|source| Advice::new("the layers cannot be loaded", source))?;
        source.release_pages();
        let time = Duration::from_secs_f64(args.seconds.clamp(0.01, 3600.0)) / ROUNDS;
        let pause = 1.0 / args.busy - 1.0;
        let relay = Relay::start();
        Ok(Self { shard, range, blocks: (0..kv_blocks).collect(), time, pause, relay })
    }

    /// Measures every kind of step once.
    fn round(&mut self, context: u32) -> Result<StepsReport, Advice> {
        let layers = f64::from(self.range.count());
        let mut report = StepsReport::default();
        for tokens in DECODE_REQUESTS {
            self.relay.forget();
            let seconds = self.seconds(|it| it.step(tokens, 1, context))? / layers;
            report.profile.decode.push(CurvePoint { tokens, seconds });
            // Of all batches alike: most steps of the measurement are short, those of a host are not.
            let (pass_on, take_in) = self.relay.means();
            report.pass_on_seconds += pass_on / DECODE_REQUESTS.len() as f64;
            report.take_in_seconds += take_in / DECODE_REQUESTS.len() as f64;
        }
        for tokens in PREFILL_TOKENS {
            let seconds = self.seconds(|it| it.step(1, tokens, 0))? / layers;
            report.profile.prefill.push(CurvePoint { tokens, seconds });
        }
        for tokens in HEAD_ROWS {
            let seconds = self.seconds(|it| it.head(tokens))?;
            report.head.push(CurvePoint { tokens, seconds });
        }
        Ok(report)
    }

    /// Mean seconds of a run.
    fn seconds(&mut self, run: impl Fn(&mut Self) -> Result<(), Advice>) -> Result<f64, Advice> {
        let (mut ran, mut runs) = (Duration::ZERO, 0);
        while ran < self.time {
            let begin = Instant::now();
            run(self)?;
            let took = begin.elapsed();
            ran += took;
            runs += 1;
            if self.pause > 0.0 {
                self.relay.pause(took.mul_f64(self.pause));
            }
        }
        Ok(ran.as_secs_f64() / f64::from(runs))
    }

    /// A step of `requests` with `tokens` each, behind `context` others.
    fn step(&mut self, requests: u32, tokens: u32, context: u32) -> Result<(), Advice> {
        let rows = vec![0.01; tokens as usize * self.shard.config().hidden];
        let per_request = self.blocks.len() / DECODE_REQUESTS[5] as usize;
        let item = |blocks| Item {
            blocks,
            copies: &[],
            layers: self.range,
            first_position: context,
            input: Input::Rows(&rows),
            want: Want::Rows,
        };
        let items = self.blocks.chunks(per_request).take(requests as usize).map(item);
        let items: Vec<Item<'_>> = items.collect();
        let done = self.shard.step(&items).map(drop);
        done.map_err(|source| Advice::new("the step that is measured fails", source))
    }

    fn head(&mut self, rows: u32) -> Result<(), Advice> {
        let rows = vec![0.01; rows as usize * self.shard.config().hidden];
        let logits = self.shard.logits(&rows);
        let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
        let mut rows = logits.chunks(self.shard.config().vocab);
        let sampled = rows.all(|it| sample(it, &greedy, &[], 0).is_some());
        sampled.then_some(()).ok_or_else(|| Advice::plain("the head's output is not finite"))
    }
}

/// Threads that pass on what a step has made and what the next one begins with, as those of a host do. They
/// share the processor time of the thread that computes, and may have to wait for it.
struct Relay {
    first: mpsc::Sender<(Instant, Duration)>,
    last: mpsc::Receiver<(Duration, Instant)>,
    pass_on: Duration,
    take_in: Duration,
    count: u32,
}

impl Relay {
    fn start() -> Self {
        let (first, from_step) = mpsc::channel::<(Instant, Duration)>();
        let (second, passed) = mpsc::channel::<(Instant, Duration)>();
        let (third, arrived) = mpsc::channel::<(Duration, Instant)>();
        let (fourth, last) = mpsc::channel();
        thread::spawn(move || from_step.into_iter().try_for_each(|it| second.send(it)));
        thread::spawn(move || {
            passed.into_iter().try_for_each(|(ended, pause)| {
                let pass_on = ended.elapsed();
                let due = ended + pause;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                third.send((pass_on, due.max(ended + pass_on)))
            })
        });
        thread::spawn(move || arrived.into_iter().try_for_each(|it| fourth.send(it)));
        Self { first, last, pass_on: Duration::ZERO, take_in: Duration::ZERO, count: 0 }
    }

    /// Waits after a step that ended now until something new has come for the next one, after `mean` on
    /// average: irregularly, as work for a host comes.
    fn pause(&mut self, mean: Duration) {
        let share = (f64::from(self.count) * GOLDEN).fract();
        let pause = mean.mul_f64(-(1.0 - share).ln());
        self.first.send((Instant::now(), pause)).expect("the threads wait for it");
        let (pass_on, due) = self.last.recv().expect("the threads pass it on");
        self.pass_on += pass_on;
        self.take_in += due.elapsed();
        self.count += 1;
    }

    fn forget(&mut self) {
        (self.pass_on, self.take_in, self.count) = (Duration::ZERO, Duration::ZERO, 0);
    }

    /// Mean seconds after a step, and before one.
    fn means(&self) -> (f64, f64) {
        let mean = |it: Duration| it.as_secs_f64() / f64::from(self.count.max(1));
        (mean(self.pass_on), mean(self.take_in))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_averaged_point_by_point() {
        let round = |factor: f64| {
            let point = |tokens, seconds: f64| CurvePoint { tokens, seconds: seconds * factor };
            let decode = vec![point(1, 1.0), point(8, 2.0)];
            let profile = Profile { prefill: vec![point(16, 4.0)], decode, head_seconds: 0.0 };
            let (pass_on_seconds, take_in_seconds) = (factor, 5.0);
            StepsReport { profile, head: vec![point(1, 8.0)], pass_on_seconds, take_in_seconds }
        };
        let mut expected = round(2.0);
        expected.profile.head_seconds = 16.0;
        assert_eq!(mean(&[round(1.0), round(3.0)]), expected);
        assert!(expected.to_string().ends_with("}\n"));
    }
}
