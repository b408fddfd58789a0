//! `thalweg plan --objective goodput`: serves on the best placements in virtual time, ranks them by
//! what came of it, and bounds the steps of the best one's hosts where that serves more.

use std::collections::BTreeSet;

use thalweg_core::policy::Pack;
use thalweg_planner::Charge;
use thalweg_planner::cluster::{Demand, Resolved};
use thalweg_planner::flow::{self, Flow};
use thalweg_planner::frontier::{self, Candidate, Score, Targets};
use thalweg_planner::instance::Placement;
use thalweg_sim::agenda::SECOND;
use thalweg_sim::ledger::Window;
use thalweg_sim::outcome::Outcome;
use thalweg_sim::plan::{Bounds, plan};
use thalweg_sim::workload::{Arrivals, Length, Lengths, Workload};
use thalweg_sim::world::{Settings, World};
use thalweg_wire::Epoch;

use super::search::Board;

/// Placements that are served on, the best by estimate first.
const PLACEMENTS_MAX: usize = 4;

/// Users to begin with are those of the estimate times these shares.
const USERS: [f64; 3] = [1.0, 1.25, 0.8];

/// Factors of a step's prompt tokens that are tried on the chosen placement, on all hosts and then on
/// those of each machine type.
const CHUNK_FACTORS: [f64; 2] = [0.5, 2.0];

/// Numbers of decode groups that are tried there, as shares of the hosts that a token passes.
const GROUPS: [f64; 3] = [1.0, 0.5, 2.0];

/// Bounds are taken that serve more by this factor: less is chance.
const BETTER_MIN: f64 = 1.005;

/// Users who begin by themselves.
const START: u32 = 12;

/// Virtual time until it is full, and then until the end.
const WARM_SECONDS: u64 = 90;
const MEASURED_SECONDS: u64 = 90;

/// What the placements came to.
pub(super) struct Judged {
    /// The best first, scored by what they served.
    pub candidates: Vec<Candidate>,
    /// Bounds, by host, that the best one served most with.
    pub bounds: Vec<Bounds>,
}

/// Serves on the best placements, on the first of them whatever the time. `None` if none can be
/// served on.
pub(super) fn judge(
    resolved: &Resolved,
    targets: &Targets,
    estimated: &[Candidate],
    board: &Board<'_>,
) -> Option<Judged> {
    let mut tried: Vec<&Candidate> = Vec::new();
    for candidate in estimated {
        let known = tried.iter().any(|it| it.placement == candidate.placement);
        if !known && tried.len() < PLACEMENTS_MAX {
            tried.push(candidate);
        }
    }
    let mut served: Vec<(Placement, Score)> = Vec::new();
    for candidate in &tried {
        board.say(&format!("serving on candidate {} of {}", served.len() + 1, tried.len()));
        if !served.is_empty() && board.over() {
            break;
        }
        let service = Service::new(resolved, &candidate.placement);
        let found = best_load(&service, targets, &candidate.score, board);
        served.extend(found.map(|score| (candidate.placement.clone(), score)));
    }
    let placements: Vec<Placement> = served.iter().map(|it| it.0.clone()).collect();
    let mut score = |placement: &Placement| {
        let found = served.iter().find(|it| it.0 == *placement);
        found.expect("only placements that were served on are ranked").1
    };
    let mut candidates = frontier::rank(&resolved.instance, targets, &placements, Some(&mut score));
    let best = candidates.first_mut()?;
    let service = Service::new(resolved, &best.placement);
    let bounds = Tuning::run(&service, targets, &mut best.score, board);
    Some(Judged { candidates, bounds })
}

/// The bounds under which a placement serves most, as far as it was looked for.
struct Tuning<'a> {
    service: &'a Service<'a>,
    targets: &'a Targets,
    board: &'a Board<'a>,
    score: &'a mut Score,
    bounds: Vec<Bounds>,
}

impl<'a> Tuning<'a> {
    fn run(
        service: &'a Service<'a>,
        targets: &'a Targets,
        score: &'a mut Score,
        board: &'a Board<'a>,
    ) -> Vec<Bounds> {
        let bounds = service.unbounded();
        let mut tuning = Self { service, targets, board, score, bounds };
        let depth = service.flow.depth();
        for share in GROUPS {
            let groups = ((depth * share).round() as u32).max(1);
            tuning.attempt("decode groups", |_, it| it.micro_batches = groups);
        }
        tuning.chunks(None);
        let hosts = &service.resolved.instance.hosts;
        let holding = hosts.iter().zip(service.placement).filter(|it| it.1.is_some());
        let classes: BTreeSet<usize> = holding.map(|it| it.0.class).collect();
        if classes.len() > 1 {
            classes.into_iter().for_each(|class| tuning.chunks(Some(class)));
        }
        tuning.bounds
    }

    /// Tries longer and shorter steps on the hosts of a class, or on all.
    fn chunks(&mut self, class: Option<usize>) {
        let hosts = &self.service.resolved.instance.hosts;
        for factor in CHUNK_FACTORS {
            let scaled = |it: u32| (f64::from(it) * factor) as u32;
            let meant = |host: usize| class.is_none_or(|it| hosts[host].class == it);
            self.attempt("prompt tokens", |host, it| {
                if meant(host) {
                    it.chunk_tokens = scaled(it.chunk_tokens);
                }
            });
        }
    }

