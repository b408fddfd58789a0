//! Prints how fast a model runs here: `cargo run --release --example speed -- model.gguf [threads [f32]]`.
//!
//! Each line is the fastest of several steps, since other programs only ever add time.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use thalweg_engine::{
    BLOCK_TOKENS, Input, Item, LoadOptions, ModelSource, Precision, Shard, Want, profile,
};
use thalweg_wire::{LayerRange, Sampling};

/// Tokens already cached when a decode step is timed.
const CONTEXT: usize = 64;
/// Requests of the largest decode step.
const REQUESTS_MAX: usize = 16;
/// Steps per line.
const RUNS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("name a model file")?;
    let threads = args.next().map_or(Ok(1), |it| it.parse())?;
    let precision = args.next().map_or(Ok(Precision::Stored), |it| it.parse())?;
    let start = Instant::now();
    let source = ModelSource::open(Path::new(&path))?;
    let layers = LayerRange::new(0, u32::try_from(source.config().layers)?)?;
    let columns = REQUESTS_MAX * (CONTEXT / BLOCK_TOKENS + 1) + 1;
    let blocks = u32::try_from(columns)? * layers.count();
    let options = LoadOptions {
        embed: true,
        head: true,
        kv_blocks: blocks,
        threads,
        precision,
        on_progress: &|_| {},
    };
    let mut shard = Shard::load(&source, layers, options)?;
    println!("load {:.2} s, resident {} MB", start.elapsed().as_secs_f64(), resident_mb());
    for requests in [1, 4, 8, REQUESTS_MAX] {
        let time = fastest(&mut shard, requests, 1, CONTEXT)?;
        println!("decode x{requests}: {:.1} tokens/s", requests as f64 / time.as_secs_f64());
    }
    for tokens in [16, 128, 512] {
        let time = fastest(&mut shard, 1, tokens, 0)?;
        println!("prefill {tokens}: {:.1} tokens/s", tokens as f64 / time.as_secs_f64());
    }
    let start = Instant::now();
    println!("{:?}", profile(&mut shard, Duration::from_millis(500))?);
    println!("profile {:.2} s, resident {} MB", start.elapsed().as_secs_f64(), resident_mb());
    Ok(())
}

/// Times a step of `requests` items with `tokens` tokens each, after `context` cached ones.
fn fastest(
    shard: &mut Shard,
    requests: usize,
    tokens: usize,
    context: usize,
) -> Result<Duration, Box<dyn Error>> {
    let layers = shard.layers();
    let blocks_each = (context + tokens).div_ceil(BLOCK_TOKENS) * layers.count() as usize;
    let table: Vec<u32> = (0..u32::try_from(blocks_each * requests)?).collect();
    let (ids, history) = (vec![5; tokens], [5]);
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    let want = Want::Sample { sampling: &sampling, history: &history, prompt_tokens: 1 };
    let (input, first_position) = (Input::Tokens(&ids), u32::try_from(context)?);
    let item = |blocks| Item { blocks, copies: &[], layers, first_position, input, want };
    let items: Vec<Item> = table.chunks(blocks_each).map(item).collect();
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let start = Instant::now();
        shard.step(&items)?;
        best = best.min(start.elapsed());
    }
    Ok(best)
}

/// Memory of this process that is in use, in megabytes.
fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
    line.and_then(|it| it.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1000
}
