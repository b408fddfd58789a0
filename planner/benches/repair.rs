//! Repair after the loss of each host: time on the clock, flow, loads, time to full coverage.
//!
//! ```text
//! cargo bench -p thalweg-planner --bench repair [-- CLUSTER [--stride N] [--offline SECONDS]]
//! ```
//!
//! `CLUSTER` is `hetero42`, `single24`, `geo24`, or `scale HOSTS`, a generated cluster. `full` is the
//! best of two full searches of the cluster without the host, as `thalweg plan` makes them; where
//! links do not bind, hosts of a class are as good as each other and share their full search. `least`
//! are the fewest loads that an offline search of so many seconds (processor time; none by default)
//! finds for the flow that the repair went for: repairs that search twice as long each time, and
//! where links do not bind HiGHS on all ranges near what hosts hold; `=` if it proves that there are no fewer.
//!
//! On `single24` the optimum holds every layer once, so that any loss stops all traffic, and 152 of
//! 160 layers of memory are left after the loss of a large host: a full re-plan loses a lot as well.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads files and the clock")]
#![allow(clippy::unwrap_used, reason = "a benchmark has nobody to tell")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use thalweg_planner::cluster;
use thalweg_planner::flow::{self, Judge};
use thalweg_planner::instance::{Instance, Placement};
use thalweg_planner::method::Method;
use thalweg_planner::place::coverage::Coverage;
use thalweg_planner::repair::{Change, MOVES, Repair, replan, replan_for};
use thalweg_planner::solver::{Answer, Effort, Program};
use thalweg_wire::LayerRange;

/// Seed of generated clusters, as in the bench of scale.
const SEED: u64 = 1;

/// Layers that a host loads at most, in the offline search.
const LOADS_PER_HOST_MAX: u32 = 8;

/// What one loss came to.
struct Loss {
    share: f64,
    seconds: f64,
    ratio: Option<f64>,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let option = |name: &str| -> Option<f64> {
        let at = args.iter().position(|it| it == name)?;
        Some(args[at + 1].parse().unwrap())
    };
    let name = args.first().filter(|it| !it.starts_with("--")).map_or("hetero42", |it| it);
    let instance = match name {
        "scale" => {
            let hosts = args.get(1).map_or(1000, |it| it.parse().unwrap());
            cluster::generate(hosts, SEED).resolve(&Default::default()).unwrap().instance
        }
        _ => shipped(name),
    };
    let begin = cpu_seconds();
    let old = full(&instance).unwrap();
    println!(
        "{name}: {} hosts, flow {:.1}, two full searches {:.1} s",
        old.len(),
        Judge::new(&instance).value(&old),
        cpu_seconds() - begin
    );
    println!(
        "host type held | ms | reweighted repaired full share aim/full | loads loads/held least ratio | \
         s to coverage, to flow | stages"
    );
    let stride = option("--stride").map_or(1, |it| it as usize).max(1);
    let offline = option("--offline").unwrap_or(0.0);
    let hosts = (0..old.len()).step_by(stride).filter(|&it| old[it].is_some());
    let mut fulls = Fulls::new();
    let losses: Vec<Loss> =
        hosts.map(|host| lose(&instance, &old, host, offline, &mut fulls)).collect();
    summary("share of the full re-plan", losses.iter().map(|it| -it.share).collect(), -1.0);
    summary("ms", losses.iter().map(|it| it.seconds * 1e3).collect(), 1.0);
    summary("loads / least", losses.iter().filter_map(|it| it.ratio).collect(), 1.0);
}

