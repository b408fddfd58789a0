//! Annealing on the score itself, around the best placement found so far.

use fastrand::Rng;

use crate::live::anneal::neighbour;
use crate::live::bound::work_limit;
use crate::live::instance::{Instance, Placement};
use crate::live::score::Scored;

/// Share of the score that each pass gives away lightly at its start. Every pass starts from the best
/// placement; hot ones leave its neighbourhood, cool ones search it.
const TEMPERATURES_FIRST: [f64; 4] = [0.2, 0.05, 0.2, 0.02];
/// The same at its end.
const TEMPERATURE_LAST: f64 = 1e-5;
/// Losses of this many temperatures are not worth computing exactly.
const HOPELESS_TEMPERATURES: f64 = 8.0;
/// Changes made at once at most; mostly it is one.
const CHANGES_MAX: u32 = 4;

/// Moves per host of one pass.
const MOVES_PER_HOST: u64 = 1000;
/// Moves of one pass at most. A judgement takes about ten microseconds with eight hosts.
const MOVES_MAX: u64 = 5000;
/// Multiplications of all judgements together, roughly, so that large clusters end too.
const WORK_MAX: u64 = 300_000_000;

/// The state of a polish.
#[derive(Clone, Debug)]
pub(crate) struct Polish {
    current: Scored,
    pass: usize,
    pass_moves: u64,
    moves_left: u64,
}

impl Polish {
    /// Begins at `best`; `hops` is the number of hops it allows.
    pub fn new(best: &Scored, hops: usize) -> Self {
        let (rows, hops) = (best.placement.len() as u64, hops as u64);
        let judgement = 3 * rows * (rows * rows + hops);
        let moves = WORK_MAX / judgement.max(1) / TEMPERATURES_FIRST.len() as u64;
        let pass_moves = (MOVES_PER_HOST * rows).min(MOVES_MAX).min(moves).max(1);
        Self { current: best.clone(), pass: 0, pass_moves, moves_left: pass_moves }
    }

    /// Whether no move is left.
    pub fn is_over(&self) -> bool {
        self.pass >= TEMPERATURES_FIRST.len()
    }

    /// Tries one move, and replaces `best` if it is better.
    pub fn step(&mut self, instance: &Instance, rng: &mut Rng, bound: f64, best: &mut Scored) {
        let Some(first) = TEMPERATURES_FIRST.get(self.pass) else { return };
        let through = 1.0 - self.moves_left as f64 / self.pass_moves as f64;
        let temperature = first * (TEMPERATURE_LAST / first).powf(through) * best.score;
        self.try_move(instance, rng, bound, (temperature, best));
        self.moves_left -= 1;
        if self.moves_left == 0 {
            self.pass += 1;
            self.moves_left = self.pass_moves;
            self.current = best.clone();
        }
    }

    fn try_move(
        &mut self,
        instance: &Instance,
        rng: &mut Rng,
        bound: f64,
        (temperature, best): (f64, &mut Scored),
    ) {
        let placement = self.drawn(instance, rng);
        let hopeless = self.current.score - HOPELESS_TEMPERATURES * temperature;
        if placement == self.current.placement || work_limit(instance, &placement) < hopeless {
            return;
        }
        let scored = Scored::new(instance, placement, bound);
        if scored.score > best.score {
            *best = scored.clone();
        }
        let worse = self.current.score - scored.score;
        if worse <= 0.0 || rng.f64() < (-worse / temperature).exp() {
            self.current = scored;
        }
    }

    /// The current placement with some changes.
    fn drawn(&self, instance: &Instance, rng: &mut Rng) -> Placement {
        let mut placement = self.current.placement.clone();
        for _ in 0..CHANGES_MAX {
            let change = neighbour(instance, &placement, rng);
            for (host, range) in change.unwrap_or_default() {
                placement[host] = Some(range);
            }
            if rng.bool() {
                break;
            }
        }
        placement
    }
}
