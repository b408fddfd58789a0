//! The fewest layer loads that cover a demand: passes in the order of loads, wider and wider, and
//! annealing where those find nothing.

use fastrand::Rng;

use super::anneal::Anneal;
use super::beam::Pass;
use super::ground::{Ground, Seat};

/// Widths of the passes, one after the other.
const WIDTHS: [usize; 4] = [200, 1_200, 7_200, 43_200];

/// Loads that a pass looks at, at most: with more, annealing finds fewer.
const LOADS_MAX: u32 = 50;

/// Where annealing took more loads than these, it goes on: no pass is wide enough for as many.
const PASS_LOADS_MAX: u32 = 12;

/// Share of the moves that annealing takes if the first pass found nothing, and how many it takes
/// for each host at most. If it finds nothing either, wider passes would not.
const ANNEAL_SHARE: f64 = 0.65;
const ANNEAL_MOVES_PER_HOST: u64 = 100_000;

/// Seats of few loads that cover the demand and are `reachable`, the better of two searches side by
/// side, each of about so many `moves`: one fills the model from its first layer on, one from its
/// last.
pub(super) fn fewest_loads(
    ground: &Ground,
    reachable: &(dyn Fn(&[Seat]) -> bool + Sync),
    moves: u64,
    rng: &mut Rng,
) -> Option<Vec<Seat>> {
    if !ground.free.contains(&true) {
        return None;
    }
    let search = |from_the_end, rng| Search { ground, reachable, from_the_end }.run(moves, rng);
    let rngs = [rng.fork(), rng.fork()];
    let [from_start, from_end] = std::thread::scope(|scope| {
        let [one, other] = rngs;
        let other = scope.spawn(move || search(true, other));
        let one = search(false, one);
        [one, other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))]
    });
    [from_start, from_end].into_iter().flatten().min_by_key(|it| ground.loads(it))
}

struct Search<'a> {
    ground: &'a Ground,
    reachable: &'a (dyn Fn(&[Seat]) -> bool + Sync),
    from_the_end: bool,
}

impl Search<'_> {
    fn run(&self, moves: u64, mut rng: Rng) -> Option<Vec<Seat>> {
        let Self { ground, reachable, from_the_end } = *self;
        let mut best: Option<Vec<Seat>> = None;
        let mut moves_left = moves;
        for width in WIDTHS {
            let loads_max = match &best {
                Some(best) => ground.loads(best).saturating_sub(1).min(LOADS_MAX),
                None => LOADS_MAX,
            };
            let pass = Pass { ground, reachable, width, from_the_end, loads_max };
            best = pass.run(&mut moves_left).or(best);
            if best.as_ref().is_some_and(|it| ground.loads(it) == 0) {
                break;
            }
            if best.is_none() && width == WIDTHS[0] {
                let most = ANNEAL_MOVES_PER_HOST * ground.hosts.len() as u64;
                let moves = ((ANNEAL_SHARE * moves as f64) as u64).min(most);
                let found = Anneal::new(ground, reachable).run(moves, &mut rng)?;
                moves_left = moves_left.saturating_sub(moves);
                if ground.loads(&found) > PASS_LOADS_MAX {
                    return Some(
                        Anneal::new(ground, reachable).better(found, moves_left, &mut rng),
                    );
                }
                best = Some(found);
            }
            // Passes miss chains of hosts that shift by a layer each.
            if let Some(found) = best.take_if(|_| width == WIDTHS[1]) {
                let moves = moves_left / 2;
                best = Some(Anneal::new(ground, reachable).better(found, moves, &mut rng));
                moves_left -= moves;
            }
            if moves_left == 0 {
                break;
            }
        }
        best
    }
}
