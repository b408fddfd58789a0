//! A running cluster as files for `thalweg simulate`: its hosts, links, plan and limits as they are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use thalweg_core::kv::BLOCK_TOKENS;
use thalweg_planner::cluster::{ClusterFile, measured};
use thalweg_planner::report::Weight;
use thalweg_planner::{PlanHost, PlanLink, Problem, Workload};
use thalweg_sim::compute::Overhead;
use thalweg_sim::scenario::{Files, Scenario, parse};
use thalweg_wire::{BitsPerSecond, Bytes, HostId};

use super::advice::Advice;
use crate::http::{ClusterStatus, PlacedStatus, PlanStatus, WeightStatus};

/// Names of the files, beside each other in one folder.
const SCENARIO: &str = "scenario.toml";
const CLUSTER: &str = "cluster.toml";
const PLACEMENT: &str = "placement.json";
const LENGTHS: &str = "lengths.csv";

/// What is asked of the simulated cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Users who ask again once they were answered.
    pub users: u32,
    /// Their first requests are spread over this time.
    pub ramp_seconds: f64,
    /// What is measured.
    pub window_seconds: (f64, f64),
    /// Tokens of prompts and answers, in turn.
    pub lengths: Vec<(u32, u32)>,
}

/// What is known beyond the status of a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beyond {
    /// What hosts do besides computing, by name.
    pub overheads: BTreeMap<String, Overhead>,
    /// Time of the head in layers; by what the host with the last layer measured, if absent.
    pub head_layers: Option<f64>,
}

/// The text of the files.
#[derive(Clone, Debug, PartialEq)]
pub struct ScenarioFiles {
    scenario: String,
    cluster: String,
    placement: String,
    lengths: String,
}

impl ScenarioFiles {
    /// Writes a cluster down that serves a plan.
    ///
    /// # Errors
    ///
    /// If it does not serve yet, or its measurements cannot be true.
    pub fn new(status: &ClusterStatus, beyond: &Beyond, asked: &Asked) -> Result<Self, Advice> {
        let plan = status.plan.as_ref().ok_or_else(|| {
            Advice::plain("the cluster has no plan yet")
                .hint("Wait until `thalweg status` shows one.")
        })?;
        let problem = problem(status)?;
        let (mut cluster, _excluded) = measured(&problem)
            .map_err(|source| Advice::new("the cluster cannot be written down", source))?;
        let head = beyond.head_layers.or_else(|| head_layers(status, plan)).unwrap_or_default();
        cluster.models.values_mut().for_each(|it| it.head_layers = head);
        plan.placement.iter().for_each(|it| bound(&mut cluster, it));
        let lengths = asked.lengths.iter().fold(String::new(), |mut text, (prompt, output)| {
            writeln!(text, "{prompt},{output}").expect("a string takes everything");
            text
        });
        Ok(Self {
            scenario: scenario(status, plan, beyond, asked),
            placement: placement(plan, &cluster)?,
            cluster: cluster.to_toml(),
            lengths,
        })
    }

    /// Reads them as `thalweg simulate` does.
    ///
    /// # Errors
    ///
    /// If what they say cannot be simulated.
    pub fn resolve(&self) -> Result<Scenario, Advice> {
        let files = Files {
            cluster: &self.cluster,
            placement: Some(&self.placement),
            lengths: Some(&self.lengths),
            arrivals: None,
        };
        let read = parse(&self.scenario).and_then(|it| it.resolve(files));
        read.map_err(|source| Advice::new("the cluster cannot be simulated", source))
    }

    /// Writes them into a folder, which is created if absent. Returns the file to simulate.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, Advice> {
        let failed =
            |source| Advice::new(format!("cannot write into `{}`", folder.display()), source);
        fs::create_dir_all(folder).map_err(failed)?;
        for (name, text) in [
            (SCENARIO, &self.scenario),
            (CLUSTER, &self.cluster),
            (PLACEMENT, &self.placement),
            (LENGTHS, &self.lengths),
        ] {
            fs::write(folder.join(name), text).map_err(failed)?;
        }
        Ok(folder.join(SCENARIO))
    }
}

