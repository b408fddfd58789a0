//! Recomputes the maximum flow of recorded layouts.
//!
//! `cargo bench -p thalweg-planner --bench layouts -- FOLDER`
//!
//! The folder holds figures of the Helix artifact (ASPLOS 2025, Thesys-lab/Helix-ASPLOS25) as JSON:
//! `layouts/*.json` and `layouts/maxflows.csv`, `clusters/*.json`, `profiles/typical_*.json`,
//! `profiles/llama*.json` and `profiles/machines.json`. Nothing is taken from this program. It fails
//! if a flow differs by more than a millionth.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thalweg_planner::flow;
use thalweg_planner::instance::{Class, Host, Instance, Network, Pairs, Placement, Rates, Wire};
use thalweg_wire::LayerRange;

/// Largest relative difference.
const TOLERANCE: f64 = 1e-6;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    // cargo passes `--bench`.
    let Some(folder) = std::env::args().skip(1).find(|it| !it.starts_with('-')) else {
        println!("give the folder with the recorded layouts; see the head of this file");
        return Ok(());
    };
    let folder = PathBuf::from(folder);
    let layouts = layouts(&folder)?;
    let table = fs::read_to_string(folder.join("layouts/maxflows.csv"))?;
    let mut worst = 0.0_f64;
    let mut compared = 0;
    println!("{:<72}{:>9} {:>13} {:>13} {:>8}", "layout", "graph", "recorded", "ours", "relative");
    for row in table.lines().skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        let [file, cluster, model, _, plain, partial, pruned, _] = cells[..] else {
            return Err(format!("a row of {} cells: {row}", cells.len()).into());
        };
        let layout = layouts.get(file).ok_or_else(|| format!("no layout {file}"))?;
        let mut runs = vec![("plain", cluster.to_owned(), plain, false)];
        runs.push(("partial", cluster.to_owned(), partial, true));
        if pruned.parse::<f64>().is_ok_and(|it| it > 0.0) {
            runs.push(("pruned", format!("{cluster}_pruned12"), pruned, false));
        }
        for (graph, cluster, recorded, partial) in runs {
            let Ok(recorded) = recorded.parse::<f64>() else { continue };
            let instance = instance(&folder, &cluster, model, partial)?;
            let ours = flow::value(&instance, &placement(layout, &instance)?);
            let relative = (ours - recorded).abs() / recorded.abs().max(1.0);
            let name = file.trim_start_matches("artifact_evaluation/");
            println!("{name:<72}{graph:>9} {recorded:>13.6} {ours:>13.6} {relative:>8.0e}");
            worst = worst.max(relative);
            compared += 1;
        }
    }
    println!("{compared} flows compared, largest relative difference {worst:.1e}");
    if worst > TOLERANCE || compared == 0 {
        return Err("recorded flows are not reproduced".into());
    }
    Ok(())
}

fn read(path: &Path) -> Result<Value, Failure> {
    let text = fs::read_to_string(path).map_err(|it| format!("{}: {it}", path.display()))?;
    Ok(serde_json::from_str(&text)?)
}

/// Layouts by the name of the file they were recorded in.
fn layouts(folder: &Path) -> Result<BTreeMap<String, Value>, Failure> {
    let mut layouts = BTreeMap::new();
    for entry in fs::read_dir(folder.join("layouts"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "json") {
            let layout = read(&path)?;
            if let Some(file) = layout["file"].as_str() {
                layouts.insert(file.to_owned(), layout);
            }
        }
    }
    Ok(layouts)
}

fn placement(layout: &Value, instance: &Instance) -> Result<Placement, Failure> {
    let mut placement = vec![None; instance.hosts.len()];
    for (host, range) in layout["layout"].as_object().ok_or("a layout without hosts")? {
        let (first, end) = (whole(&range[0])?, whole(&range[1])?);
        placement[host.parse::<usize>()?] = Some(LayerRange::new(first, end)?);
    }
    Ok(placement)
}

