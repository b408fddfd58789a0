//! Bounds against brute force and known optima.

use proptest::prelude::*;
use thalweg_wire::LayerRange;

use super::{Proof, Reason, prove};
use crate::Charge;
use crate::cluster::{Choice, parse};
use crate::instance::{Class, Host, Instance, Network, Pairs, Rates, Wire};

/// The shipped clusters with their own models.
pub(crate) const SINGLE24: &str = include_str!("../../../examples/clusters/single24.toml");
pub(crate) const HETERO42: &str = include_str!("../../../examples/clusters/hetero42.toml");
pub(crate) const SMALL10: &str = include_str!("../../../examples/clusters/small10.toml");

/// Reads a cluster file.
pub(crate) fn shipped(text: &str) -> Instance {
    parse(text).unwrap().resolve(&Choice::default()).unwrap().instance
}

/// An instance without binding links: for each class, how many hosts and `T(1)`, `T(2)`, ...
pub(crate) fn instance(layers: u32, classes: &[(usize, Vec<f64>)]) -> Instance {
    let wire = Some(Wire { tokens_per_second: 1e9, latency_seconds: 0.001 });
    let mut hosts = Vec::new();
    for (class, (count, _)) in classes.iter().enumerate() {
        for at in 0..*count {
            hosts.push(Host {
                name: format!("{class}-{at}"),
                class,
                region: 0,
                may_be_first: true,
                may_be_last: true,
                nic_in: 1e9,
                nic_out: 1e9,
                price_per_hour: 0.0,
                load_bytes_per_second: 1e9,
            });
        }
    }
    let class = |(at, (_, rates)): (usize, &(usize, Vec<f64>))| Class {
        name: format!("class-{at}"),
        rates: Rates::uniform(std::iter::once(0.0).chain(rates.iter().copied()).collect()),
        device: None,
    };
    Instance {
        layers,
        classes: classes.iter().enumerate().map(class).collect(),
        network: Network {
            pairs: Pairs::ByRegion(vec![wire]),
            enter: vec![wire; hosts.len()],
            leave: vec![wire; hosts.len()],
            shared: Vec::new(),
        },
        hosts,
        regions: vec!["here".to_owned()],
        partial: true,
        layer_bytes: 1e9,
    }
}

/// Small random instances.
pub(crate) fn small() -> impl Strategy<Value = Instance> {
    let class = (1..=2_usize, prop::collection::vec(0.1..10.0_f64, 1..=4));
    (2..=5_u32, prop::collection::vec(class, 1..=2))
        .prop_map(|(layers, classes)| instance(layers, &classes))
}

/// The largest least coverage of all placements.
pub(crate) fn brute(instance: &Instance) -> f64 {
    fn best(instance: &Instance, host: usize, cover: &mut Vec<f64>) -> f64 {
        if host == instance.hosts.len() {
            return cover.iter().copied().fold(f64::INFINITY, f64::min);
        }
        let mut most = best(instance, host + 1, cover);
        for first in 0..instance.layers {
            for end in first + 1..=instance.layers {
                let rate = instance.rate(host, LayerRange::new(first, end).unwrap());
                if rate > 0.0 {
                    let before = cover.clone();
                    let span = first as usize..end as usize;
                    cover[span].iter_mut().for_each(|it| *it += rate);
                    most = most.max(best(instance, host + 1, cover));
                    *cover = before;
                }
            }
        }
        most
    }
    best(instance, 0, &mut vec![0.0; instance.layers as usize])
}

#[test]
fn bounds_of_the_shipped_clusters() {
    for (text, work, full) in
        [(SINGLE24, 2337.0, 2045.71), (HETERO42, 6959.3, 6054.1), (SMALL10, 352.7, 286.6)]
    {
        let instance = shipped(text);
        let loose = prove(&instance, Charge::Work).value;
        let tight = prove(&instance, Charge::Full).value;
        assert!(work - 1.0 < loose && loose < work, "{loose} under work charge");
        assert!(full - 0.2 < tight && tight < full, "{tight} under full charge");
    }
}

/// Two hosts that hold one of two layers each: 3 at most, the weaker of them.
#[test]
fn a_bound_that_is_met() {
    let instance = instance(2, &[(1, vec![3.0]), (1, vec![5.0])]);
    let proof = prove(&instance, Charge::Full);
    assert!((proof.value - 3.0).abs() < 1e-3, "{proof:?}");
    let Reason::Configuration { prices } = proof.reason else { panic!("covers prove more") };
    let spent: f64 = prices.iter().map(|it| it.price).sum();
    assert!(spent < 2.0, "both hosts cost {spent}, less than the two layers");
}

#[test]
fn nothing_fits() {
    let instance = instance(3, &[(2, vec![1.0])]);
    for charge in [Charge::Full, Charge::Work] {
        assert!(prove(&instance, charge).value < 1e-5, "three layers do not fit");
    }
}

/// Policy lets only the two weak hosts hold the first layer: 2 tokens/s, whatever the others do.
#[test]
fn prices_of_layers_see_policy() {
    let mut instance = instance(4, &[(3, vec![8.0, 4.0]), (2, vec![1.0, 0.5])]);
    instance.hosts[..3].iter_mut().for_each(|it| it.may_be_first = false);
    let proof = prove(&instance, Charge::Full);
    assert!(brute(&instance) <= 2.0 + 1e-9 && (proof.value - 2.0).abs() < 1e-3, "{proof:?}");
    let Reason::Layers { prices } = proof.reason else { panic!("the first layer limits") };
    assert!(prices[0] > 0.99, "{prices:?}");
    instance.hosts[..3].iter_mut().for_each(|it| it.may_be_first = true);
    assert!(prove(&instance, Charge::Full).value > 2.5);
}

#[test]
fn a_proof_survives_being_written() {
    let proof = prove(&shipped(SINGLE24), Charge::Full);
    let text = serde_json::to_string(&proof).unwrap();
    let read: Proof = serde_json::from_str(&text).unwrap();
    assert!(matches!(read.reason, Reason::Configuration { ref prices } if prices.len() == 3));
    assert!((read.value - proof.value).abs() < 1e-9);
}

proptest! {
    #[test]
    fn no_placement_exceeds_its_bound(instance in small()) {
        let best = brute(&instance);
        let full = prove(&instance, Charge::Full).value;
        let work = prove(&instance, Charge::Work).value;
        prop_assert!(best <= full * (1.0 + 1e-9), "{best} above {full}");
        prop_assert!(full <= work);
    }

    #[test]
    fn no_placement_exceeds_its_bound_under_policy(
        mut instance in small(),
        first in prop::collection::vec(any::<bool>(), 4),
        last in prop::collection::vec(any::<bool>(), 4),
    ) {
        for (host, (first, last)) in instance.hosts.iter_mut().zip(first.into_iter().zip(last)) {
            (host.may_be_first, host.may_be_last) = (first, last);
        }
        let (best, full) = (brute(&instance), prove(&instance, Charge::Full).value);
        prop_assert!(best <= full * (1.0 + 1e-9), "{best} above {full}");
    }
}
