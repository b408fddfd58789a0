//! Requests take the plan's hops in the plan's proportions.

#![allow(missing_docs, reason = "tests are read, not documented")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::json;
use thalweg::http::{ClusterStatus, PlanStatus, WeightStatus};
use thalweg_tests::client::Client;
use thalweg_tests::cluster::{Cluster, with_memory};

/// Memory of the hosts, in MiB: three large ones as ends and middle, two that hold few layers.
const MEMORY_MIB: [u64; 5] = [70, 520, 510, 440, 40];
/// Requests sent.
const REQUESTS: usize = 500;
/// Of them at the same time.
const AT_ONCE: usize = 8;
/// How far a hop's share of the requests may be from its share of the flow.
const SHARE_OFF_MAX: f64 = 0.05;

#[test]
fn requests_follow_the_plan() {
    let mut cluster = Cluster::serving(with_memory(&MEMORY_MIB));
    let before = cluster.status(0);
    let plan = before.plan.clone().expect("the cluster serves");
    assert!(splits(&plan), "one route only: {plan:?}");
    assert!(enters_inside(&plan), "every hop starts at a host's first layer: {plan:?}");
    send(&cluster.client(0));
    let after = cluster.status(0);
    assert_eq!(after.epoch, before.epoch, "the plan changed under way");

    let sent = |from: &str, to: &str| count(&after, from, to) - count(&before, from, to);
    let entered: u64 =
        after.hops.iter().filter(|it| it.from == "source").map(|it| sent(&it.from, &it.to)).sum();
    assert_eq!(entered, REQUESTS as u64, "{:?}", after.hops);
    let flow: f64 = plan.weights.iter().filter(|it| it.from == "source").map(rate).sum();
    for weight in &plan.weights {
        let share = sent(&weight.from, &weight.to) as f64 / entered as f64;
        let off = (share - rate(weight) / flow).abs();
        assert!(off <= SHARE_OFF_MAX, "{weight:?} of {flow} tokens/s got {share} of the requests");
    }
    let planned = |hop: (&str, &str)| plan.weights.iter().any(|it| (&*it.from, &*it.to) == hop);
    for hop in &after.hops {
        assert!(planned((&hop.from, &hop.to)), "{hop:?} is not in {:?}", plan.weights);
    }
}

/// Whether traffic parts somewhere, so that there is more than one route.
fn splits(plan: &PlanStatus) -> bool {
    let leaving = |from: &str| plan.weights.iter().filter(|it| it.from == from).count();
    plan.weights.iter().any(|it| leaving(&it.from) > 1)
}

/// Whether some hop starts inside of a host's range: the host computes only part of its layers.
fn enters_inside(plan: &PlanStatus) -> bool {
    let placed = |name: &str| plan.placement.iter().find(|it| it.host == name);
    plan.weights.iter().any(|it| match (placed(&it.from), placed(&it.to)) {
        (Some(from), Some(to)) => from.end > to.first && rate(it) > 0.0,
        _ => false,
    })
}

fn rate(weight: &WeightStatus) -> f64 {
    weight.tokens_per_s
}

/// Sends short requests, a few at a time.
fn send(client: &Client) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < REQUESTS {
                    let body = json!({"prompt": [504], "max_tokens": 1, "temperature": 0});
                    client.ask("/v1/completions", &body);
                }
            });
        }
    });
}

/// Requests that the answering host's gateway has sent over a hop.
fn count(status: &ClusterStatus, from: &str, to: &str) -> u64 {
    let hop = status.hops.iter().find(|it| it.from == from && it.to == to);
    hop.map_or(0, |it| it.requests)
}
