//! How the default method scales: generated clusters of 100 to 4096 hosts in ten regions.
//!
//! `cargo bench -p thalweg-planner --bench scale [-- HOSTS...]` prints one line of CSV for each size:
//! seconds of search and proof on one thread, exact flow, bound, gap, seconds of an exact flow, memory.
//! Writes `results/scale.csv` and `results/scale-gap.csv`.

#![allow(clippy::disallowed_methods)] // A bench is there to read the clock.

mod series;

use std::error::Error;
use std::ops::ControlFlow;
use std::time::Instant;

use series::{Series, memory_peak_megabytes, processor_seconds};
use thalweg_planner::cluster::{Choice, generate};
use thalweg_planner::method::Method;
use thalweg_planner::place::coverage::Coverage;
use thalweg_planner::{Charge, bound, flow};

/// Hosts if the command line names none.
const HOSTS: [u32; 6] = [100, 200, 500, 1000, 2000, 4096];
/// Seed of the clusters and of the search.
const SEED: u64 = 1;
/// The search ends after so much processor time with the best it has.
const SECONDS_MAX: f64 = 300.0;

fn main() -> Result<(), Box<dyn Error>> {
    let named: Vec<u32> = std::env::args().filter_map(|it| it.parse().ok()).collect();
    let hosts = "hosts, of 8 machine types in 10 regions; 80 layers";
    let mut times = Series::new("Time to plan", (hosts, "processor seconds, one thread"), "xy");
    let mut gaps = Series::new("Proved gap", (hosts, "(bound - flow) / bound, in percent"), "x");
    println!("hosts,wall_seconds,processor_seconds,flow,bound,gap,judge_seconds,memory_megabytes");
    for &hosts in if named.is_empty() { &HOSTS[..] } else { &named } {
        let (seconds, gap) = measure(hosts);
        times.point("time", f64::from(hosts), seconds);
        gaps.point("gap", f64::from(hosts), gap * 100.0);
    }
    times.save("scale")?;
    gaps.save("scale-gap")
}

/// Plans a cluster of so many hosts. Returns the processor time it took, and the gap.
fn measure(hosts: u32) -> (f64, f64) {
    let resolved = generate(hosts, SEED).resolve(&Choice::default());
    let instance = resolved.expect("a generated cluster is valid").instance;
    let (start, before) = (Instant::now(), processor_seconds());
    let found = Coverage.place(&instance, SEED, &mut |_| match processor_seconds() - before
        < SECONDS_MAX
    {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    });
    let mut bound = bound::prove(&instance, Charge::Full).value;
    if let Some(proof) = bound::network::prove(&instance, bound) {
        bound = proof.value;
    }
    let (wall, seconds) = (start.elapsed().as_secs_f64(), processor_seconds() - before);
    let before = processor_seconds();
    let flow = found.map_or(0.0, |it| flow::value(&instance, &it.placement));
    let judge = processor_seconds() - before;
    let gap = (bound - flow) / bound;
    println!(
        "{hosts},{wall:.2},{seconds:.2},{flow:.1},{bound:.1},{gap:.5},{judge:.2},{:.0}",
        memory_peak_megabytes(),
    );
    (seconds, gap)
}
