//! Curve of incumbent and bound over time when HiGHS solves the formulation of Helix.
//!
//! `cargo bench -p thalweg-planner --bench milp -- CLUSTER.toml SECONDS [METHOD]` writes
//! `seconds,incumbent,bound` as CSV. Whole hosts (no partial inference), all links; with METHOD,
//! that method's placement is the start, otherwise there is none.
#![allow(clippy::disallowed_methods)] // A bench owns the clock and reads the file it is given.

use std::error::Error;
use std::ops::ControlFlow;
use std::time::Instant;

use thalweg_planner::cluster::{self, Choice};
use thalweg_planner::method::{Method, Progress};
use thalweg_planner::place::{self, milp::Milp};

/// Seconds without news after which a line is written all the same.
const QUIET_SECONDS_MAX: f64 = 10.0;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let [file, seconds, rest @ ..] = arguments.as_slice() else {
        // Also reached by `cargo test --benches`, which passes nothing.
        println!("usage: milp CLUSTER.toml SECONDS [METHOD]");
        return Ok(());
    };
    let seconds: f64 = seconds.parse()?;
    let choice = Choice { partial: false, ..Choice::default() };
    let instance = cluster::parse(&std::fs::read_to_string(file)?)?.resolve(&choice)?.instance;
    let hints = match rest.first() {
        Some(name) => vec![place::method(name).ok_or("no method of this name")?],
        None => vec![],
    };
    println!("seconds,incumbent,bound");
    let began = Instant::now();
    let mut last = (0.0, f64::NEG_INFINITY, f64::INFINITY);
    let mut watch = |progress: Progress| {
        let now = began.elapsed().as_secs_f64();
        let news = progress.flow > last.1 || progress.bound < last.2;
        if news || now - last.0 > QUIET_SECONDS_MAX {
            println!("{now:.3},{},{}", progress.flow, progress.bound);
            last = (now, progress.flow, progress.bound);
        }
        if now < seconds { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let found = Milp { hints, ..Milp::default() }.place(&instance, 0, &mut watch);
    let now = began.elapsed().as_secs_f64();
    match found {
        Some(found) => {
            let flow = thalweg_planner::flow::value(&instance, &found.placement);
            println!("{now:.3},{flow},{}", found.bound.unwrap_or(f64::INFINITY));
        }
        None => println!("{now:.3},0,inf"),
    }
    Ok(())
}
