//! Flows with known answers.

use super::*;
use crate::instance::{Class, Host, Network, Pairs, Placement, Rates, Shared, Wire};

fn wire(tokens_per_second: f64) -> Option<Wire> {
    Some(Wire { tokens_per_second, latency_seconds: 0.001 })
}

/// Hosts given as (region, rate by count); fast links everywhere.
fn cluster(layers: u32, hosts: &[(usize, &[f64])]) -> Instance {
    let regions = hosts.iter().map(|it| it.0 + 1).max().unwrap_or(1);
    let class = |(at, it): (usize, &(usize, &[f64]))| Class {
        name: format!("m{at}"),
        rates: Rates::uniform(std::iter::once(0.0).chain(it.1.iter().copied()).collect()),
        device: None,
    };
    let host = |(at, it): (usize, &(usize, &[f64]))| Host {
        name: format!("h{at}"),
        class: at,
        region: it.0,
        may_be_first: true,
        may_be_last: true,
        nic_in: 1e9,
        nic_out: 1e9,
        price_per_hour: 0.0,
        load_bytes_per_second: 1e9,
    };
    Instance {
        layers,
        classes: hosts.iter().enumerate().map(class).collect(),
        hosts: hosts.iter().enumerate().map(host).collect(),
        regions: (0..regions).map(|it| format!("r{it}")).collect(),
        network: Network {
            pairs: Pairs::ByRegion(vec![wire(1e9); regions * regions]),
            enter: vec![wire(1e9); hosts.len()],
            leave: vec![wire(1e9); hosts.len()],
            shared: Vec::new(),
        },
        partial: true,
        layer_bytes: 1e9,
    }
}

fn ranges(ranges: &[(u32, u32)]) -> Placement {
    ranges.iter().map(|&(first, end)| LayerRange::new(first, end).ok()).collect()
}

fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-6 * expected.max(1.0), "{found} is not {expected}");
}

/// What enters a host leaves it, and the hops from the source carry the value.
fn check(flow: &Flow, hosts: usize) {
    for host in 0..hosts {
        let into: f64 = flow
            .hops
            .iter()
            .filter(|it| it.to == End::Host(host))
            .map(|it| it.tokens_per_second)
            .sum();
        let out: f64 = flow
            .hops
            .iter()
            .filter(|it| it.from == End::Host(host))
            .map(|it| it.tokens_per_second)
            .sum();
        near(into, out);
    }
    let entered: f64 =
        flow.hops.iter().filter(|it| it.from == End::Source).map(|it| it.tokens_per_second).sum();
    near(entered, flow.value);
}

/// `a` holds both layers, `b` the first: full charge leaves `a` all of layer 1, so 1. Under work
/// charge `b` sends 1 token/s to `a`, which costs `a` half its time, and the other half is worth
/// half a token/s through both layers: 1.5.
#[test]
fn work_charge_counts_what_is_computed() {
    let instance = cluster(2, &[(0, &[2.0, 1.0]), (0, &[1.0])]);
    let placement = ranges(&[(0, 2), (0, 1)]);
    let full = maximum(&instance, &placement, Charge::Full);
    near(full.value, 1.0);
    let work = maximum(&instance, &placement, Charge::Work);
    near(work.value, 1.5);
    check(&work, 2);
}

/// Two regions with a fast host each; 30 tokens/s fit through the line between them, 100 through
/// each host.
#[test]
fn a_shared_line_limits_all_pairs_together() {
    let hosts: [(usize, &[f64]); 4] = [(0, &[100.0]), (0, &[100.0]), (1, &[100.0]), (1, &[100.0])];
    let mut instance = cluster(2, &hosts);
    let placement = ranges(&[(0, 1), (0, 1), (1, 2), (1, 2)]);
    near(value(&instance, &placement), 200.0);
    let carries = vec![(0, 1)];
    instance.network.shared =
        vec![Shared { name: "line r0 -> r1".into(), tokens_per_second: 30.0, carries }];
    near(value(&instance, &placement), 30.0);
    let flow = maximum(&instance, &placement, Charge::Full);
    check(&flow, 4);
    assert_eq!(flow.limits.len(), 1, "{:?}", flow.limits);
    assert_eq!(flow.limits[0].0, Limit::Shared(0));
    let words = bottleneck(&instance, &placement, &flow).to_string();
    assert!(words.starts_with("line r0 -> r1 limit the plan"), "{words}");
}

