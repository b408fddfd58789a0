//! A running cluster, written down and read again.

use proptest::prelude::*;
use thalweg_wire::{Bytes, HostId};

use super::*;
use crate::live::Prepared;
use crate::live::tests::cluster::{LAYER, host, link, problem, range};
use crate::live::tests::random::any_problem;

#[test]
fn hosts_that_measured_the_same_are_of_one_type() {
    let fast = [host("a", 0.01, 3), host("b", 0.01, 3)];
    let slow = host("c", 0.02, 2);
    let mut problem = problem(4, vec![fast[0].clone(), fast[1].clone(), slow.clone()]);
    problem.links = vec![link(&fast[0], &slow, 320_000_000)];
    let (file, excluded) = measured(&problem).expect("a good problem");
    assert_eq!(parse(&file.to_toml()).expect("our own words"), file);
    let found = file.resolve(&Choice::default()).expect("a good cluster");
    let it = &found.instance;
    assert!(excluded.is_empty() && found.notes.is_empty());
    assert_eq!((it.classes.len(), it.hosts.len(), it.layers), (2, 3, 4));

    let at = |name: &str| it.hosts.iter().position(|it| it.name == name).expect("a host");
    let rates = |name: &str| {
        [range(0, 1), range(1, 3), range(1, 4), range(0, 4)].map(|range| it.rate(at(name), range))
    };
    // A token takes 10 or 20 ms in each layer, whether it is of a prompt or of an answer.
    let expected = [("a", [100.0, 50.0, 100.0 / 3.0, 0.0]), ("c", [50.0, 25.0, 0.0, 0.0])];
    for (name, expected) in expected {
        for (found, expected) in rates(name).into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-9, "{name}: {found} for {expected}");
        }
    }
    // A row of activations has 32,000 bits.
    let wire = it.wire(at("a"), at("c")).expect("a link");
    assert!((wire.tokens_per_second - 10_000.0).abs() < 1e-6);
    assert!((wire.latency_seconds - 0.000_5).abs() < 1e-12);
    assert_eq!(it.wire(at("c"), at("a")), None);
    let device = it.class(at("a")).device.as_ref().expect("curves");
    assert!((device.decode_seconds(1.0) - 0.01).abs() < 1e-12);
    assert!(device.kv_token_layers[2] > 0.0);
}

#[test]
fn head_and_embedding_are_in_the_rates_of_the_ends() {
    let mut problem = problem(4, vec![host("a", 0.01, 3)]);
    problem.hosts[0].profile.head_seconds = 0.02;
    problem.shape.embedding_bytes = Bytes(LAYER);
    let (file, _) = measured(&problem).expect("a good problem");
    let found = file.resolve(&Choice::default()).expect("a good cluster").instance;
    // Half of the tokens are of answers and need the head.
    assert!((found.rate(0, range(3, 4)) - 50.0).abs() < 1e-9);
    assert!((found.rate(0, range(0, 2)) - 50.0).abs() < 1e-9);
    assert!(found.rate(0, range(0, 3)) <= 0.0);
}

#[test]
fn names_that_clash_give_way_to_ids() {
    let mut hosts = vec![host("a", 0.01, 3), host("b", 0.01, 3), host("gateway", 0.01, 3)];
    hosts[1].name = "a".to_owned();
    let (file, _) = measured(&problem(4, hosts)).expect("a good problem");
    let mut names: Vec<&str> = file.hosts.iter().map(|it| it.name.as_str()).collect();
    let ids = [HostId::of("a"), HostId::of("b"), HostId::of("gateway")].map(|it| it.to_string());
    names.sort_unstable();
    assert_eq!(names.iter().filter(|it| **it == "a").count(), 1);
    assert_eq!(names.iter().filter(|it| ids.iter().any(|id| id == *it)).count(), 2);
    file.resolve(&Choice::default()).expect("a good cluster");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// What the running cluster's planner accepts can be written down, and has the same rates.
    #[test]
    fn any_running_cluster_can_be_written_down(problem in any_problem(6)) {
        let Ok((file, _)) = measured(&problem) else { return Ok(()) };
        let found = match file.resolve(&Choice::default()) {
            Ok(found) => found.instance,
            Err(error) => {
                prop_assert!(file.hosts.is_empty(), "{error}");
                return Ok(());
            }
        };
        let prepared = Prepared::new(&problem).expect("accepted before");
        prop_assert_eq!(prepared.hosts.len(), found.hosts.len());
        for host in 0..found.hosts.len() {
            for first in 0..found.layers {
                for end in first + 1..=found.layers {
                    let range = range(first, end);
                    let fits = prepared.holds(host, range);
                    let expected = if fits { prepared.tokens_per_second(host, range) } else { 0.0 };
                    let rate = found.rate(host, range);
                    let near = (rate - expected.min(1e12)).abs() <= 1e-9 * expected;
                    prop_assert!(near, "{range:?}: {rate} for {expected}");
                }
            }
        }
    }
}
