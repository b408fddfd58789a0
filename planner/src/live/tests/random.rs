//! Any cluster gives a plan that makes sense, or a refusal that says something.

use proptest::prelude::*;
use thalweg_wire::{BitsPerSecond, Bytes, CurvePoint, HostId, LayerRange, Profile};

use super::cluster::{LAYER, check, host, problem};
use crate::{Infeasible, Outcome, PlanHost, PlanLink, Problem, Search, Workload, reweigh};

/// Mostly a time, sometimes what a broken clock gives.
fn seconds() -> impl Strategy<Value = f64> {
    prop_oneof![
        12 => 1e-4..1e-1_f64,
        1 => prop::sample::select(vec![
            0.0, -1.0, f64::NAN, f64::INFINITY, f64::MAX, f64::MIN_POSITIVE, 1e-13, 1e7,
        ]),
    ]
}

fn curve() -> impl Strategy<Value = Vec<CurvePoint>> {
    prop::collection::vec((1..40_u32, seconds()), 0..4).prop_map(|mut points| {
        points.sort_by_key(|it| it.0);
        points.into_iter().map(|(tokens, seconds)| CurvePoint { tokens, seconds }).collect()
    })
}

fn any_host() -> impl Strategy<Value = PlanHost> {
    let memory = prop_oneof![8 => 0..12 * LAYER, 1 => Just(u64::MAX)];
    let profile = prop_oneof![
        5 => seconds().prop_map(|it| host("", it, 1).profile),
        1 => (curve(), curve(), seconds())
            .prop_map(|(prefill, decode, head_seconds)| Profile { prefill, decode, head_seconds }),
    ];
    (0..60_u64, 0..3_u8, memory, profile).prop_map(|(id, region, memory, profile)| PlanHost {
        id: HostId(id),
        name: format!("h{id}"),
        region: format!("r{region}"),
        memory: Bytes(memory),
        profile,
    })
}

prop_compose! {
    pub(crate) fn any_problem(hosts_max: usize)(
        hosts in prop::collection::vec(any_host(), 0..=hosts_max),
        layers in prop_oneof![1 => Just(0_u32), 20 => 1..13_u32],
        layer_bytes in prop_oneof![10 => Just(LAYER), 1 => Just(u64::MAX), 1 => Just(0)],
        kv in prop_oneof![10 => 0..1_u64 << 20, 1 => Just(u64::MAX)],
        ends in (0..2 * LAYER, 0..2 * LAYER),
        rates in prop::collection::vec(
            prop_oneof![1 => Just(0_u64), 4 => 1..1_u64 << 36, 1 => Just(u64::MAX)], 1..12),
        linked in 0..10_usize,
        delay in prop_oneof![5 => 0..200_000_u64, 1 => Just(u64::MAX)],
        tokens in (0..300_u32, 0..300_u32),
    ) -> Problem {
        let mut problem = problem(layers, hosts);
        problem.shape.layer_bytes = vec![Bytes(layer_bytes); layers as usize];
        problem.shape.kv_bytes_per_token_layer = Bytes(kv);
        problem.shape.embedding_bytes = Bytes(ends.0);
        problem.shape.head_bytes = Bytes(ends.1);
        problem.workload = Workload { prompt_tokens: tokens.0, output_tokens: tokens.1 };
        let every = std::mem::take(&mut problem.links);
        let kept = every.into_iter().enumerate().filter(|(at, _)| linked > 2 || at % 3 == linked);
        problem.links = kept
            .map(|(at, link)| {
                let bandwidth = BitsPerSecond(rates[at % rates.len()]);
                PlanLink { bandwidth, rtt_us: delay, ..link }
            })
            .collect();
        problem
    }
}

/// Asserts that a refusal says what is missing.
fn check_refusal(problem: &Problem, refusal: &Infeasible) {
    assert!(!refusal.to_string().is_empty());
    for layers in &refusal.missing_layers {
        assert!(layers.end() <= problem.shape.layers);
    }
    let malformed = matches!(refusal.reason, crate::Reason::Malformed(_));
    assert_eq!(malformed, refusal.missing_layers.is_empty(), "{refusal}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn small_clusters_get_a_plan_or_a_reason(problem in any_problem(6), moves in 0..20_000_u64) {
        let mut search = Search::new(&problem, 1);
        let progress = search.step(moves);
        let outcome = search.best();
        prop_assert_eq!(progress.flow.is_some(), matches!(outcome, Outcome::Planned(_)));
        match &outcome {
            Outcome::Planned(solution) => check(&problem, solution),
            Outcome::Infeasible(refusal) => check_refusal(&problem, refusal),
        }
        // Whatever is left of a plan when a host goes is a plan or a reason, too.
        if let Outcome::Planned(solution) = outcome {
            let placement = solution.placement();
            let mut rest = problem;
            rest.hosts.retain(|it| it.id != placement[0].0);
            match reweigh(&rest, &placement) {
                Outcome::Planned(solution) => check(&rest, &solution),
                Outcome::Infeasible(refusal) => check_refusal(&rest, &refusal),
            }
        }
    }

    #[test]
    fn any_placement_is_weighed_or_refused(
        problem in any_problem(5),
        ranges in prop::collection::vec((0..60_u64, 0..14_u32, 1..14_u32), 0..6),
    ) {
        let placement: Vec<(HostId, LayerRange)> = ranges
            .into_iter()
            .filter_map(|(id, first, count)| {
                Some((HostId(id), LayerRange::new(first, first + count).ok()?))
            })
            .collect();
        match reweigh(&problem, &placement) {
            Outcome::Planned(solution) => check(&problem, &solution),
            Outcome::Infeasible(refusal) => prop_assert!(!refusal.to_string().is_empty()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn large_clusters_get_a_plan_or_a_reason(problem in any_problem(40)) {
        let mut search = Search::new(&problem, 1);
        search.step(3000);
        match search.best() {
            Outcome::Planned(solution) => check(&problem, &solution),
            Outcome::Infeasible(refusal) => check_refusal(&problem, &refusal),
        }
    }

    /// A slower profile never raises what the cluster carries with the same placement.
    #[test]
    fn slower_hosts_carry_less(times in prop::collection::vec(1e-3..1e-1_f64, 3), factor in 1.1..5.0_f64) {
        let hosts: Vec<PlanHost> =
            times.iter().enumerate().map(|(at, &it)| host(&format!("h{at}"), it, 6)).collect();
        let placement: Vec<(HostId, LayerRange)> = hosts
            .iter()
            .zip([(0, 4), (0, 6), (2, 6)])
            .map(|(host, (first, end))| (host.id, LayerRange::new(first, end).expect("not empty")))
            .collect();
        let flow = |hosts: &[PlanHost]| match reweigh(&problem(6, hosts.to_vec()), &placement) {
            Outcome::Planned(solution) => solution.flow,
            Outcome::Infeasible(refusal) => panic!("{refusal}"),
        };
        let before = flow(&hosts);
        let mut slower = hosts;
        for host in &mut slower {
            host.profile.prefill[0].seconds *= factor;
            host.profile.decode[0].seconds *= factor;
        }
        let after = flow(&slower);
        prop_assert!((after - before / factor).abs() < 1e-3 * before, "{} {}", before, after);
    }
}
