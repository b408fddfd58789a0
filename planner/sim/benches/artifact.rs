//! Compares with the simulated results that the Helix artifact publishes: Helix, SWARM and separate
//! pipelines on three clusters, other placements and schedulers on the distributed one, and placement
//! on all links in place of some.
//!
//! `cargo bench -p thalweg-sim --bench artifact -- FOLDER`
//!
//! A throughput may differ by 3 % and a percentile by 10 %, beyond the rounding of what is published.
//! Those that do are flagged.

mod recorded;

use std::path::Path;

use recorded::{
    Failure, NIC_BYTES_PER_SECOND, Placed, held, json, lengths, resolved, text, unzipped, wire,
    word,
};
use serde_json::Value;
use thalweg_sim::helix::{
    self, Arrival, End, Latency, Length, Lengths, Policy, Scenario, Window, Work, draw_arrivals,
    simulate, swarm_links,
};

/// Differences allowed, of throughput and of percentiles.
const THROUGHPUT_DIFFERENCE_MAX: f64 = 0.03;
const PERCENTILE_DIFFERENCE_MAX: f64 = 0.1;

/// Bins of three seconds in an online run.
const BINS: u32 = 600;

/// Results: section of the document, command, runs that make it up.
type Case = (&'static str, &'static str, &'static [Part]);

/// A run: scheduler, layout, and the queries at once or, online, the tokens/s fed.
type Part = (Scheduler, &'static str, u32);

/// Who decides where queries go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scheduler {
    Helix,
    Swarm,
    Random,
    ShortestQueue,
}

use Scheduler::{Helix, Random, ShortestQueue, Swarm};

const SINGLE: &str = "Section 6.3 Single Cluster";
const GEO: &str = "Section 6.4 Geo-Distributed Clusters";
const HETERO: &str = "Section 6.5 High GPU-Heterogeneity Cluster";
const PLACEMENT: &str = "Section 6.6 Model Placement Deep Dive";
const SCHEDULING: &str = "Section 6.7 Request Scheduling";
const PRUNING: &str = "Section 6.8 Ablation Study on Optimization";

/// Queries that Helix starts with offline.
const START: u32 = 20;

#[rustfmt::skip]
const CASES: [Case; 39] = [
    (SINGLE, "step3_simulation.py helix llama30b offline", &[
        (Helix, "single_cluster__layout_llama30b__ilp__a100__ilp_sol", START),
        (Helix, "single_cluster__layout_llama30b__ilp__l4__ilp_sol", START),
        (Helix, "single_cluster__layout_llama30b__ilp__t4__ilp_sol", START)]),
    (SINGLE, "step3_simulation.py swarm llama30b offline", &[(Swarm, "single_cluster__layout_llama30b__swarm__swarm_sol", 50)]),
    (SINGLE, "step3_simulation.py separate llama30b offline", &[
        (Random, "single_cluster__layout_llama30b__separate__a100_solution_file", 30),
        (Random, "single_cluster__layout_llama30b__separate__l4_solution_file", 25),
        (Random, "single_cluster__layout_llama30b__separate__t4_solution_file", 25)]),
    (SINGLE, "step3_simulation.py helix llama30b online", &[
        (Helix, "single_cluster__layout_llama30b__ilp__a100__ilp_sol", 600),
        (Helix, "single_cluster__layout_llama30b__ilp__l4__ilp_sol", 200),
        (Helix, "single_cluster__layout_llama30b__ilp__t4__ilp_sol", 170)]),
    (SINGLE, "step3_simulation.py swarm llama30b online", &[(Swarm, "single_cluster__layout_llama30b__swarm__swarm_sol", 450)]),
    (SINGLE, "step3_simulation.py separate llama30b online", &[
        (Random, "single_cluster__layout_llama30b__separate__a100_solution_file", 500),
        (Random, "single_cluster__layout_llama30b__separate__l4_solution_file", 150),
        (Random, "single_cluster__layout_llama30b__separate__t4_solution_file", 150)]),
    (SINGLE, "step3_simulation.py helix llama70b offline", &[(Helix, "single_cluster__layout_llama70b__ilp__ilp_sol", START)]),
    (SINGLE, "step3_simulation.py swarm llama70b offline", &[(Swarm, "single_cluster__layout_llama70b__swarm__swarm_sol", 180)]),
    (SINGLE, "step3_simulation.py separate llama70b offline", &[
        (Random, "single_cluster__layout_llama70b__separate__a100_solution_file", 18),
        (Random, "single_cluster__layout_llama70b__separate__l4_solution_file", 40),
        (Random, "single_cluster__layout_llama70b__separate__t4_solution_file", 3)]),
    (SINGLE, "step3_simulation.py helix llama70b online", &[(Helix, "single_cluster__layout_llama70b__ilp__ilp_sol", 700)]),
    (SINGLE, "step3_simulation.py swarm llama70b online", &[(Swarm, "single_cluster__layout_llama70b__swarm__swarm_sol", 350)]),
    (SINGLE, "step3_simulation.py separate llama70b online", &[
        (Random, "single_cluster__layout_llama70b__separate__a100_solution_file", 240),
        (Random, "single_cluster__layout_llama70b__separate__l4_solution_file", 120),
        (Random, "single_cluster__layout_llama70b__separate__t4_solution_file", 10)]),
    (GEO, "step3_simulation.py helix llama30b offline", &[
        (Helix, "distributed_clusters__layout_llama30b__ilp__a100__ilp_sol", START),
        (Helix, "distributed_clusters__layout_llama30b__ilp__l4__ilp_sol", START),
        (Helix, "distributed_clusters__layout_llama30b__ilp__t4__ilp_sol", START)]),
    (GEO, "step3_simulation.py swarm llama30b offline", &[(Swarm, "distributed_clusters__layout_llama30b__swarm__swarm_sol", 60)]),
    (GEO, "step3_simulation.py separate llama30b offline", &[
        (Random, "distributed_clusters__layout_llama30b__separate__a100_solution_file", 35),
        (Random, "distributed_clusters__layout_llama30b__separate__l4_solution_file", 40),
        (Random, "distributed_clusters__layout_llama30b__separate__t4_solution_file", 40)]),
    (GEO, "step3_simulation.py helix llama30b online", &[
        (Helix, "distributed_clusters__layout_llama30b__ilp__a100__ilp_sol", 560),
        (Helix, "distributed_clusters__layout_llama30b__ilp__l4__ilp_sol", 140),
        (Helix, "distributed_clusters__layout_llama30b__ilp__t4__ilp_sol", 140)]),
    (GEO, "step3_simulation.py swarm llama30b online", &[(Swarm, "distributed_clusters__layout_llama30b__swarm__swarm_sol", 380)]),
    (GEO, "step3_simulation.py separate llama30b online", &[
        (Random, "distributed_clusters__layout_llama30b__separate__a100_solution_file", 520),
        (Random, "distributed_clusters__layout_llama30b__separate__l4_solution_file", 100),
        (Random, "distributed_clusters__layout_llama30b__separate__t4_solution_file", 140)]),
    (GEO, "step3_simulation.py helix llama70b offline", &[(Helix, "distributed_clusters__layout_llama70b__ilp__ilp_sol", START)]),
    (GEO, "step3_simulation.py swarm llama70b offline", &[(Swarm, "distributed_clusters__layout_llama70b__swarm__swarm_sol", 180)]),
    (GEO, "step3_simulation.py separate llama70b offline", &[
        (Random, "distributed_clusters__layout_llama70b__separate__a100_solution_file", 1),
        (Random, "distributed_clusters__layout_llama70b__separate__l4_solution_file", 60),
        (Random, "distributed_clusters__layout_llama70b__separate__t4_solution_file", 50)]),
    (GEO, "step3_simulation.py helix llama70b online", &[(Helix, "distributed_clusters__layout_llama70b__ilp__ilp_sol", 320)]),
    (GEO, "step3_simulation.py swarm llama70b online", &[(Swarm, "distributed_clusters__layout_llama70b__swarm__swarm_sol", 160)]),
    (GEO, "step3_simulation.py separate llama70b online", &[
        (Random, "distributed_clusters__layout_llama70b__separate__a100_solution_file", 1),
        (Random, "distributed_clusters__layout_llama70b__separate__l4_solution_file", 120),
        (Random, "distributed_clusters__layout_llama70b__separate__t4_solution_file", 60)]),
    (HETERO, "step3_simulation.py helix offline", &[(Helix, "high_heterogeneity__layout_llama70b__ilp__ilp_sol", START)]),
    (HETERO, "step3_simulation.py swarm offline", &[(Swarm, "high_heterogeneity__layout_llama70b__swarm__swarm_sol", 500)]),
    (HETERO, "step3_simulation.py separate offline", &[
        (Random, "high_heterogeneity__layout_llama70b__separate__a100__solution_file", 1),
        (Random, "high_heterogeneity__layout_llama70b__separate__l4__solution_file", 60),
        (Random, "high_heterogeneity__layout_llama70b__separate__l4x2__solution_file", 35),
        (Random, "high_heterogeneity__layout_llama70b__separate__t4x4__solution_file", 110)]),
    (HETERO, "step3_simulation.py sp_plus offline", &[
        (Random, "high_heterogeneity__layout_llama70b__separate__a100__solution_file", 1),
        (Random, "high_heterogeneity__layout_llama70b__separate__l4__solution_file", 60),
        (Random, "high_heterogeneity__layout_llama70b__separate__l4x2__solution_file", 35),
        (Random, "high_heterogeneity__layout_llama70b__separate__t4x4__solution_file", 110),
        (Random, "high_heterogeneity__layout_llama70b__separate__v100_t4__solution_file", 90)]),
    (HETERO, "step3_simulation.py helix online", &[(Helix, "high_heterogeneity__layout_llama70b__ilp__ilp_sol", 2150)]),
    (HETERO, "step3_simulation.py swarm online", &[(Swarm, "high_heterogeneity__layout_llama70b__swarm__swarm_sol", 1450)]),
    (HETERO, "step3_simulation.py separate online", &[
        (Random, "high_heterogeneity__layout_llama70b__separate__a100__solution_file", 1),
        (Random, "high_heterogeneity__layout_llama70b__separate__l4__solution_file", 140),
        (Random, "high_heterogeneity__layout_llama70b__separate__l4x2__solution_file", 160),
        (Random, "high_heterogeneity__layout_llama70b__separate__t4x4__solution_file", 350)]),
    (HETERO, "step3_simulation.py sp_plus online", &[
        (Random, "high_heterogeneity__layout_llama70b__separate__a100__solution_file", 1),
        (Random, "high_heterogeneity__layout_llama70b__separate__l4__solution_file", 140),
        (Random, "high_heterogeneity__layout_llama70b__separate__l4x2__solution_file", 160),
        (Random, "high_heterogeneity__layout_llama70b__separate__t4x4__solution_file", 350),
        (Random, "high_heterogeneity__layout_llama70b__separate__v100_t4__solution_file", 200)]),
    (PLACEMENT, "setup2_distributed.py helix", &[(Helix, "distributed_clusters__layout_llama70b__ilp__ilp_sol", START)]),
    (PLACEMENT, "setup2_distributed.py swarm", &[(Helix, "distributed_clusters__layout_llama70b__swarm__swarm_sol", START)]),
    (SCHEDULING, "setup2_distributed.py swarm", &[(Swarm, "request_scheduling__layout_distributed__ilp_sol", 180)]),
    (SCHEDULING, "setup2_distributed.py random", &[(Random, "request_scheduling__layout_distributed__ilp_sol", 180)]),
    (SCHEDULING, "setup2_distributed.py shortest_queue", &[(ShortestQueue, "request_scheduling__layout_distributed__ilp_sol", 180)]),
    (PRUNING, "ablation1_pruning.py simulate 24", &[(Helix, "ablation__layouts__no_prune_24__ilp_sol", START)]),
    (PRUNING, "ablation1_pruning.py simulate 42", &[(Helix, "ablation__layouts__no_prune_42__ilp_sol", START)]),
];

/// KV memory in token-layers that the artifact's separate pipelines were given by hand, for hosts with
/// more layers than it lists memory for: part of the layout's name, machine type, layers, memory.
const KV_BY_HAND: [(&str, &str, u32, u64); 14] = [
    ("single_cluster", "A100", 20, 491_900),
    ("single_cluster", "L4", 10, 593_600),
    ("single_cluster", "T4", 6, 216_960),
    ("single_cluster", "T4", 7, 44_800),
    ("distributed_clusters", "A100", 20, 35_200),
    ("distributed_clusters", "L4", 10, 786_080),
    ("distributed_clusters", "T4", 6, 794_976),
    ("distributed_clusters", "T4", 7, 456_960),
    ("high_heterogeneity", "A100", 20, 35_168),
    ("high_heterogeneity", "L4", 10, 786_208),
    ("high_heterogeneity", "L4x2", 20, 853_088),
    ("high_heterogeneity", "T4x4", 20, 2_948_608),
    ("high_heterogeneity", "V100", 5, 670_784),
    ("high_heterogeneity", "T4", 5, 670_784),
];

/// Figures that all runs share.
struct Recorded {
    flows: Value,
    stream: Vec<Length>,
    counts: Vec<u32>,
    lengths: Vec<Length>,
}

fn main() -> Result<(), Failure> {
    let Some(folder) = recorded::folder() else { return Ok(()) };
    let recorded = Recorded {
        flows: json(&folder.join("layouts/sim_maxflows.json"))?,
        stream: lengths(&text(&folder.join("traces/offline_length_stream_seed0.csv"))?)?,
        counts: (text(&folder.join("traces/azure_conv_arrivals_per_3s.csv"))?.lines().skip(1))
            .map(str::parse)
            .collect::<Result<_, _>>()?,
        lengths: lengths(&unzipped(&folder.join("traces/azure_conv_lengths.csv.gz"))?)?,
    };
    check_arrivals(&folder, &recorded)?;
    let published = text(&folder.join("ae_readme_results.csv"))?;
    let (mut compared, mut missed) = (0, 0);
    println!("{:<30}{:>9}{:>9}{:>9}  figure", "result", "ours", "theirs", "relative");
    for (section, command, parts) in CASES {
        let row = row(&published, section, command)?;
        let online = command.ends_with("online");
        let (mut throughput, mut prompts, mut decodes) = (0.0, Vec::new(), Vec::new());
        for part in parts {
            let mut outcome = simulate(&scenario(&folder, &recorded, part, online)?)?;
            throughput += outcome.decode_tokens_per_second;
            prompts.append(&mut outcome.prompt_seconds);
            decodes.append(&mut outcome.decode_seconds);
        }
        let mut ours = vec![("decode tokens/s", throughput, row[4])];
        if online {
            ours.extend(percentiles("prompt", &prompts, &row[6..11])?);
            ours.extend(percentiles("decode", &decodes, &row[12..17])?);
        }
        let arguments = command.split_once(' ').map_or("", |it| it.1);
        let number = section.split(' ').nth(1).unwrap_or_default();
        for (figure, ours, theirs) in ours {
            compared += 1;
            missed += usize::from(line(&format!("{number} {arguments}"), figure, ours, theirs)?);
        }
        for (of, seconds) in [("prompt", &prompts), ("decode", &decodes)] {
            let found = Latency::of(seconds).ok_or("nothing ended in the window")?;
            let [.., p95] = found.percentiles;
            let name = format!("{number} {arguments}");
            println!("{name:<30}{:>9.3}{p95:>9.3}{:>10} {of} mean and p95, s", found.mean, "");
        }
    }
    println!("{compared} figures compared, {missed} differ by too much");
    println!("{:.1} s of CPU", recorded::cpu_seconds()?);
    if missed > 0 {
        return Err(format!("{missed} figures are not reproduced").into());
    }
    Ok(())
}

/// The row of a result.
fn row<'a>(published: &'a str, section: &str, command: &str) -> Result<Vec<&'a str>, Failure> {
    let cells = published.lines().map(|it| it.split(',').collect::<Vec<_>>());
    let mut found = cells.filter(|it| it.len() == 18 && it[0] == section && it[2] == command);
    found.next().ok_or_else(|| format!("no result of {section}, {command}").into())
}

