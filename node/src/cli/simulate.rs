//! `thalweg simulate`: what a cluster would serve, from the machines that serve it.

mod artifact;
mod compare;
mod files;
mod page;
mod replay;
mod table;
mod what_if;

use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;
use thalweg_sim::outcome::Outcome;
use thalweg_sim::scenario::{Placed, Scenario};

use super::advice::Advice;
use artifact::Artifact;
use files::Opened;

/// Run a scenario in virtual time: the same schedulers and routers as on real hosts
///
/// Devices and links are numbers, of the cluster file; everything else is what runs in production.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SimulateArgs {
    #[command(subcommand)]
    verb: Option<Verb>,

    #[command(flatten)]
    one: OneArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    Compare(compare::CompareArgs),
    WhatIf(what_if::WhatIfArgs),
    Replay(replay::ReplayArgs),
}

#[derive(Clone, Debug, Args)]
struct OneArgs {
    /// Scenario file; `examples/scenarios/README.md` describes every key
    #[arg(value_name = "SCENARIO.toml")]
    file: Option<PathBuf>,

    #[command(flatten)]
    change: ChangeArgs,

    /// Whose event model: ours, or that of the Helix artifact
    #[arg(long, value_enum, default_value_t = ModelAs::Thalweg)]
    model_as: ModelAs,

    /// Print the outcome as one JSON object
    #[arg(long)]
    json: bool,

    /// Write plots of the run into this file
    #[arg(long, value_name = "OUT.html")]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum ModelAs {
    Thalweg,
    Helix,
}

/// What to do otherwise than the scenario says.
#[derive(Clone, Debug, Default, Args)]
struct ChangeArgs {
    /// How stages and gateways schedule: thalweg, helix, swarm, random, shortest-queue, orca, vllm, petals
    #[arg(long)]
    policy: Option<String>,

    /// Placement method, as for `thalweg plan --method`
    #[arg(long)]
    placement: Option<String>,

    /// Placement to take: what `thalweg plan --json` prints, or a recorded layout
    #[arg(long, value_name = "FILE.json", conflicts_with = "placement")]
    layout: Option<PathBuf>,

    /// Recorded lengths: lines that end in tokens of prompt and answer
    #[arg(long, value_name = "FILE.csv")]
    lengths: Option<PathBuf>,

    /// Recorded arrivals: a time in seconds a line, ascending
    #[arg(long, value_name = "FILE.csv")]
    arrivals: Option<PathBuf>,

    /// Model, if not the scenario's own
    #[arg(long)]
    model: Option<String>,

    /// Seed of the workload
    #[arg(long)]
    seed: Option<u64>,
}

/// A run, and the time it took here.
struct Ran {
    outcome: Outcome,
    wall_seconds: f64,
}

impl Ran {
    fn events_per_second(&self) -> f64 {
        self.outcome.events as f64 / self.wall_seconds.max(f64::MIN_POSITIVE)
    }

    /// The outcome as JSON, with what is not of the run but of this machine.
    fn to_json(&self) -> Result<String, Advice> {
        let unwritable = |error| Advice::new("cannot write the outcome as JSON", error);
        let mut value = serde_json::to_value(&self.outcome).map_err(unwritable)?;
        if let Value::Object(keys) = &mut value {
            keys.insert("wall_seconds".into(), self.wall_seconds.into());
            keys.insert("events_per_second".into(), self.events_per_second().into());
        }
        serde_json::to_string(&value).map_err(unwritable)
    }
}

/// Runs `thalweg simulate`. The outcome goes to `stdout`.
///
/// # Errors
///
/// An [`Advice`] when a file cannot be used, or the scenario cannot be run.
pub fn run(args: &SimulateArgs, stdout: &mut impl Write) -> Result<(), Advice> {
    match (&args.verb, &args.one.file) {
        (Some(Verb::Compare(args)), _) => compare::run(args, stdout),
        (Some(Verb::WhatIf(args)), _) => what_if::run(args, stdout),
        (Some(Verb::Replay(args)), _) => replay::run(args, stdout),
        (None, Some(file)) => one(&args.one, file, stdout),
        (None, None) => Err(Advice::plain("no scenario was named")
            .hint("Scenarios to begin with are in examples/scenarios.")),
    }
}

fn one(args: &OneArgs, file: &Path, stdout: &mut impl Write) -> Result<(), Advice> {
    let scenario = files::open(file, &args.change)?.resolve()?;
    if args.model_as == ModelAs::Helix {
        if args.report.is_some() {
            return Err(Advice::plain("the artifact's model keeps no history to plot")
                .hint("Leave `--report` out, or run it as `--model-as thalweg`."));
        }
        let ran = Artifact::run(&scenario)?;
        let text = if args.json { ran.to_json() + "\n" } else { ran.table() };
        return stdout.write_all(text.as_bytes()).map_err(unwritten);
    }
    let ran = simulate(&scenario, &place(&scenario)?)?;
    if let Some(path) = &args.report {
        fs::write(path, page::page(&ran.outcome))
            .map_err(|error| Advice::new(format!("cannot write {}", path.display()), error))?;
    }
    let text = if args.json { ran.to_json()? + "\n" } else { table::one(&ran) };
    stdout.write_all(text.as_bytes()).map_err(unwritten)
}

fn place(scenario: &Scenario) -> Result<Placed, Advice> {
    scenario.place(&mut |_| ControlFlow::Continue(())).map_err(files::refused)
}

fn simulate(scenario: &Scenario, placed: &Placed) -> Result<Ran, Advice> {
    let begin = Instant::now();
    let outcome = scenario.run(placed).map_err(files::refused)?;
    Ok(Ran { outcome, wall_seconds: begin.elapsed().as_secs_f64() })
}

fn unwritten(error: io::Error) -> Advice {
    Advice::new("cannot write the outcome", error)
}

/// Opens, places and runs.
fn run_opened(opened: &Opened) -> Result<Ran, Advice> {
    let scenario = opened.resolve()?;
    simulate(&scenario, &place(&scenario)?)
}
