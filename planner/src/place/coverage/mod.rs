//! The default method: coverage by annealing, with the configuration bound as its goal.
//!
//! Without binding links the full-charge flow of a placement is its least coverage. Rounds of
//! annealing aim between the best flow found and the bound; where they leave a gap, the next round
//! aims elsewhere. Thin links between regions that can each hold the model leave every region a
//! problem of its own. All limits count moves, so that the same seed gives the same plan.

mod anneal;
mod crossings;
mod greedy;
mod ground;
mod joint;
mod moves;
mod regions;
#[cfg(test)]
mod tests;

use fastrand::Rng;

use crate::Charge;
use crate::bound::{self, work};
use crate::instance::{Instance, Placement};
use crate::method::{Found, Method, Progress, Watch};
use crate::place::blocks;
use anneal::{Anneal, Heat};
use ground::{Ground, Seat};

/// Moves in all, and how many more for each host.
const MOVES: u64 = 40_000_000;
const MOVES_PER_HOST: u64 = 500_000;
/// Rounds take these shares of the moves.
const ROUND_SHARES: [f64; 8] = [0.04, 0.06, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2];
/// The first round aims at this fraction of the bound.
const AIM_FIRST: f64 = 0.98;
/// The others aim at the best so far plus these fractions of what is left to the bound.
const AIMS: [f64; 4] = [0.5, 0.25, 0.75, 0.1];
/// Where a round starts, if a typical host gave all the flow by itself; the penalty of a move grows
/// with the square of what the host gives.
const TEMPERATURE_FIRST: f64 = 0.2;
/// Where it ends, as a fraction of where it starts.
const COOLING: f64 = 1e-3;
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
        if std::env::args().any(|it| it == "joint") {
            let m = std::env::args().filter_map(|it| it.strip_prefix("m=").map(|it| it.parse::<u64>().unwrap())).next().unwrap();
            let best = joint::search(instance, bound, m * 1000000, seed, watch)?;
            return Some(Found { bound: Some(bound), ..Found::new(best.placement) });
        }
        let Some(parts) = regions::parts(instance) else {
            let mut watch_blocks = |it: Progress| watch(Progress { bound, ..it });
            let found = blocks::search(instance, seed, &mut watch_blocks)?;
            return Some(Found { bound: Some(bound), ..found });
        };
        let moves = moves_max(instance) / parts.len() as u64;
        let mut placement = vec![None; instance.hosts.len()];
        let (mut flow, mut done) = (0.0, 0);
        for part in &parts {
            let mut watch_part = |it: Progress| {
                watch(Progress { flow: flow + it.flow, bound, moves: done + it.moves })
            };
            let Some(best) = search(&part.instance, moves, seed, &mut watch_part) else { continue };
            for (&host, range) in part.hosts.iter().zip(best.placement) {
                placement[host] = range;
            }
            flow += best.flow;
            done += best.moves;
        }
        (flow > 0.0).then(|| Found { bound: Some(bound), ..Found::new(placement) })
    }
}

fn moves_max(instance: &Instance) -> u64 {
    MOVES + MOVES_PER_HOST * instance.hosts.len() as u64
}

/// What a search came to.
struct Best {
    placement: Placement,
    flow: f64,
    moves: u64,
}

/// Anneals until the best flow is close to the bound, or all moves are made.
fn search(instance: &Instance, moves_max: u64, seed: u64, watch: &mut Watch<'_>) -> Option<Best> {
    let bound = bound::prove(instance, Charge::Full).value;
    let ground = Ground::new(instance, false);
    let seats = greedy::fill(&ground, price(instance));
    let share = share(&ground, &seats, bound);
    if bound <= 0.0 || share <= 0.0 {
        return None;
    }
    let mut rng = Rng::with_seed(seed);
    let mut anneal = Anneal::new(instance, &ground, seats, bound * AIM_FIRST);
    let mut moves = 0;
    'rounds: for (round, length) in
        ROUND_SHARES.iter().map(|it| (it * moves_max as f64) as u64).enumerate()
    {
        let aim = AIMS[round % AIMS.len()];
        if round > 0 {
            anneal.aim_between(bound, aim);
        }
        let first = TEMPERATURE_FIRST * share * share;
        let mut heat = Heat::new(first, first * COOLING, length);
        while !heat.is_cold() {
            moves += anneal.run(&mut heat, &mut rng);
            if anneal.is_there() {
                anneal.aim_between(bound, aim);
            }
            let progress = Progress { flow: anneal.best(), bound, moves };
            if watch(progress).is_break() || anneal.best() >= bound * (1.0 - GAP) {
                break 'rounds;
            }
        }
    }
    let placement = ground.placement(anneal.best_seats());
    (anneal.best() > 0.0).then(|| Best { placement, flow: anneal.best(), moves })
}

/// What holding a layer more is worth, so that the hosts hold the model at all.
fn price(instance: &Instance) -> f64 {
    match work::prove(instance).reason {
        bound::Reason::Work { price } => price,
        _ => 0.0,
    }
}

/// What a host gives, as a fraction of the bound, on average over those that have a seat.
fn share(ground: &Ground, seats: &[Seat], bound: f64) -> f64 {
    let rates: Vec<f64> = seats
        .iter()
        .enumerate()
        .filter(|it| it.1.count > 0)
        .map(|(host, seat)| (ground.rate(host, *seat) / bound).min(1.0))
        .collect();
    if rates.is_empty() { 0.0 } else { rates.iter().sum::<f64>() / rates.len() as f64 }
}