/// The cluster as its own planner sees it.
fn problem(status: &ClusterStatus) -> Result<Problem, Advice> {
    let shape = status.shape.clone().ok_or_else(|| {
        Advice::plain(format!("host {} does not tell the sizes of its model", status.host))
            .hint("It runs an older version; ask another host.")
    })?;
    let hosts = status.hosts.iter().map(|it| PlanHost {
        id: HostId::of(&it.name),
        name: it.name.clone(),
        region: it.region.clone(),
        memory: Bytes(it.memory_bytes),
        profile: it.profile.clone(),
    });
    let links = status.links.iter().map(|it| PlanLink {
        from: HostId::of(&it.from),
        to: HostId::of(&it.to),
        rtt_us: it.rtt_us,
        bandwidth: BitsPerSecond(it.bandwidth_bits_per_s),
    });
    let workload = Workload::default();
    Ok(Problem { shape, hosts: hosts.collect(), links: links.collect(), workload })
}

/// The head's time in layers, as the host that holds it measured both.
fn head_layers(status: &ClusterStatus, plan: &PlanStatus) -> Option<f64> {
    let last = plan.placement.iter().find(|it| it.end == status.layers)?;
    let profile = &status.hosts.iter().find(|it| it.name == last.host)?.profile;
    Some(profile.head_seconds / profile.decode.first()?.seconds)
}

/// Takes KV and batch from the plan: of a machine type it is only known what they are with an embedding.
fn bound(cluster: &mut ClusterFile, placed: &PlacedStatus) {
    let Some(host) = cluster.hosts.iter().find(|it| it.name == placed.host) else { return };
    let profile = cluster.profiles.iter_mut().find(|it| it.machine == host.machine);
    let Some(profile) = profile else { return };
    let index = (placed.end - placed.first).saturating_sub(1) as usize;
    if let Some(blocks) = profile.kv_blocks.get_mut(index) {
        *blocks = placed.kv_tokens as f64 / f64::from(BLOCK_TOKENS);
    }
    if let Some(requests) = profile.decode_requests_max.get_mut(index) {
        *requests = placed.batch_max;
    }
}

fn placement(plan: &PlanStatus, cluster: &ClusterFile) -> Result<String, Advice> {
    let mut layout = BTreeMap::new();
    for it in &plan.placement {
        let place = cluster.hosts.iter().position(|host| host.name == it.host);
        let place = place.ok_or_else(|| {
            Advice::plain(format!("what {} measured of itself cannot be true", it.host))
        })?;
        layout.insert(place.to_string(), (it.first, it.end));
    }
    let end = |host: &str| plan.placement.iter().find(|it| it.host == host).map_or(0, |it| it.end);
    let weight = |it: &WeightStatus| Weight {
        from: it.from.clone(),
        to: it.to.clone(),
        tokens_per_second: it.tokens_per_s,
        position: end(&it.from),
    };
    let weights: Vec<Weight> = plan.weights.iter().map(weight).collect();
    Ok(format!("{}\n", json!({ "layout": layout, "weights": weights })))
}

