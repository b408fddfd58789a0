//! Bounds of networks: known ones, and never below what brute force finds.

use proptest::prelude::*;
use thalweg_wire::LayerRange;

use super::*;
use crate::cluster::{self, Choice};
use crate::instance::{Class, Host, Network, Pairs, Placement, Rates, Shared, Wire};

fn wire(tokens_per_second: f64) -> Option<Wire> {
    Some(Wire { tokens_per_second, latency_seconds: 0.001 })
}

/// Hosts given as (region, rates by count), each of a class of its own; `inside` and `across`
/// tokens/s on links within and between regions.
fn cluster(layers: u32, (inside, across): (f64, f64), hosts: &[(usize, &[f64])]) -> Instance {
    let regions = hosts.iter().map(|it| it.0 + 1).max().unwrap_or(1);
    let pair = |at: usize| wire(if at / regions == at % regions { inside } else { across });
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
        classes: hosts
            .iter()
            .enumerate()
            .map(|(at, it)| Class {
                name: format!("m{at}"),
                rates: Rates::uniform([&[0.0], it.1].concat()),
                device: None,
            })
            .collect(),
        hosts: hosts.iter().enumerate().map(host).collect(),
        regions: (0..regions).map(|it| format!("r{it}")).collect(),
        network: Network {
            pairs: Pairs::ByRegion((0..regions * regions).map(pair).collect()),
            enter: vec![wire(1e9); hosts.len()],
            leave: vec![wire(1e9); hosts.len()],
            shared: Vec::new(),
        },
        partial: true,
        layer_bytes: 1e9,
    }
}

fn ranges(layers: u32) -> Vec<Option<LayerRange>> {
    let all = (0..layers).flat_map(|first| (first + 1..=layers).map(move |end| (first, end)));
    all.map(|(first, end)| LayerRange::new(first, end).ok()).collect()
}

/// The best flow of all placements. More layers held are never worse, so no host stays empty.
fn brute_force(instance: &Instance) -> f64 {
    let ranges = ranges(instance.layers);
    let mut judge = crate::flow::Judge::new(instance);
    let choices = ranges.len().pow(instance.hosts.len() as u32);
    let of = |at: usize| -> Placement {
        let host = |host: u32| ranges[at / ranges.len().pow(host) % ranges.len()];
        (0..instance.hosts.len() as u32).map(host).collect()
    };
    (0..choices).map(|it| judge.value(&of(it))).fold(0.0, f64::max)
}

fn proved(instance: &Instance) -> f64 {
    let above = crate::bound::prove(instance, crate::Charge::Full).value;
    let Some(proof) = prove(instance, above) else { return above };
    assert_eq!(check(instance, &proof), Ok(()), "{proof:?}");
    assert!(proof.value < above);
    // As it comes back from a printed plan, up to the last bit.
    let printed = serde_json::from_str(&serde_json::to_string(&proof).unwrap()).unwrap();
    assert_eq!(check(instance, &printed), Ok(()), "{printed:?}");
    proof.value
}

/// Each region holds half of the model on a host of 100 tokens/s and can do no more; all tokens
/// cross on one link of 60.
#[test]
fn one_link_between_halves() {
    let host: &[f64] = &[100.0, 100.0];
    let instance = cluster(4, (1e9, 60.0), &[(0, host), (1, host)]);
    assert!((brute_force(&instance) - 60.0).abs() < 1e-9);
    assert!((proved(&instance) - 60.0).abs() < 0.01);
}

/// With two layers each, the hosts of the second region have 100 tokens/s to give, and 80 with
/// three: to widen the crossing one of them must hold a third layer. So 80 is best, although
/// without links 100 would be possible.
#[test]
fn an_overlap_costs_a_layer() {
    let near: &[f64] = &[100.0, 100.0];
    let far: &[f64] = &[100.0, 100.0, 80.0];
    let instance = cluster(6, (1e9, 60.0), &[(0, near), (1, far), (1, far)]);
    assert!((brute_force(&instance) - 80.0).abs() < 1e-9);
    assert!((proved(&instance) - 80.0).abs() < 0.01);
}

/// A line that all links from either region to the other share.
#[test]
fn a_shared_line_limits() {
    let host: &[f64] = &[100.0, 100.0];
    let mut instance = cluster(4, (1e9, 90.0), &[(0, host), (1, host)]);
    let line = |from: usize| Shared {
        name: format!("line {from}"),
        tokens_per_second: 40.0,
        carries: vec![(from, 1 - from)],
    };
    instance.network.shared = vec![line(0), line(1)];
    assert!((brute_force(&instance) - 40.0).abs() < 1e-9);
    assert!((proved(&instance) - 40.0).abs() < 1e-6);
}

