//! What placement, scheduling and routing come to in service.
//!
//! ```text
//! cargo bench -p thalweg-sim --bench serving -- ablation [LAYOUT.json]
//! cargo bench -p thalweg-sim --bench serving -- goodput  [LAYOUT.json] > OUT.csv
//! cargo bench -p thalweg-sim --bench serving -- faults
//! ```
//!
//! `ablation` takes each ingredient alone, and all but each. `goodput` raises the rate of arrivals
//! until answers miss their targets (TTFT 5 s, TPOT 1 s), for every system at the same rates; its
//! output is a table for `planner/benches/plot.rs`. Both serve llama-2-70b on `single24`. `LAYOUT` is
//! Helix's own placement there (ASPLOS 2025, Thesys-lab/Helix-ASPLOS25,
//! `single_cluster/layout_llama70b/ilp`); rows with it are left out without. `faults` breaks things on
//! a running cluster after five minutes, and says what was kept of the tokens/s of the same run
//! without, and when all was well again.

use std::error::Error;
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use thalweg_core::policy::{GatewayPolicy, Pack, StagePolicy};
use thalweg_sim::outcome::Outcome;
use thalweg_sim::plan::Bounds;
use thalweg_sim::scenario::{Files, Placed, Scenario, parse};

type Failure = Box<dyn Error>;

/// Users that single24 has KV for.
const USERS: &str = "arrivals = { kind = \"users\", count = 440, start = 12 }";
/// Prompts of which half begin with one of eight system prompts.
const PREFIXES: &str = "\nprefixes = { share = 0.5, count = 8, tokens = 512 }";

/// Requests per second that systems are compared at.
const RATES: [f64; 8] = [0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.25, 2.5];
/// A system that answers fewer in time than this share of what is asked is not asked for more.
const GOOD_LEAST: f64 = 0.02;

/// Looks that count as one when recovery is looked for: a minute.
const LOOKS: usize = 12;
/// Share of the undisturbed throughput that counts as recovered.
const RECOVERED: f64 = 0.95;

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let layout = words.get(1).map(fs::read_to_string).transpose()?;
    match words.first().map(String::as_str) {
        Some("ablation") => ablation(layout.as_deref()),
        Some("goodput") => goodput(layout.as_deref()),
        Some("faults") => faults(),
        _ => {
            println!("say what: ablation, goodput or faults; see benches/serving.rs");
            Ok(())
        }
    }
}

fn scenario(cluster: &str, window: &str, rest: &str) -> Result<Scenario, Failure> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/clusters");
    let cluster_text = fs::read_to_string(folder.join(format!("{cluster}.toml")))?;
    let head = format!("cluster = \"{cluster}.toml\"\nmodel = \"llama-2-70b\"\n");
    let text = format!("{head}window_seconds = {window}\n{rest}");
    Ok(parse(&text)?.resolve(Files { cluster: &cluster_text, ..Files::default() })?)
}

fn place(scenario: &Scenario, method: &str) -> Result<Placed, Failure> {
    let scenario = Scenario { method: method.to_owned(), ..scenario.clone() };
    Ok(scenario.place(&mut |_| ControlFlow::Continue(()))?)
}

/// Schedules and routes the scenario as `pack` says, but waits as its users do.
fn with(mut scenario: Scenario, pack: Pack) -> Scenario {
    let GatewayPolicy { waiting_max, patience, .. } = scenario.settings.pack.gateway;
    scenario.settings.pack = pack;
    scenario.settings.pack.gateway.waiting_max = waiting_max;
    scenario.settings.pack.gateway.patience = patience;
    let chunk_tokens = Bounds::of(pack).chunk_tokens;
    scenario.bounds.iter_mut().for_each(|it| it.chunk_tokens = chunk_tokens);
    scenario
}

// ---- Ablation

/// What a row changes, of a pack of either kind.
type Change = fn(&mut Pack, &Pack);

