//! What the interval program adds to annealing on small clusters, where it can say that no
//! placement is better.
//!
//! `cargo bench -p thalweg-planner --bench programs -- SECONDS` plans generated clusters of 4 to 12
//! hosts, all in one region, with annealing alone and with the program after it, each for up to
//! SECONDS of processor time on one thread, and prints a line of CSV for each.

#![allow(clippy::disallowed_methods)] // A bench owns the clock.

mod series;

use std::error::Error;
use std::ops::ControlFlow;

use series::processor_seconds;
use thalweg_planner::cluster::{Choice, generate};
use thalweg_planner::instance::Instance;
use thalweg_planner::{flow, place};

/// Hosts of the clusters.
const HOSTS: [u32; 4] = [4, 6, 8, 12];
/// Layers of the model, of which each host holds as many as of one with 80.
const LAYERS: [u32; 2] = [8, 24];
/// Seeds of the clusters.
const SEEDS: u64 = 3;
/// Seed of the searches.
const SEED: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let [seconds] = arguments.as_slice() else {
        // Also reached by `cargo test --benches`, which passes nothing.
        println!("usage: programs SECONDS");
        return Ok(());
    };
    let seconds: f64 = seconds.parse()?;
    println!("hosts,seed,layers,method,flow,bound,gap,seconds");
    for (hosts, seed) in HOSTS.iter().flat_map(|&it| (0..SEEDS).map(move |seed| (it, seed))) {
        let mut instance = generate(hosts, seed).resolve(&Choice::default())?.instance;
        instance.hosts.iter_mut().for_each(|it| it.region = 0);
        for layers in LAYERS {
            instance.layers = layers;
            for name in ["annealing", "coverage"] {
                measure(&instance, (hosts, seed, name), seconds)?;
            }
        }
    }
    Ok(())
}

fn measure(
    instance: &Instance,
    (hosts, seed, name): (u32, u64, &str),
    seconds: f64,
) -> Result<(), Box<dyn Error>> {
    let method = place::method(name).ok_or("no method of this name")?;
    let start = processor_seconds();
    let found = method.place(instance, SEED, &mut |_| {
        let on = processor_seconds() - start < seconds;
        if on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let spent = processor_seconds() - start;
    let flow = found.as_ref().map_or(0.0, |it| flow::value(instance, &it.placement));
    let bound = found.and_then(|it| it.bound).unwrap_or(f64::INFINITY);
    let gap = (bound - flow) / bound;
    let layers = instance.layers;
    println!("{hosts},{seed},{layers},{name},{flow:.2},{bound:.2},{gap:.5},{spent:.2}");
    Ok(())
}
