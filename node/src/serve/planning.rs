//! Runs the planner's search on a thread: owns its time, its seed and its cancellation.

use std::time::{Duration, Instant};

use thalweg_core::conductor::{PlanOutcome, PlanTask};
use thalweg_planner::{Outcome, PlanHost, PlanLink, Problem, Search, Workload, reweigh};

/// Time a search may take. Small clusters are done long before.
const SEARCH_TIME_MAX: Duration = Duration::from_secs(2);
/// Moves between two looks at the clock.
const MOVES_PER_LOOK: u64 = 2_000;
/// Seed of every search: the same cluster gets the same plan.
const SEED: u64 = 1;

/// Searches until done, out of time, or no longer `wanted`: then there is no answer.
pub fn search(task: &PlanTask, wanted: impl Fn() -> bool) -> Option<PlanOutcome> {
    let problem = problem(task);
    let outcome = match &task.keep {
        Some(assignments) => {
            let placement: Vec<_> = assignments.iter().map(|it| (it.host, it.layers)).collect();
            reweigh(&problem, &placement)
        }
        None => full(&problem, wanted)?,
    };
    Some(match outcome {
        Outcome::Planned(solution) => {
            PlanOutcome::Planned(solution.into_plan(task.epoch, task.term))
        }
        Outcome::Infeasible(infeasible) => {
            PlanOutcome::Infeasible { reason: infeasible.to_string() }
        }
    })
}

fn full(problem: &Problem, wanted: impl Fn() -> bool) -> Option<Outcome> {
    let started = Instant::now();
    let mut search = Search::new(problem, SEED);
    while !search.step(MOVES_PER_LOOK).done && started.elapsed() < SEARCH_TIME_MAX {
        if !wanted() {
            return None;
        }
    }
    Some(search.best())
}

fn problem(task: &PlanTask) -> Problem {
    let hosts = task.hosts.iter().map(|it| PlanHost {
        id: it.host,
        name: it.name.clone(),
        region: it.region.clone(),
        memory: it.memory,
        profile: it.profile.clone(),
    });
    let links = task.links.iter().flat_map(|(&from, links)| {
        links.iter().map(move |it| PlanLink {
            from,
            to: it.to,
            rtt_us: it.rtt_us,
            bandwidth: it.bandwidth,
        })
    });
    Problem {
        shape: task.shape.clone(),
        hosts: hosts.collect(),
        links: links.collect(),
        workload: Workload::default(),
    }
}
