//! `thalweg plan --objective`: the placement that serves best, and those that no other beats.

use std::fmt::Write as _;
use std::time::Instant;

use thalweg_planner::cluster::Resolved;
use thalweg_planner::frontier::{self, Candidate, Objective, Targets};
use thalweg_planner::instance::{Instance, Placement};
use thalweg_planner::method::Found;
use thalweg_planner::report::Report;

use super::interrupt::Interrupt;
use super::print::line;
use super::search::{self, Board, Effort, Searched};
use crate::cli::advice::Advice;

/// What such a plan names as its method.
pub(super) const METHOD: &str = "frontier";

/// Share of the time for the placement of most flow, which is one of the candidates.
const FLOW_SHARE: f64 = 0.5;

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

/// Searches for candidates, the best first.
///
/// # Errors
///
/// If none was found, or none keeps the targets.
pub(super) fn search(
    resolved: &Resolved,
    targets: &Targets,
    effort: &Effort,
    interrupt: &Interrupt,
) -> Result<(Searched, Vec<Candidate>), Advice> {
    let instance = &resolved.instance;
    let left = effort.deadline.saturating_duration_since(Instant::now());
    let first = Effort { deadline: Instant::now() + left.mul_f64(FLOW_SHARE), ..*effort };
    let Searched { found, bound } = search::run(resolved, search::DEFAULT, &first, interrupt)?;
    let board = Board::new(METHOD, effort, interrupt);
    let mut placements =
        frontier::placements(instance, effort.seed, &mut |progress| board.note(progress));
    placements.push(found.placement);
    let mut best = frontier::rank(instance, targets, &placements, None);
    if let Some(first) = best.first() {
        let mut watch = |progress| board.note(progress);
        let better =
            frontier::improve(instance, targets, &first.placement, effort.seed, &mut watch);
        placements.push(better);
        best = frontier::rank(instance, targets, &placements, None);
    }
    board.end();
    match best.first() {
        Some(first) => {
            let found = Found::new(first.placement.clone());
            Ok((Searched { found, bound }, best))
        }
        None => Err(out_of_reach(instance, targets, &placements)),
    }
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

/// What the operator should know of the choice.
pub(super) fn notes(instance: &Instance, targets: &Targets, chosen: &Candidate) -> Vec<String> {
    let score = &chosen.score;
    let mut notes = vec![format!(
        "by estimate serves {:.1} output tokens/s with {:.0} requests in flight, {:.3} s per token \
         and {:.2} s to the first",
        score.tokens_per_second, score.in_flight, score.tpot_seconds, score.ttft_seconds
    )];
    let free = instance.hosts.iter().filter(|it| it.price_per_hour <= 0.0).count();
    if targets.objective == Objective::Cost && free > 0 {
        notes.push(format!("{free} hosts have no price and count as free"));
    }
    notes
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