type Figure<'a> = (&'static str, f64, &'a str);

fn percentiles<'a>(
    of: &'static str,
    seconds: &[f64],
    theirs: &[&'a str],
) -> Result<Vec<Figure<'a>>, Failure> {
    let names = match of {
        "prompt" => {
            ["prompt p5, s", "prompt p25, s", "prompt p50, s", "prompt p75, s", "prompt p95, s"]
        }
        _ => ["decode p5, s", "decode p25, s", "decode p50, s", "decode p75, s", "decode p95, s"],
    };
    let ours = Latency::of(seconds).ok_or("nothing ended in the window")?;
    Ok((0..5).map(|it| (names[it], ours.percentiles[it], theirs[it])).collect())
}

/// Prints a figure. Returns whether it differs by too much.
fn line(result: &str, figure: &str, ours: f64, theirs: &str) -> Result<bool, Failure> {
    let (allowed, digits) = match figure {
        "decode tokens/s" => (THROUGHPUT_DIFFERENCE_MAX, 1),
        _ => (PERCENTILE_DIFFERENCE_MAX, 2),
    };
    let theirs: f64 = theirs.parse()?;
    // What is published is rounded: only what lies beyond half its last digit differs.
    let half = 0.5 * 10_f64.powi(-digits);
    let beyond = ((ours - theirs).abs() - half).max(0.0).copysign(ours - theirs);
    let relative = beyond / theirs;
    let missed = relative.abs() > allowed;
    let flag = if missed { "  MISSED" } else { "" };
    println!("{result:<30}{ours:>9.3}{theirs:>9.2}{:>8.2}%  {figure}{flag}", relative * 100.0);
    Ok(missed)
}

