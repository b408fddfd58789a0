//! Curves of incumbent and bound over time when HiGHS solves the formulation of Helix.
//!
//! `cargo bench -p thalweg-planner --bench milp -- CLUSTER SECONDS [METHOD]` solves a file of
//! `examples/clusters` (without its ending) with whole hosts (no partial inference) and all links,
//! twice: without a start, and beginning with the placement of METHOD (`coverage` if none is given).
//! Each has so many seconds of processor time. Prints a line for all news, and writes
//! `results/milp-CLUSTER.csv`.

#![allow(clippy::disallowed_methods)] // A bench owns the clock and reads the file it is given.

mod series;

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;

use series::{Series, processor_seconds};
use thalweg_planner::cluster::{self, Choice};
use thalweg_planner::flow;
use thalweg_planner::instance::Instance;
use thalweg_planner::method::{Method, Progress};
use thalweg_planner::place::{self, milp::Milp};

/// Seconds without news after which a line is written all the same.
const QUIET_SECONDS_MAX: f64 = 60.0;
/// Incumbent and bound must change by this share to be news.
const NEWS_MIN: f64 = 1e-4;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let [name, seconds, rest @ ..] = arguments.as_slice() else {
        // Also reached by `cargo test --benches`, which passes nothing.
        println!("usage: milp CLUSTER SECONDS [METHOD]");
        return Ok(());
    };
    let seconds: f64 = seconds.parse()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/clusters");
    let text = std::fs::read_to_string(folder.join(name).with_extension("toml"))?;
    let choice = Choice { partial: false, ..Choice::default() };
    let instance = cluster::parse(&text)?.resolve(&choice)?.instance;
    let hint = rest.first().map_or("coverage", String::as_str);
    let mut series = Series::new(
        &format!("MILP of Helix on {name}, whole hosts, HiGHS for {seconds} s at most"),
        ("processor seconds, one thread", "tokens/s"),
        "y",
    );
    println!("start,seconds,incumbent,bound");
    for (how, hint) in [("cold".to_owned(), None), (format!("from {hint}"), Some(hint))] {
        solve(&instance, hint, Curve::new(&how, &mut series), seconds)?;
    }
    series.save(&format!("milp-{name}"))
}

/// Solves for so many seconds, beginning with what `hint` finds.
fn solve(
    instance: &Instance,
    hint: Option<&str>,
    mut curve: Curve<'_>,
    seconds: f64,
) -> Result<(), Box<dyn Error>> {
    let hints = match hint {
        Some(name) => vec![place::method(name).ok_or("no method of this name")?],
        None => vec![],
    };
    let mut watch = |progress: Progress| {
        let now = curve.note(progress.flow, progress.bound);
        if now < seconds { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let found = Milp { hints, ..Milp::default() }.place(instance, 0, &mut watch);
    let value = found.as_ref().map_or(0.0, |it| flow::value(instance, &it.placement));
    let bound = found.and_then(|it| it.bound).unwrap_or(curve.bound);
    curve.point(value, bound);
    Ok(())
}

/// Incumbent and bound over time.
struct Curve<'a> {
    how: String,
    series: &'a mut Series,
    start: f64,
    last: f64,
    flow: f64,
    bound: f64,
}

impl<'a> Curve<'a> {
    fn new(how: &str, series: &'a mut Series) -> Self {
        Self {
            how: how.to_owned(),
            series,
            start: processor_seconds(),
            last: 0.0,
            flow: f64::NEG_INFINITY,
            bound: f64::INFINITY,
        }
    }

    /// Notes how far it is, if that is news. Returns the time.
    fn note(&mut self, flow: f64, bound: f64) -> f64 {
        let now = processor_seconds() - self.start;
        let news = flow > self.flow * (1.0 + NEWS_MIN) || bound < self.bound * (1.0 - NEWS_MIN);
        if news || now - self.last > QUIET_SECONDS_MAX {
            self.point(flow, bound);
        }
        now
    }

    fn point(&mut self, flow: f64, bound: f64) {
        let now = processor_seconds() - self.start;
        (self.last, self.flow, self.bound) = (now, flow, bound);
        println!("{},{now:.2},{flow},{bound}", self.how);
        if flow > 0.0 {
            self.series.point(&format!("{}, incumbent", self.how), now, flow);
        }
        if bound.is_finite() {
            self.series.point(&format!("{}, bound", self.how), now, bound);
        }
    }
}
