//! Runs a placement method: owns its time, its threads, and its progress on the terminal.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use thalweg_planner::cluster::Resolved;
use thalweg_planner::instance::Instance;
use thalweg_planner::method::{Found, Progress, Watch};
use thalweg_planner::report::gap;
use thalweg_planner::{flow, place, survive};

use super::infeasible;
use super::interrupt::Interrupt;
use crate::cli::advice::Advice;

/// The method unless another one is asked for.
pub(super) const DEFAULT: &str = "coverage";

/// Searches side by side unless more are asked for: the second seed helps, further ones little.
const THREADS_MAX: u64 = 2;

/// A plan this close to its bound is not searched further.
const GAP_CLOSED: f64 = 1e-4;

/// Share of the time for a placement at all, where links bind and it is then made to survive a loss.
const START_SHARE: f64 = 0.4;

/// When to stop, and where to begin.
#[derive(Clone, Copy)]
pub(super) struct Effort {
    pub seed: u64,
    pub threads: u64,
    pub deadline: Instant,
    /// Least share of the flow that is left after the loss of any one host.
    pub survive: Option<f64>,
}

impl Effort {
    /// When a share of the time that is left from now is over.
    pub fn share(&self, share: f64) -> Instant {
        let now = Instant::now();
        now + self.deadline.saturating_duration_since(now).mul_f64(share)
    }
}

/// What a search found.
pub(super) struct Searched {
    pub found: Found,
    /// The least bound that a search proved on its own.
    pub bound: Option<f64>,
}

/// Time for a search, where the operator gives none. Most end before, with a proof.
pub(super) fn budget(instance: &Instance) -> Duration {
    Duration::from_secs(match instance.hosts.len() {
        0..=24 if flow::links_bind(instance) => 45,
        0..=24 => 8,
        25..=99 => 25,
        100..=1500 => 45,
        _ => 200,
    })
}

/// Searches side by side unless the operator says otherwise.
pub(super) fn threads() -> u64 {
    thread::available_parallelism().map_or(1, |it| it.get() as u64).min(THREADS_MAX)
}

/// Names of all methods.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    place::NAMES.iter().map(|it| it.0)
}

/// Places the layers by the method called `name`.
pub(super) fn run(
    resolved: &Resolved,
    name: &str,
    effort: &Effort,
    interrupt: &Interrupt,
) -> Result<Searched, Advice> {
    let instance = &resolved.instance;
    if place::method(name).is_none() {
        return Err(Advice::plain(format!("there is no placement method `{name}`"))
            .hint(format!("Methods are {}.", names().collect::<Vec<_>>().join(", "))));
    }
    let board = Board::new(name, effort, interrupt);
    let found: Vec<Option<Found>> = thread::scope(|scope| {
        let seeds = (0..effort.threads).map(|it| effort.seed.wrapping_add(it));
        let running: Vec<_> = seeds
            .map(|seed| {
                let board = &board;
                scope.spawn(move || one(instance, name, seed, effort, board))
            })
            .collect();
        let joined = running.into_iter().map(|it| it.join().expect("a panic ends the process"));
        joined.collect()
    });
    board.end();
    let bound = found.iter().flatten().filter_map(|it| it.bound).reduce(f64::min);
    // In the order of seeds: of equal placements the first one's.
    let valued = found.into_iter().flatten().map(|it| (value(instance, &it), it));
    let best = valued.reduce(|best, it| if it.0 > best.0 { it } else { best });
    match (best.filter(|it| it.0 > 0.0), effort.survive) {
        (Some((_, found)), _) => Ok(Searched { found, bound }),
        (None, Some(alpha)) => Err(infeasible::fragile(instance, alpha)),
        (None, None) => Err(infeasible::none_found(resolved, name)),
    }
}

/// Flow of a placement over the hops it may use.
fn value(instance: &Instance, found: &Found) -> f64 {
    match &found.pipelines {
        Some(pipelines) => place::pipelines::flow(instance, &found.placement, pipelines),
        None => flow::value(instance, &found.placement),
    }
}