fn scenario(
    folder: &Path,
    recorded: &Recorded,
    &(scheduler, name, load): &Part,
    online: bool,
) -> Result<Scenario, Failure> {
    let layout = json(&folder.join(format!("layouts/{name}.json")))?;
    let placed = placed(folder, name, &layout)?;
    let links = if name.ends_with("swarm_sol") {
        swarm_links(&placed.ranges, &placed.rates(), &placed.wires, 0)
    } else {
        placed.links()
    };
    let policy = match scheduler {
        Helix => {
            let flows = placed.flows(&links, recorded_flow(&recorded.flows, name)?)?;
            let plan = if online { helix::Helix::online } else { helix::Helix::offline };
            Policy::Helix(plan(flows))
        }
        Swarm => Policy::Swarm,
        Random => Policy::Random,
        ShortestQueue => Policy::ShortestQueue,
    };
    let by_hand = |machine: &str, layers: u32| {
        let hit = KV_BY_HAND
            .iter()
            .find(|it| name.starts_with(it.0) && it.1 == machine && it.2 == layers);
        hit.map(|it| it.3)
    };
    let mut scenario = Scenario {
        model: placed.resolved.model,
        devices: placed.devices()?,
        hosts: placed.hosts(by_hand)?,
        links,
        gateway_nic_bytes_per_second: NIC_BYTES_PER_SECOND,
        policy,
        work: Work::Offline { lengths: recorded.offline(scheduler), at_once: load },
        window: Window::OFFLINE,
        seed: 0,
    };
    if online {
        let arrivals = recorded.arrivals(f64::from(load), scenario.loaded_seconds());
        (scenario.work, scenario.window) = (Work::Online { arrivals }, Window::ONLINE);
    }
    Ok(scenario)
}