    /// Takes a change of the bounds if it serves more.
    fn attempt(&mut self, what: &str, change: impl Fn(usize, &mut Bounds)) {
        if self.board.over() {
            return;
        }
        self.board.say(&format!("bounding the steps: {what}"));
        let mut bounds = self.bounds.clone();
        bounds.iter_mut().enumerate().for_each(|(host, it)| change(host, it));
        let users = self.score.in_flight as u32;
        let Some(outcome) = self.service.serve(users, &bounds) else { return };
        let score = score_of(&outcome, users, self.score.price_per_hour);
        let worth = |it| frontier::worth(self.targets, it);
        if worth(&score) > worth(self.score) * BETTER_MIN {
            (*self.score, self.bounds) = (score, bounds);
        }
    }
}

/// What a placement serves under the best of some loads.
fn best_load(
    service: &Service<'_>,
    targets: &Targets,
    estimated: &Score,
    board: &Board<'_>,
) -> Option<Score> {
    let Score { in_flight, price_per_hour, .. } = *estimated;
    let mut best: Option<Score> = None;
    for share in USERS {
        if best.is_some() && board.over() {
            break;
        }
        let users = ((in_flight * share) as u32).max(1);
        let outcome = service.serve(users, &service.unbounded())?;
        let score = score_of(&outcome, users, price_per_hour);
        let better = |it: &Score| frontier::worth(targets, &score) > frontier::worth(targets, it);
        if best.as_ref().is_none_or(better) {
            best = Some(score);
        }
    }
    best
}

fn score_of(outcome: &Outcome, users: u32, price_per_hour: f64) -> Score {
    Score {
        tokens_per_second: outcome.decode_tokens_per_second,
        ttft_seconds: outcome.ttft_mean_seconds,
        tpot_seconds: outcome.tpot_mean_seconds,
        in_flight: f64::from(users),
        price_per_hour,
    }
}

/// A placement to serve on, under one load after the other.
struct Service<'a> {
    resolved: &'a Resolved,
    placement: &'a Placement,
    flow: Flow,
}

impl<'a> Service<'a> {
    fn new(resolved: &'a Resolved, placement: &'a Placement) -> Self {
        let flow = flow::maximum(&resolved.instance, placement, Charge::Full);
        Self { resolved, placement, flow }
    }

    /// Bounds of hosts about which nothing is known.
    fn unbounded(&self) -> Vec<Bounds> {
        vec![Bounds::of(Pack::THALWEG); self.placement.len()]
    }

    /// Serves so many users; `None` if the placement cannot be served.
    fn serve(&self, users: u32, bounds: &[Bounds]) -> Option<Outcome> {
        let Self { resolved, placement, flow } = self;
        let plan = plan(resolved, placement, flow, bounds, Epoch(1)).ok()?;
        let arrivals =
            Arrivals::Users { count: users, start: START, ramp_seconds: 0.0, pause_seconds: 0.0 };
        let lengths = lengths(&resolved.demand);
        let workload = Workload { arrivals, lengths, prefixes: None, longer: None, seed: 0 };
        let to = (WARM_SECONDS + MEASURED_SECONDS) * SECOND;
        let mut pack = Pack::THALWEG;
        pack.gateway.waiting_max = usize::MAX;
        pack.gateway.patience = std::time::Duration::MAX;
        let settings = Settings {
            pack,
            window: Window { from: WARM_SECONDS * SECOND, to },
            ..Settings::default()
        };
        let mut world =
            World::new(resolved, (placement, &plan), workload, (Vec::new(), None), settings)
                .ok()?;
        world.run(to);
        Some(world.outcome())
    }
}

/// Lengths that the cluster file names, those of the trace if it names none.
fn lengths(demand: &Demand) -> Lengths {
    let length = |prompt: f64, output: f64| Length {
        prompt: prompt.round().max(1.0) as u32,
        output: output.round().max(1.0) as u32,
    };
    if !demand.lengths.is_empty() {
        return Lengths::Stream(demand.lengths.iter().map(|it| length(it.0, it.1)).collect());
    }
    match (demand.prompt_tokens, demand.output_tokens) {
        (None, None) => Lengths::AzureConversation,
        _ => {
            let mix = demand.mix();
            Lengths::Fixed(length(mix.prompt_tokens, mix.output_tokens))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_file() {
        assert_eq!(lengths(&Demand::default()), Lengths::AzureConversation);
        let demand = Demand { prompt_tokens: Some(100.0), ..Demand::default() };
        assert_eq!(lengths(&demand), Lengths::Fixed(Length { prompt: 100, output: 240 }));
        let demand = Demand { lengths: vec![(10.4, 0.2, 1.0)], ..Demand::default() };
        assert_eq!(lengths(&demand), Lengths::Stream(vec![Length { prompt: 10, output: 1 }]));
    }
}