fn shipped(name: &str) -> Instance {
    let path = format!("{}/../examples/clusters/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    cluster::parse(&text).unwrap().resolve(&Default::default()).unwrap().instance
}

/// Worst and median of what is better the smaller it is.
fn summary(what: &str, mut values: Vec<f64>, sign: f64) {
    values.sort_by(f64::total_cmp);
    if let Some(worst) = values.last() {
        println!(
            "{what}: worst {:.4}, median {:.4}",
            sign * worst,
            sign * values[values.len() / 2]
        );
    }
}

/// Flows of full re-plans, by what is lost: hosts of one key are as good as each other.
type Fulls = BTreeMap<(usize, bool, bool, usize), f64>;

fn lose(
    instance: &Instance,
    old: &Placement,
    host: usize,
    offline: f64,
    fulls: &mut Fulls,
) -> Loss {
    let change = Change::HostLost { host };
    let begin = std::time::Instant::now();
    let repair = replan(instance, old, &change, SEED);
    let seconds = begin.elapsed().as_secs_f64();
    let full = *fulls.entry(key(instance, host)).or_insert_with(|| {
        full(&repair.instance).map_or(0.0, |it| Judge::new(&repair.instance).value(&it))
    });
    let least = least_loads(&repair, &change.survivors(old), offline);
    let ratio = least.map(|it| f64::from(repair.loads.max(1)) / f64::from(it.0.max(1)));
    let held = old[host].unwrap().count();
    println!(
        "{host:4} {:5} {held:2} | {:5.0} | {:7.1} {:7.1} {full:7.1} {:.4} {:.4} | {:3} {:5.2} {} | {:.0} {:.0} | {}{}",
        instance.class(host).name,
        seconds * 1e3,
        repair.flow_reweighted,
        repair.flow_after[1],
        repair.flow_after[1] / full,
        repair.aim / full,
        repair.loads,
        f64::from(repair.loads) / f64::from(held),
        least.map_or("-".into(), |it| {
            format!("{}{} {:.2}", if it.1 { "=" } else { "" }, it.0, ratio.unwrap())
        }),
        repair.seconds_to_coverage,
        repair.seconds_to_flow,
        repair.steps.iter().map(|it| it.stage).max().unwrap_or(0),
        if repair.stays_covered { "" } else { " uncovers" },
    );
    Loss { share: repair.flow_after[1] / full, seconds, ratio }
}

fn key(instance: &Instance, host: usize) -> (usize, bool, bool, usize) {
    let it = &instance.hosts[host];
    let alone = if flow::links_bind(instance) { host } else { 0 };
    (it.class, it.may_be_first, it.may_be_last, alone)
}

/// The better of two searches, each as long as `thalweg plan` searches.
fn full(instance: &Instance) -> Option<Placement> {
    let seconds = match instance.hosts.len() {
        0..=24 if flow::links_bind(instance) => 45.0,
        0..=24 => 8.0,
        25..=99 => 25.0,
        _ => 45.0,
    };
    let search = |seed| {
        let begin = cpu_seconds();
        let found =
            Coverage.place(instance, seed, &mut |_| match cpu_seconds() - begin < seconds {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            })?;
        Some((Judge::new(instance).value(&found.placement), found.placement))
    };
    let found = [search(1), search(2)].into_iter().flatten();
    found.max_by(|a, b| a.0.total_cmp(&b.0)).map(|it| it.1)
}

/// The fewest loads that a search of so many seconds finds for the flow that a repair went for, or
/// for what it reached if that is less; and whether there are none fewer.
fn least_loads(repair: &Repair, left: &Placement, seconds: f64) -> Option<(u32, bool)> {
    let goal = repair.aim.min(repair.flow_after[1]);
    if seconds <= 0.0 || goal <= 0.0 {
        return None;
    }
    if repair.loads == 0 {
        return Some((0, true));
    }
    let mut least = repair.loads;
    let begin = cpu_seconds();
    let (mut seed, mut moves) = (SEED, MOVES);
    let half = if flow::links_bind(&repair.instance) { seconds } else { seconds / 2.0 };
    while cpu_seconds() - begin < half {
        (seed, moves) = (seed + 1, moves * 2);
        let other = replan_for(repair.instance.clone(), left, goal, moves, seed);
        if other.flow_after[1] >= goal {
            least = least.min(other.loads);
        }
    }
    let left = seconds - (cpu_seconds() - begin);
    if half >= seconds { Some((least, false)) } else { Some(proved(repair, left, goal, least)) }
}

/// HiGHS on all ranges that load a few layers: one binary variable for each host and range. Rates
/// above the goal count as the goal, which leaves the same placements and a tighter relaxation.
fn proved(repair: &Repair, seconds: f64, goal: f64, known: u32) -> (u32, bool) {
    let instance = &repair.instance;
    let mut held: Placement = repair.placement.clone();
    repair.steps.iter().rev().for_each(|it| held[it.host] = it.from);
    let ranges: Vec<(usize, Range)> =
        (0..held.len()).flat_map(|it| ranges(instance, it, held[it], goal)).collect();
    let mut program = Program::default();
    let mut layers = vec![Vec::new(); instance.layers as usize];
    let mut hosts = vec![Vec::new(); held.len()];
    for (host, it) in &ranges {
        let column = program.add_integer(-f64::from(it.loads), 1.0);
        hosts[*host].push((column, 1.0));
        for layer in it.range.first()..it.range.end() {
            layers[layer as usize].push((column, it.rate));
        }
    }
    layers.into_iter().for_each(|it| _ = program.constrain(1.0, it, f64::INFINITY));
    hosts.into_iter().for_each(|it| _ = program.constrain(0.0, it, 1.0));
    let begin = cpu_seconds();
    let answer = program.maximise_watched(&Effort::default(), &mut |_| {
        if cpu_seconds() - begin < seconds {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    let narrow = ranges.iter().any(|it| it.1.loads == LOADS_PER_HOST_MAX);
    match answer {
        // More loads on one host than the program allows make no fewer in all.
        Answer::Optimal(it) => {
            let least = (-it.objective).round() as u32;
            (least.min(known), !narrow || least <= LOADS_PER_HOST_MAX)
        }
        Answer::Feasible(it) => (known.min((-it.objective).round() as u32), false),
        Answer::Infeasible | Answer::Unknown => (known, false),
    }
}

#[derive(Clone, Copy)]
struct Range {
    range: LayerRange,
    loads: u32,
    /// Share of the goal, at most 1.
    rate: f64,
}

/// Ranges of a host with few loads, without those that another one covers at no more loads and no
/// lower rate.
fn ranges(
    instance: &Instance,
    host: usize,
    held: Option<LayerRange>,
    goal: f64,
) -> Vec<(usize, Range)> {
    let layers = instance.layers;
    let pairs = (0..layers).flat_map(|first| (first + 1..=layers).map(move |end| (first, end)));
    let all: Vec<Range> = pairs
        .filter_map(|(first, end)| LayerRange::new(first, end).ok())
        .map(|range| {
            let shared = held.map_or(0, |it| {
                it.end().min(range.end()).saturating_sub(it.first().max(range.first()))
            });
            let rate = (instance.rate(host, range) / goal).min(1.0);
            Range { range, loads: range.count() - shared, rate }
        })
        .filter(|it| it.rate > 0.0 && it.loads <= LOADS_PER_HOST_MAX)
        .collect();
    let covers = |a: &Range, b: &Range| {
        a.range != b.range
            && a.range.first() <= b.range.first()
            && a.range.end() >= b.range.end()
            && a.loads <= b.loads
            && a.rate >= b.rate
    };
    let kept = all.iter().filter(|it| !all.iter().any(|other| covers(other, it)));
    kept.map(|&it| (host, it)).collect()
}

/// Seconds that this thread has used of a processor; seconds on the clock where the system does not
/// tell.
fn cpu_seconds() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ran = told.and_then(|it| it.split(' ').next()?.parse::<f64>().ok());
    ran.map_or_else(
        || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64(),
        |nanoseconds| nanoseconds / 1e9,
    )
}
