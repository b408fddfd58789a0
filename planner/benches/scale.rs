//! How the default method scales: generated clusters of 50 to 4096 hosts in ten regions.
//!
//! `cargo bench -p thalweg-planner --bench scale [-- HOSTS...]` prints one line of CSV for each size: seconds
//! of the search (on one thread), exact flow, bound, gap, and whether links may bind.

#![allow(clippy::disallowed_methods)] // A bench is there to read the clock.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use thalweg_planner::cluster::{Choice, generate};
use thalweg_planner::method::Method;
use thalweg_planner::place::coverage::Coverage;
use thalweg_planner::{Charge, bound, flow};

/// Hosts if the command line names none.
const HOSTS: [u32; 7] = [50, 100, 200, 500, 1000, 2000, 4096];
/// Seed of the clusters and of the search.
const SEED: u64 = 1;
/// The search ends after this long with the best it has.
const TIME_MAX: Duration = Duration::from_secs(300);

fn main() {
    let named: Vec<u32> = std::env::args().filter_map(|it| it.parse().ok()).collect();
    println!("hosts,seconds,flow,bound,gap,links_bind,judge_seconds");
    for &hosts in if named.is_empty() { &HOSTS[..] } else { &named } {
        measure(hosts);
    }
}

fn measure(hosts: u32) {
    let resolved = generate(hosts, SEED).resolve(&Choice::default());
    let instance = resolved.expect("a generated cluster is valid").instance;
    let start = Instant::now();
    let found = Coverage.place(&instance, SEED, &mut |_| match start.elapsed() < TIME_MAX {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    });
    let seconds = start.elapsed().as_secs_f64();
    let bound = bound::prove(&instance, Charge::Full).value;
    let start = Instant::now();
    let flow = found.map_or(0.0, |it| flow::value(&instance, &it.placement));
    println!(
        "{hosts},{seconds:.2},{flow:.1},{bound:.1},{:.5},{},{:.2}",
        (bound - flow) / bound,
        flow::links_bind(&instance),
        start.elapsed().as_secs_f64(),
    );
}
