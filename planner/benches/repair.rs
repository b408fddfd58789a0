//! Repair after the loss of each host: time, flow, loads, time to full coverage.
//!
//! ```text
//! cargo bench -p thalweg-planner --bench repair [-- CLUSTER [HOSTS-TO-LOSE [OFFLINE-SECONDS]]]
//! ```

#![allow(clippy::disallowed_methods, reason = "a benchmark reads files and the clock")]
#![allow(clippy::unwrap_used, reason = "a benchmark has nobody to tell")]

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use thalweg_planner::cluster::{self};
use thalweg_planner::flow::Judge;
use thalweg_planner::instance::{Instance, Placement};
use thalweg_planner::method::Method;
use thalweg_planner::place::coverage::Coverage;
use thalweg_planner::repair::{Change, Repair, fewest_loads, replan};

fn main() {
    let mut args = std::env::args().skip(1).filter(|it| !it.starts_with("--"));
    let name = args.next().unwrap_or_else(|| "hetero42".into());
    let losses: usize = args.next().map_or(usize::MAX, |it| it.parse().unwrap());
    let offline = Duration::from_secs(args.next().map_or(0, |it| it.parse().unwrap()));
    let path = format!("{}/../examples/clusters/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let instance = cluster::parse(&text).unwrap().resolve(&Default::default()).unwrap().instance;
    let begin = Instant::now();
    let old = full(&instance).unwrap();
    let flow = Judge::new(&instance).value(&old);
    println!(
        "{name}: {} hosts, flow {flow:.1} in {:.1} s",
        old.len(),
        begin.elapsed().as_secs_f64()
    );
    println!(
        "host type held | ms | reweighted repaired full share | loads loads/held offline | s to coverage, to flow | stages"
    );
    let stride = (old.len() / losses.min(old.len())).max(1);
    for host in (0..old.len()).step_by(stride).filter(|&it| old[it].is_some()) {
        let begin = Instant::now();
        let repair = replan(&instance, &old, &Change::HostLost { host }, 1);
        let took = begin.elapsed();
        line(&instance, &old, host, &repair, took, offline);
    }
}

fn line(
    instance: &Instance,
    old: &Placement,
    host: usize,
    repair: &Repair,
    took: Duration,
    offline: Duration,
) {
    let full = full(&repair.instance).map_or(0.0, |it| Judge::new(&repair.instance).value(&it));
    let held = old[host].unwrap().count();
    let mut left = old.clone();
    left[host] = None;
    let least = least_loads(&repair.instance, &left, 0.95 * full, offline);
    println!(
        "{host:4} {:5} {held:2} | {:6.0} | {:7.1} {:7.1} {full:7.1} {:.4} | {:3} {:.2} {least:?} | {:.0} {:.0} | {}{}",
        instance.class(host).name,
        took.as_secs_f64() * 1e3,
        repair.flow_reweighted,
        repair.flow_after[1],
        repair.flow_after[1] / full,
        repair.loads,
        f64::from(repair.loads) / f64::from(held),
        repair.seconds_to_coverage,
        repair.seconds_to_flow,
        repair.steps.iter().map(|it| it.stage).max().unwrap_or(0),
        if repair.stays_covered { "" } else { " uncovers" },
    );
}

fn full(instance: &Instance) -> Option<Placement> {
    Coverage.place(instance, 1, &mut |_| ControlFlow::Continue(())).map(|it| it.placement)
}

/// The fewest loads that a search of so much time finds, order of steps left out.
fn least_loads(instance: &Instance, left: &Placement, goal: f64, time: Duration) -> Option<u32> {
    let begin = Instant::now();
    let fixed = vec![false; left.len()];
    let mut least: Option<u32> = (Judge::new(instance).value(left) >= goal).then_some(0);
    let mut seed = 0;
    while least != Some(0) && begin.elapsed() < time {
        seed += 1;
        let mut rng = fastrand::Rng::with_seed(seed);
        let found = fewest_loads(instance, left, &fixed, goal, 8_000_000, &mut rng);
        let loads = found.map(|it| {
            let pairs = left.iter().zip(&it);
            let new = |from: Option<_>, to: Option<_>| -> u32 {
                let (Some(from), Some(to)): (
                    Option<thalweg_wire::LayerRange>,
                    Option<thalweg_wire::LayerRange>,
                ) = (from, to) else {
                    return to.map_or(0, |it: thalweg_wire::LayerRange| it.count());
                };
                (to.first()..to.end()).filter(|it| !from.contains(*it)).count() as u32
            };
            pairs.map(|(from, to)| new(*from, *to)).sum::<u32>()
        });
        least = least.into_iter().chain(loads).min();
    }
    least
}
