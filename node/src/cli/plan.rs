//! `thalweg plan`: where a model's layers go on a cluster described in a file.

mod compare;
mod explain;
mod frontier;
mod infeasible;
mod interrupt;
mod judge;
mod print;
mod search;
mod survive;
mod verify;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use thalweg_planner::cluster::{Choice, ClusterError, Resolved, parse};
use thalweg_planner::frontier::{Objective, Targets};
use thalweg_planner::instance::{Instance, Placement};
use thalweg_planner::report::{Loss, Remarks, Report, Served};
use thalweg_planner::{Charge, bound, flow, place, svg};

use super::advice::Advice;
use interrupt::Interrupt;
use search::{Effort, Searched};

/// Longest search that can be asked for, in seconds: a week.
const SECONDS_MAX: f64 = 604_800.0;

/// Longest target for a latency, in seconds.
const TARGET_SECONDS_MAX: f64 = 1e6;

/// Plan where a model's layers go, and prove how good the plan is
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct PlanArgs {
    #[command(subcommand)]
    what: Option<What>,

    #[command(flatten)]
    make: MakeArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    Compare(compare::CompareArgs),
    Verify(verify::VerifyArgs),
}

#[derive(Clone, Debug, Args)]
struct MakeArgs {
    /// Cluster file; `examples/clusters/README.md` describes every key
    #[arg(value_name = "CLUSTER.toml")]
    file: Option<PathBuf>,

    #[command(flatten)]
    problem: ProblemArgs,

    /// How the layers are placed for flow; `thalweg plan compare` tries every method
    #[arg(long, default_value = search::DEFAULT)]
    method: String,

    /// Plan for what is served, by estimate, in place of flow, and show all candidates
    #[arg(long, value_enum, conflicts_with_all = ["method", "survive"])]
    objective: Option<ObjectiveArg>,

    /// Time to the first token at most, for goodput, if not the file's own
    #[arg(long, value_name = "SECONDS", value_parser = target, requires = "objective")]
    ttft_seconds: Option<f64>,

    /// Time per output token at most, for goodput, if not the file's own
    #[arg(long, value_name = "SECONDS", value_parser = target, requires = "objective")]
    tpot_seconds: Option<f64>,

    /// Least share of the flow that is left after the loss of any one host; several, with commas
    /// between, make a table
    #[arg(long, value_name = "ALPHA", value_parser = share, value_delimiter = ',')]
    survive: Vec<f64>,

    /// Say what limits the plan, layer by layer and region by region
    #[arg(long)]
    explain: bool,

    /// Say how much flow errors of measurement, slow links and losses leave
    #[arg(long)]
    sensitivity: bool,

    /// Draw the plan into this file
    #[arg(long, value_name = "OUT.svg")]
    svg: Option<PathBuf>,

    /// Print the plan as one JSON object
    #[arg(long)]
    json: bool,
}

/// The problem, and how long to think about it.
#[derive(Clone, Debug, Args)]
struct ProblemArgs {
    /// The model, if not the file's own
    #[arg(long)]
    model: Option<String>,

    /// How a host is charged for a token: all the layers it holds, or those it computes
    #[arg(long, value_enum, default_value_t = ChargeArg::Full)]
    charge: ChargeArg,

    /// Let tokens enter a host only at the first layer it holds
    #[arg(long)]
    no_partial_inference: bool,

    /// Time for the search at most; by the size of the cluster if absent
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<Duration>,

    /// Seed of the search
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Searches side by side, with seeds one after the other. A plan is repeatable with one alone,
    /// because the first to close the gap ends the others
    #[arg(long, default_value_t = search::threads(), value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum ObjectiveArg {
    /// Output tokens per second
    Throughput,
    /// Time per output token
    Latency,
    /// Output tokens per second within the targets for TTFT and TPOT
    Goodput,
    /// Dollars per output token
    Cost,
}