/// The cluster of a layout. Separate pipelines of the large cluster have links of their own, and
/// hosts that its plan of hosts does not order by type.
fn placed(folder: &Path, name: &str, layout: &Value) -> Result<Placed, Failure> {
    let model = word(&layout["model"])?;
    let hosts = layout["layout"].as_object().map_or(0, serde_json::Map::len);
    if let Some(kind) = name.strip_prefix("high_heterogeneity__layout_llama70b__separate__") {
        let machine = match kind.trim_end_matches("__solution_file") {
            "v100_t4" => |at: usize| if at < 8 { "V100" } else { "T4" },
            "a100" => |_| "A100",
            "l4" => |_| "L4",
            "l4x2" => |_| "L4x2",
            _ => |_| "T4x4",
        };
        let machines = (0..hosts).map(|it| machine(it).to_owned()).collect();
        return chain(machines, layout, model);
    }
    let cluster = word(&layout["cluster"])?;
    // Plans of the two clusters were made on a part of their links, unless they say otherwise.
    let plan = name.ends_with("ilp_sol") && !name.contains("no_prune");
    let pruned = plan && matches!(cluster, "geo24" | "hetero42");
    let suffix = if pruned { "_pruned12" } else { "" };
    Placed::new(&json(&folder.join(format!("clusters/{cluster}{suffix}.json")))?, layout, model)
}

