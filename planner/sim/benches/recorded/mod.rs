//! Figures of the Helix artifact (ASPLOS 2025, Thesys-lab/Helix-ASPLOS25), as a folder holds them.
//!
//! `clusters/*.json` (hosts, links), `layouts/*.json` (who holds what), `layouts/sim_maxflows.json`
//! (flow of each link), `traces/` (lengths and arrivals), `oracle/` (recorded runs),
//! `ae_readme_results.csv` (results as published). Curves and limits are the planner's own.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use thalweg_planner::cluster::{Choice, ClusterFile, HostEntry, Line, Resolved};
use thalweg_planner::device::Device;
use thalweg_sim::helix::{End, Host, Length, Link, plan_links};
use thalweg_wire::LayerRange;

pub type Failure = Box<dyn Error>;

/// Network cards and disks of the artifact, in bytes/s.
pub const NIC_BYTES_PER_SECOND: f64 = 1e10;
const LOAD_BYTES_PER_SECOND: f64 = 1e9;

/// The folder given on the command line; cargo adds `--bench`.
pub fn folder() -> Option<PathBuf> {
    let found = std::env::args().skip(1).find(|it| !it.starts_with('-')).map(PathBuf::from);
    if found.is_none() {
        println!("give the folder with the artifact's figures; see benches/recorded/mod.rs");
    }
    found
}

pub fn text(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|it| format!("{}: {it}", path.display()).into())
}

pub fn json(path: &Path) -> Result<Value, Failure> {
    Ok(serde_json::from_str(&text(path)?)?)
}

