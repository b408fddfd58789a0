//! The default method: coverage by annealing, with the configuration bound as its goal.
//!
//! Rounds of annealing aim between the best flow found and the bound. Where that leaves a gap, the
//! next round aims elsewhere. All limits count moves, so that the same seed gives the same plan.

mod anneal;
mod greedy;
mod ground;
mod moves;
#[cfg(test)]
mod tests;

use fastrand::Rng;

use crate::Charge;
use crate::bound::{self, work};
use crate::instance::{Instance, Placement};
use crate::method::{Found, Method, Progress, Watch};
use anneal::{Anneal, Heat};
use ground::Ground;

/// Where a round starts: one wholly uncovered layer costs 1.
const TEMPERATURE_FIRST: f64 = 0.2;
/// Where it ends, as a fraction of where it starts.
const COOLING: f64 = 1e-4;
/// Moves of the rounds; later rounds are as long as the last.
const ROUND_MOVES: [u64; 4] = [2_000_000, 5_000_000, 10_000_000, 20_000_000];
/// Rounds at most.
const ROUNDS_MAX: usize = 8;
/// Where a round aims: at the best so far plus these fractions of the distance to the bound.
const AIMS: [f64; 4] = [0.5, 0.25, 0.1, 0.75];
/// A placement this close to the bound is good enough to stop.
const GAP: f64 = 1e-4;

/// Coverage by annealing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Coverage;

impl Method for Coverage {
    fn name(&self) -> &'static str {
        "coverage"
    }

    fn place(&self, instance: &Instance, seed: u64, watch: &mut Watch<'_>) -> Option<Found> {
        let bound = bound::prove(instance, Charge::Full).value;
        let placement = search(instance, bound, seed, watch)?;
        Some(Found { bound: Some(bound), ..Found::new(placement) })
    }
}

/// Anneals until the best flow is close to `bound`, or all rounds are over.
fn search(instance: &Instance, bound: f64, seed: u64, watch: &mut Watch<'_>) -> Option<Placement> {
    let ground = Ground::new(instance);
    let mut rng = Rng::with_seed(seed);
    let price = match work::prove(instance).reason {
        bound::Reason::Work { price } => price,
        _ => 0.0,
    };
    let seats = greedy::fill(&ground, price);
    if bound <= 0.0 || seats.iter().all(|it| it.count == 0) {
        return None;
    }
    let mut anneal = Anneal::new(&ground, seats, bound);
    let mut moves = 0;
    'rounds: for round in 0..ROUNDS_MAX {
        let best = anneal.best();
        anneal.aim(best + (bound - best) * AIMS[round % AIMS.len()]);
        let length = ROUND_MOVES[round.min(ROUND_MOVES.len() - 1)];
        let mut heat = Heat::new(TEMPERATURE_FIRST, TEMPERATURE_FIRST * COOLING, length);
        while !heat.is_cold() {
            moves += anneal.run(&mut heat, &mut rng);
            let progress = Progress { flow: anneal.best(), bound, moves };
            if anneal.best() >= bound * (1.0 - GAP) || watch(progress).is_break() {
                break 'rounds;
            }
        }
    }
    (anneal.best() > 0.0).then(|| ground.placement(anneal.best_seats()))
}
