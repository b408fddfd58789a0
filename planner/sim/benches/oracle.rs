//! Runs what the Helix artifact's simulator ran, and compares every query.
//!
//! `cargo bench -p thalweg-sim --bench oracle -- FOLDER`
//!
//! Fails if a throughput differs by more than 1 %, a mean latency by more than 3 % or a count by more
//! than 1 %.

mod recorded;

use std::path::Path;

use recorded::{
    Failure, NIC_BYTES_PER_SECOND, Placed, json, lengths, number, text, unzipped, word,
};
use serde_json::Value;
use thalweg_sim::helix::{
    End, Helix, Latency, Lengths, Link, Outcome, Policy, Record, Scenario, Window, Work, simulate,
    swarm_links,
};

/// Recorded runs.
const CASES: [&str; 5] = [
    "00_single_cluster_helix_llama30b_offline_a100",
    "01_single_cluster_helix_llama30b_offline_l4",
    "02_single_cluster_helix_llama30b_offline_t4",
    "14_single_cluster_helix_llama70b_offline",
    "15_single_cluster_swarm_llama70b_offline",
];

/// Differences allowed, of throughput and counts and of latencies.
const THROUGHPUT_DIFFERENCE_MAX: f64 = 0.01;
const LATENCY_DIFFERENCE_MAX: f64 = 0.03;

fn main() -> Result<(), Failure> {
    let Some(folder) = recorded::folder() else { return Ok(()) };
    let mut missed = 0;
    for case in CASES {
        let record = json(&folder.join(format!("oracle/{case}.json")))?;
        let queries = unzipped(&folder.join(format!("oracle/{case}.queries.csv.gz")))?;
        let (placed, scenario) = scenario(&folder, &record)?;
        let before = recorded::cpu_seconds()?;
        let outcome = simulate(&scenario)?;
        let seconds = recorded::cpu_seconds()? - before;
        println!("{case}");
        missed += figures(&record, &outcome)?;
        let (equal, all) = equal_queries(&placed, &scenario.links, &queries, &outcome)?;
        println!("  queries with equal times and routes {equal} of {all}");
        let rate = outcome.events as f64 / seconds / 1e6;
        println!("  {seconds:.2} s of CPU, {rate:.1} million events/s");
    }
    if missed > 0 {
        return Err(format!("{missed} figures are not reproduced").into());
    }
    Ok(())
}

fn scenario(folder: &Path, record: &Value) -> Result<(Placed, Scenario), Failure> {
    let inputs = &record["inputs"];
    let experiment = word(&inputs["experiment"])?;
    let solution = word(&inputs["solution_file_name"])?;
    let solution = solution.trim_start_matches("./").trim_end_matches(".ini").replace('/', "__");
    let layout = json(&folder.join(format!("layouts/{experiment}__{solution}.json")))?;
    let cluster = json(&folder.join(format!("clusters/{}.json", word(&layout["cluster"])?)))?;
    let placed = Placed::new(&cluster, &layout, word(&inputs["model_name"])?)?;
    let (links, policy) = match record["flow"].is_array() {
        true => {
            let links = placed.links();
            let flows = placed.flows(&links, &record["flow"])?;
            (links, Policy::Helix(Helix::offline(flows)))
        }
        false => (swarm_links(&placed.ranges, &placed.rates(), &placed.wires, 0), Policy::Swarm),
    };
    let stream = lengths(&text(&folder.join("traces/offline_length_stream_seed0.csv"))?)?;
    let scenario = Scenario {
        model: placed.resolved.model,
        devices: placed.devices()?,
        hosts: placed.hosts(|_, _| None)?,
        links,
        gateway_nic_bytes_per_second: NIC_BYTES_PER_SECOND,
        policy,
        work: Work::Offline {
            lengths: Lengths::Recorded(stream),
            at_once: number(&record["initial_query_count"])? as u32,
        },
        window: Window::OFFLINE,
        seed: 0,
    };
    Ok((placed, scenario))
}

