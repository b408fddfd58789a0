//! `thalweg bench`: measure what this machine adds to every token.

use std::fmt;
use std::io::Write;

use super::advice::Advice;

mod hop;

/// Measure what this machine adds to every token
#[derive(Clone, Debug, clap::Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    Hop(hop::HopArgs),
}

/// Runs `thalweg bench`. The figures go to `stdout`.
///
/// # Errors
///
/// An [`Advice`] when a measurement cannot be set up or breaks off.
pub fn run(args: &BenchArgs, stdout: &mut impl Write) -> Result<(), Advice> {
    let report: &dyn fmt::Display = match &args.what {
        What::Hop(args) => &hop::measure(args)?,
    };
    write!(stdout, "{report}").map_err(|source| Advice::new("cannot write the figures", source))
}
