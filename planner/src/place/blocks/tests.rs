//! Regions with thin links between them.

use std::ops::ControlFlow;

use super::*;
use crate::cluster::{self, Choice};
use crate::instance::{Class, Host, Rates, Shared, Wire};

/// Regions given as rates by count of their hosts; fast links inside, `pair` tokens/s across.
fn regions(layers: u32, pair: f64, regions: &[&[&[f64]]]) -> Instance {
    let wire = |tokens_per_second| Some(Wire { tokens_per_second, latency_seconds: 0.001 });
    let each = || regions.iter().enumerate().flat_map(|(at, it)| it.iter().map(move |it| (at, it)));
    let table = |from: usize, to: usize| wire(if from == to { 1e9 } else { pair });
    let count = regions.len();
    Instance {
        layers,
        classes: each()
            .map(|(region, rates)| Class {
                name: format!("of region {region}"),
                rates: Rates::uniform([&[0.0], *rates].concat()),
                device: None,
            })
            .collect(),
        hosts: each()
            .enumerate()
            .map(|(class, (region, _))| Host {
                name: format!("h{class}"),
                class,
                region,
                may_be_first: true,
                may_be_last: true,
                nic_in: 1e9,
                nic_out: 1e9,
                price_per_hour: 0.0,
                load_bytes_per_second: 1e9,
            })
            .collect(),
        regions: (0..count).map(|it| format!("r{it}")).collect(),
        network: Network {
            pairs: Pairs::ByRegion(
                (0..count * count).map(|it| table(it / count, it % count)).collect(),
            ),
            enter: vec![wire(1e9); each().count()],
            leave: vec![wire(1e9); each().count()],
            shared: Vec::new(),
        },
        partial: true,
        layer_bytes: 1e9,
    }
}

fn flow_of(instance: &Instance) -> f64 {
    let found = search(instance, 1, &mut |_| ControlFlow::Continue(()));
    found.map_or(0.0, |it| crate::flow::value(instance, &it.placement))
}

/// Two regions hold half of the model each. A pair carries 60 of the 100 tokens/s that the hosts
/// sustain, so that one region must hold a layer twice at the boundary.
#[test]
fn a_crossing_is_widened_by_an_overlap() {
    let host: &[f64] = &[100.0, 100.0];
    let instance = regions(4, 60.0, &[&[host], &[host, host]]);
    assert!((flow_of(&instance) - 100.0).abs() < 1e-6);
}

/// Without a host to spare one pair is all there is.
#[test]
fn a_single_pair_limits() {
    let host: &[f64] = &[100.0, 100.0];
    let instance = regions(4, 60.0, &[&[host], &[host]]);
    assert!((flow_of(&instance) - 60.0).abs() < 1e-6);
}

/// Regions that hold the model alone do so, whatever the links.
#[test]
fn rich_regions_stay_apart() {
    let host: &[f64] = &[100.0, 50.0];
    let instance = regions(2, 1.0, &[&[host, host], &[host, host], &[host, host]]);
    assert!((flow_of(&instance) - 300.0).abs() < 1e-6);
    assert_eq!(groups::split(&instance), [[0], [1], [2]]);
}

/// The capacity that all pairs share counts, too.
#[test]
fn a_shared_capacity_limits() {
    let host: &[f64] = &[100.0, 100.0];
    let mut instance = regions(4, 80.0, &[&[host], &[host]]);
    let shared = |at: usize| Shared {
        name: "line".into(),
        tokens_per_second: 70.0,
        carries: vec![(at, 1 - at)],
    };
    instance.network.shared = vec![shared(0), shared(1)];
    assert!((flow_of(&instance) - 70.0).abs() < 1e-6);
}

/// One host, no host that fits, and a region without hosts are answers.
#[test]
fn poor_clusters_are_answered() {
    let host: &[f64] = &[100.0];
    assert!((flow_of(&regions(1, 1.0, &[&[], &[host]])) - 100.0).abs() < 1e-6);
    assert!(
        search(&regions(3, 1.0, &[&[host], &[host]]), 0, &mut |_| ControlFlow::Continue(()))
            .is_none()
    );
    assert!(search(&regions(3, 1.0, &[&[]]), 0, &mut |_| ControlFlow::Continue(())).is_none());
}

/// The paper's placement in three regions reaches 1212.2 tokens/s after 45 minutes.
#[test]
fn three_regions_beat_the_paper_within_a_million_moves() {
    let text = include_str!("../../../../examples/clusters/geo24.toml");
    let file = cluster::parse(text).unwrap();
    let instance = file.resolve(&Choice::default()).unwrap().instance;
    let run = |moves_max: u64| {
        let found = search(&instance, 0, &mut |it| {
            if it.moves < moves_max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        found.unwrap().placement
    };
    let placement = run(1_000_000);
    assert!(crate::flow::value(&instance, &placement) > 1300.0);
    assert_eq!(placement, run(1_000_000), "the same seed finds the same placement");
}
