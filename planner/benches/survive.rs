//! What it costs to survive the loss of any one host.
//!
//! `cargo bench -p thalweg-planner --bench survive -- [SECONDS]`
//!
//! For each example cluster and each share `alpha`: the best flow found whose worst single loss keeps
//! `alpha` of it by new weights alone, as CSV. Every worst loss is checked by removing each host in
//! turn and computing the exact flow of the others.

#![allow(clippy::disallowed_methods, reason = "a bench owns the clock")]

use std::error::Error;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use thalweg_planner::cluster::{Choice, parse};
use thalweg_planner::instance::{Instance, Placement};
use thalweg_planner::method::Method;
use thalweg_planner::place::coverage::Coverage;
use thalweg_planner::{flow, survive};

/// Shares of the flow to be kept.
const ALPHAS: [f64; 4] = [0.0, 0.25, 0.5, 0.75];
/// Seed of every search.
const SEED: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    // cargo passes `--bench`.
    let given = std::env::args().skip(1).find_map(|it| it.parse().ok());
    let time = Duration::from_secs_f64(given.unwrap_or(20.0));
    println!("cluster,alpha,flow,worst_kept,share,seconds");
    for cluster in ["single24", "geo24", "hetero42"] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/clusters");
        let text = std::fs::read_to_string(format!("{folder}/{cluster}.toml"))?;
        let instance = parse(&text)?.resolve(&Choice::default())?.instance;
        let start = Coverage.place(&instance, SEED, &mut until(time)).map(|it| it.placement);
        for alpha in ALPHAS {
            let began = Instant::now();
            let found = if alpha > 0.0 {
                let found =
                    survive::search(&instance, alpha, SEED, start.as_ref(), &mut until(time));
                found.map(|it| it.placement)
            } else {
                start.clone()
            };
            let Some(placement) = found.filter(|it| flow::value(&instance, it) > 0.0) else {
                println!("{cluster},{alpha},none,,,{:.1}", began.elapsed().as_secs_f64());
                continue;
            };
            let whole = flow::value(&instance, &placement);
            let kept = worst_by_removal(&instance, &placement);
            let share = kept / whole;
            let seconds = began.elapsed().as_secs_f64();
            println!("{cluster},{alpha},{whole:.1},{kept:.1},{share:.4},{seconds:.1}");
            if share < alpha * (1.0 - 1e-9) {
                return Err(format!("{cluster}: keeps {share} instead of {alpha}").into());
            }
        }
    }
    Ok(())
}

/// Ends a search after so much time.
fn until(time: Duration) -> impl FnMut(thalweg_planner::method::Progress) -> ControlFlow<()> {
    let began = Instant::now();
    move |_| if began.elapsed() > time { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Least exact flow after the loss of any one host.
fn worst_by_removal(instance: &Instance, placement: &Placement) -> f64 {
    let left = |host: usize| {
        let mut left = placement.clone();
        left[host] = None;
        flow::value(instance, &left)
    };
    (0..placement.len()).map(left).fold(f64::INFINITY, f64::min)
}
