//! All regions together, where thin links between them leave little to hand over.
//!
//! Regions that serve the model by themselves lose what does not fit: a fast host that would best
//! hold a single layer is worth more than its whole region needs there. Among many hosts much can
//! be handed over, though each link is thin. So all hosts are annealed at once, and the coverage of
//! a region may change along the layers as far as its links allow (`crossings`).

use fastrand::Rng;

use super::anneal::{Anneal, Heat};
use super::crossings::Crossings;
use super::ground::Ground;
use super::{Best, COOLING, TEMPERATURE_FIRST, greedy, price, share};
use crate::flow::Judge;
use crate::instance::Instance;
use crate::method::{Progress, Watch};

/// Rounds of annealing.
const ROUNDS: u64 = 4;
/// The first round aims at this fraction of the bound, the others at the best so far plus this
/// fraction of what is left.
const AIM_FIRST: f64 = 0.985;
const AIM: f64 = 0.5;
/// Share of each link that the first round counts on.
const TRUST_FIRST: f64 = 0.6;
/// What a round changes it by: down if the exact flow was below what was counted on, else up.
const TRUST_LESS: f64 = 0.75;
const TRUST_MORE: f64 = 1.2;
/// An exact flow this much below what was counted on was short of links.
const SHORT: f64 = 0.998;
/// Exact flows in one search, times the hosts squared, at most; but so many are looked at always.
const JUDGED_PAIRS: u64 = 100_000_000;
const JUDGED_MIN: u64 = 8;
const JUDGED_MAX: u64 = 400;

/// Anneals all hosts together for so many moves. `None` if nothing flows.
pub(super) fn search(
    instance: &Instance,
    bound: f64,
    moves_max: u64,
    seed: u64,
    watch: &mut Watch<'_>,
) -> Option<Best> {
    let ground = Ground::new(instance, true);
    let seats = greedy::fill(&ground, price(instance));
    let share = share(&ground, &seats, bound);
    if bound <= 0.0 || share <= 0.0 {
        return None;
    }
    let hosts = instance.hosts.len() as u64;
    let judged = (JUDGED_PAIRS / (hosts * hosts)).clamp(JUDGED_MIN, JUDGED_MAX);
    let mut judge = Judge::new(instance);
    let mut rng = Rng::with_seed(seed);
    let mut best = Best { placement: vec![None; instance.hosts.len()], flow: 0.0, moves: 0 };
    let mut anneal =
        Anneal::across(&ground, Crossings::new(instance), seats, (bound * AIM_FIRST, TRUST_FIRST));
    let mut trust = TRUST_FIRST;
    for round in 0..ROUNDS {
        if round > 0 {
            anneal.restart(best.flow + (bound - best.flow) * AIM, trust);
        }
        let first = TEMPERATURE_FIRST * share * share;
        let mut heat = Heat::new(first, first * COOLING, moves_max / ROUNDS);
        let (mut seen, mut next) = (0.0, best.moves);
        let mut last = 0.0;
        while !heat.is_cold() {
            best.moves += anneal.run(&mut heat, &mut rng);
            if anneal.best() > seen && (best.moves >= next || heat.is_cold()) {
                (seen, next) = (anneal.best(), best.moves + moves_max / judged);
                let placement = ground.placement(anneal.best_seats());
                last = judge.value(&placement);
                if last > best.flow {
                    (best.flow, best.placement) = (last, placement);
                }
            }
            if watch(Progress { flow: best.flow, bound, moves: best.moves }).is_break() {
                return (best.flow > 0.0).then_some(best);
            }
        }
        trust = if last < seen * SHORT { trust * TRUST_LESS } else { (trust * TRUST_MORE).min(1.0) };
    }
    (best.flow > 0.0).then_some(best)
}
