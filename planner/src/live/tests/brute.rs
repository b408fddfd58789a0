//! Every placement of tiny clusters, against the search.

use fastrand::Rng;
use thalweg_wire::LayerRange;

use super::cluster::{host, planned, problem};
use crate::live::anneal::Round;
use crate::live::bound::{simple_bound, work_limit};
use crate::live::full::{coverage, full_flow};
use crate::live::instance::{Instance, Placement};
use crate::live::network::hops;
use crate::live::routes::route_flow;
use crate::live::score::Scored;
use crate::live::solution::Judged;
use crate::{PlanHost, Problem};

/// The largest flow that `measure` gives any placement.
pub(super) fn best(instance: &Instance, measure: &dyn Fn(&Placement) -> f64) -> f64 {
    let layers = instance.model.layers;
    let ranges = |host: usize| -> Vec<Option<LayerRange>> {
        let all = (0..layers).flat_map(|first| (first + 1..=layers).map(move |end| (first, end)));
        let held = all.filter_map(|(first, end)| LayerRange::new(first, end).ok());
        let fitting = held.filter(|&it| instance.holds(host, it)).map(Some);
        std::iter::once(None).chain(fitting).collect()
    };
    let choices: Vec<Vec<Option<LayerRange>>> = (0..instance.hosts.len()).map(ranges).collect();
    let mut at = vec![0; choices.len()];
    let mut best = 0.0_f64;
    loop {
        let placement: Placement = at.iter().zip(&choices).map(|(&it, of)| of[it]).collect();
        best = best.max(measure(&placement));
        let Some(turn) = (0..at.len()).find(|&it| at[it] + 1 < choices[it].len()) else {
            return best;
        };
        at[turn] += 1;
        at[..turn].fill(0);
    }
}

pub(super) fn random(rng: &mut Rng, hosts: usize, layers: u32) -> Problem {
    let hosts: Vec<PlanHost> = (0..hosts)
        .map(|it| host(&format!("h{it}"), 0.01 + 0.03 * rng.f64(), rng.u64(1..=u64::from(layers))))
        .collect();
    let mut problem = problem(layers, hosts);
    if rng.bool() {
        // Links of 1 to 40 tokens/s, some of them missing, hold back what computes 10 to 100.
        problem.links.retain(|_| rng.u8(0..6) > 0);
        for link in &mut problem.links {
            link.bandwidth.0 = 32_000 * rng.u64(1..=40);
        }
    }
    problem
}

#[test]
fn full_charge_flow_is_the_least_coverage_if_all_are_linked() {
    let mut rng = Rng::with_seed(3);
    for _ in 0..300 {
        let mut cluster = random(&mut rng, 4, 6);
        cluster.links = problem(6, cluster.hosts.clone()).links;
        let instance = Instance::new(&cluster).expect("well formed");
        let placement: Placement = (0..4)
            .map(|_| {
                let first = rng.u32(0..6);
                LayerRange::new(first, rng.u32(first + 1..=6)).ok()
            })
            .collect();
        let least = coverage(&instance, &placement).into_iter().fold(f64::INFINITY, f64::min);
        assert!((full_flow(&instance, &placement).flow - least).abs() < 1e-4);
    }
}

#[test]
fn search_finds_what_brute_force_finds() {
    let mut rng = Rng::with_seed(11);
    for (hosts, layers, cases) in [(1, 4, 3), (2, 6, 10), (3, 4, 10), (4, 3, 6), (5, 2, 6)] {
        for case in 0..cases {
            let cluster = random(&mut rng, hosts, layers);
            let instance = Instance::new(&cluster).expect("well formed");
            let bound = simple_bound(&instance);
            let score = |it: &Placement| Scored::new(&instance, it.clone(), bound).score;
            let best = best(&instance, &score);
            if best <= 0.0 {
                let outcome = crate::Search::new(&cluster, 1).finish();
                assert!(matches!(outcome, crate::Outcome::Infeasible(_)));
                continue;
            }
            let found = planned(cluster);
            assert!(best <= bound * 1.0001, "bound {bound} below {best}");
            // The score is the flow less at most two per cent a hop.
            assert!(
                found.flow >= best * (1.0 - 1e-3),
                "{hosts} hosts, {layers} layers, case {case}: {} of {best}",
                found.flow,
            );
        }
    }
}

#[test]
fn annealing_finds_what_brute_force_finds_under_full_charge() {
    let mut rng = Rng::with_seed(5);
    for (hosts, layers, cases) in [(3, 8, 6), (4, 6, 4), (5, 4, 4)] {
        for case in 0..cases {
            let cluster = random(&mut rng, hosts, layers);
            let instance = Instance::new(&cluster).expect("well formed");
            let best = best(&instance, &|it| full_flow(&instance, it).flow);
            let bound = simple_bound(&instance);
            let mut found = 0.0_f64;
            let mut start = vec![None; hosts];
            for share in [1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.5, 0.1] {
                let target = found + (bound - found).max(1e-9) * share;
                let mut round = Round::new(&instance, &start, target, 20_000);
                while round.moves_left() > 0 {
                    round.step(&instance, &mut rng);
                }
                let Some(placement) = round.into_best() else { continue };
                let flow = full_flow(&instance, &placement).flow;
                if flow > found {
                    (found, start) = (flow, placement);
                }
            }
            assert!(
                found >= best * (1.0 - 1e-6),
                "{hosts} hosts, {layers} layers, case {case}: {found} of {best}",
            );
        }
    }
}

/// Work charge never gives less than full charge, and the bound holds for both.
#[test]
fn charges_are_ordered() {
    let mut rng = Rng::with_seed(8);
    for _ in 0..500 {
        let cluster = random(&mut rng, 5, 8);
        let instance = Instance::new(&cluster).expect("well formed");
        let placement: Placement = (0..5)
            .map(|host| {
                let first = rng.u32(0..8);
                let range = LayerRange::new(first, rng.u32(first + 1..=8)).ok();
                range.filter(|&it| instance.holds(host, it))
            })
            .collect();
        let bound = simple_bound(&instance);
        let work = Judged::new(&instance, placement.clone(), bound).flow;
        let routes = route_flow(&instance, &placement, bound).flow;
        assert!((work - routes).abs() <= 1e-4 * work, "{work} by hops, {routes} by routes");
        let full = full_flow(&instance, &placement).flow;
        assert!(full <= work * (1.0 + 1e-3) + 1e-6, "{full} {work}");
        assert!(work <= bound * (1.0 + 1e-6), "{work} {bound}");
        let limit = work_limit(&instance, &placement);
        assert!(work <= limit * (1.0 + 1e-6), "{work} {limit}");
        assert!(work == 0.0 || !hops(&instance, &placement).is_empty());
    }
}
