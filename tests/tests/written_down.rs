//! A running cluster written down as a scenario, and simulated.

#![allow(missing_docs, reason = "tests are read, not documented")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use thalweg_tests::cluster::{Cluster, binary, equal};

/// Less than the model needs, so that it is split.
const MEMORY_MIB: u64 = 400;

#[test]
fn a_running_cluster_can_be_simulated() {
    let mut cluster = Cluster::serving(equal(2, MEMORY_MIB));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = cluster.client(1).base().to_owned();
    let said = thalweg(&["status", "--server", &server, "--scenario", text(folder.path())]);
    let file = folder.path().join("scenario.toml");
    assert_eq!(said, format!("thalweg simulate {}\n", file.display()));

    let outcome = thalweg(&["simulate", text(&file), "--json"]);
    let outcome: Value = serde_json::from_str(&outcome).expect("an outcome");
    let plan = cluster.status(1).plan.expect("the cluster serves");
    let held = |name: &str| plan.placement.iter().find(|it| it.host == name).expect("both hold");
    for host in outcome["hosts"].as_array().expect("hosts") {
        let name = host["name"].as_str().expect("a name");
        let placed = held(name);
        assert_eq!(host["layers"], serde_json::json!([placed.first, placed.end]), "{name}");
    }
    let number = |key: &str| outcome[key].as_f64().expect("a number");
    assert!(number("finished") > 0.0 && number("rejected") <= 0.0, "{outcome}");
    // The twin knows what a layer takes: no token is quicker than through all of them.
    let hosts = cluster.status(1).hosts;
    let layer = hosts.iter().filter_map(|it| it.decode_seconds_per_layer);
    let least = layer.fold(f64::INFINITY, f64::min) * 30.0;
    assert!(number("tpot_mean_seconds") > least, "{outcome}");
}

fn thalweg(args: &[&str]) -> String {
    let output = Command::new(binary()).args(args).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}