/// One search with one seed.
fn one(
    instance: &Instance,
    name: &str,
    seed: u64,
    effort: &Effort,
    board: &Board<'_>,
) -> Option<Found> {
    let Some(alpha) = effort.survive else {
        return place(instance, name, seed, &mut |progress| board.note(progress));
    };
    // Where links do not bind the search needs no placement to begin with.
    let start = flow::links_bind(instance).then(|| {
        let left = effort.deadline.saturating_duration_since(Instant::now());
        let start_until = Instant::now() + left.mul_f64(START_SHARE);
        place(instance, name, seed, &mut |_progress| {
            let over = Instant::now() >= start_until || board.interrupt.is_set();
            if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    });
    let start = start.flatten().map(|it| it.placement);
    survive::search(instance, alpha, seed, start.as_ref(), &mut |progress| board.note(progress))
}

/// Places the layers once.
fn place(instance: &Instance, name: &str, seed: u64, watch: &mut Watch<'_>) -> Option<Found> {
    place::method(name)?.place(instance, seed, watch)
}

/// How far all searches together are.
pub(super) struct Board<'a> {
    bar: ProgressBar,
    best: Mutex<Best>,
    started: Instant,
    deadline: Instant,
    interrupt: &'a Interrupt,
}

/// The best of all searches.
#[derive(Clone, Copy)]
struct Best {
    flow: f64,
    bound: f64,
}

impl<'a> Board<'a> {
    pub fn new(name: &str, effort: &Effort, interrupt: &'a Interrupt) -> Self {
        let bar = bar();
        bar.set_message(format!("{name}: searching"));
        let best = Mutex::new(Best { flow: 0.0, bound: f64::INFINITY });
        Self { bar, best, started: Instant::now(), deadline: effort.deadline, interrupt }
    }

    /// Takes in how far one search is; says whether all are to end.
    pub fn note(&self, progress: Progress) -> ControlFlow<()> {
        let Best { flow, bound } = {
            let mut best = self.best.lock().expect("no thread panics while it holds the lock");
            best.flow = best.flow.max(progress.flow);
            best.bound = best.bound.min(progress.bound);
            *best
        };
        let gap = if bound.is_finite() { gap(flow, bound) } else { 1.0 };
        self.bar.set_message(status(flow, bound, self.started.elapsed()));
        self.bar.tick();
        if gap <= GAP_CLOSED || self.over() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Says what is being done now.
    pub fn say(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        self.bar.tick();
    }

    /// Whether there is no time left, or the operator has had enough.
    pub fn over(&self) -> bool {
        Instant::now() >= self.deadline || self.interrupt.is_set()
    }

    /// Takes the progress off the terminal.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// A line of progress on the terminal, if there is one.
pub(super) fn bar() -> ProgressBar {
    let terminal = std::io::stderr().is_terminal();
    let bar = if terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{spinner} {msg}");
    bar.set_style(style.expect("the template is well formed"));
    bar
}

fn status(flow: f64, bound: f64, elapsed: Duration) -> String {
    let proved = if bound.is_finite() {
        format!("bound {bound:.1}, gap {:.2} %", gap(flow, bound) * 100.0)
    } else {
        "no bound yet".to_owned()
    };
    format!("{flow:.1} tokens/s, {proved}, {} s (Ctrl-C keeps the best)", elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_names_incumbent_bound_and_gap() {
        let seconds = Duration::from_secs(3);
        assert_eq!(
            status(75.0, 100.0, seconds),
            "75.0 tokens/s, bound 100.0, gap 25.00 %, 3 s (Ctrl-C keeps the best)"
        );
        assert!(status(75.0, f64::INFINITY, seconds).contains("no bound yet"));
    }

    #[test]
    fn the_default_is_a_method() {
        assert!(names().any(|it| it == DEFAULT));
    }
}
