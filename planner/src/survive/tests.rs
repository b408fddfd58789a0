use std::ops::ControlFlow;

use thalweg_wire::LayerRange;

use super::*;
use crate::instance::{Class, Host, Network, Pairs, Rates, Wire};

/// Hosts of one region on links that never bind; `tables[h][k - 1]` is `T(k)` of host `h`.
pub(crate) fn instance(layers: u32, tables: &[&[f64]]) -> Instance {
    let wire = Some(Wire { tokens_per_second: 1e9, latency_seconds: 0.001 });
    let class = |(at, table): (usize, &&[f64])| Class {
        name: format!("type{at}"),
        rates: Rates::uniform(std::iter::once(0.0).chain(table.iter().copied()).collect()),
        device: None,
    };
    let host = |class: usize| Host {
        name: format!("host{class}"),
        class,
        region: 0,
        may_be_first: true,
        may_be_last: true,
        nic_in: 1e9,
        nic_out: 1e9,
        price_per_hour: 1.0,
        load_bytes_per_second: 1e9,
    };
    Instance {
        layers,
        classes: tables.iter().enumerate().map(class).collect(),
        hosts: (0..tables.len()).map(host).collect(),
        regions: vec!["here".into()],
        network: Network {
            pairs: Pairs::ByRegion(vec![wire]),
            enter: vec![wire; tables.len()],
            leave: vec![wire; tables.len()],
            shared: Vec::new(),
        },
        partial: true,
        layer_bytes: 1e9,
    }
}

pub(crate) fn range(first: u32, end: u32) -> Option<LayerRange> {
    LayerRange::new(first, end).ok()
}

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Coverage (15, 17); without host 0 it is (5, 7), without host 1 (10, 17), without 2 (15, 10).
#[test]
fn the_worst_loss_by_hand() {
    let instance = instance(2, &[&[20.0, 10.0], &[5.0], &[7.0]]);
    let placement = vec![range(0, 2), range(0, 1), range(1, 2)];
    let worst = worst_loss(&instance, &placement).unwrap();
    assert_eq!(worst, WorstLoss { host: 0, flow_kept: 5.0, share: 5.0 / 15.0 });
}

#[test]
fn losing_the_only_holder_leaves_exactly_nothing() {
    let instance = instance(2, &[&[0.1, 0.1], &[0.3]]);
    let placement = vec![range(0, 2), range(0, 1)];
    let worst = worst_loss(&instance, &placement).unwrap();
    assert_eq!((worst.host, worst.flow_kept, worst.share), (0, 0.0, 0.0));
    assert_eq!(worst_loss(&instance, &vec![None, None]), None);
}

#[test]
fn the_worst_loss_is_the_least_flow_over_all_removals() {
    let mut rng = Rng::with_seed(3);
    for _ in 0..200 {
        let layers = rng.u32(1..8);
        let tables: Vec<Vec<f64>> = (0..rng.usize(1..7))
            .map(|_| (1..=rng.u32(1..6)).map(|k| rng.f64() * 100.0 / f64::from(k)).collect())
            .collect();
        let tables: Vec<&[f64]> = tables.iter().map(Vec::as_slice).collect();
        let instance = instance(layers, &tables);
        let placement: Placement =
            (0..tables.len()).map(|host| neighbour(&instance, host, None, &mut rng)).collect();
        let mut judge = Judge::new(&instance);
        let least = (0..tables.len())
            .filter(|&it| placement[it].is_some())
            .map(|host| {
                let mut left = placement.clone();
                left[host] = None;
                judge.value(&left)
            })
            .reduce(f64::min);
        let worst = worst_loss(&instance, &placement).map(|it| it.flow_kept);
        let near = |(a, b): (f64, f64)| (a - b).abs() < 1e-9;
        assert!(worst.zip(least).is_none_or(near) && worst.is_some() == least.is_some());
    }
}

/// Two layers, hosts of T(1) = 4, 4, 2, T(2) = 2, 2, 1. For flow alone 4 + 1 = 5 on each layer
/// (split the fast, the slow on both). To keep half of it after a loss somebody must stay on each
/// layer: the fast on both give 4 and lose 2 (with the slow 5, and 3 are left, 0.6).
#[test]
fn the_promise_by_hand() {
    let instance = instance(2, &[&[4.0, 2.0], &[4.0, 2.0], &[2.0, 1.0]]);
    let flow = |alpha: f64| {
        let found = search(&instance, alpha, 1, None, &mut go_on).unwrap();
        let flow = Judge::new(&instance).value(&found.placement);
        let worst = worst_loss(&instance, &found.placement).unwrap();
        assert!(worst.share >= alpha - 1e-9, "{worst:?}");
        flow
    };
    assert_eq!([0.0, 0.5, 0.6].map(flow), [5.0, 5.0, 5.0]);
    assert_eq!(search(&instance, 0.7, 1, None, &mut go_on), None);
}

#[test]
fn the_search_agrees_with_brute_force() {
    let mut rng = Rng::with_seed(11);
    for _ in 0..6 {
        let tables: Vec<Vec<f64>> = (0..4)
            .map(|_| {
                let work = 10.0 + rng.f64() * 30.0;
                (1..=rng.u32(2..4)).map(|k| work / f64::from(k)).collect()
            })
            .collect();
        let tables: Vec<&[f64]> = tables.iter().map(Vec::as_slice).collect();
        let instance = instance(3, &tables);
        for alpha in [0.0, 0.3, 0.5] {
            let best = brute(&instance, alpha, &mut vec![None; 4], 0);
            let found = search(&instance, alpha, 5, None, &mut go_on);
            let flow = found.map_or(0.0, |it| Judge::new(&instance).value(&it.placement));
            assert!((flow - best).abs() <= 1e-9 * best, "{flow} {best} at {alpha}");
        }
    }
}

fn brute(instance: &Instance, alpha: f64, placement: &mut Placement, host: usize) -> f64 {
    if host == placement.len() {
        let flow = Judge::new(instance).value(placement);
        let kept = worst_loss(instance, placement).map_or(0.0, |it| it.flow_kept);
        return if kept >= alpha * flow * (1.0 - 1e-12) { flow } else { 0.0 };
    }
    let mut best = 0.0_f64;
    for first in 0..instance.layers {
        for end in first + 1..=instance.layers {
            let range = LayerRange::new(first, end).unwrap();
            if instance.rate(host, range) > 0.0 {
                placement[host] = Some(range);
                best = best.max(brute(instance, alpha, placement, host + 1));
            }
        }
    }
    best
}

#[test]
fn bad_input_is_refused() {
    let empty = instance(3, &[]);
    assert_eq!(search(&empty, 0.5, 0, None, &mut go_on), None);
    let one = instance(3, &[&[5.0]]);
    assert_eq!(search(&one, 0.5, 0, None, &mut go_on), None);
    assert_eq!(search(&one, f64::NAN, 0, None, &mut go_on), None);
}
