use std::ops::ControlFlow;

use super::*;
use crate::device::Device;
use crate::survive::tests::{instance, range};

/// Each layer is held three times, at 10 tokens/s for 4, 2 and 1 dollars per hour. Two of three
/// reach 20: the two cheaper ones, for 3 dollars a layer; one reaches 10 for 1 dollar.
#[test]
fn the_cheapest_subset_by_hand() {
    let mut cluster = instance(2, &[&[10.0][..]; 6]);
    for (host, price) in [4.0, 2.0, 1.0, 4.0, 2.0, 1.0].into_iter().enumerate() {
        cluster.hosts[host].price_per_hour = price;
    }
    let (a, b) = (range(0, 1), range(1, 2));
    let placement = vec![a, a, a, b, b, b];
    assert_eq!(cheapest(&cluster, &placement, 20.0), [None, a, a, None, b, b]);
    assert_eq!(cheapest(&cluster, &placement, 10.0), [None, None, a, None, None, b]);
    assert_eq!(cheapest(&cluster, &placement, 30.0), placement);
}

/// One host, two layers, 0.01 s per layer and step whatever the batch, prompts free, links of 1 ms:
/// a token takes 1.5 steps of 0.02 s and two links, 0.032 s. Prompts of 10 tokens and answers of 10
/// hold 15 tokens in 2 layers, 30 token-layers; memory for 3000, of which 0.85 is used, holds 85
/// requests.
fn by_hand() -> Instance {
    let mut cluster = instance(2, &[&[100.0, 50.0]]);
    cluster.classes[0].device = Some(Device {
        prefill: vec![(0.0, 0.0), (1000.0, 0.0)],
        decode: vec![(0.0, 0.01), (1000.0, 0.01)],
        kv_token_layers: vec![0.0, 3000.0, 3000.0],
        prefill_requests_max: 0,
        decode_requests_max: Vec::new(),
    });
    cluster
}

#[test]
fn the_closed_loop_by_hand() {
    let mix = Mix { prompt_tokens: 10.0, output_tokens: 10.0 };
    let targets = Targets { mix, ..Targets::default() };
    let scores = estimates(&by_hand(), &vec![range(0, 2)], &targets);
    assert_eq!(scores.len(), LOADS.len());
    assert!((scores[0].tpot_seconds - 0.032).abs() < 1e-7, "{scores:?}");
    assert!((scores[0].in_flight - 85.0).abs() < 1e-3, "{scores:?}");
    // The whole prompt comes in one chunk: its time is a token's. 85 requests of 11 such times.
    let rate = 85.0 * 10.0 / (11.0 * 0.032);
    assert!((scores[0].tokens_per_second - rate).abs() < 1e-3 * rate, "{scores:?}");
}

#[test]
fn goodput_keeps_its_targets() {
    let mix = Mix { prompt_tokens: 10.0, output_tokens: 10.0 };
    let mut targets = Targets { mix, objective: Objective::Goodput, ..Targets::default() };
    targets.tpot_seconds = Some(0.05);
    assert!(!estimates(&by_hand(), &vec![range(0, 2)], &targets).is_empty());
    targets.tpot_seconds = Some(0.03);
    assert!(estimates(&by_hand(), &vec![range(0, 2)], &targets).is_empty());
}

#[test]
fn candidates_do_not_beat_each_other_and_are_sorted() {
    let mut cluster = instance(4, &[&[40.0, 20.0, 12.0, 9.0][..]; 4]);
    for (class, host) in cluster.classes.iter_mut().zip(0..) {
        class.device = Some(Device {
            prefill: vec![(0.0, 0.0), (100.0, 0.1)],
            decode: vec![(0.0, 0.01 + 0.002 * f64::from(host)), (100.0, 0.1)],
            kv_token_layers: vec![0.0, 9e4, 8e4, 7e4, 6e4],
            prefill_requests_max: 0,
            decode_requests_max: Vec::new(),
        });
    }
    for objective in ["throughput", "latency", "goodput", "cost"] {
        let objective = objective.parse().unwrap();
        let mix = Mix { prompt_tokens: 20.0, output_tokens: 10.0 };
        let targets = Targets { mix, objective, ..Targets::default() };
        let mut watch = |_| ControlFlow::Continue(());
        let found = candidates(&cluster, &targets, 1, None, &mut watch);
        assert!(!found.is_empty());
        for (at, one) in found.iter().enumerate() {
            assert!(one.flow > 0.0 && one.score.tokens_per_second > 0.0);
            assert!(
                at == 0 || worth(&targets, &found[at - 1].score) >= worth(&targets, &one.score)
            );
            let others = found.iter().enumerate().filter(|it| it.0 != at);
            assert!(!others.into_iter().any(|it| beats(&it.1.score, &one.score)));
        }
    }
    assert!("fastest".parse::<Objective>().is_err());
}

#[test]
fn a_judge_takes_the_place_of_the_estimate() {
    let cluster = instance(2, &[&[10.0, 5.0], &[10.0, 5.0]]);
    let targets = Targets::default();
    let mut watch = |_| ControlFlow::Continue(());
    assert!(candidates(&cluster, &targets, 1, None, &mut watch).is_empty());
    let mut judge = |placement: &Placement| {
        let hosts = placement.iter().flatten().count() as f64;
        Score {
            tokens_per_second: hosts,
            ttft_seconds: 1.0,
            tpot_seconds: 1.0,
            in_flight: 1.0,
            price_per_hour: hosts,
        }
    };
    let found = candidates(&cluster, &targets, 1, Some(&mut judge), &mut watch);
    assert_eq!(found[0].score.tokens_per_second, 2.0);
}
