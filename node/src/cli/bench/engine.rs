//! `thalweg bench engine`: how fast a model runs on this machine, without a cluster around it.

use std::fmt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use thalweg_engine::{
    BLOCK_TOKENS, ComputeDevice, Input, Item, KvType, LoadOptions, ModelSource, Precision, Shard,
    Want, pull,
};
use thalweg_wire::{LayerRange, Sampling};

use crate::cli::advice::Advice;
use crate::cli::models;
use crate::serve::{self, measure};

/// Bytes that each thread reads to find out how fast memory is: more than caches hold.
const PROBE_BYTES: usize = 256 << 20;

/// Measure how fast a model runs on this machine, without a cluster around it
#[derive(Clone, Debug, clap::Args)]
pub struct EngineArgs {
    /// Model to run: a file, a folder, or a name
    #[arg(long, default_value = pull::DEFAULT_MODEL)]
    model: String,

    /// What to compute with: `cpu`; `cuda`, or `cuda:N` for GPU number N; or `burn`, a slow reference
    #[arg(long, default_value_t = ComputeDevice::Cpu)]
    device: ComputeDevice,

    /// Threads to compute with
    #[arg(long, default_value_t = thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,

    /// How to keep weights: `stored` or `f32`
    #[arg(long, default_value_t = Precision::Stored)]
    weights: Precision,

    /// How to keep keys and values: `f32`, `f16` or `int8`
    #[arg(long, default_value_t = KvType::F16)]
    kv: KvType,

    /// Prompt tokens of a prefill step
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    prefill: u32,

    /// Requests of the decode steps, separated by commas
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 8, 16, 32],
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: Vec<u32>,

    /// Tokens that decoding requests have behind them
    #[arg(long, default_value_t = 64)]
    context: u32,

    /// Runs of each kind, one kind after the other in each round; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct EngineReport {
    model: String,
    device: String,
    threads: usize,
    load_seconds: f64,
    resident_bytes: u64,
    /// Bytes of weights that a step reads.
    weight_bytes: u64,
    /// Of the machine's processors; nobody measures that of a GPU.
    memory_bytes_per_second: Option<f64>,
    prefill: Rate,
    decode: Vec<Rate>,
    #[serde(skip)]
    json: bool,
}

/// Steps of one kind.
#[derive(Clone, Copy, Debug, Serialize)]
struct Rate {
    /// Requests of a step.
    requests: u32,
    /// New tokens of each.
    tokens: u32,
    tokens_per_second: f64,
    /// Share of the time that reading the weights once takes at the speed of the memory, if that is known.
    roofline: Option<f64>,
}

impl fmt::Display for EngineReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.json {
            let text = serde_json::to_string_pretty(self).map_err(|_| fmt::Error)?;
            return writeln!(f, "{text}");
        }
        writeln!(
            f,
            "{} on {}, {} threads: loaded in {:.2} s, {} MB resident, {} MB of weights{}",
            self.model,
            self.device,
            self.threads,
            self.load_seconds,
            self.resident_bytes / 1_000_000,
            self.weight_bytes / 1_000_000,
            self.memory_bytes_per_second
                .map_or_else(String::new, |it| format!(", memory {:.1} GB/s", it / 1e9)),
        )?;
        writeln!(f, "\n{:16}  tokens/s  of roofline", "step")?;
        for rate in std::iter::once(&self.prefill).chain(&self.decode) {
            let what = match rate.tokens {
                1 => format!("decode x{}", rate.requests),
                tokens => format!("prefill {tokens}"),
            };
            write!(f, "{what:16}  {:>8.1}", rate.tokens_per_second)?;
            match rate.roofline {
                Some(share) => writeln!(f, "  {:>8.0} %", share * 100.0)?,
                None => writeln!(f, "           -")?,
            }
        }
        Ok(())
    }
}