const CHANGES: [(&str, Change); 4] = [
    ("chunks", |pack, other| pack.stage.prefill = other.stage.prefill),
    ("pacing", |pack, other| pack.stage.pacing = other.stage.pacing),
    ("KV on demand", |pack, other| {
        let StagePolicy { growth, preemption, .. } = other.stage;
        pack.stage = StagePolicy { growth, preemption, ..pack.stage };
        pack.gateway.growth = growth;
    }),
    ("prefix cache", |pack, other| {
        pack.stage.prefix_cache = other.stage.prefix_cache;
        pack.gateway.affinity = other.gateway.affinity;
    }),
];

fn ablation(layout: Option<&str>) -> Result<(), Failure> {
    let base = |more: &str| {
        let rest = format!("[workload]\n{USERS}{more}\n[bounds]\nbatch_max = 24\n");
        scenario("single24", "[80, 280]", &rest)
    };
    let plain = base("")?;
    let ours = place(&plain, "coverage")?;
    let theirs = match layout {
        Some(text) => thalweg_sim::scenario::read_placement(text, &plain.resolved)?,
        None => place(&plain, "swarm")?,
    };
    println!("{:<44}{:>9}{:>8}{:>9}{:>9}", "", "tokens/s", "TPOT s", "TTFT s", "p95 s");
    let row = |name: &str, scenario: Scenario, placed: &Placed| -> Result<(), Failure> {
        let it = scenario.run(placed)?;
        println!(
            "{name:<44}{:>9.1}{:>8.3}{:>9.2}{:>9.2}",
            it.decode_tokens_per_second,
            it.tpot_mean_seconds,
            it.ttft_mean_seconds,
            it.ttft_p95_seconds
        );
        Ok(())
    };
    let (none, all) = (Pack { name: "none", ..Pack::HELIX }, Pack::THALWEG);
    row("none: Helix's placement and scheduling", with(plain.clone(), none), &theirs)?;
    row("placement alone", with(plain.clone(), none), &ours)?;
    for (name, change) in CHANGES {
        let mut pack = none;
        change(&mut pack, &all);
        row(&format!("{name} alone"), with(plain.clone(), pack), &theirs)?;
    }
    row("all", with(plain.clone(), all), &ours)?;
    row("all but placement", with(plain.clone(), all), &theirs)?;
    for (name, change) in CHANGES {
        let mut pack = all;
        change(&mut pack, &none);
        row(&format!("all but {name}"), with(plain.clone(), pack), &ours)?;
    }
    let shared = base(PREFIXES)?;
    row("half of the prompts share 512 tokens: all", with(shared.clone(), all), &ours)?;
    let mut pack = all;
    CHANGES[3].1(&mut pack, &none);
    row("half of the prompts share 512 tokens: but prefix", with(shared, pack), &ours)
}

// ---- Goodput

/// Systems: name, placement, pack.
const SYSTEMS: [(&str, &str, Pack); 9] = [
    ("thalweg", "coverage", Pack::THALWEG),
    ("helix", "", Pack::HELIX),
    ("swarm", "swarm", Pack::SWARM),
    ("petals", "petals", Pack::PETALS),
    ("SP", "separate", Pack::ORCA),
    ("SP+", "separate-plus", Pack::ORCA),
    ("hexgen", "hexgen", Pack::VLLM),
    ("orca", "homogeneous", Pack::ORCA),
    ("vllm", "homogeneous", Pack::VLLM),
];

fn goodput(layout: Option<&str>) -> Result<(), Failure> {
    println!("# title: Goodput against load: llama-2-70b on single24");
    println!("# x: requests/s asked");
    println!("# y: requests/s answered with TTFT <= 5 s and TPOT <= 1 s");
    println!("# machine: virtual time");
    for (name, method, pack) in SYSTEMS {
        let mut placed = None;
        for rate in RATES {
            let arrivals = format!("{{ kind = \"poisson\", requests_per_second = {rate} }}");
            let rest = format!("[workload]\narrivals = {arrivals}\n[bounds]\nbatch_max = 24\n");
            let scenario = scenario("single24", "[150, 400]", &rest)?;
            if placed.is_none() {
                placed = match (method, layout) {
                    ("", Some(text)) => {
                        Some(thalweg_sim::scenario::read_placement(text, &scenario.resolved)?)
                    }
                    ("", None) => break,
                    // A method may find that there is no such placement here.
                    _ => place(&scenario, method).ok(),
                };
            }
            let Some(placed) = &placed else {
                println!("{name},{rate},0");
                break;
            };
            let found = with(scenario, pack).run(placed)?.goodput_requests_per_second;
            println!("{name},{rate},{found:.4}");
            if found < GOOD_LEAST * rate {
                break;
            }
        }
    }
    Ok(())
}

