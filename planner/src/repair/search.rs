//! The fewest layer loads that cover a demand: passes in the order of loads, wider and wider, and
//! annealing where those find nothing.

use fastrand::Rng;

use super::anneal::Anneal;
use super::beam::Pass;
use super::ground::{Ground, Seat};

/// Widths of the passes, one after the other; each is run from both ends of the model.
const WIDTHS: [usize; 4] = [200, 1_200, 7_200, 43_200];

/// Loads that a pass looks at, at most: with more, annealing finds fewer.
const LOADS_MAX: u32 = 50;

/// Share of the moves that annealing takes if the first passes found nothing, and how many it takes
/// for each host at most.
const ANNEAL_SHARE: f64 = 0.5;
const ANNEAL_MOVES_PER_HOST: u64 = 100_000;

/// Seats of few loads that cover the demand and are `reachable`, found in about so many `moves`.
pub(super) fn fewest_loads(
    ground: &Ground,
    reachable: &dyn Fn(&[Seat]) -> bool,
    moves: u64,
    rng: &mut Rng,
) -> Option<Vec<Seat>> {
    if !ground.free.contains(&true) {
        return None;
    }
    let mut best: Option<Vec<Seat>> = None;
    let mut moves_left = moves;
    for width in WIDTHS {
        for from_the_end in [false, true] {
            let loads_max = match &best {
                Some(best) => ground.loads(best).saturating_sub(1).min(LOADS_MAX),
                None => LOADS_MAX,
            };
            let pass = Pass { ground, reachable, width, from_the_end, loads_max };
            best = pass.run(&mut moves_left).or(best);
            if best.as_ref().is_some_and(|it| ground.loads(it) == 0) {
                return best;
            }
        }
        if best.is_none() && width == WIDTHS[0] {
            let most = ANNEAL_MOVES_PER_HOST * ground.hosts.len() as u64;
            let moves = ((ANNEAL_SHARE * moves as f64) as u64).min(most);
            best = Anneal::new(ground, reachable).run(moves, rng);
            moves_left = moves_left.saturating_sub(moves);
        }
        if moves_left == 0 {
            break;
        }
    }
    best
}
