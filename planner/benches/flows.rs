//! How long flows take: the judge of a search, and the flow of least latency with its hops.
//!
//! ```text
//! cargo bench -p thalweg-planner --bench flows [-- HOSTS ...]
//! ```
//!
//! The shipped clusters first, then generated ones of so many hosts, each placed as Petals and as
//! Swarm place them.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads files and the clock")]
#![allow(clippy::unwrap_used, reason = "a benchmark has nobody to tell")]

use std::ops::ControlFlow;
use std::time::Instant;

use thalweg_planner::Charge;
use thalweg_planner::cluster::{self, ClusterFile};
use thalweg_planner::flow::{End, Flow, Judge, maximum};
use thalweg_planner::instance::{Instance, Placement};
use thalweg_planner::place;

/// Work charge is a linear program: on more hosts it is not timed.
const WORK_HOSTS_MAX: usize = 1000;

fn main() {
    println!("cluster placement links_bind | value µs | full ms, work ms | flow hops latency ms");
    for name in ["single24", "geo24", "hetero42"] {
        let path = format!("{}/../examples/clusters/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let file = cluster::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
        run(name, &file);
    }
    for hosts in std::env::args().skip(1).filter_map(|it| it.parse().ok()) {
        run(&format!("{hosts}"), &cluster::generate(hosts, 1));
    }
}

fn run(name: &str, file: &ClusterFile) {
    let instance = file.resolve(&Default::default()).unwrap().instance;
    for method in ["petals", "swarm"] {
        let mut watch = |_| ControlFlow::Continue(());
        let found = place::method(method).unwrap().place(&instance, 1, &mut watch);
        match found {
            Some(found) => line(name, method, &instance, &found.placement),
            None => println!("{name} {method} finds no placement"),
        }
    }
}

fn line(name: &str, method: &str, instance: &Instance, placement: &Placement) {
    let mut judge = Judge::new(instance);
    let rounds = 1 + 20_000 / instance.hosts.len();
    let begin = Instant::now();
    for _ in 0..rounds {
        judge.value(placement);
    }
    let value = begin.elapsed().as_secs_f64() * 1e6 / rounds as f64;
    let begin = Instant::now();
    let full = maximum(instance, placement, Charge::Full);
    let full_ms = begin.elapsed().as_secs_f64() * 1e3;
    let work = (instance.hosts.len() <= WORK_HOSTS_MAX).then(|| {
        let begin = Instant::now();
        maximum(instance, placement, Charge::Work);
        begin.elapsed().as_secs_f64() * 1e3
    });
    println!(
        "{name:9} {method:7} {:5} | {value:8.1} | {full_ms:8.1} {work:8.1?} | {:9.3} {} {}{:.3}",
        judge.links_bind(),
        full.value,
        full.hops.len(),
        if full.least_latency { "" } else { "at most " },
        latency_ms(instance, &full),
    );
}

/// Mean of the links' delays that a token meets, in milliseconds.
fn latency_ms(instance: &Instance, flow: &Flow) -> f64 {
    let seconds = |from, to| match (from, to) {
        (End::Source, End::Host(to)) => instance.network.enter[to],
        (End::Host(from), End::Sink) => instance.network.leave[from],
        (End::Host(from), End::Host(to)) => instance.wire(from, to),
        _ => None,
    };
    let spent = flow.hops.iter().map(|it| {
        it.tokens_per_second * seconds(it.from, it.to).map_or(0.0, |it| it.latency_seconds)
    });
    spent.sum::<f64>() / flow.value.max(f64::MIN_POSITIVE) * 1e3
}
