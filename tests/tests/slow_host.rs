//! A host limited to half a core measures itself slower and gets fewer layers.

#![allow(missing_docs, reason = "tests are read, not documented")]

use thalweg::http::{ClusterStatus, HostStatus};
use thalweg_tests::cluster::{Cluster, equal};
use thalweg_tests::golden;
use thalweg_tests::half_core::HalfCore;

/// Memory of each host: nearly enough for the model, so that speed and not memory splits it.
const MEMORY_MIB: u64 = 600;
/// A limited host is at least this many times slower. Half a core would be 2.
const SLOWER_MIN: f64 = 1.4;

/// Starts of the cluster: what else runs on the machine may slow the other host down while it measures.
const TRIES: usize = 3;

#[test]
fn half_a_core_gets_fewer_layers() {
    let limit = HalfCore::create();
    let start = || {
        let mut hosts = equal(2, MEMORY_MIB);
        hosts[0].wrapper = limit.wrapper();
        let mut cluster = Cluster::serving(hosts);
        let status = cluster.status(1);
        let times = [seconds(&status, "h1"), seconds(&status, "h2")];
        (cluster, status, times)
    };
    let (mut cluster, mut status, mut times) = start();
    for _ in 1..TRIES {
        if times[0] > times[1] * SLOWER_MIN {
            break;
        }
        drop(cluster);
        (cluster, status, times) = start();
    }
    let [slow, fast] = times;
    assert!(slow > fast * SLOWER_MIN, "{slow} s against {fast} s per layer");
    let (few, many) = (layers(&status, "h1"), layers(&status, "h2"));
    assert!(few > 0 && few < many, "{few} layers for half a core, {many} for a whole one");
    let case = &golden::cases()[0];
    case.check(&cluster.client(1).tokens(&case.prompt, 8), "with a slow host");
}

fn seconds(status: &ClusterStatus, name: &str) -> f64 {
    let host = |it: &&HostStatus| it.name == name;
    let seconds = status.hosts.iter().find(host).and_then(|it| it.decode_seconds_per_layer);
    seconds.unwrap_or_else(|| panic!("{name} is not measured: {:?}", status.hosts))
}

fn layers(status: &ClusterStatus, name: &str) -> u32 {
    let plan = status.plan.as_ref().expect("the cluster serves");
    plan.placement.iter().filter(|it| it.host == name).map(|it| it.end - it.first).sum()
}