/// Measures a model.
///
/// # Errors
///
/// If the model cannot be used, or a step fails.
pub fn measure(args: &EngineArgs) -> Result<EngineReport, Advice> {
    serve::check(args.device, args.kv)?;
    let path = models::pull_with_bar(&args.model)?;
    let begin = Instant::now();
    let mut bench = Bench::load(&path, args)?;
    let load_seconds = begin.elapsed().as_secs_f64();
    let kinds = std::iter::once((1, args.prefill, 0))
        .chain(args.batch.iter().map(|&requests| (requests, 1, args.context)));
    let kinds: Vec<(u32, u32, u32)> = kinds.collect();
    let mut times = vec![Vec::new(); kinds.len()];
    for round in 0..=args.runs {
        for (&(requests, tokens, context), times) in kinds.iter().zip(&mut times) {
            let time = bench.step(requests, tokens, context)?;
            // The first round brings weights and code into reach; its times say nothing.
            if round > 0 {
                times.push(time);
            }
        }
    }
    let weight_bytes = bench.shard.weight_bytes();
    // Zero where the system does not tell. Before the memory is measured, which takes some.
    let resident_bytes = measure::memory("/proc/self/status", "VmRSS").map_or(0, |it| it.0);
    let memory_bytes_per_second = match args.device {
        ComputeDevice::Cuda(_) => None,
        ComputeDevice::Cpu | ComputeDevice::Burn | ComputeDevice::Cube => {
            Some(memory_bytes_per_second(args.threads))
        }
    };
    let rates = kinds.iter().zip(times).map(|(&(requests, tokens, _), times)| {
        let seconds = median(times).as_secs_f64();
        Rate {
            requests,
            tokens,
            tokens_per_second: f64::from(requests * tokens) / seconds,
            roofline: memory_bytes_per_second.map(|it| weight_bytes as f64 / it / seconds),
        }
    });
    let mut rates = rates.collect::<Vec<_>>().into_iter();
    Ok(EngineReport {
        model: bench.name,
        device: args.device.to_string(),
        threads: args.threads,
        load_seconds,
        resident_bytes,
        weight_bytes,
        memory_bytes_per_second,
        prefill: rates.next().expect("prefill is the first kind"),
        decode: rates.collect(),
        json: args.json,
    })
}

/// All layers of a model, and blocks for the largest step.
struct Bench {
    shard: Shard,
    name: String,
    blocks: Vec<u32>,
}

impl Bench {
    fn load(path: &Path, args: &EngineArgs) -> Result<Self, Advice> {
        let failed = |source| Advice::new(format!("cannot use model `{}`", path.display()), source);
        let source = ModelSource::open(path).map_err(failed)?;
        let layers = u32::try_from(source.config().layers).unwrap_or(u32::MAX);
        let range = LayerRange::new(0, layers)
            .map_err(|source| Advice::new("there is nothing to measure", source))?;
        let columns = |requests: u32, tokens: u32| requests * tokens.div_ceil(BLOCK_TOKENS as u32);
        let decode = args.batch.iter().map(|&it| columns(it, args.context + 1));
        let kv_blocks = decode.fold(columns(1, args.prefill), u32::max) * layers;
        let options = LoadOptions {
            embed: true,
            head: true,
            device: args.device,
            kv_blocks,
            threads: args.threads,
            precision: args.weights,
            kv_type: args.kv,
            on_progress: &|_| {},
        };
        let shard = Shard::load(&source, range, options)
            .map_err(|source| Advice::new("the model cannot be loaded", source))?;
        source.release_pages();
        Ok(Self { shard, name: source.name(), blocks: (0..kv_blocks).collect() })
    }

    /// Time of a step of `requests` with `tokens` each, behind `context` others; all sample a token.
    fn step(&mut self, requests: u32, tokens: u32, context: u32) -> Result<Duration, Advice> {
        let layers = self.shard.layers();
        let blocks_each = (context + tokens).div_ceil(BLOCK_TOKENS as u32) * layers.count();
        let (ids, history) = (vec![5; tokens as usize], [5]);
        let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
        let want = Want::Sample { sampling: &sampling, history: &history, prompt_tokens: 1 };
        let item = |blocks| Item {
            blocks,
            copies: &[],
            layers,
            first_position: context,
            input: Input::Tokens(&ids),
            want,
        };
        let tables = self.blocks.chunks(blocks_each as usize).take(requests as usize);
        let items: Vec<Item<'_>> = tables.map(item).collect();
        let begin = Instant::now();
        self.shard
            .step(&items)
            .map_err(|source| Advice::new("the step that is measured fails", source))?;
        Ok(begin.elapsed())
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// How fast so many threads read memory together, in bytes/s: the best of three tries.
fn memory_bytes_per_second(threads: usize) -> f64 {
    let buffers: Vec<Vec<u64>> =
        (0..threads.max(1)).map(|it| vec![it as u64 + 1; PROBE_BYTES / 8]).collect();
    let read = || {
        let begin = Instant::now();
        thread::scope(|scope| {
            for buffer in &buffers {
                scope.spawn(|| std::hint::black_box(buffer.iter().fold(0, |sum, it| sum ^ it)));
            }
        });
        (buffers.len() * PROBE_BYTES) as f64 / begin.elapsed().as_secs_f64()
    };
    (0..3).map(|_| read()).fold(0.0, f64::max)
}
