//! `thalweg bench`: measure this machine, and a cluster.

use std::fmt;
use std::io::Write;

use super::advice::Advice;

mod engine;
mod hop;
mod steps;
mod streams;
mod twin;
pub(super) mod users;

/// Measure this machine, or a running cluster
#[derive(Clone, Debug, clap::Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    Engine(engine::EngineArgs),
    Hop(hop::HopArgs),
    Steps(steps::StepsArgs),
    Streams(streams::StreamsArgs),
    Twin(twin::TwinArgs),
    Users(users::UsersArgs),
}

/// Runs `thalweg bench`. The figures go to `stdout`.
///
/// # Errors
///
/// An [`Advice`] when a measurement cannot be set up or breaks off.
pub fn run(args: &BenchArgs, stdout: &mut impl Write) -> Result<(), Advice> {
    let report: &dyn fmt::Display = match &args.what {
        What::Engine(args) => &engine::measure(args)?,
        What::Hop(args) => &hop::measure(args)?,
        What::Steps(args) => &steps::measure(args)?,
        What::Streams(args) => &streams::measure(args)?,
        What::Twin(args) => &twin::measure(args)?,
        What::Users(args) => &users::measure(args)?,
    };
    write!(stdout, "{report}").map_err(|source| Advice::new("cannot write the figures", source))
}