#[test]
fn the_gateways_limit() {
    let host: &[f64] = &[100.0, 100.0];
    let mut instance = cluster(2, (1e9, 1e9), &[(0, host), (0, host)]);
    instance.network.enter = vec![wire(30.0); 2];
    instance.network.leave = vec![wire(20.0), None];
    assert!((proved(&instance) - 20.0).abs() < 1e-9);
}

#[test]
fn wide_links_prove_nothing() {
    let host: &[f64] = &[100.0, 100.0];
    let instance = cluster(4, (1e9, 200.0), &[(0, host), (1, host)]);
    assert_eq!(prove(&instance, 100.0), None);
}

/// Three regions, 600 to 915 tokens/s between their hosts: 1754.4 is what four A100 with nine layers
/// each sustain, and beyond it the hosts have no layer to spare for a wider crossing.
#[test]
fn three_regions_with_thin_links() {
    let text = include_str!("../../../../examples/clusters/geo24.toml");
    let instance = cluster::parse(text).unwrap().resolve(&Choice::default()).unwrap().instance;
    let bound = proved(&instance);
    assert!((1754.381..1754.7).contains(&bound), "{bound}");
}

#[test]
fn a_wrong_certificate_is_doubted() {
    let host: &[f64] = &[100.0, 100.0];
    let far: &[f64] = &[100.0, 100.0, 80.0];
    let instance = cluster(6, (1e9, 60.0), &[(0, host), (1, far), (1, far)]);
    let proof = prove(&instance, 100.0).unwrap();
    let NetworkReason::Thin { prices, costs } = proof.reason.clone() else {
        panic!("a crossing limits: {proof:?}")
    };
    let lower = NetworkProof { value: 79.0, ..proof.clone() };
    assert!(check(&instance, &lower).is_err());
    let reason = NetworkReason::Thin {
        prices: prices.clone(),
        costs: costs.iter().map(|it| it * 1.1).collect(),
    };
    assert_eq!(check(&instance, &NetworkProof { reason, ..proof.clone() }), Err(Doubt::Wrong));
    let reason = NetworkReason::Thin { prices: prices[1..].to_vec(), costs };
    assert_eq!(check(&instance, &NetworkProof { reason, ..proof }), Err(Doubt::Malformed));
    let reason = NetworkReason::Sides {
        near: vec![0],
        near_alone: 0.0,
        far_alone: 0.0,
        shared_out: vec![],
        shared_back: vec![],
    };
    let sides = NetworkProof { value: 1.0, reason };
    assert!(check(&instance, &sides).is_err());
}

prop_compose! {
    /// Two or three regions, two to four hosts, thin links, now and then a shared line.
    fn instances()(
        layers in 2_u32..=3,
        hosts in prop::collection::vec((0_usize..3, prop::collection::vec(1_u32..20, 1..=3)), 2..=4),
        across in prop::collection::vec(1_u32..15, 16),
        shared in prop::option::of((1_u32..20, 0_usize..3, 0_usize..3)),
        partial in any::<bool>(),
    ) -> Instance {
        // Rates fall with the layers held, as they do; each stays above nothing.
        let rates: Vec<Vec<f64>> = hosts.iter().map(|it| {
            let mut rates: Vec<f64> = it.1.iter().map(|it| f64::from(*it)).collect();
            rates.sort_by(|a, b| b.total_cmp(a));
            rates
        }).collect();
        let list: Vec<(usize, &[f64])> =
            hosts.iter().zip(&rates).map(|(it, rates)| (it.0, rates.as_slice())).collect();
        let mut instance = cluster(layers, (1e9, 1.0), &list);
        let count = instance.hosts.len();
        let region = |host: usize| instance.hosts[host].region;
        let pair = |at: usize| wire(if region(at / count) == region(at % count) {
            1e9
        } else {
            f64::from(across[at])
        });
        instance.network.pairs = Pairs::Each((0..count * count).map(pair).collect());
        let regions = instance.regions.len();
        // With a shared line each flow is a linear program, and brute force takes many.
        let few = count <= 3;
        if let Some((rate, from, to)) =
            shared.filter(|it| few && it.1 < regions && it.2 < regions)
        {
            instance.network.shared.push(Shared {
                name: "line".into(),
                tokens_per_second: f64::from(rate),
                carries: vec![(from, to)],
            });
        }
        instance.partial = partial;
        instance
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_placement_exceeds_the_bound(instance in instances()) {
        let best = brute_force(&instance);
        let bound = proved(&instance);
        prop_assert!(best <= bound * (1.0 + 1e-9), "{best} is above {bound}");
    }
}