/// Hosts one after the other on links of 1 GB/s and a millisecond.
fn chain(machines: Vec<String>, layout: &Value, model: &str) -> Result<Placed, Failure> {
    let ids: Vec<u32> = (0..machines.len() as u32).collect();
    let range = |id: &u32| {
        held(layout, *id)?.ok_or_else(|| Failure::from(format!("no layers of host {id}")))
    };
    let ranges = ids.iter().map(range).collect::<Result<Vec<_>, _>>()?;
    let end = |at: u32| if (at as usize) < ids.len() { End::Host(at) } else { End::Gateway };
    let mut wires = vec![wire(End::Gateway, End::Host(0), 1e9, 0.001)];
    wires.extend(ids.iter().map(|it| wire(End::Host(*it), end(it + 1), 1e9, 0.001)));
    Ok(Placed { resolved: resolved(&machines, model)?, ranges, machines, wires, ids })
}

fn recorded_flow<'a>(flows: &'a Value, name: &str) -> Result<&'a Value, Failure> {
    let is_of = |it: &&Value| {
        let layout = it["layout"].as_str().unwrap_or_default().trim_end_matches(".ini");
        let experiment = it["experiment"].as_str().unwrap_or_default();
        format!("{experiment}__{}", layout.replace('/', "__")) == name
    };
    let found = flows.as_array().and_then(|it| it.iter().find(is_of));
    found.map(|it| &it["link_flow"]).ok_or_else(|| format!("no flow of {name}").into())
}

