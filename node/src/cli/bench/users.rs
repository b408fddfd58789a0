//! `thalweg bench users`: what users get who ask a cluster again once they were answered.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use thalweg_sim::workload::token;

use crate::cli::advice::Advice;
use crate::cli::client::{self, ServerArgs};
use crate::cli::scenario::Asked;
use crate::journal::wall_clock_us;

/// Token ids that any model has: those of prompts are below.
const TOKENS_COMMON: u32 = 1000;
/// Requests of different lengths; then they repeat.
const LENGTHS: u64 = 17 * 33;
/// Before the window: users start in the first half, and get under way in the second.
const RAMP: Duration = Duration::from_secs(10);

/// Measure what users get who ask again once they were answered
///
/// Prompts have 24 to 40 tokens, answers 48 to 80: users who all asked for the same would stay in step.
/// `thalweg status --scenario` asks for the same in a simulation.
#[derive(Clone, Debug, clap::Args)]
pub struct UsersArgs {
    #[command(flatten)]
    server: ServerArgs,

    #[command(flatten)]
    users: Users,
}

/// A closed loop.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Users {
    /// Users who ask again once they were answered
    #[arg(long = "users", default_value_t = 16)]
    pub count: u16,

    /// Seconds that are measured, after ten in which users get under way
    #[arg(long, default_value_t = 60)]
    pub seconds: u16,
}

/// Tokens of the prompt and of the answer of a request.
fn length(serial: u64) -> (u32, u32) {
    // Below a hundred each: nothing is cut off.
    (24 + (serial % LENGTHS * 7 % 17) as u32, 48 + (serial % LENGTHS * 13 % 33) as u32)
}

/// What users got, as the gateway they ask counts it: what ended in the window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Served {
    /// Tokens after the first of each answer, per second.
    pub decode_tokens_per_second: f64,
    /// Mean time from one token of an answer to the next.
    pub tpot_seconds: f64,
    /// Mean time from a request to its first token.
    pub ttft_seconds: f64,
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "decode  {:>8.1} tokens/s", self.decode_tokens_per_second)?;
        writeln!(f, "TPOT    {:>8.1} ms, mean", self.tpot_seconds * 1e3)?;
        writeln!(f, "TTFT    {:>8.1} ms, mean", self.ttft_seconds * 1e3)
    }
}

/// Measures users of a running cluster.
///
/// # Errors
///
/// If the server is not reached or refuses a request.
pub fn measure(args: &UsersArgs) -> Result<Served, Advice> {
    Ok(args.users.run(&args.server, || Ok(()))?.0)
}

impl Users {
    /// The same in the words of a scenario.
    pub(crate) fn asked(&self) -> Asked {
        let to = RAMP + Duration::from_secs(u64::from(self.seconds));
        Asked {
            users: u32::from(self.count),
            ramp_seconds: (RAMP / 2).as_secs_f64(),
            window_seconds: (RAMP.as_secs_f64(), to.as_secs_f64()),
            lengths: (0..LENGTHS).map(length).collect(),
        }
    }

    /// Lets users ask `server`, and `look` at whatever else at the beginning and at the end of the
    /// window.
    ///
    /// # Errors
    ///
    /// If the server is not reached or refuses a request.
    pub(super) fn run<T>(
        &self,
        server: &ServerArgs,
        mut look: impl FnMut() -> Result<T, Advice>,
    ) -> Result<(Served, T, T), Advice> {
        let (serial, over) = (AtomicU64::new(0), AtomicBool::new(false));
        // Another text than that of an earlier run: no prompt may be in a prefix cache.
        let text = wall_clock_us();
        thread::scope(|scope| {
            let users: Vec<_> = (0..self.count)
                .map(|user| {
                    let late = RAMP / 2 * u32::from(user) / u32::from(self.count.max(1));
                    let (serial, over) = (&serial, &over);
                    scope.spawn(move || {
                        thread::sleep(late);
                        until(server, text, serial, over)
                    })
                })
                .collect();
            thread::sleep(RAMP);
            let before = Counted::of(server).and_then(|it| Ok((it, look()?)));
            thread::sleep(Duration::from_secs(u64::from(self.seconds)));
            let after = Counted::of(server).and_then(|it| Ok((it, look()?)));
            over.store(true, Ordering::Relaxed);
            for user in users {
                user.join().map_err(|_| Advice::plain("a user of the bench failed"))??;
            }
            let ((before, first), (after, last)) = (before?, after?);
            Ok((before.until(&after), first, last))
        })
    }
}

/// Asks until it is over.
fn until(
    server: &ServerArgs,
    text: u64,
    serial: &AtomicU64,
    over: &AtomicBool,
) -> Result<(), Advice> {
    while !over.load(Ordering::Relaxed) {
        let serial = serial.fetch_add(1, Ordering::Relaxed);
        let (prompt, output) = length(serial);
        let text = text.wrapping_add(serial);
        let body = json!({
            "prompt": (0..prompt).map(|at| token(text, at) % TOKENS_COMMON).collect::<Vec<_>>(),
            "max_tokens": output,
            "temperature": 0,
            "ignore_eos": true,
            "stream": true,
        });
        let ServerArgs { server, api_key } = server;
        for event in client::post_stream(server, "/v1/completions", api_key.as_deref(), &body)? {
            event?;
            if over.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    Ok(())
}

/// What a gateway has counted.
#[derive(Clone, Copy, Debug)]
struct Counted {
    at: Instant,
    gaps: f64,
    gap_seconds: f64,
    firsts: f64,
    first_seconds: f64,
}

impl Counted {
    fn of(server: &ServerArgs) -> Result<Self, Advice> {
        let text = client::metrics(&server.server, server.api_key.as_deref())?;
        let value = |name: &str| client::metric(&text, name).unwrap_or_default();
        Ok(Self {
            at: Instant::now(),
            gaps: value("vllm:inter_token_latency_seconds_count"),
            gap_seconds: value("vllm:inter_token_latency_seconds_sum"),
            firsts: value("vllm:time_to_first_token_seconds_count"),
            first_seconds: value("vllm:time_to_first_token_seconds_sum"),
        })
    }

    fn until(&self, after: &Self) -> Served {
        let seconds = (after.at - self.at).as_secs_f64();
        let gaps = after.gaps - self.gaps;
        let firsts = after.firsts - self.firsts;
        Served {
            decode_tokens_per_second: gaps / seconds,
            tpot_seconds: (after.gap_seconds - self.gap_seconds) / gaps.max(1.0),
            ttft_seconds: (after.first_seconds - self.first_seconds) / firsts.max(1.0),
        }
    }
}
