//! How far the quick methods get: flow against time on the clusters of the Helix paper.
//!
//! `cargo bench -p thalweg-planner --bench heuristics -- SECONDS [CLUSTER...]` gives every method
//! SECONDS of processor time on one thread, and writes `results/heuristics-CLUSTER.csv` with a point
//! for every better flow. Clusters are files of `examples/clusters` without their ending; single24,
//! hetero42 and geo24 if none is named.

#![allow(clippy::disallowed_methods)] // A bench owns the clock and reads the files it is given.

mod series;

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;

use series::{Series, processor_seconds};
use thalweg_planner::cluster::{self, Choice};
use thalweg_planner::instance::Instance;
use thalweg_planner::{flow, place};

/// Clusters if the command line names none.
const CLUSTERS: [&str; 3] = ["single24", "hetero42", "geo24"];
/// Series and method of each.
const METHODS: [(&str, &str); 5] = [
    ("greedy alone", "greedy"),
    ("annealing alone", "annealing"),
    ("MILP of Helix alone", "milp"),
    ("MILP over ranges alone", "intervals"),
    ("all together", "coverage"),
];
/// A flow must be better by this share to be a point of its own.
const GAIN_MIN: f64 = 1e-4;
/// Seed of every method.
const SEED: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let [seconds, named @ ..] = arguments.as_slice() else {
        // Also reached by `cargo test --benches`, which passes nothing.
        println!("usage: heuristics SECONDS [CLUSTER...]");
        return Ok(());
    };
    let seconds: f64 = seconds.parse()?;
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    for name in if named.is_empty() { &CLUSTERS[..] } else { &named } {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/clusters");
        let text = std::fs::read_to_string(folder.join(name).with_extension("toml"))?;
        let instance = cluster::parse(&text)?.resolve(&Choice::default())?.instance;
        let mut series = Series::new(
            &format!("Flow against time on {name}"),
            ("processor seconds, one thread", "tokens/s, exact at the end of each series"),
            "x",
        );
        for (label, method) in METHODS {
            run(&instance, (label, method), seconds, &mut series)?;
        }
        series.save(&format!("heuristics-{name}"))?;
    }
    Ok(())
}

/// Runs one method for so many seconds, and notes every better flow. The program over ranges knows
/// no links: where they bind, only the exact flow of what it ends with counts.
fn run(
    instance: &Instance,
    (label, method): (&str, &str),
    seconds: f64,
    series: &mut Series,
) -> Result<(), Box<dyn Error>> {
    let blind = method == "intervals" && flow::links_bind(instance);
    let method = place::method(method).ok_or("no method of this name")?;
    let (start, mut best) = (processor_seconds(), 0.0);
    let found = method.place(instance, SEED, &mut |progress| {
        let now = processor_seconds() - start;
        if !blind && progress.flow > best * (1.0 + GAIN_MIN) {
            best = progress.flow;
            series.point(label, now, best);
        }
        if now < seconds { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let now = processor_seconds() - start;
    let value = found.map_or(0.0, |it| flow::value(instance, &it.placement));
    series.point(label, now, value);
    println!("{label}: {value:.1} tokens/s after {now:.2} s");
    Ok(())
}