/// A compressed file's text.
pub fn unzipped(path: &Path) -> Result<String, Failure> {
    let output = Command::new("gunzip").arg("-c").arg(path).output()?;
    if !output.status.success() {
        return Err(format!("gunzip cannot read {}", path.display()).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

pub fn number(value: &Value) -> Result<f64, Failure> {
    value.as_f64().ok_or_else(|| format!("{value} is no number").into())
}

fn whole(value: &Value) -> Result<u32, Failure> {
    let whole = value.as_u64().and_then(|it| u32::try_from(it).ok());
    whole.ok_or_else(|| format!("{value} is no small whole number").into())
}

fn entries(value: &Value) -> Result<&Vec<Value>, Failure> {
    value.as_array().ok_or_else(|| format!("{value} is no list").into())
}

pub fn word(value: &Value) -> Result<&str, Failure> {
    value.as_str().ok_or_else(|| format!("{value} is no text").into())
}

/// The planner's name of a model.
fn model_name(short: &str) -> Result<&'static str, Failure> {
    match short.to_lowercase().trim_start_matches("modelname.") {
        "llama30b" => Ok("llama-1-30b"),
        "llama70b" => Ok("llama-2-70b"),
        other => Err(format!("no model {other}").into()),
    }
}

/// Hosts with their layers, and the wires of their cluster.
pub struct Placed {
    pub resolved: Resolved,
    pub ranges: Vec<LayerRange>,
    pub machines: Vec<String>,
    pub wires: Vec<Link>,
    /// The artifact's number of each host; in routes and flows it adds two.
    pub ids: Vec<u32>,
}

impl Placed {
    /// A layout of a cluster; hosts without layers are left out.
    pub fn new(cluster: &Value, layout: &Value, model: &str) -> Result<Self, Failure> {
        let nodes = entries(&cluster["nodes"])?;
        let (mut ids, mut ranges, mut machines) = (Vec::new(), Vec::new(), Vec::new());
        for (id, node) in (0..).zip(nodes) {
            if let Some(range) = held(layout, id)? {
                ids.push(id);
                ranges.push(range);
                machines.push(word(&node["type"])?.to_owned());
            }
        }
        let place = |end: &Value| match end.as_u64() {
            Some(id) => {
                ids.iter().position(|it| u64::from(*it) == id).map(|it| End::Host(it as u32))
            }
            None => Some(End::Gateway),
        };
        let mut wires = Vec::new();
        for link in entries(&cluster["links"])? {
            let (Some(from), Some(to)) = (place(&link["a"]), place(&link["b"])) else { continue };
            let rate = number(&link["bandwidth_Bps"])?;
            let latency = number(&link["latency_s"])?;
            wires.push(wire(from, to, rate, latency));
        }
        Ok(Self { resolved: resolved(&machines, model)?, ranges, machines, wires, ids })
    }

    /// Machine types of the scenario.
    pub fn devices(&self) -> Result<Vec<Device>, Failure> {
        let device = |it: &thalweg_planner::instance::Class| {
            it.device.clone().ok_or_else(|| format!("{} has no curves", it.name))
        };
        Ok(self.resolved.instance.classes.iter().map(device).collect::<Result<_, _>>()?)
    }

    /// Hosts of the scenario. `kv` gives the memory of those that hold more layers than are listed.
    pub fn hosts(&self, kv: impl Fn(&str, u32) -> Option<u64>) -> Result<Vec<Host>, Failure> {
        let devices = self.devices()?;
        let host = |(at, &layers): (usize, &LayerRange)| {
            let device = self.resolved.instance.hosts[at].class;
            let listed = devices[device].kv_token_layers.get(layers.count() as usize);
            // Token-layers are whole numbers.
            let kv_token_layers = listed
                .map(|it| *it as u64)
                .or_else(|| kv(&self.machines[at], layers.count()))
                .ok_or_else(|| format!("no KV memory of {} for {layers}", self.machines[at]))?;
            Ok(Host {
                device,
                layers,
                kv_token_layers,
                nic_bytes_per_second: NIC_BYTES_PER_SECOND,
                load_bytes_per_second: LOAD_BYTES_PER_SECOND,
            })
        };
        self.ranges.iter().enumerate().map(host).collect()
    }

    /// Tokens/s of each host by the planner's estimate.
    pub fn rates(&self) -> Vec<f64> {
        let instance = &self.resolved.instance;
        let rate = |(at, range): (usize, &LayerRange)| {
            instance.classes[instance.hosts[at].class].rates.of(*range, instance.layers)
        };
        self.ranges.iter().enumerate().map(rate).collect()
    }

    /// Links over which a next layer is computed, exactly where the one before ends.
    pub fn links(&self) -> Vec<Link> {
        plan_links(self.resolved.model.layers, &self.ranges, &self.wires, false)
    }

    /// Flow of each link, from a list of `[from, to, tokens/s]` in the artifact's names: `7_out` is
    /// the near end of a link of node 5, 0 the source and 1 the sink.
    pub fn flows(&self, links: &[Link], recorded: &Value) -> Result<Vec<f64>, Failure> {
        let name = |end: End, gateway: u32| match end {
            End::Gateway => gateway,
            End::Host(host) => self.ids[host as usize] + 2,
        };
        let recorded = entries(recorded)?;
        let flow = |link: &Link| {
            let from = format!("{}_out", name(link.from, 0));
            let to = format!("{}_in", name(link.to, 1));
            let entry = recorded.iter().find(|it| it[0] == from && it[1] == to);
            entry.map_or(Ok(0.0), |it| number(&it[2]))
        };
        links.iter().map(flow).collect()
    }
}

/// Layers of a host in a layout.
pub fn held(layout: &Value, id: u32) -> Result<Option<LayerRange>, Failure> {
    let range = &layout["layout"][id.to_string()];
    if !range.is_array() {
        return Ok(None);
    }
    Ok(Some(LayerRange::new(whole(&range[0])?, whole(&range[1])?)?))
}

/// A link with its figures rounded as the artifact's files of milliseconds and megabytes do it.
pub fn wire(from: End, to: End, bytes_per_second: f64, latency_seconds: f64) -> Link {
    let bytes_per_second = bytes_per_second / 1e6 * 1e6;
    Link { from, to, bytes_per_second, latency_seconds: latency_seconds * 1000.0 * 0.001 }
}

/// Machine types as the planner knows them, in a cluster of these hosts.
pub fn resolved(machines: &[String], model: &str) -> Result<Resolved, Failure> {
    let host = |(at, machine): (usize, &String)| HostEntry {
        name: format!("h{at}"),
        machine: machine.clone(),
        ..HostEntry::default()
    };
    let mut file = ClusterFile {
        model: Some(model_name(model)?.to_owned()),
        hosts: machines.iter().enumerate().map(host).collect(),
        ..ClusterFile::default()
    };
    file.network.default = Some(Line { bytes_per_second: 1e9, latency_seconds: 0.001 });
    Ok(file.resolve(&Choice::default())?)
}

/// Pairs of prompt and answer: the last two columns of a file with a heading.
pub fn lengths(text: &str) -> Result<Vec<Length>, Failure> {
    let pair = |line: &str| {
        let mut cells = line.rsplit(',');
        let output = cells.next().unwrap_or_default().parse()?;
        Ok((cells.next().unwrap_or_default().parse()?, output))
    };
    text.lines().skip(1).map(pair).collect()
}

/// CPU seconds that this process has taken.
pub fn cpu_seconds() -> Result<f64, Failure> {
    let stat = text(Path::new("/proc/self/stat"))?;
    let cells: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // User and system time, in hundredths of a second.
    let ticks = |at: usize| {
        let cell = cells.get(at).ok_or("no times in /proc/self/stat")?;
        Ok::<f64, Failure>(cell.parse()?)
    };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
