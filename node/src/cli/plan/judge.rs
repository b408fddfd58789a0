//! `thalweg plan --objective goodput`: serves on the best placements in virtual time, and ranks them
//! by what came of it.

use thalweg_core::policy::Pack;
use thalweg_planner::Charge;
use thalweg_planner::cluster::{Demand, Resolved};
use thalweg_planner::flow;
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

/// Prompt tokens of a step that are tried on the chosen placement; the first serves for the ranking.
const CHUNKS: [u32; 3] = [128, 64, 256];

/// Users who begin by themselves.
const START: u32 = 12;

/// Virtual time until it is full, and then until the end.
const WARM_SECONDS: u64 = 90;
const MEASURED_SECONDS: u64 = 90;

/// What the placements came to.
pub(super) struct Judged {
    /// The best first, scored by what they served.
    pub candidates: Vec<Candidate>,
    /// Prompt tokens of a step that the best one served most with.
    pub chunk_tokens: u32,
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
        let found = best_load(resolved, targets, candidate, board);
        served.extend(found.map(|score| (candidate.placement.clone(), score)));
    }
    let placements: Vec<Placement> = served.iter().map(|it| it.0.clone()).collect();
    let mut score = |placement: &Placement| {
        let found = served.iter().find(|it| it.0 == *placement);
        found.expect("only placements that were served on are ranked").1
    };
    let mut candidates = frontier::rank(&resolved.instance, targets, &placements, Some(&mut score));
    let best = candidates.first_mut()?;
    let users = best.score.in_flight as u32;
    let price = best.score.price_per_hour;
    let mut chunk_tokens = CHUNKS[0];
    for chunk in CHUNKS.into_iter().skip(1).take_while(|_| !board.over()) {
        let Some(outcome) = serve(resolved, &best.placement, users, chunk) else { continue };
        let score = score_of(&outcome, users, price);
        if frontier::worth(targets, &score) > frontier::worth(targets, &best.score) {
            (best.score, chunk_tokens) = (score, chunk);
        }
    }
    Some(Judged { candidates, chunk_tokens })
}

/// What a placement serves under the best of some loads.
fn best_load(
    resolved: &Resolved,
    targets: &Targets,
    candidate: &Candidate,
    board: &Board<'_>,
) -> Option<Score> {
    let Score { in_flight, price_per_hour, .. } = candidate.score;
    let mut best: Option<Score> = None;
    for share in USERS {
        if best.is_some() && board.over() {
            break;
        }
        let users = ((in_flight * share) as u32).max(1);
        let outcome = serve(resolved, &candidate.placement, users, CHUNKS[0])?;
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

/// Serves so many users; `None` if the placement cannot be served.
fn serve(
    resolved: &Resolved,
    placement: &Placement,
    users: u32,
    chunk_tokens: u32,
) -> Option<Outcome> {
    let flow = flow::maximum(&resolved.instance, placement, Charge::Full);
    let bounds = Bounds {
        // As many as the machine allows.
        batch_max: u32::MAX,
        chunk_tokens,
        step_us: 0,
        requests_max: 0,
        micro_batches: 0,
    };
    let plan = plan(resolved, placement, &flow, bounds, Epoch(1)).ok()?;
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
        World::new(resolved, (placement, &plan), workload, (Vec::new(), None), settings).ok()?;
    world.run(to);
    Some(world.outcome())
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
