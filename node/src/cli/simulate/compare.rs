//! `thalweg simulate compare`: policies, placements and scenarios against each other, one table.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use thalweg_core::policy::Pack;

use super::{ChangeArgs, files, run_opened, table, unwritten};
use crate::cli::advice::Advice;

/// Compare policies and placements on scenarios
///
/// Every combination sees the same requests. One that cannot be run says why.
#[derive(Clone, Debug, Args)]
pub(super) struct CompareArgs {
    /// Scenario files
    #[arg(value_name = "SCENARIO.toml", required = true)]
    files: Vec<PathBuf>,

    /// Policies; all of them if absent
    #[arg(long, value_delimiter = ',')]
    policies: Vec<String>,

    /// Placement methods; the scenario's own if absent
    #[arg(long, value_delimiter = ',')]
    placements: Vec<String>,

    /// Print one JSON object for each run and line
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
///
/// If a file cannot be used, or the table cannot be written.
pub(super) fn run(args: &CompareArgs, stdout: &mut impl Write) -> Result<(), Advice> {
    let policies = match args.policies.as_slice() {
        [] => Pack::ALL.map(|it| it.name.to_owned()).to_vec(),
        named => named.to_vec(),
    };
    let placements: Vec<Option<String>> = match args.placements.as_slice() {
        [] => vec![None],
        named => named.iter().cloned().map(Some).collect(),
    };
    if !args.json {
        stdout.write_all(table::HEADER.as_bytes()).map_err(unwritten)?;
    }
    for path in &args.files {
        for placement in &placements {
            for policy in &policies {
                let policy = Some(policy.clone());
                let placement = placement.clone();
                let change = ChangeArgs { policy, placement, ..ChangeArgs::default() };
                let opened = files::open(path, &change)?;
                let line = match run_opened(&opened) {
                    Ok(ran) if args.json => ran.to_json()?,
                    Ok(ran) => table::row(&ran.outcome),
                    Err(refusal) => {
                        eprintln!("{} as {}: {refusal}", path.display(), opened.file.policy);
                        continue;
                    }
                };
                writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(unwritten)?;
            }
        }
    }
    Ok(())
}