/// Prints ours beside theirs. Returns how many differ by too much.
fn figures(record: &Value, outcome: &Outcome) -> Result<usize, Failure> {
    println!("  {:<28}{:>20} {:>20} {:>10}", "figure", "ours", "theirs", "difference");
    let mut missed = 0;
    let mut line = |name: &str, ours: f64, theirs: &Value, allowed: f64| {
        let theirs = number(theirs)?;
        let difference = if theirs.abs() > 0.0 { ours / theirs - 1.0 } else { ours };
        let flag = if difference.abs() > allowed { "  MISSED" } else { "" };
        missed += usize::from(!flag.is_empty());
        println!("  {name:<28}{ours:>20.12} {theirs:>20.12} {difference:>10.1e}{flag}");
        Ok::<(), Failure>(())
    };
    let throughput = THROUGHPUT_DIFFERENCE_MAX;
    line(
        "decode tokens/s",
        outcome.decode_tokens_per_second,
        &record["decode_throughput"],
        throughput,
    )?;
    line(
        "prompt tokens/s",
        outcome.prompt_tokens_per_second,
        &record["prompt_throughput"],
        throughput,
    )?;
    line("queries issued", outcome.issued as f64, &record["queries_issued"], throughput)?;
    line("queries rejected", outcome.rejected as f64, &record["queries_rejected"], throughput)?;
    line("queries finished", outcome.finished as f64, &record["queries_finished"], throughput)?;
    line("events", outcome.events as f64, &record["events"], throughput)?;
    let samples = [
        ("prompt", &outcome.prompt_seconds, &record["prompt_latency"]),
        ("decode", &outcome.decode_seconds, &record["decode_latency"]),
    ];
    for (name, seconds, theirs) in samples {
        let ours = Latency::of(seconds).ok_or("nothing ended in the window")?;
        line(&format!("{name} mean, s"), ours.mean, &theirs["mean"], LATENCY_DIFFERENCE_MAX)?;
        for (at, share) in ["p5", "p25", "p50", "p75", "p95"].into_iter().enumerate() {
            let ours = ours.percentiles[at];
            line(&format!("{name} {share}, s"), ours, &theirs[share], LATENCY_DIFFERENCE_MAX)?;
        }
    }
    Ok(missed)
}

/// How many queries have the same lengths, fate, times and route to the last digit, of how many.
fn equal_queries(
    placed: &Placed,
    links: &[Link],
    theirs: &str,
    outcome: &Outcome,
) -> Result<(usize, usize), Failure> {
    let rows: Vec<Vec<&str>> = theirs.lines().skip(1).map(|it| it.split(',').collect()).collect();
    let mut equal = 0;
    for (row, ours) in rows.iter().zip(&outcome.queries) {
        let [_, created, prompt, output, rejected, first, last, decoded, route] = row[..] else {
            return Err(format!("a row of {} cells", row.len()).into());
        };
        let same = |theirs: &str, ours: Option<f64>| {
            theirs.parse::<f64>().ok().map(f64::to_bits) == ours.map(f64::to_bits)
        };
        equal += usize::from(
            same(created, Some(ours.created_seconds))
                && (prompt.parse(), output.parse())
                    == (Ok(ours.prompt_tokens), Ok(ours.output_tokens))
                && (rejected == "1") == ours.rejected
                && same(first, ours.prompt_end_seconds)
                && same(last, ours.last_end_seconds)
                && decoded.parse() == Ok(ours.decoded)
                && (ours.prompt_end_seconds.is_none()
                    || nodes(route)? == hosts(placed, links, ours)),
        );
    }
    Ok((equal, rows.len()))
}

/// Nodes of a recorded route.
fn nodes(route: &str) -> Result<Vec<u32>, Failure> {
    Ok(route.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

/// Hosts of a route, in the artifact's numbers.
fn hosts(placed: &Placed, links: &[Link], record: &Record) -> Vec<u32> {
    let host = |link: &u32| match links[*link as usize].to {
        End::Host(host) => Some(placed.ids[host as usize] + 2),
        End::Gateway => None,
    };
    record.route.iter().filter_map(host).collect()
}