// ---- Faults

/// When things break.
const BREAKS_SECONDS: f64 = 300.0;

fn faults() -> Result<(), Failure> {
    let users = |count: u32, more: &str| {
        format!(
            "[workload]\narrivals = {{ kind = \"users\", count = {count}, start = 12 }}\n{more}"
        )
    };
    let long = "longer = { factor = 4, from_seconds = 300, to_seconds = 900 }\n";
    let slow = "[[faults]]\nat_seconds = 300\n\
        links = { between = [\"region-0\", \"region-1\"], keeps = 0.7 }\n";
    let lost = "[[faults]]\nat_seconds = 300\nhost_dies = \"v100-0\"\n";
    println!(
        "{:<44}{:>9}{:>9}{:>8}{:>9}{:>8}{:>6}",
        "", "without", "with", "kept", "well s", "replays", "lost"
    );
    let row = |name: &str, ends: f64, scenario: Scenario| -> Result<(), Failure> {
        let placed = place(&scenario, "coverage")?;
        let mut quiet = scenario.clone();
        quiet.faults.clear();
        quiet.workload.longer = None;
        let (quiet, it) = (quiet.run(&placed)?, scenario.run(&placed)?);
        let (without, with) = (mean(&quiet, BREAKS_SECONDS, ends), mean(&it, BREAKS_SECONDS, ends));
        println!(
            "{name:<44}{without:>9.1}{with:>9.1}{:>7.1}%{:>9}{:>8}{:>6}",
            with / without * 100.0,
            well(&it, &quiet).map_or("never".to_owned(), |it| format!("{it:.0}")),
            it.replays,
            it.lost + it.cut_off + it.rejected
        );
        Ok(())
    };
    let name = "single24, prompts x4 for ten minutes";
    row(name, 900.0, scenario("single24", "[80, 1200]", &users(200, long))?)?;
    let name = "geo24, a region link keeps 70 %";
    row(name, 600.0, scenario("geo24", "[80, 600]", &users(150, slow))?)?;
    let name = "hetero42, a V100 host dies, repair";
    row(name, 600.0, scenario("hetero42", "[80, 600]", &users(300, lost))?)
}

/// Tokens per second of the answers, mean between two times.
fn mean(outcome: &Outcome, from: f64, to: f64) -> f64 {
    let timeline = &outcome.timeline;
    let looks = timeline.seconds.iter().zip(&timeline.decode_tokens_per_second);
    let inside: Vec<f64> = looks.filter(|it| *it.0 > from && *it.0 <= to).map(|it| *it.1).collect();
    inside.iter().sum::<f64>() / inside.len().max(1) as f64
}

/// Seconds after the break from which every minute was as good as without it; zero if none
/// was worse.
fn well(outcome: &Outcome, quiet: &Outcome) -> Option<f64> {
    let seconds = &outcome.timeline.seconds;
    let begin = seconds.iter().position(|&it| it >= BREAKS_SECONDS)?;
    let sums = |it: &Outcome| -> Vec<f64> {
        let looks = &it.timeline.decode_tokens_per_second[begin..];
        looks.windows(LOOKS).map(|it| it.iter().sum()).collect()
    };
    let pairs = sums(outcome).into_iter().zip(sums(quiet));
    let good: Vec<bool> = pairs.map(|(with, without)| with >= RECOVERED * without).collect();
    match good.iter().rposition(|it| !it) {
        None => Some(0.0),
        Some(at) if at + 1 == good.len() => None,
        Some(at) => Some(seconds[begin + at + 1] - BREAKS_SECONDS),
    }
}
