//! What it costs to survive the loss of any one host.
//!
//! `cargo bench -p thalweg-planner --bench survive -- [SECONDS]`
//!
//! For each example cluster and each share `alpha`: the best flow found whose worst single loss keeps
//! `alpha` of it by new weights alone, and what no placement with that promise exceeds. Every worst
//! loss is checked by removing each host in turn and computing the exact flow of the others. Writes
//! the flows to `planner/benches/results/survive.csv`, which the bench `plot` draws.

#![allow(clippy::disallowed_methods, reason = "a bench owns the clock")]

use std::error::Error;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use thalweg_planner::cluster::{Choice, parse};
use thalweg_planner::instance::{Instance, Placement};
use thalweg_planner::method::{Method, Progress};
use thalweg_planner::place::blocks;
use thalweg_planner::place::coverage::Coverage;
use thalweg_planner::{flow, survive};

/// Shares of the flow to be kept.
const ALPHAS: [f64; 4] = [0.0, 0.25, 0.5, 0.75];
/// Seed of every search.
const SEED: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    // cargo passes `--bench`.
    let given = std::env::args().skip(1).find_map(|it| it.parse().ok());
    let time = Duration::from_secs_f64(given.unwrap_or(60.0));
    println!("cluster,alpha,flow,at_most,worst_kept,share,seconds");
    let mut csv = head();
    for cluster in ["single24", "geo24", "hetero42"] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/clusters");
        let text = std::fs::read_to_string(format!("{folder}/{cluster}.toml"))?;
        let instance = parse(&text)?.resolve(&Choice::default())?.instance;
        let mut start = None;
        for alpha in ALPHAS {
            let began = Instant::now();
            let limit = survive::limit(&instance, alpha);
            let found = if alpha > 0.0 {
                let found =
                    survive::search(&instance, alpha, SEED, start.as_ref(), &mut until(time));
                found.map(|it| it.placement)
            } else {
                let most = most_flow(&instance, time);
                // Elsewhere the search needs no placement to begin with.
                start = most.clone().filter(|_| flow::links_bind(&instance));
                most
            };
            let seconds = began.elapsed().as_secs_f64();
            writeln!(csv, "{cluster} at most,{alpha},{limit:.1}")?;
            let Some(placement) = found.filter(|it| flow::value(&instance, it) > 0.0) else {
                println!("{cluster},{alpha},none,{limit:.1},,,{seconds:.1}");
                writeln!(csv, "{cluster},{alpha},0")?;
                continue;
            };
            let whole = flow::value(&instance, &placement);
            let kept = worst_by_removal(&instance, &placement);
            let share = kept / whole;
            println!("{cluster},{alpha},{whole:.1},{limit:.1},{kept:.1},{share:.4},{seconds:.1}");
            writeln!(csv, "{cluster},{alpha},{whole:.1}")?;
            if share < alpha * (1.0 - 1e-9) {
                return Err(format!("{cluster}: keeps {share} instead of {alpha}").into());
            }
        }
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("survive.csv"), csv)?;
    Ok(())
}

/// What the plot says.
fn head() -> String {
    let commit = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let commit = commit
        .map_or_else(|_| String::new(), |it| String::from_utf8_lossy(&it.stdout).trim().to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "# title: Flow that keeps a share of itself through the loss of any one host\n\
         # x: share kept by new weights alone\n# y: tokens/s\n\
         # machine: {cores} cores, one thread\n# commit: {commit}\nseries,x,y\n"
    )
}

/// The placement of most flow.
fn most_flow(instance: &Instance, time: Duration) -> Option<Placement> {
    let found = if flow::links_bind(instance) {
        blocks::search(instance, SEED, &mut until(time))
    } else {
        Coverage.place(instance, SEED, &mut until(time))
    };
    found.map(|it| it.placement)
}

/// Ends a search after so much time.
fn until(time: Duration) -> impl FnMut(Progress) -> ControlFlow<()> {
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
