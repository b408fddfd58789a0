//! `thalweg plan --survive`: what it costs to keep a share of the flow through any loss.

use std::io::Write;
use std::path::Path;

use thalweg_planner::cluster::Resolved;
use thalweg_planner::instance::Instance;
use thalweg_planner::report::Report;
use thalweg_planner::survive;

use super::interrupt::Interrupt;
use super::{MakeArgs, Wish, infeasible, plan, unwritten};
use crate::cli::advice::Advice;

const HEADER: &str = "\
KEEPS AT LEAST      FLOW  AT MOST  WORST LOSS                      LEAVES
";

/// Plans for each share in turn: a row each, or with `--json` an object each on a line.
///
/// # Errors
///
/// If nothing can be placed at all, or the table cannot be written.
pub(super) fn table(
    file: &Path,
    resolved: &Resolved,
    args: &MakeArgs,
    stdout: &mut impl Write,
) -> Result<(), Advice> {
    infeasible::refuse(resolved)?;
    let interrupt = Interrupt::watched();
    if !args.json {
        stdout.write_all(HEADER.as_bytes()).map_err(unwritten)?;
    }
    for &alpha in &args.survive {
        let wish = Wish::Flow { method: &args.method, survive: Some(alpha) };
        let limit = survive::limit(&resolved.instance, alpha);
        let line = match plan(&args.problem, file, resolved, &wish, &interrupt) {
            Ok(planned) if args.json => serde_json::to_string(&planned.report)
                .map_err(|error| Advice::new("cannot write the plan as JSON", error))?,
            Ok(planned) => row(alpha, limit, &planned.report),
            Err(_none) if args.json => continue,
            Err(_none) => format!("{:>12.0} %{:>10}{limit:>9.1}", alpha * 100.0, "none"),
        };
        writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(unwritten)?;
    }
    Ok(())
}

fn row(alpha: f64, limit: f64, report: &Report) -> String {
    let (flow, alpha) = (report.flow, alpha * 100.0);
    let loss = report.worst_loss.as_ref().map_or_else(String::new, |it| {
        format!("{:<24}{:>8.1}, {:.1} %", it.host, it.flow_kept, it.share * 100.0)
    });
    format!("{alpha:>12.0} %{flow:>10.1}{limit:>9.1}  {loss}")
}

/// What no plan with this promise exceeds.
pub(super) fn limit(instance: &Instance, alpha: f64) -> String {
    format!(
        "no plan that keeps {:.0} % of its flow through any loss carries more than {:.1} tokens/s",
        alpha * 100.0,
        survive::limit(instance, alpha)
    )
}
