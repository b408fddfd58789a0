//! All regions together, where thin links between them leave little to hand over.
//!
//! Regions that serve the model by themselves waste what does not fit: a fast host that would best
//! hold a single layer is worth more there than its whole region can use. Among many hosts much can
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
/// The first round aims at this fraction of the bound, the others at the best so far plus a fraction
/// of what is left.
const AIM_FIRST: f64 = 0.985;
const AIM: f64 = 0.5;
/// Excesses weigh as much as missing layers, so that a round starts hotter than one without them.
const HEAT: f64 = 5.0;
/// Share of each link that the first round counts on.
const TRUST_FIRST: f64 = 0.6;
/// What a round changes it by: down if the exact flow was below what was counted on, else up.
const TRUST_LESS: f64 = 0.75;
const TRUST_MORE: f64 = 1.2;
/// An exact flow below this share of what was counted on was short of links.
const SHORT: f64 = 0.998;
/// Exact flows in one search, times the hosts squared, at most: with a thousand hosts one takes
/// tens of milliseconds.
const JUDGED_PAIRS: u64 = 100_000_000;
/// But so many at least, and at most.
const JUDGED: std::ops::RangeInclusive<u64> = 8..=2000;

/// The search over all regions.
struct Joint<'a> {
    ground: &'a Ground,
    judge: Judge<'a>,
    bound: f64,
    /// Moves between two exact flows at least.
    pause: u64,
    best: Best,
}

/// Anneals all hosts together for so many moves. `None` if nothing flows.
pub(super) fn search(
    instance: &Instance,
    (bound, moves_max): (f64, u64),
    seed: u64,
    watch: &mut Watch<'_>,
) -> Option<Best> {
    let ground = Ground::new(instance, true);
    let regions: Vec<usize> = instance.hosts.iter().map(|it| it.region).collect();
    let seats = greedy::fill(&ground, price(instance), &regions);
    let share = share(&ground, &seats, bound);
    if bound <= 0.0 || share <= 0.0 {
        return None;
    }
    let hosts = instance.hosts.len() as u64;
    let judged = (JUDGED_PAIRS / (hosts * hosts)).clamp(*JUDGED.start(), *JUDGED.end());
    let mut joint = Joint {
        ground: &ground,
        judge: Judge::new(instance),
        bound,
        pause: moves_max / judged,
        best: Best { placement: vec![None; instance.hosts.len()], flow: 0.0, moves: 0 },
    };
    let mut rng = Rng::with_seed(seed);
    let mut trust = TRUST_FIRST;
    let aim = (bound * AIM_FIRST, trust);
    let mut anneal = Anneal::across(&ground, Crossings::new(instance), seats, aim);
    for _ in 0..ROUNDS {
        let last = TEMPERATURE_FIRST * share * share * COOLING;
        let heat = Heat::new(last / COOLING * HEAT, last, moves_max / ROUNDS);
        let Some(exact) = joint.round(&mut anneal, heat, &mut rng, watch) else { break };
        let factor = if exact < anneal.best() * SHORT { TRUST_LESS } else { TRUST_MORE };
        trust = (trust * factor).min(1.0);
        anneal.restart(joint.best.flow + (bound - joint.best.flow) * AIM, trust);
    }
    (joint.best.flow > 0.0).then_some(joint.best)
}

impl Joint<'_> {
    /// Anneals until it is cold. Returns the exact flow of what the round found best; `None` if
    /// `watch` ends it.
    fn round(
        &mut self,
        anneal: &mut Anneal<'_>,
        mut heat: Heat,
        rng: &mut Rng,
        watch: &mut Watch<'_>,
    ) -> Option<f64> {
        let (mut seen, mut exact, mut next) = (0.0, 0.0, self.best.moves);
        while !heat.is_cold() {
            self.best.moves += anneal.run(&mut heat, rng);
            if anneal.best() > seen && (self.best.moves >= next || heat.is_cold()) {
                (seen, next) = (anneal.best(), self.best.moves + self.pause);
                exact = self.take(anneal);
            }
            let Best { flow, moves, .. } = self.best;
            if watch(Progress { flow, bound: self.bound, moves }).is_break() {
                return None;
            }
        }
        Some(exact)
    }

    /// Values what a round found best so far, and keeps it if it is the best of all.
    fn take(&mut self, anneal: &Anneal<'_>) -> f64 {
        let placement = self.ground.placement(anneal.best_seats());
        let flow = self.judge.value(&placement);
        if flow > self.best.flow {
            (self.best.flow, self.best.placement) = (flow, placement);
        }
        flow
    }
}