impl Recorded {
    /// Where the scheduler draws, lengths come from the same draws; else they were recorded.
    fn offline(&self, scheduler: Scheduler) -> Lengths {
        match scheduler {
            Helix | Swarm => Lengths::Recorded(self.stream.clone()),
            Random | ShortestQueue => Lengths::Drawn(self.lengths.clone()),
        }
    }

    fn arrivals(&self, tokens_per_second: f64, start_seconds: f64) -> Vec<Arrival> {
        let recorded = (&self.counts[..], &self.lengths[..]);
        draw_arrivals(recorded, tokens_per_second, start_seconds, BINS, 0)
    }
}

/// Arrivals drawn here are those that were recorded.
fn check_arrivals(folder: &Path, recorded: &Recorded) -> Result<(), Failure> {
    let mut rates = 0;
    for entry in std::fs::read_dir(folder.join("traces"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(rate) = name.strip_prefix("online_rate").and_then(|it| it.split('_').next())
        else {
            continue;
        };
        let ours = recorded.arrivals(rate.parse()?, 0.0);
        let theirs = unzipped(&path)?;
        let theirs: Vec<&str> = theirs.lines().skip(1).collect();
        let equal = ours.len() == theirs.len()
            && ours.iter().zip(&theirs).all(|(ours, theirs)| {
                let (prompt, output) = ours.length;
                let time = theirs.split(',').next().and_then(|it| it.parse::<f64>().ok());
                time.is_some_and(|it| it.to_bits() == ours.at_seconds.to_bits())
                    && theirs.ends_with(&format!(",{prompt},{output}"))
            });
        if !equal {
            return Err(format!("arrivals at {rate} tokens/s are not those recorded").into());
        }
        rates += 1;
    }
    println!("arrivals at {rates} rates equal those recorded");
    Ok(())
}