fn scenario(status: &ClusterStatus, plan: &PlanStatus, beyond: &Beyond, asked: &Asked) -> String {
    let Asked { users, ramp_seconds, window_seconds: (from, to), .. } = asked;
    let mut text = format!(
        "# {}, as {} saw it.\n\ncluster = {CLUSTER:?}\nplacement = {PLACEMENT:?}\n\
         window_seconds = [{from}, {to}]\ngateways = [{:?}]\n\n[workload]\n\
         arrivals = {{ kind = \"users\", count = {users}, ramp_seconds = {ramp_seconds} }}\n\
         lengths = {{ kind = \"recorded\", file = {LENGTHS:?} }}\n\n[limits]\n\
         context_tokens = {}\n\n[bounds]\n",
        status.cluster, status.host, status.host, status.context_tokens,
    );
    let mut line = |key: &str, value: f64| {
        // Zero leaves a bound to the machines.
        if value > 0.0 {
            writeln!(text, "{key} = {value}").expect("a string takes everything");
        }
    };
    let most =
        |of: fn(&PlacedStatus) -> u32| f64::from(plan.placement.iter().map(of).max().unwrap_or(0));
    line("batch_max", most(|it| it.batch_max));
    line("chunk_tokens", most(|it| it.chunk_tokens));
    line("step_ms", most(|it| it.step_us) / 1e3);
    line("requests_max", most(|it| it.requests_max));
    line("micro_batches", most(|it| it.micro_batches));
    if !beyond.overheads.is_empty() {
        text.push_str("\n[overheads]\n");
    }
    for (name, it) in &beyond.overheads {
        let Overhead { share, step_seconds, part_seconds } = it;
        let (step_ms, part_ms) = (step_seconds * 1e3, part_seconds * 1e3);
        let entry = format!("{share:.4}, step_ms = {step_ms:.4}, part_ms = {part_ms:.4}");
        let entry = format!("{name:?} = {{ share = {entry} }}");
        writeln!(text, "{entry}").expect("a string takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use serde_json::{Value, json};

    use super::*;

    /// Two hosts that serve a model of four layers.
    fn status() -> Value {
        let profile = json!({
            "prefill": [{"tokens": 16, "seconds": 0.002}, {"tokens": 128, "seconds": 0.016}],
            "decode": [{"tokens": 1, "seconds": 0.001}, {"tokens": 8, "seconds": 0.002}],
            "head_seconds": 0.003,
        });
        let host = |name: &str| {
            json!({"name": name, "region": "eu", "memory_bytes": 1_000_000,
            "profile": profile})
        };
        let link = |from: &str, to: &str| {
            json!({"from": from, "to": to, "rtt_us": 200,
            "bandwidth_bits_per_s": 1_000_000_000})
        };
        let placed = |host: &str, first: u32, end: u32| {
            json!({"host": host, "first": first,
            "end": end, "kv_tokens": 1600, "batch_max": 8, "chunk_tokens": 128})
        };
        let weight = |from: &str, to: &str| json!({"from": from, "to": to, "tokens_per_s": 100.0});
        json!({
            "cluster": "river", "host": "h2", "model": "m", "layers": 4, "context_tokens": 512,
            "shape": {"model": vec![0; 32], "name": "m", "layers": 4, "hidden": 16,
                "layer_bytes": [1000, 1000, 1000, 1000], "embedding_bytes": 1000,
                "head_bytes": 1000, "kv_bytes_per_token_layer": 100, "context_tokens": 512},
            "hosts": [host("h1"), host("h2")],
            "links": [link("h1", "h2"), link("h2", "h1")],
            "plan": {"epoch": 1, "flow_tokens_per_s": 100.0,
                "placement": [placed("h2", 0, 3), placed("h1", 3, 4)],
                "weights": [weight("source", "h2"), weight("h2", "h1"), weight("h1", "sink")]},
        })
    }

    fn files(status: &Value, beyond: &Beyond) -> Result<ScenarioFiles, Advice> {
        let status = serde_json::from_value(status.clone()).expect("a status");
        let lengths = vec![(20, 10), (30, 12)];
        let (ramp_seconds, window_seconds) = (0.5, (1.0, 5.0));
        ScenarioFiles::new(
            &status,
            beyond,
            &Asked { users: 3, ramp_seconds, window_seconds, lengths },
        )
    }

    fn tpot_seconds(beyond: &Beyond) -> f64 {
        let scenario = files(&status(), beyond).and_then(|it| it.resolve());
        let scenario = scenario.unwrap_or_else(|error| panic!("{error}"));
        let placed = scenario.place(&mut |_| ControlFlow::Continue(())).expect("it is placed");
        let outcome = scenario.run(&placed).expect("it can be served");
        assert!(outcome.finished > 10 && outcome.rejected == 0, "{}", outcome.to_json());
        outcome.tpot_mean_seconds
    }

    #[test]
    fn a_cluster_is_simulated_with_its_own_plan_and_curves() {
        let plain = tpot_seconds(&Beyond::default());
        // Three layers, one layer, and a head of three: one row alone passes them in 7 ms.
        assert!((0.007..0.03).contains(&plain), "{plain}");
        let busy = Overhead { share: 0.5, ..Overhead::default() };
        let overheads = [("h1".to_owned(), busy), ("h2".to_owned(), busy)].into();
        let slower = tpot_seconds(&Beyond { overheads, head_layers: None });
        assert!((1.8..2.2).contains(&(slower / plain)), "{slower} after {plain}");
    }

    #[test]
    fn what_is_missing_is_said() {
        let without = |key: &str| {
            let mut status = status();
            status[key] = Value::Null;
            files(&status, &Beyond::default()).expect_err("not enough").to_string()
        };
        assert!(without("plan").contains("no plan yet"));
        assert!(without("shape").contains("host h2 does not tell the sizes of its model"));
    }
}
