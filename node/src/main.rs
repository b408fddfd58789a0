//! `thalweg`: one large language model over GPUs of different kinds in different regions.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use thalweg::cli::advice::{Advice, exit_code};
use thalweg::cli::{bench, certs, chat, demo, join, models, plan, simulate, status};
use thalweg::serve;
use tracing_subscriber::EnvFilter;

/// Keeps what a step has freed for the next one. The system's own gives it back and asks for it anew, page
/// by page: a sixth of the time of a prefill.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What is logged unless `RUST_LOG` says otherwise. openraft reports every append that a dead host
/// does not answer, many a second.
const LOG_FILTER: &str = "warn,thalweg=info,openraft=off";

/// Serve one large language model over unequal hosts in different regions
#[derive(Debug, Parser)]
#[command(name = "thalweg", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Serve(serve::ServeArgs),
    Join(join::JoinArgs),
    Pull(models::PullArgs),
    #[command(alias = "ls")]
    List(models::ListArgs),
    Chat(chat::ChatArgs),
    Status(status::StatusArgs),
    Plan(plan::PlanArgs),
    Simulate(simulate::SimulateArgs),
    Certs(certs::CertsArgs),
    Bench(bench::BenchArgs),
    Demo(demo::DemoArgs),
}

fn main() -> ExitCode {
    abort_on_panic();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG_FILTER));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let result = run(Cli::parse().verb, &mut io::stdout().lock());
    if let Err(advice) = &result
        && exit_code(&result) != 0
    {
        eprintln!("{advice}");
    }
    ExitCode::from(exit_code(&result))
}

fn run(verb: Verb, stdout: &mut impl Write) -> Result<(), Advice> {
    match verb {
        Verb::Serve(args) => serve::run(&args),
        Verb::Join(args) => join::run(&args),
        Verb::Pull(args) => models::run_pull(&args, stdout),
        Verb::List(args) => models::run_list(&args, stdout),
        Verb::Chat(args) => chat::run(&args, stdout),
        Verb::Status(args) => status::run(&args, stdout),
        Verb::Plan(args) => plan::run(&args, stdout),
        Verb::Simulate(args) => simulate::run(&args, stdout),
        Verb::Certs(args) => certs::run(&args, stdout),
        Verb::Bench(args) => bench::run(&args, stdout),
        Verb::Demo(args) => demo::run(&args, stdout),
    }
}

/// Makes every panic end the process: a broken invariant is not survived by one thread of many.
///
/// `panic = "abort"` would say the same, but compiles every dependency twice, once for tests.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
