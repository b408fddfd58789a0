//! `thalweg plan --objective`: the placement that serves best, and those that no other beats.

use std::fmt::Write as _;
use std::time::Duration;

use thalweg_planner::cluster::Resolved;
use thalweg_planner::frontier::{self, Candidate, Objective, Targets};
use thalweg_planner::instance::{Instance, Placement};
use thalweg_planner::method::Found;
use thalweg_planner::place;
use thalweg_planner::report::Report;
use thalweg_sim::plan::Bounds;

use super::interrupt::Interrupt;
use super::judge;
use super::print::line;
use super::search::{self, Board, Effort, Searched};
use crate::cli::advice::Advice;

/// What such a plan names as its method.
pub(super) const METHOD: &str = "frontier";

/// Share of the time for the placement of most flow, which is one of the candidates.
const FLOW_SHARE: f64 = 0.5;

/// Methods whose placements are candidates besides: pipelines of like machines have less flow, but
/// fast machines do not wait for slow ones.
const OTHERS: [&str; 3] = ["separate", "separate-plus", "hexgen"];

/// Share of the time for the search, where candidates are served on afterwards.
const SEARCH_SHARE: f64 = 0.25;

/// Time to serve on candidates, where the operator gives none.
pub(super) const JUDGING: Duration = Duration::from_secs(120);

/// Candidates, and what the operator should know of how they were ranked.
pub(super) struct Ranked {
    pub searched: Searched,
    /// The best first.
    pub candidates: Vec<Candidate>,
    /// Bounds of the steps, by host, of the best one; empty if it was not served on.
    pub bounds: Vec<Bounds>,
    pub notes: Vec<String>,
}

/// Refuses what cannot be ranked.
///
/// # Errors
///
/// If the objective needs numbers that are not there.
pub(super) fn refuse(resolved: &Resolved, targets: &Targets) -> Result<(), Advice> {
    let instance = &resolved.instance;
    let (without, hint) = match targets.objective {
        Objective::Goodput if targets.ttft_seconds.or(targets.tpot_seconds).is_none() => (
            "the objective `goodput` needs a target, and there is none".to_owned(),
            "Give `--tpot-seconds 0.5` or `--ttft-seconds 10`, or set them in [workload]."
                .to_owned(),
        ),
        Objective::Cost if instance.hosts.iter().all(|it| it.price_per_hour <= 0.0) => (
            "the objective `cost` needs prices, and no host has one".to_owned(),
            "Set dollars per hour by machine type in [prices], or `price_per_hour` of hosts."
                .to_owned(),
        ),
        _ => match instance.classes.iter().find(|it| it.device.is_none()) {
            Some(class) => (
                format!(
                    "what a placement serves follows from curves, and there are none for {} with {}",
                    class.name, resolved.model_name
                ),
                "Add prefill_ms, decode_ms and kv_blocks to its [[profiles]] entry, or leave \
                 `--objective` out to plan for flow."
                    .to_owned(),
            ),
            None => return Ok(()),
        },
    };
    Err(Advice::plain(without).hint(hint))
}

/// Searches for candidates, and ranks them: by estimate, or for goodput by what they serve in virtual
/// time.
///
/// # Errors
///
/// If none was found, or none keeps the targets.
pub(super) fn rank(
    resolved: &Resolved,
    targets: &Targets,
    effort: &Effort,
    interrupt: &Interrupt,
) -> Result<Ranked, Advice> {
    let share = if targets.objective == Objective::Goodput { SEARCH_SHARE } else { 1.0 };
    let searching = Effort { deadline: effort.share(share), ..*effort };
    let (bound, estimated) = search(resolved, targets, &searching, interrupt)?;
    let ranked = |candidates: Vec<Candidate>, notes: Vec<String>| {
        let found = Found::new(candidates[0].placement.clone());
        Ranked { searched: Searched { found, bound }, candidates, bounds: Vec::new(), notes }
    };
    let judged = (targets.objective == Objective::Goodput).then(|| {
        let board = Board::new(METHOD, effort, interrupt);
        let judged = judge::judge(resolved, targets, &estimated, &board);
        board.end();
        judged
    });
    let instance = &resolved.instance;
    Ok(match judged.flatten() {
        Some(judge::Judged { candidates, bounds }) => {
            let notes = notes(instance, targets, &candidates[0], "in virtual time");
            Ranked { bounds, ..ranked(candidates, notes) }
        }
        None => {
            let notes = notes(instance, targets, &estimated[0], "by estimate");
            ranked(estimated, notes)
        }
    })
}