/// Three regions, one layer each. What leaves `r0` may be 50 tokens/s to `r1` and `r2` together.
/// Layer 1 is held in both; its holders pass on what they get, so 50.
#[test]
fn egress_counts_all_destinations() {
    let hosts: [(usize, &[f64]); 4] = [(0, &[100.0]), (1, &[40.0]), (2, &[40.0]), (1, &[100.0])];
    let mut instance = cluster(3, &hosts);
    let placement = ranges(&[(0, 1), (1, 2), (1, 2), (2, 3)]);
    near(value(&instance, &placement), 80.0);
    let carries = vec![(0, 1), (0, 2)];
    instance.network.shared =
        vec![Shared { name: "egress of r0".into(), tokens_per_second: 50.0, carries }];
    near(value(&instance, &placement), 50.0);
}

/// Only the slow host may hold the first layer: 10, although 110 could.
#[test]
fn policy_pins_the_first_layer() {
    let mut instance = cluster(2, &[(0, &[10.0]), (0, &[100.0]), (0, &[100.0])]);
    let placement = ranges(&[(0, 1), (0, 1), (1, 2)]);
    near(value(&instance, &placement), 100.0);
    instance.hosts[1].may_be_first = false;
    near(value(&instance, &placement), 10.0);
}

/// A network card that takes in 7 tokens/s limits hops between hosts, not those from the gateway.
#[test]
fn network_cards_limit_hops() {
    let mut instance = cluster(2, &[(0, &[100.0]), (0, &[100.0])]);
    let placement = ranges(&[(0, 1), (1, 2)]);
    instance.hosts[0].nic_in = 7.0;
    near(value(&instance, &placement), 100.0);
    instance.hosts[1].nic_in = 7.0;
    near(value(&instance, &placement), 7.0);
}

/// Without partial inference a hop ends where the next host starts.
#[test]
fn whole_stages_need_matching_ends() {
    let mut instance = cluster(3, &[(0, &[9.0, 9.0]), (0, &[9.0, 9.0]), (0, &[9.0, 9.0])]);
    let placement = ranges(&[(0, 2), (1, 3), (0, 1)]);
    near(value(&instance, &placement), 9.0);
    instance.partial = false;
    near(value(&instance, &placement), 9.0);
    near(value(&instance, &ranges(&[(0, 2), (1, 3)])), 0.0);
}

/// Of two hosts for layer 1 one is near; all flow fits through it.
#[test]
fn the_quicker_of_equal_flows_is_taken() {
    let mut instance = cluster(2, &[(0, &[5.0]), (1, &[9.0]), (0, &[9.0])]);
    if let Pairs::ByRegion(table) = &mut instance.network.pairs {
        table[1] = Some(Wire { tokens_per_second: 1e9, latency_seconds: 0.1 });
    }
    let placement = ranges(&[(0, 1), (1, 2), (1, 2)]);
    let flow = maximum(&instance, &placement, Charge::Full);
    assert!(flow.least_latency);
    check(&flow, 3);
    assert!(flow.hops.iter().all(|it| it.to != End::Host(1)), "{:?}", flow.hops);
}

#[test]
fn the_cut_is_named_with_what_would_widen_it() {
    let instance = cluster(3, &[(0, &[9.0, 6.0]), (0, &[9.0, 4.0])]);
    let placement = ranges(&[(0, 1), (1, 3)]);
    let flow = maximum(&instance, &placement, Charge::Full);
    let found = bottleneck(&instance, &placement, &flow);
    // A second host of the first kind adds 6 to both layers of the second: 9 of the first remain.
    assert_eq!(
        found.to_string(),
        "layers 1-2 on 1 m1 limit the plan; one more m0 in r0 on layers 1-2 adds 125.0 %",
    );
}

