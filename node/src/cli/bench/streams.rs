//! `thalweg bench streams`: how much several clients at once get out of a running cluster.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::advice::Advice;
use crate::cli::client::{self, ServerArgs};

/// Words that every prompt repeats, so that prompts have the length of a short question.
const PROMPT: &str = "Tell me everything you know about rivers, lakes and the sea.";

/// Measure the tokens per second of one client, and of several at once
#[derive(Clone, Debug, clap::Args)]
pub struct StreamsArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Clients at once
    #[arg(long, default_value_t = 16)]
    streams: u16,

    /// Tokens each client asks for
    #[arg(long, default_value_t = 64)]
    tokens: u16,

    /// Runs of each kind; the median counts
    #[arg(long, default_value_t = 3)]
    runs: u8,
}

/// What was measured: medians over the runs.
#[derive(Clone, Copy, Debug)]
pub struct StreamsReport {
    streams: u16,
    single: Rates,
    several: Rates,
}

/// One kind of run.
#[derive(Clone, Copy, Debug)]
struct Rates {
    /// Tokens of all clients over the time from the first request to the last token.
    tokens_per_s: f64,
    /// Median over clients of the time to their first token.
    ttft: Duration,
}

impl fmt::Display for StreamsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, streams: u16, it: &Rates| {
            let ttft = it.ttft.as_secs_f64();
            writeln!(f, "{streams:>7}  {:>8.1}  {ttft:>6.2}", it.tokens_per_s)
        };
        writeln!(f, "streams  tokens/s  TTFT s")?;
        row(f, 1, &self.single)?;
        row(f, self.streams, &self.several)?;
        writeln!(f, "ratio {:.2}", self.several.tokens_per_s / self.single.tokens_per_s)
    }
}

/// Measures one client and several, alternating.
///
/// # Errors
///
/// If the server is not reached, or refuses a request.
pub fn measure(args: &StreamsArgs) -> Result<StreamsReport, Advice> {
    let runs = usize::from(args.runs.max(1));
    // The first run brings weights and code into reach; its time says nothing.
    run(args, 1)?;
    let (mut single, mut several) = (Vec::with_capacity(runs), Vec::with_capacity(runs));
    for _ in 0..runs {
        single.push(run(args, 1)?);
        several.push(run(args, args.streams)?);
    }
    Ok(StreamsReport { streams: args.streams, single: median(single), several: median(several) })
}

fn median(mut rates: Vec<Rates>) -> Rates {
    rates.sort_by(|a, b| a.tokens_per_s.total_cmp(&b.tokens_per_s));
    rates[rates.len() / 2]
}

fn run(args: &StreamsArgs, streams: u16) -> Result<Rates, Advice> {
    let started = Instant::now();
    let clients: Vec<_> = (0..streams)
        .map(|index| {
            let args = args.clone();
            thread::spawn(move || client_run(&args, index, started))
        })
        .collect();
    let mut firsts = Vec::new();
    let mut tokens = 0;
    for client in clients {
        let answer = client.join().map_err(|_| Advice::plain("a client of the bench failed"))?;
        let (first, count) = answer?;
        firsts.push(first);
        tokens += count;
    }
    firsts.sort_unstable();
    let tokens_per_s = tokens as f64 / started.elapsed().as_secs_f64();
    Ok(Rates { tokens_per_s, ttft: firsts[firsts.len() / 2] })
}

/// Returns when the first token came, and how many came.
fn client_run(args: &StreamsArgs, index: u16, started: Instant) -> Result<(Duration, u64), Advice> {
    let body = json!({
        "prompt": format!("{index}. {PROMPT}"),
        "max_tokens": args.tokens,
        "temperature": 0,
        "ignore_eos": true,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    let ServerArgs { server, api_key } = &args.server;
    let mut first = None;
    let mut tokens = 0;
    for event in client::post_stream(server, "/v1/completions", api_key.as_deref(), &body)? {
        let event: Value = event?;
        first.get_or_insert_with(|| started.elapsed());
        tokens = event["usage"]["completion_tokens"].as_u64().unwrap_or(tokens);
    }
    let nothing = || Advice::plain("the server answered without a token");
    Ok((first.ok_or_else(nothing)?, tokens))
}