fn instance(folder: &Path, cluster: &str, model: &str, partial: bool) -> Result<Instance, Failure> {
    let sizes = read(&folder.join(format!("profiles/{model}.json")))?;
    let links = read(&folder.join(format!("clusters/{cluster}.json")))?;
    // The geo clusters have the machines of the single ones, and the pruned ones theirs.
    let alike = cluster.trim_end_matches("_pruned12").replace("geo24", "single24");
    let alike = alike.replace("geo_", "single_");
    let typical = read(&folder.join(format!("profiles/typical_{alike}_{model}.json")))?;
    let machines = read(&folder.join("profiles/machines.json"))?;
    let (activation, token) = (real(&sizes["activation_bytes"])?, real(&sizes["token_bytes"])?);
    let mut classes: Vec<Class> = Vec::new();
    for (name, by_count) in typical["throughput"].as_object().ok_or("no throughput")? {
        let nic = real(&machines[name.as_str()]["inbound_nic_speed"])?
            .min(real(&machines[name.as_str()]["outbound_nic_speed"])?);
        let by_count = by_count.as_object().ok_or("no throughput by layers")?;
        let mut rates = vec![0.0; by_count.len() + 1];
        for (count, rate) in by_count {
            rates[count.parse::<usize>()?] = real(rate)?.min(nic / activation);
        }
        classes.push(Class { name: name.clone(), rates: Rates::uniform(rates), device: None });
    }
    let mut hosts = Vec::new();
    for node in links["nodes"].as_array().ok_or("no nodes")? {
        let kind = node["type"].as_str().ok_or("a node without a type")?;
        let class = classes.iter().position(|it| it.name == kind).ok_or("an unknown type")?;
        hosts.push(Host {
            name: format!("{}", hosts.len()),
            class,
            region: 0,
            may_be_first: true,
            may_be_last: true,
            nic_in: f64::INFINITY,
            nic_out: f64::INFINITY,
            price_per_hour: 0.0,
            load_bytes_per_second: 1e9,
        });
    }
    Ok(Instance {
        layers: whole(&sizes["num_layers"])?,
        classes,
        network: network(&links, hosts.len(), activation, token)?,
        hosts,
        regions: vec!["all".to_owned()],
        partial,
        layer_bytes: real(&sizes["layer_param_bytes"])?,
    })
}

/// Every link joins two hosts both ways, or a host to one of the two ends.
fn network(links: &Value, hosts: usize, activation: f64, token: f64) -> Result<Network, Failure> {
    let (mut enter, mut leave) = (vec![None; hosts], vec![None; hosts]);
    let mut pairs = vec![None; hosts * hosts];
    for link in links["links"].as_array().ok_or("no links")? {
        let bandwidth = real(&link["bandwidth_Bps"])?;
        let latency_seconds = real(&link["latency_s"])?;
        let wire =
            |bytes: f64| Some(Wire { tokens_per_second: bandwidth / bytes, latency_seconds });
        match (link["a"].as_u64(), link["b"].as_u64()) {
            (Some(a), Some(b)) => {
                pairs[a as usize * hosts + b as usize] = wire(activation);
                pairs[b as usize * hosts + a as usize] = wire(activation);
            }
            (None, Some(host)) => enter[host as usize] = wire(token),
            (Some(host), None) => leave[host as usize] = wire(token),
            (None, None) => {}
        }
    }
    Ok(Network { pairs: Pairs::Each(pairs), enter, leave, shared: Vec::new() })
}

fn real(value: &Value) -> Result<f64, Failure> {
    value.as_f64().ok_or_else(|| format!("{value} is not a number").into())
}

fn whole(value: &Value) -> Result<u32, Failure> {
    Ok(u32::try_from(value.as_u64().ok_or_else(|| format!("{value} is not a count"))?)?)
}
