//! The search: good starts, annealing towards higher and higher flows, and a polish.

use std::collections::BTreeMap;

use fastrand::Rng;

use crate::live::anneal::Round;
use crate::live::bound::simple_bound;
use crate::live::chain::{EVERY_ORDER_HOSTS_MAX, best_chain, place};
use crate::live::diagnose::diagnose;
use crate::live::instance::{Instance, Placement};
use crate::live::network::hops;
use crate::live::polish::Polish;
use crate::live::score::Scored;
use crate::live::solution::Judged;
use crate::{Infeasible, Outcome, Problem, Reason, Solution};

/// Where in the interval from the best flow to the bound each round aims.
const TARGETS: [f64; 8] = [1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.5, 0.1];

/// Moves of a round, per host and per host again: the number of pairs is what grows.
const ROUND_MOVES_PER_PAIR: u64 = 500;
/// Moves of a round at most.
const ROUND_MOVES_MAX: u64 = 1_000_000;
/// Where links bind, a move costs this many times more and a round has that many fewer.
const BOUND_MOVE_COST: u64 = 8;

/// A judgement of a placement counts as this many moves of annealing on coverage.
const JUDGEMENT_MOVES: u64 = 20;

/// Groups of hosts that the starts try as chains beside each other, at most.
const START_GROUPS_MAX: usize = 8;

/// A score must grow by this share to count as better; less is rounding.
const BETTER: f64 = 1e-9;

/// How far a search is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Flow of the best placement so far, in tokens/s.
    pub flow: Option<f64>,
    /// No placement reaches more, in tokens/s.
    pub bound: f64,
    /// Moves made so far.
    pub moves: u64,
    /// Whether further steps would change nothing.
    pub done: bool,
}

/// A search for the best placement, which the caller drives and may end at any time.
///
/// ```text
/// starts (in `new`) ─▶ rounds of annealing ─▶ polish ─▶ done
/// ```
#[derive(Clone, Debug)]
pub struct Search {
    problem: Problem,
    state: Result<Running, Infeasible>,
}

#[derive(Clone, Debug)]
struct Running {
    instance: Instance,
    rng: Rng,
    bound: f64,
    best: Option<Scored>,
    moves: u64,
    phase: Phase,
}

#[derive(Clone, Debug)]
enum Phase {
    Anneal { target: usize, round: Round },
    Polish(Polish),
    Done,
}

impl Search {
    /// Prepares a search and tries the plain placements, so that [`best`](Self::best) has an answer
    /// from the start. The same problem and seed give the same search.
    pub fn new(problem: &Problem, seed: u64) -> Self {
        let state = match Instance::new(problem) {
            Ok(instance) => Running::new(instance, seed),
            Err(error) => Err(Infeasible::malformed(error)),
        };
        Self { problem: problem.clone(), state }
    }

    /// Searches on for about `moves` moves. A move of annealing takes about a microsecond on a small
    /// cluster.
    pub fn step(&mut self, moves: u64) -> Progress {
        match &mut self.state {
            Ok(running) => running.step(moves),
            Err(_) => Progress { flow: None, bound: 0.0, moves: 0, done: true },
        }
    }

    /// Searches to the end.
    pub fn finish(mut self) -> Outcome {
        while !self.step(u64::MAX).done {}
        self.best()
    }

    /// The best answer so far. Before the end, on a large cluster, "not found" may still change.
    pub fn best(&self) -> Outcome {
        let running = match &self.state {
            Ok(running) => running,
            Err(refusal) => return Outcome::Infeasible(refusal.clone()),
        };
        let (instance, bound) = (&running.instance, running.bound);
        let judged = running.best.as_ref().map(|best| {
            let placement = best.placement.clone();
            Judged::new(instance, placement, bound)
        });
        match judged {
            Some(judged) if judged.flow > 0.0 => {
                Outcome::Planned(Solution::new(&self.problem, instance, &judged, bound))
            }
            _ => Outcome::Infeasible(diagnose(instance)),
        }
    }
}

impl Running {
    fn new(instance: Instance, seed: u64) -> Result<Self, Infeasible> {
        let bound = simple_bound(&instance);
        let starts = starts(&instance);
        let proved = instance.hosts.len() <= EVERY_ORDER_HOSTS_MAX || bound <= 0.0;
        if starts.is_empty() && proved {
            return Err(diagnose(&instance));
        }
        let (rng, phase) = (Rng::with_seed(seed), Phase::Done);
        let mut running = Self { instance, rng, bound, best: None, moves: 0, phase };
        for start in starts {
            running.consider(start);
        }
        running.phase = running.anneal(0);
        Ok(running)
    }

    fn step(&mut self, moves: u64) -> Progress {
        let end = self.moves.saturating_add(moves);
        while self.moves < end && !matches!(self.phase, Phase::Done) {
            self.advance(end);
        }
        Progress {
            flow: self.best.as_ref().map(|it| it.flow),
            bound: self.bound,
            moves: self.moves,
            done: matches!(self.phase, Phase::Done),
        }
    }