impl From<ObjectiveArg> for Objective {
    fn from(it: ObjectiveArg) -> Self {
        match it {
            ObjectiveArg::Throughput => Self::Throughput,
            ObjectiveArg::Latency => Self::Latency,
            ObjectiveArg::Goodput => Self::Goodput,
            ObjectiveArg::Cost => Self::Cost,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ChargeArg {
    Full,
    Work,
}

impl From<ChargeArg> for Charge {
    fn from(charge: ChargeArg) -> Self {
        match charge {
            ChargeArg::Full => Self::Full,
            ChargeArg::Work => Self::Work,
        }
    }
}

/// A plan with what else is known of it.
struct Planned {
    report: Report,
    /// The cluster with the hops that the placement may use.
    instance: Instance,
    placement: Placement,
}

/// Runs `thalweg plan`. The plan goes to `stdout`, progress to the terminal.
///
/// # Errors
///
/// An [`Advice`] when a file cannot be used, no placement exists, or a plan does not hold.
pub fn run(args: &PlanArgs, stdout: &mut impl Write) -> Result<(), Advice> {
    match (&args.what, &args.make.file) {
        (Some(What::Compare(args)), _) => compare::run(args, stdout),
        (Some(What::Verify(args)), _) => verify::run(args, stdout),
        (None, Some(file)) => make(file, &args.make, stdout),
        (None, None) => Err(Advice::plain("no cluster file is given")
            .hint("Try `thalweg plan examples/clusters/single24.toml`.")),
    }
}

fn make(file: &Path, args: &MakeArgs, stdout: &mut impl Write) -> Result<(), Advice> {
    let resolved = resolve(file, &args.problem)?;
    if args.survive.len() > 1 {
        return survive::table(file, &resolved, args, stdout);
    }
    let interrupt = Interrupt::watched();
    let wish = match args.objective {
        Some(objective) => Wish::Serve(Targets {
            mix: resolved.mix,
            objective: objective.into(),
            ttft_seconds: args.ttft_seconds.or(resolved.demand.ttft_seconds),
            tpot_seconds: args.tpot_seconds.or(resolved.demand.tpot_seconds),
        }),
        None => Wish::Flow { method: &args.method, survive: args.survive.first().copied() },
    };
    let mut planned = plan(&args.problem, file, &resolved, &wish, &interrupt)?;
    if args.sensitivity {
        let Planned { instance, placement, report } = &mut planned;
        report.sensitivity = explain::disturbed(instance, placement, args.problem.seed, &interrupt);
    }
    let text = if args.json {
        let json = serde_json::to_string_pretty(&planned.report);
        json.map_err(|error| Advice::new("cannot write the plan as JSON", error))? + "\n"
    } else {
        words(&resolved, &planned, args)
    };
    stdout.write_all(text.as_bytes()).map_err(unwritten)?;
    let Some(path) = &args.svg else { return Ok(()) };
    fs::write(path, svg::draw(&planned.report, &resolved.instance)).map_err(|error| {
        Advice::new(format!("cannot write the picture to {}", path.display()), error)
    })
}

/// A plan as text, with all that was asked for.
fn words(resolved: &Resolved, planned: &Planned, args: &MakeArgs) -> String {
    let Planned { report, instance, placement } = planned;
    let mut text = print::plan(resolved, report);
    if !report.frontier.is_empty() {
        text.push_str(&frontier::table(report));
    }
    if args.explain {
        text.push_str(&explain::plan(instance, placement, report));
    }
    if args.sensitivity {
        text.push_str(&explain::sensitivity(report));
    }
    text
}

fn resolve(file: &Path, args: &ProblemArgs) -> Result<Resolved, Advice> {
    let partial = !args.no_partial_inference;
    read_cluster(file, &Choice { model: args.model.clone(), partial, mix: None })
}

fn read_cluster(file: &Path, choice: &Choice) -> Result<Resolved, Advice> {
    let text = fs::read_to_string(file).map_err(|error| {
        Advice::new(format!("cannot read {}", file.display()), error)
            .hint("Clusters to begin with are in examples/clusters.")
    })?;
    let refused = |error: ClusterError| {
        Advice::new(format!("cannot plan for {}", file.display()), error)
            .hint("examples/clusters/README.md describes every key.")
    };
    parse(&text).map_err(refused)?.resolve(choice).map_err(refused)
}

/// What a plan is to be good at.
enum Wish<'a> {
    /// Flow, by one method, with a share of it left after any loss.
    Flow { method: &'a str, survive: Option<f64> },
    /// What is served, by estimate.
    Serve(Targets),
}

/// Searches, and says what the placement found is worth.
fn plan(
    args: &ProblemArgs,
    file: &Path,
    resolved: &Resolved,
    wish: &Wish<'_>,
    interrupt: &Interrupt,
) -> Result<Planned, Advice> {
    let started = Instant::now();
    infeasible::refuse(resolved)?;
    let seconds = args.seconds.unwrap_or_else(|| search::budget(&resolved.instance));
    let (seed, threads) = (args.seed, args.threads);
    let mut effort = Effort { seed, threads, deadline: started + seconds, survive: None };
    match wish {
        Wish::Flow { method, survive } => {
            effort.survive = *survive;
            let searched = search::run(resolved, method, &effort, interrupt)?;
            let mut planned = weigh(args, file, resolved, searched, method, started);
            if let Some(alpha) = survive {
                planned.report.notes.push(survive::limit(&resolved.instance, *alpha));
            }
            Ok(planned)
        }
        Wish::Serve(targets) => {
            frontier::refuse(resolved, targets)?;
            if targets.objective == Objective::Goodput && args.seconds.is_none() {
                effort.deadline += frontier::JUDGING;
            }
            let ranked = frontier::rank(resolved, targets, &effort, interrupt)?;
            let mut planned =
                weigh(args, file, resolved, ranked.searched, frontier::METHOD, started);
            planned.report.notes.extend(ranked.notes);
            frontier::bound(&mut planned.report, &resolved.instance, &ranked.bounds);
            planned.report.frontier = ranked.candidates.iter().map(Served::from).collect();
            Ok(planned)
        }
    }
}

/// Says what a placement is worth, with the proof.
fn weigh(
    args: &ProblemArgs,
    file: &Path,
    resolved: &Resolved,
    Searched { found, bound: own }: Searched,
    method: &str,
    started: Instant,
) -> Planned {
    let whole = &resolved.instance;
    let instance = match &found.pipelines {
        Some(pipelines) => place::pipelines::confined(whole, pipelines),
        None => whole.clone(),
    };
    let (charge, other) = match args.charge {
        ChargeArg::Full => (Charge::Full, Charge::Work),
        ChargeArg::Work => (Charge::Work, Charge::Full),
    };
    let flow = flow::maximum(&instance, &found.placement, charge);
    let mut proof = bound::prove(whole, charge);
    if let Some(value) = own.filter(|it| charge == Charge::Full && *it < proof.value) {
        proof = bound::Proof { value, reason: bound::Reason::Solver };
    }
    let network_proof = match charge {
        Charge::Full if flow::links_bind(whole) => bound::network::prove(whole, proof.value),
        _ => None,
    };
    let remarks = Remarks {
        method: method.to_owned(),
        cluster: cluster_name(file),
        model: resolved.model_name.clone(),
        flow_other_charge: flow::maximum(&instance, &found.placement, other).value,
        seconds: started.elapsed().as_secs_f64(),
        seed: args.seed,
        worst_loss: worst_loss(&instance, &found.placement),
        network_proof,
        notes: resolved.notes.clone(),
    };
    let mut report = Report::new(&instance, &found.placement, &flow, proof, remarks);
    report.seconds = started.elapsed().as_secs_f64();
    Planned { report, instance, placement: found.placement }
}

/// The file's name without its ending.
fn cluster_name(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn worst_loss(instance: &Instance, placement: &Placement) -> Option<Loss> {
    let worst = thalweg_planner::survive::worst_loss(instance, placement)?;
    let host = instance.hosts[worst.host].name.clone();
    Some(Loss { host, flow_kept: worst.flow_kept, share: worst.share })
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_error| format!("`{text}` is no number"))?;
    if seconds > 0.0 && seconds <= SECONDS_MAX {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("give more than 0 and at most {SECONDS_MAX} seconds"))
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_error| format!("`{text}` is no number"))?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("give 0 to 1".to_owned()) }
}

fn target(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_error| format!("`{text}` is no number"))?;
    let sound = seconds > 0.0 && seconds <= TARGET_SECONDS_MAX;
    let refused = || format!("give more than 0 and at most {TARGET_SECONDS_MAX} seconds");
    if sound { Ok(seconds) } else { Err(refused()) }
}

/// A failure to write to standard output.
fn unwritten(error: io::Error) -> Advice {
    Advice::new("cannot write the plan", error)
}
