use std::ops::ControlFlow;

use super::*;
use crate::device::Device;
use crate::instance::Pairs;
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

/// Two layers, prompts and answers of 10 tokens, prompts free, links of 1 ms. Each request has 15
/// tokens of context on average, and 0.85 of the KV memory is used:
///
/// | | step | token | in flight | output tokens/s | $/h | $ per M tokens |
/// |---|---|---|---|---|---|---|
/// | one fast host | 2 · 0.01 s | 1.5 · 0.02 + 0.002 = 0.032 s | 85 | 850 / (11 · 0.032) = 2414.8 | 10 | 1150 |
/// | two slow hosts | 0.02 s | 2 · 1.5 · 0.02 + 0.003 = 0.063 s | 340 | 3400 / (11 · 0.063) = 4906.2 | 2 | 113 |
/// | a slower host | 2 · 0.04 s | 1.5 · 0.08 + 0.002 = 0.122 s | 85 | 850 / (11 · 0.122) = 633.4 | 0.1 | 44 |
fn choices() -> (Instance, [Placement; 3]) {
    let mut cluster = instance(2, &[&[100.0, 50.0][..]; 4]);
    let hosts =
        [(0.01, 3000.0, 10.0), (0.02, 6000.0, 1.0), (0.02, 6000.0, 1.0), (0.04, 3000.0, 0.1)];
    for (at, (step, kv, price)) in hosts.into_iter().enumerate() {
        cluster.hosts[at].price_per_hour = price;
        cluster.classes[at].device = Some(Device {
            prefill: vec![(0.0, 0.0), (1000.0, 0.0)],
            decode: vec![(0.0, step), (1000.0, step)],
            kv_token_layers: vec![0.0, kv, kv],
            prefill_requests_max: 0,
            decode_requests_max: Vec::new(),
        });
    }
    let fast = vec![range(0, 2), None, None, None];
    let two = vec![None, range(0, 1), range(1, 2), None];
    let cheap = vec![None, None, None, range(0, 2)];
    (cluster, [fast, two, cheap])
}

#[test]
fn each_objective_chooses_by_hand() {
    let (cluster, [fast, two, cheap]) = choices();
    let all = [fast.clone(), two.clone(), cheap.clone()];
    let mix = Mix { prompt_tokens: 10.0, output_tokens: 10.0 };
    let first = |objective, tpot_seconds, ttft_seconds| {
        let targets = Targets { mix, objective, ttft_seconds, tpot_seconds };
        rank(&cluster, &targets, &all, None).into_iter().next()
    };
    let is = |found: Option<Candidate>, placement: &Placement, rate: f64| {
        let found = found.expect("something is served");
        assert_eq!(&found.placement, placement);
        assert!((found.score.tokens_per_second - rate).abs() < 1e-3 * rate, "{:?}", found.score);
    };
    is(first(Objective::Throughput, None, None), &two, 4906.2);
    is(first(Objective::Latency, None, None), &fast, 2414.8);
    is(first(Objective::Cost, None, None), &cheap, 633.4);
    is(first(Objective::Goodput, Some(0.1), None), &two, 4906.2);
    is(first(Objective::Goodput, Some(0.05), None), &fast, 2414.8);
    is(first(Objective::Goodput, None, Some(0.04)), &fast, 2414.8);
    assert_eq!(first(Objective::Goodput, Some(0.03), None), None);
}

/// The fast host and the slower one of [`choices`] side by side, with four fifths and one fifth of
/// the flow. A request stays on one of them: alone they serve 2414.8 and 633.4, so that the fast one
/// is full at 2414.8 / 0.8 = 3018.5, and the other would be at 3167.
#[test]
fn requests_stay_as_long_as_their_own_route_takes() {
    let (mut cluster, _) = choices();
    cluster.classes[3].rates = cluster.classes[0].rates.scaled(0.25);
    let placement = vec![range(0, 2), None, None, range(0, 2)];
    let mix = Mix { prompt_tokens: 10.0, output_tokens: 10.0 };
    let scores = estimates(&cluster, &placement, &Targets { mix, ..Targets::default() });
    assert!((scores[0].tokens_per_second - 3018.5).abs() < 3.0, "{scores:?}");
    let token = 0.8 * 0.032 + 0.2 * 0.122;
    assert!((scores[0].tpot_seconds - token).abs() < 1e-6, "{scores:?}");
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
    let all = placements(&cluster, 1, &mut |_| ControlFlow::Continue(()));
    let objectives =
        [Objective::Throughput, Objective::Latency, Objective::Goodput, Objective::Cost];
    for objective in objectives {
        let mix = Mix { prompt_tokens: 20.0, output_tokens: 10.0 };
        let targets = Targets { mix, objective, ..Targets::default() };
        let found = rank(&cluster, &targets, &all, None);
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
}

#[test]
fn a_judge_takes_the_place_of_the_estimate() {
    let cluster = instance(2, &[&[10.0, 5.0], &[10.0, 5.0]]);
    let targets = Targets::default();
    let all = placements(&cluster, 1, &mut |_| ControlFlow::Continue(()));
    assert!(rank(&cluster, &targets, &all, None).is_empty());
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
    let found = rank(&cluster, &targets, &all, Some(&mut judge));
    assert_eq!(found[0].score.tokens_per_second, 2.0);
}

/// Two regions that can each hold the model: the search also looks at each alone.
#[test]
fn regions_are_left_out_in_turn() {
    let mut cluster = instance(2, &[&[10.0, 5.0][..]; 4]);
    cluster.regions = vec!["near".into(), "far".into()];
    let wire = cluster.network.enter[0];
    cluster.network.pairs = Pairs::ByRegion(vec![wire; 4]);
    cluster.hosts[2].region = 1;
    cluster.hosts[3].region = 1;
    let all = placements(&cluster, 1, &mut |_| ControlFlow::Continue(()));
    let only =
        |hosts: [usize; 2]| all.iter().any(|it| hosts.iter().all(|&host| it[host].is_none()));
    assert!(only([0, 1]) && only([2, 3]), "{all:?}");
}
