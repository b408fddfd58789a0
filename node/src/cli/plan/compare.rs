//! `thalweg plan compare`: every method on one cluster, one table.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use thalweg_planner::report::Report;

use super::interrupt::Interrupt;
use super::{ProblemArgs, Wish, infeasible, plan, resolve, search, unwritten};
use crate::cli::advice::Advice;

/// Compare all placement methods on one cluster
///
/// Each method gets the same time. Ctrl-C ends the method that runs, and those after it soon.
#[derive(Clone, Debug, Args)]
pub(super) struct CompareArgs {
    /// Cluster file; `examples/clusters/README.md` describes every key
    #[arg(value_name = "CLUSTER.toml")]
    file: PathBuf,

    #[command(flatten)]
    problem: ProblemArgs,

    /// Print one JSON object for each method and line
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
///
/// If the cluster file cannot be used, or the table cannot be written.
pub(super) fn run(args: &CompareArgs, stdout: &mut impl Write) -> Result<(), Advice> {
    let resolved = resolve(&args.file, &args.problem)?;
    infeasible::refuse(&resolved)?;
    let interrupt = Interrupt::watched();
    if !args.json {
        stdout.write_all(HEADER.as_bytes()).map_err(unwritten)?;
    }
    for method in search::names() {
        let wish = Wish::Flow { method, survive: None };
        let line = match plan(&args.problem, &args.file, &resolved, &wish, &interrupt) {
            Ok(planned) if args.json => serde_json::to_string(&planned.report)
                .map_err(|error| Advice::new("cannot write the plan as JSON", error))?,
            Ok(planned) => row(&planned.report),
            Err(_none) if args.json => continue,
            Err(_none) => format!("{method:<18}{:>10}", "none"),
        };
        writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(unwritten)?;
    }
    Ok(())
}

const HEADER: &str = "\
METHOD                  FLOW     BOUND       GAP   SECONDS   DEPTH  AFTER WORST LOSS
";

fn row(report: &Report) -> String {
    let Report { method, flow, bound, seconds, depth, .. } = report;
    let gap = report.gap * 100.0;
    let kept = report.worst_loss.as_ref().map_or(0.0, |it| it.share * 100.0);
    format!(
        "{method:<18}{flow:>10.1}{bound:>10.1}{gap:>8.2} %{seconds:>10.1}{depth:>8.1}{kept:>16.0} %"
    )
}