/// Searches for candidates, the best by estimate first, and for a bound of the flow.
fn search(
    resolved: &Resolved,
    targets: &Targets,
    effort: &Effort,
    interrupt: &Interrupt,
) -> Result<(Option<f64>, Vec<Candidate>), Advice> {
    let instance = &resolved.instance;
    let first = Effort { deadline: effort.share(FLOW_SHARE), ..*effort };
    let Searched { found, bound } = search::run(resolved, search::DEFAULT, &first, interrupt)?;
    let board = Board::new(METHOD, effort, interrupt);
    let mut placements =
        frontier::placements(instance, effort.seed, &mut |progress| board.note(progress));
    placements.push(found.placement);
    for method in OTHERS.into_iter().filter_map(place::method) {
        let other = method.place(instance, effort.seed, &mut |progress| board.note(progress));
        placements.extend(other.map(|it| it.placement));
    }
    let mut best = frontier::rank(instance, targets, &placements, None);
    if let Some(first) = best.first() {
        let mut watch = |progress| board.note(progress);
        let better =
            frontier::improve(instance, targets, &first.placement, effort.seed, &mut watch);
        placements.push(better);
        best = frontier::rank(instance, targets, &placements, None);
    }
    board.end();
    if best.is_empty() {
        return Err(out_of_reach(instance, targets, &placements));
    }
    Ok((bound, best))
}

/// Says how near the targets the candidates come.
fn out_of_reach(instance: &Instance, targets: &Targets, placements: &[Placement]) -> Advice {
    let lightly = Targets { objective: Objective::Latency, ..*targets };
    let others = frontier::rank(instance, &lightly, placements, None);
    let least = |of: fn(&Candidate) -> f64| others.iter().map(of).reduce(f64::min);
    let (tpot, ttft) = (least(|it| it.score.tpot_seconds), least(|it| it.score.ttft_seconds));
    let (Some(tpot), Some(ttft)) = (tpot, ttft) else {
        return Advice::plain("no placement was found that serves anything")
            .hint("A request may not fit the KV memory: shorten those of [workload].");
    };
    let wanted = [("per token", targets.tpot_seconds), ("to the first", targets.ttft_seconds)];
    let wanted: Vec<String> = wanted
        .iter()
        .filter_map(|(what, most)| most.map(|most| format!("{most} s {what}")))
        .collect();
    Advice::plain(format!(
        "no placement was found that keeps {}; the least found is {tpot:.3} s per token and \
         {ttft:.2} s to the first",
        wanted.join(" and ")
    ))
    .hint("Allow more time, or see what there is with `--objective latency`.")
}

/// What the operator should know of the choice, and of how it was scored.
fn notes(instance: &Instance, targets: &Targets, chosen: &Candidate, how: &str) -> Vec<String> {
    let score = &chosen.score;
    let mut notes = vec![format!(
        "{how} serves {:.1} output tokens/s with {:.0} requests in flight, {:.3} s per token \
         and {:.2} s to the first",
        score.tokens_per_second, score.in_flight, score.tpot_seconds, score.ttft_seconds
    )];
    let free = instance.hosts.iter().filter(|it| it.price_per_hour <= 0.0).count();
    if targets.objective == Objective::Cost && free > 0 {
        notes.push(format!("{free} hosts have no price and count as free"));
    }
    notes
}

/// Writes bounds, by host, into a plan.
pub(super) fn bound(report: &mut Report, instance: &Instance, bounds: &[Bounds]) {
    for (host, it) in instance.hosts.iter().zip(bounds) {
        let held = report.placement.iter_mut().find(|held| held.host == host.name);
        if let Some(held) = held {
            held.chunk_tokens = Some(it.chunk_tokens);
            held.micro_batches = Some(it.micro_batches).filter(|groups| *groups > 0);
        }
    }
}

/// The frontier as a table, most served first. The plan is marked.
pub(super) fn table(report: &Report) -> String {
    let mut rows: Vec<_> = report.frontier.iter().enumerate().collect();
    rows.sort_by(|a, b| b.1.tokens_per_second.total_cmp(&a.1.tokens_per_second));
    let priced = rows.iter().any(|it| it.1.price_per_hour > 0.0);
    let mut text = String::from("\n");
    write!(text, "  OUTPUT TOKENS/S  S PER TOKEN  S TO FIRST  IN FLIGHT      FLOW")
        .expect("a string takes everything");
    line(&mut text, format_args!("{}", if priced { "   $/HOUR  $/M TOKENS" } else { "" }));
    for (at, it) in rows {
        let mark = if at == 0 { '*' } else { ' ' };
        write!(
            text,
            "{mark} {:>15.1}  {:>11.3}  {:>10.2}  {:>9.0}  {:>8.1}",
            it.tokens_per_second, it.tpot_seconds, it.ttft_seconds, it.in_flight, it.flow
        )
        .expect("a string takes everything");
        if priced {
            let million = it.price_per_hour / 3600.0 / it.tokens_per_second * 1e6;
            write!(text, " {:>8.2}  {million:>10.2}", it.price_per_hour)
                .expect("a string takes everything");
        }
        text.push('\n');
    }
    text
}
