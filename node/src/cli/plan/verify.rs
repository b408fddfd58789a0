//! `thalweg plan verify`: re-checks a printed plan.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use thalweg_planner::cluster::Choice;
use thalweg_planner::report::Report;
use thalweg_planner::verify::{Bound, verify};

use super::{read_cluster, unwritten};
use crate::cli::advice::Advice;

/// Findings shown at most; the first ones explain the rest.
const FINDINGS_MAX: usize = 20;

/// Check a plan: placement, flow and the proof of its bound, with code that shares nothing with the
/// planner's
#[derive(Clone, Debug, Args)]
pub(super) struct VerifyArgs {
    /// What `thalweg plan CLUSTER.toml --json` printed
    #[arg(value_name = "PLAN.json")]
    plan: PathBuf,

    /// The cluster it is for
    #[arg(value_name = "CLUSTER.toml")]
    cluster: PathBuf,
}

/// Runs the verb.
///
/// # Errors
///
/// If a file cannot be used, or the plan does not hold.
pub(super) fn run(args: &VerifyArgs, stdout: &mut impl Write) -> Result<(), Advice> {
    let VerifyArgs { plan, cluster } = args;
    let text = fs::read_to_string(plan)
        .map_err(|error| Advice::new(format!("cannot read {}", plan.display()), error))?;
    let report: Report = serde_json::from_str(&text).map_err(|error| {
        Advice::new(format!("{} is no plan", plan.display()), error)
            .hint("Write one with `thalweg plan CLUSTER.toml --json`.")
    })?;
    let choice =
        Choice { model: Some(report.model.clone()), partial: report.partial_inference, mix: None };
    let resolved = read_cluster(cluster, &choice)?;
    let verdict =
        verify(&report, &resolved.instance, &resolved.model_name).map_err(|findings| {
            let mut said = format!("{} does not hold for {}", plan.display(), cluster.display());
            for finding in findings.iter().take(FINDINGS_MAX) {
                write!(said, "\n  {finding}").expect("a string takes everything");
            }
            let more = findings.len().saturating_sub(FINDINGS_MAX);
            let advice = Advice::plain(said);
            if more > 0 {
                advice.hint(format!("{more} more findings are left out."))
            } else {
                advice
            }
        })?;
    let Report { flow, bound, .. } = report;
    let bound = match verdict.bound {
        Bound::Proved => format!("no placement exceeds {bound:.3}: its certificate holds"),
        Bound::Claimed => format!("the bound {bound:.3} is a solver's word, which is not checked"),
    };
    writeln!(
        stdout,
        "the plan holds: {} hosts fit, {} hops carry {flow:.3} tokens/s; {bound}",
        verdict.hosts, verdict.hops,
    )
    .map_err(unwritten)
}
