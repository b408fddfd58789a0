//! A large cluster cut into groups, a MILP for each, against one search over all of it.
//!
//! `cargo bench -p thalweg-planner --bench partitioned -- HOSTS SECONDS [METHOD]` generates a
//! cluster, plans it whole with our default method and, as the Helix paper suggests for scale, with
//! METHOD (`milp-hinted`, or `milp` for no hints) on groups of neighbouring hosts, whose flows add up.
//! The groups together have SECONDS of processor time on one thread; so has our search. Prints CSV,
//! and writes `results/partitioned-HOSTS.csv`.
#![allow(clippy::disallowed_methods)] // A bench owns the clock.

mod series;

use std::error::Error;
use std::ops::ControlFlow;

use series::{Series, processor_seconds};
use thalweg_planner::cluster::{self, Choice};
use thalweg_planner::flow;
use thalweg_planner::instance::{Instance, Pairs};
use thalweg_planner::method::{Found, Progress};
use thalweg_planner::place;

/// Hosts of a group: about as many as the paper's clusters have.
const GROUP_HOSTS: usize = 24;

/// A group is large enough when its hosts can hold the model this many times; a single time leaves
/// nothing to choose.
const COPIES_MIN: f64 = 1.5;

/// A flow must be better by this share to be a point of its own.
const GAIN_MIN: f64 = 1e-3;

/// Seed of cluster and search.
const SEED: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let [hosts, seconds, rest @ ..] = arguments.as_slice() else {
        // Also reached by `cargo test --benches`, which passes nothing.
        println!("usage: partitioned HOSTS SECONDS [METHOD]");
        return Ok(());
    };
    let (hosts, seconds): (u32, f64) = (hosts.parse()?, seconds.parse()?);
    let name = rest.first().map_or("milp-hinted", String::as_str);
    let instance = cluster::generate(hosts, SEED).resolve(&Choice::default())?.instance;
    let method = place::method(name).ok_or("no method of this name")?;

    let mut series = Series::new(
        &format!("{hosts} generated hosts: one search, and a MILP for each group of hosts"),
        ("processor seconds, one thread", "tokens/s"),
        "x",
    );
    println!("hosts,method,groups,seconds,flow,bound");
    let groups = groups(&instance);
    let began = processor_seconds();
    let share = seconds / groups.len().max(1) as f64;
    let mut sum = 0.0;
    for group in &groups {
        let part = part(&instance, group);
        let found = method.place(&part, SEED, &mut until(share));
        sum += found.map_or(0.0, |it| value(&part, &it));
        series.point(&format!("partitioned {name}"), processor_seconds() - began, sum);
    }
    let spent = processor_seconds() - began;
    println!("{hosts},partitioned {name},{},{spent:.2},{sum:.3},", groups.len());

    let coverage = place::method("coverage").ok_or("no such method")?;
    let (began, mut best) = (processor_seconds(), 0.0);
    let found = coverage.place(&instance, SEED, &mut |progress| {
        let now = processor_seconds() - began;
        if progress.flow > best * (1.0 + GAIN_MIN) {
            best = progress.flow;
            series.point("coverage", now, best);
        }
        if now < seconds { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let spent = processor_seconds() - began;
    let flow = found.as_ref().map_or(0.0, |it| value(&instance, it));
    let bound = found.and_then(|it| it.bound).map_or(String::new(), |it| format!("{it:.3}"));
    println!("{hosts},coverage,1,{spent:.2},{flow:.3},{bound}");
    series.point("coverage", spent, flow);
    series.save(&format!("partitioned-{hosts}"))
}

/// A watch that breaks after so many seconds of processor time.
fn until(seconds: f64) -> impl FnMut(Progress) -> ControlFlow<()> {
    let began = processor_seconds();
    move |_| {
        let on = processor_seconds() - began < seconds;
        if on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

fn value(instance: &Instance, found: &Found) -> f64 {
    match &found.pipelines {
        Some(pipelines) => place::pipelines::flow(instance, &found.placement, pipelines),
        None => flow::value(instance, &found.placement),
    }
}

/// Hosts region by region, dealt out in groups that can hold the model; the rest joins the last.
fn groups(instance: &Instance) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..instance.hosts.len()).collect();
    order.sort_by_key(|&it| instance.hosts[it].region);
    let needed = COPIES_MIN * f64::from(instance.layers);
    let held = |group: &[usize]| -> f64 {
        group.iter().map(|&it| f64::from(instance.class(it).rates.count_max())).sum()
    };
    let mut groups: Vec<Vec<usize>> = vec![];
    let mut open: Vec<usize> = vec![];
    for host in order {
        open.push(host);
        if open.len() >= GROUP_HOSTS && held(&open) >= needed {
            groups.push(std::mem::take(&mut open));
        }
    }
    match groups.last_mut() {
        Some(last) => last.append(&mut open),
        None => groups.push(open),
    }
    groups
}

/// The instance of these hosts alone.
fn part(instance: &Instance, group: &[usize]) -> Instance {
    let mut part = instance.clone();
    part.hosts = group.iter().map(|&it| instance.hosts[it].clone()).collect();
    part.network.enter = group.iter().map(|&it| instance.network.enter[it]).collect();
    part.network.leave = group.iter().map(|&it| instance.network.leave[it]).collect();
    if let Pairs::Each(_) = instance.network.pairs {
        let pairs = group.iter().flat_map(|&near| group.iter().map(move |&far| (near, far)));
        let wires = pairs.map(|(near, far)| instance.wire(near, far)).collect();
        part.network.pairs = Pairs::Each(wires);
    }
    part
}