/// Random placements: the theorem, grouped against single links, and Dinic against the program.
#[test]
fn random_flows_agree_by_every_way() {
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..300 {
        let layers = rng.u32(1..6);
        let count = rng.usize(1..8);
        let tables: Vec<Vec<f64>> = (0..count)
            .map(|_| {
                let base = f64::from(rng.u32(1..50));
                (1..=rng.u32(1..=layers)).map(|it| base / f64::from(it)).collect()
            })
            .collect();
        let hosts: Vec<(usize, &[f64])> =
            tables.iter().map(|it| (rng.usize(0..3), it.as_slice())).collect();
        let mut instance = cluster(layers, &hosts);
        let placement: Placement = tables
            .iter()
            .map(|it| {
                let held = rng.u32(1..=it.len() as u32);
                let first = rng.u32(0..=layers - held);
                LayerRange::new(first, first + held).ok().filter(|_| rng.u32(0..8) > 0)
            })
            .collect();
        let least = instance.coverage(&placement).into_iter().fold(f64::INFINITY, f64::min);
        near(value(&instance, &placement), least);
        assert!(!links_bind(&instance));
        if let Pairs::ByRegion(table) = &mut instance.network.pairs {
            table.iter_mut().for_each(|it| *it = wire(f64::from(rng.u32(1..30))));
        }
        let by_region = value(&instance, &placement);
        let program = solved_by_program(&instance, &placement);
        near(program, by_region);
        let wires = (0..count * count).map(|it| instance.wire(it / count, it % count)).collect();
        instance.network.pairs = Pairs::Each(wires);
        near(value(&instance, &placement), by_region);
        let flow = maximum(&instance, &placement, Charge::Full);
        check(&flow, count);
        let cut: f64 = flow.limits.iter().map(|it| it.1).sum();
        assert!(flow.value == 0.0 || (cut - 1.0).abs() < 1e-6, "the cut is the flow: {cut}");
    }
}

fn solved_by_program(instance: &Instance, placement: &Placement) -> f64 {
    let mut mesh = Mesh::new(instance);
    mesh.build(instance, placement, Charge::Full);
    program::solve(instance, placement, &mesh, Charge::Full).map_or(0.0, |it| it.value)
}

/// Among flows of one value cost scaling and the program find the same least latency.
#[test]
fn scaling_and_the_program_agree_on_the_least_latency() {
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..100 {
        let layers = rng.u32(2..6);
        let count = rng.usize(4..12);
        let rates = [40.0, 25.0, 15.0, 10.0, 8.0];
        let hosts: Vec<(usize, &[f64])> =
            (0..count).map(|_| (rng.usize(0..3), &rates[..layers as usize])).collect();
        let mut instance = cluster(layers, &hosts);
        let milliseconds = |rng: &mut fastrand::Rng| f64::from(rng.u32(1..100)) / 1e3;
        let Pairs::ByRegion(table) = &mut instance.network.pairs else { panic!("by region") };
        for wire in table.iter_mut() {
            let tokens_per_second = f64::from(rng.u32(5..60));
            *wire = Some(Wire { tokens_per_second, latency_seconds: milliseconds(&mut rng) });
        }
        for wire in instance.network.enter.iter_mut().chain(&mut instance.network.leave).flatten() {
            wire.latency_seconds = milliseconds(&mut rng);
        }
        let ranges = |_| {
            let first = rng.u32(0..layers);
            LayerRange::new(first, rng.u32(first + 1..=layers)).ok()
        };
        let placement: Placement = (0..count).map(ranges).collect();
        let mut mesh = Mesh::new(&instance);
        mesh.build(&instance, &placement, Charge::Full);
        let value = value(&instance, &placement);
        let seconds = |carried: &[f64]| -> f64 {
            mesh.lines.iter().zip(carried).map(|it| program::seconds(&instance, it.0) * it.1).sum()
        };
        let scaled = quickened(&instance, &mesh).expect("a small graph");
        let Some(solved) = program::quicken(&instance, &placement, &mesh, Charge::Full, value)
        else {
            near(value, 0.0);
            continue;
        };
        let (ours, theirs) = (seconds(&scaled), seconds(&solved));
        assert!((ours - theirs).abs() <= 1e-5 * theirs.max(1e-3), "{ours} s against {theirs} s");
    }
}