    /// Makes one move of the polish, or anneals until `end` or the end of the round.
    fn advance(&mut self, end: u64) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Anneal { target, mut round } => {
                while self.moves < end && round.moves_left() > 0 {
                    round.step(&self.instance, &mut self.rng);
                    self.moves += 1;
                }
                if round.moves_left() > 0 {
                    Phase::Anneal { target, round }
                } else {
                    if let Some(placement) = round.into_best() {
                        self.consider(placement);
                    }
                    self.anneal(target + 1)
                }
            }
            Phase::Polish(mut polish) => {
                if self.polish(&mut polish) {
                    Phase::Polish(polish)
                } else {
                    Phase::Done
                }
            }
            Phase::Done => Phase::Done,
        };
    }

    /// Begins the round of a target, or what follows the last.
    fn anneal(&mut self, target: usize) -> Phase {
        let flow = self.best.as_ref().map_or(0.0, |it| it.flow);
        let Some(&share) = TARGETS.get(target).filter(|_| flow < self.bound * (1.0 - BETTER))
        else {
            return self.begin_polish();
        };
        let hosts = self.instance.hosts.len() as u64;
        let moves = (ROUND_MOVES_PER_PAIR * hosts * hosts).min(ROUND_MOVES_MAX);
        let moves = if self.instance.links_bind() { moves / BOUND_MOVE_COST } else { moves };
        let start = match &self.best {
            Some(best) => best.placement.clone(),
            None => vec![None; self.instance.hosts.len()],
        };
        let aim = flow + (self.bound - flow) * share;
        Phase::Anneal { target, round: Round::new(&self.instance, &start, aim, moves) }
    }

    fn begin_polish(&self) -> Phase {
        match &self.best {
            Some(best) => {
                let hops = hops(&self.instance, &best.placement).len();
                Phase::Polish(Polish::new(best, hops))
            }
            None => Phase::Done,
        }
    }

    /// Makes one move of the polish; at its end, cuts off what carries nothing. Returns whether
    /// there are more moves to make.
    fn polish(&mut self, polish: &mut Polish) -> bool {
        let Some(best) = &mut self.best else { return false };
        if polish.is_over() {
            self.trim();
            return false;
        }
        polish.step(&self.instance, &mut self.rng, self.bound, best);
        self.moves += JUDGEMENT_MOVES;
        true
    }

    /// Judges a placement and keeps it if it is better than the best.
    fn consider(&mut self, placement: Placement) {
        self.moves += JUDGEMENT_MOVES;
        let scored = Scored::new(&self.instance, placement, self.bound);
        let best = self.best.as_ref().map_or(0.0, |it| it.score);
        if scored.flow > 0.0 && scored.score > best * (1.0 + BETTER) {
            self.best = Some(scored);
        }
    }

    fn trim(&mut self) {
        let Some(best) = &self.best else { return };
        let trimmed = Scored::new(&self.instance, best.trimmed(), self.bound);
        if trimmed.score >= best.score * (1.0 - BETTER) {
            self.best = Some(trimmed);
        }
    }
}

impl Infeasible {
    /// The refusal of a problem that makes no sense.
    pub(crate) fn malformed(error: crate::ProblemError) -> Self {
        Self {
            reason: Reason::Malformed(error),
            missing_layers: Vec::new(),
            missing_memory: thalweg_wire::Bytes(0),
            excluded: Vec::new(),
        }
    }
}

/// Plain placements: one chain over all hosts, chains beside each other, one per region, and the
/// whole model on every host that can hold it. Only those that hold every layer.
fn starts(instance: &Instance) -> Vec<Placement> {
    let all: Vec<usize> = (0..instance.hosts.len()).collect();
    let mut found = vec![chains(instance, std::slice::from_ref(&all))];
    let mut regions: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for &host in &all {
        regions.entry(&instance.hosts[host].region).or_default().push(host);
    }
    let regions: Vec<Vec<usize>> = regions.into_values().collect();
    found.push(chains(instance, &regions));
    for groups in 2..=all.len().min(START_GROUPS_MAX) {
        found.push(chains(instance, &dealt(instance, &all, groups)));
    }
    let whole = instance.model.whole();
    found.push(all.iter().map(|&it| instance.holds(it, whole).then_some(whole)).collect());
    found.retain(|placement| placement.iter().any(Option::is_some));
    found
}

/// The best chain of each group; groups that cannot hold all layers stay empty.
fn chains(instance: &Instance, groups: &[Vec<usize>]) -> Placement {
    let mut placement = vec![None; instance.hosts.len()];
    for chain in groups.iter().filter_map(|group| best_chain(instance, group)) {
        place(&chain, &mut placement);
    }
    placement
}

/// Deals hosts out into groups of about equal speed: fastest first, back and forth.
fn dealt(instance: &Instance, hosts: &[usize], groups: usize) -> Vec<Vec<usize>> {
    let seconds = |host: usize| instance.hosts[host].capacity.most_layer_seconds();
    let mut by_speed = hosts.to_vec();
    by_speed.sort_by(|&a, &b| seconds(a).total_cmp(&seconds(b)));
    let mut dealt = vec![Vec::new(); groups];
    for (at, host) in by_speed.into_iter().enumerate() {
        let (turn, place) = (at / groups, at % groups);
        dealt[if turn % 2 == 0 { place } else { groups - 1 - place }].push(host);
    }
    dealt
}
