//! `thalweg bench twin`: what `thalweg simulate` predicts of hosts on this machine, and what they do.
//!
//! ```text
//! 1. a control group per host: its quota of processor time
//! 2. the hosts start in their groups and agree on a plan
//! 3. nobody asks, then a few: processor time beside the tensors
//! 4. step times, measured in all groups at the same time, without a pause
//! 5. the cluster is written down and simulated: how busy each host will be
//! 6. step times again, each group as busy as its host will be
//! 7. simulated again: the prediction
//! 8. all users ask: the measurement
//! ```
//!
//! Nothing of the last step enters the prediction. A host that waits now and then begins its next step
//! with a quota that it has not touched, and shares processors with fewer others: its steps are
//! shorter than those of a host that never waits.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use thalweg_engine::{KvType, Precision, pull};
use thalweg_sim::compute::Overhead;
use thalweg_sim::outcome::{HostOutcome, Outcome};

use super::steps::{BUSY_MIN, StepsReport};
use super::users::{Served, Users};
use crate::cli::advice::Advice;
use crate::cli::client::{self, ServerArgs};
use crate::cli::scenario::{Beyond, ScenarioFiles};
use crate::cli::{demo, models};
use crate::http::ClusterStatus;
use crate::local::{LocalCluster, LocalHost, LocalSpec};
use crate::quota::CpuQuota;

/// Context of the cluster, in tokens.
const CONTEXT_TOKENS: u32 = 2048;
/// Layers whose steps are measured: about what one of four hosts holds of a small model.
const LAYERS: u32 = 8;
/// Users of the run that shows what hosts do beside computing.
const FEW_USERS: Users = Users { count: 6, seconds: 10 };
/// How long the cluster is looked at without any before.
const QUIET: Duration = Duration::from_secs(4);
/// Unit of the times in `/proc/PID/stat`, the same on all Linux systems.
const TICKS_PER_SECOND: f64 = 100.0;
/// Name of the thread that computes.
const COMPUTE: &str = "compute";

/// Compare what `thalweg simulate` predicts of hosts on this machine with what they do
#[derive(Clone, Debug, clap::Args)]
pub struct TwinArgs {
    /// Model to serve
    #[arg(long, default_value = pull::DEFAULT_MODEL)]
    model: String,

    /// Number of hosts
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    hosts: u8,

    /// Memory for weights and KV per host, in MiB
    #[arg(long, default_value_t = 80)]
    memory_mib: u64,

    /// How hosts keep weights: `stored` or `f32`, which needs `--memory-mib 320`
    #[arg(long, default_value_t = Precision::Stored)]
    weights: Precision,

    /// Processor time of each host, in cores
    #[arg(long, default_value_t = 0.5)]
    cores: f64,

    /// How often it is given out, in milliseconds
    #[arg(long, default_value_t = 10)]
    period_ms: u64,

    #[command(flatten)]
    users: Users,

    /// Folder to write the scenario into, for `thalweg simulate`
    #[arg(long, value_name = "DIR")]
    scenario: Option<PathBuf>,
}

/// What was predicted and what was measured.
#[derive(Clone, Debug)]
pub struct TwinReport {
    predicted: Served,
    measured: Served,
    hosts: Vec<HostWork>,
}

/// What one host does while users are served, predicted and measured.
#[derive(Clone, Debug)]
struct HostWork {
    name: String,
    steps_per_second: [f64; 2],
    /// Share of the time with a step running.
    busy: [f64; 2],
}

impl fmt::Display for TwinReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (predicted, measured) = (&self.predicted, &self.measured);
        writeln!(f, "{:20}  predicted  measured  ratio", "")?;
        let mut row = |name: &str, of: fn(&Served) -> f64| {
            let (predicted, measured) = (of(predicted), of(measured));
            let ratio = predicted / measured;
            writeln!(f, "{name:20}  {predicted:>9.2}  {measured:>8.2}  {ratio:>5.3}")
        };
        row("decode tokens/s", |it| it.decode_tokens_per_second)?;
        row("TPOT mean, ms", |it| it.tpot_seconds * 1e3)?;
        row("TTFT mean, ms", |it| it.ttft_seconds * 1e3)?;
        for HostWork { name, steps_per_second: steps, busy } in &self.hosts {
            let name = format!("{name} steps/s");
            writeln!(
                f,
                "{name:20}  {:>9.2}  {:>8.2}  {:>5.3}",
                steps[0],
                steps[1],
                steps[0] / steps[1]
            )?;
            let milliseconds = [0, 1].map(|at| busy[at] / steps[at] * 1e3);
            let ratio = milliseconds[0] / milliseconds[1];
            let [one, other] = milliseconds;
            writeln!(f, "{:20}  {one:>9.2}  {other:>8.2}  {ratio:>5.3}", "  ms per step")?;
        }
        Ok(())
    }
}

/// Predicts and measures.
///
/// # Errors
///
/// If control groups cannot be made here, a host does not start, or a request is refused.
pub fn measure(args: &TwinArgs) -> Result<TwinReport, Advice> {
    let model = models::pull_with_bar(&args.model)?;
    let folder = demo::Folder::create()?;
    let quotas = (0..args.hosts).map(|it| quota(args, it)).collect::<Result<Vec<_>, _>>()?;
    let mut cluster = LocalCluster::start(spec(args, &quotas, &model, folder.path())?)?;
    let server = format!("http://{}", cluster.api(0));
    demo::wait_for_plan(&mut cluster, &server)?;
    let server = ServerArgs { server, api_key: None };
    let overheads = overheads(&cluster, &server, args.cores)?;
    let predict = |busy: &[f64]| -> Result<(ScenarioFiles, Outcome), Advice> {
        let steps = steps_at_once(&quotas, &model, busy, args.weights)?;
        let status = status(&server, &steps)?;
        let head_layers = head_layers(&status, &steps);
        let beyond = Beyond { overheads: overheads.clone(), head_layers };
        let files = ScenarioFiles::new(&status, &beyond, &args.users.asked())?;
        let outcome = simulate(&files)?;
        Ok((files, outcome))
    };
    let (_, without_pause) = predict(&vec![1.0; quotas.len()])?;
    let (files, outcome) = predict(&busy(&without_pause, quotas.len()))?;
    if let Some(folder) = &args.scenario {
        files.write(folder)?;
    }
    let predicted = Served {
        decode_tokens_per_second: outcome.decode_tokens_per_second,
        tpot_seconds: outcome.tpot_mean_seconds,
        ttft_seconds: outcome.ttft_mean_seconds,
    };
    let look = || (0..cluster.count()).map(|it| done(&cluster, it)).collect::<Result<Vec<_>, _>>();
    let (measured, before, after) = args.users.run(&server, look)?;
    let work = |host: &HostOutcome| {
        let (from, to) = (before[place(&host.name)], after[place(&host.name)]);
        let (seconds, window) = ((to.at - from.at).as_secs_f64(), f64::from(args.users.seconds));
        let steps_per_second = [host.steps as f64 / window, (to.steps - from.steps) / seconds];
        let busy = [host.utilisation, (to.busy - from.busy) / seconds];
        HostWork { name: host.name.clone(), steps_per_second, busy }
    };
    let hosts = outcome.hosts.iter().filter(|it| it.steps > 0).map(work).collect();
    Ok(TwinReport { predicted, measured, hosts })
}

fn quota(args: &TwinArgs, host: u8) -> Result<CpuQuota, Advice> {
    let name = format!("thalweg-twin-{}-{host}", process::id());
    let quota = CpuQuota::create(&name, args.cores, Duration::from_millis(args.period_ms));
    // Whatever else runs here would take from the quotas, and not from all alike.
    quota.and_then(CpuQuota::first).map_err(|source| {
        Advice::new("no control group with a quota of processor time can be made here", source)
            .hint("Run this as root on Linux with the CPU controller mounted.")
    })
}

/// Share of the time in which each host computes. One that holds nothing is as good as never busy.
fn busy(outcome: &Outcome, hosts: usize) -> Vec<f64> {
    let mut all = vec![BUSY_MIN; hosts];
    for host in &outcome.hosts {
        all[place(&host.name)] = host.utilisation.clamp(BUSY_MIN, 1.0);
    }
    all
}

/// Measures steps in all groups at the same time, each so busy.
fn steps_at_once(
    quotas: &[CpuQuota],
    model: &Path,
    busy: &[f64],
    weights: Precision,
) -> Result<Vec<StepsReport>, Advice> {
    let failed = |source| Advice::new("step times cannot be measured", source);
    let binary = env::current_exe().map_err(failed)?;
    let start = |(quota, busy): (&CpuQuota, &f64)| {
        let mut words = quota.wrapper();
        words.push(binary.display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["bench", "steps", "--wait", "--layers"]);
        command.arg(LAYERS.to_string()).arg("--model").arg(model);
        command.arg("--busy").arg(busy.to_string()).arg("--weights").arg(weights.to_string());
        Measuring::start(&mut command)
    };
    let mut all =
        quotas.iter().zip(busy).map(start).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    all.iter_mut().try_for_each(Measuring::ready).map_err(failed)?;
    all.iter_mut().try_for_each(Measuring::go).map_err(failed)?;
    let reports = all.iter_mut().map(Measuring::report).collect::<Result<Vec<_>, _>>();
    reports.map_err(failed)
}

/// A process that measures steps; killed when dropped.
struct Measuring {
    child: Child,
    output: BufReader<process::ChildStdout>,
}

impl Measuring {
    fn start(command: &mut Command) -> std::io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().expect("it was asked for");
        Ok(Self { child, output: BufReader::new(output) })
    }

    fn ready(&mut self) -> std::io::Result<()> {
        self.output.read_line(&mut String::new()).map(drop)
    }

    fn go(&mut self) -> std::io::Result<()> {
        self.child.stdin.as_mut().expect("it was asked for").write_all(b"\n")
    }

    fn report(&mut self) -> std::io::Result<StepsReport> {
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        self.child.wait()?;
        serde_json::from_str(&text).map_err(std::io::Error::other)
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        // One that is already gone is what we want.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn spec(
    args: &TwinArgs,
    quotas: &[CpuQuota],
    model: &Path,
    folder: &Path,
) -> Result<LocalSpec, Advice> {
    let mut hosts = LocalHost::several(usize::from(args.hosts), args.memory_mib, 1);
    for (host, quota) in hosts.iter_mut().zip(quotas) {
        host.wrapper = quota.wrapper();
    }
    Ok(LocalSpec {
        binary: env::current_exe().map_err(|e| Advice::new("cannot find this program", e))?,
        folder: folder.to_owned(),
        model: model.display().to_string(),
        hosts,
        port: 0,
        context_tokens: CONTEXT_TOKENS,
        weights: args.weights,
        kv: KvType::F16,
    })
}

/// The cluster, with the step times of hosts that are all busy in place of their own.
fn status(server: &ServerArgs, steps: &[StepsReport]) -> Result<ClusterStatus, Advice> {
    let value = client::get(&server.server, "/api/v1/status", None)?;
    let mut status: ClusterStatus = serde_json::from_value(value)
        .map_err(|source| Advice::new("the status is not understood", source))?;
    for host in &mut status.hosts {
        host.profile = steps[place(&host.name)].profile.clone();
    }
    Ok(status)
}

/// Local hosts are called `h1`, `h2`, and so on.
fn place(name: &str) -> usize {
    let number: usize = name.trim_start_matches('h').parse().expect("local hosts have numbers");
    number - 1
}

/// The head's time in layers, by the host that holds it: the mean over rows.
fn head_layers(status: &ClusterStatus, steps: &[StepsReport]) -> Option<f64> {
    let plan = status.plan.as_ref()?;
    let last = plan.placement.iter().find(|it| it.end == status.layers)?;
    let report = &steps[place(&last.host)];
    let ratio = |head: &thalweg_wire::CurvePoint| {
        let layer = report.profile.decode.iter().find(|it| it.tokens == head.tokens)?;
        Some(head.seconds / layer.seconds)
    };
    let ratios: Vec<f64> = report.head.iter().filter_map(ratio).collect();
    Some(ratios.iter().sum::<f64>() / ratios.len() as f64)
}

fn simulate(files: &ScenarioFiles) -> Result<Outcome, Advice> {
    let scenario = files.resolve()?;
    let failed = |source| Advice::new("the cluster cannot be simulated", source);
    let placed = scenario.place(&mut |_| ControlFlow::Continue(())).map_err(failed)?;
    scenario.run(&placed).map_err(failed)
}

/// What a host has done so far.
#[derive(Clone, Copy, Debug)]
struct Done {
    at: Instant,
    /// Processor time beside the tensors, in seconds.
    beside: f64,
    /// Steps computed.
    steps: f64,
    /// Seconds with a step running.
    busy: f64,
}

/// What hosts do beside computing, by step, with a few users. Half a core does everything half as fast.
/// What they do without users they do while steps are measured too: it is in the times of those.
fn overheads(
    cluster: &LocalCluster,
    server: &ServerArgs,
    cores: f64,
) -> Result<BTreeMap<String, Overhead>, Advice> {
    let look = || (0..cluster.count()).map(|it| done(cluster, it)).collect::<Result<Vec<_>, _>>();
    let quiet = look()?;
    thread::sleep(QUIET);
    let asked = look()?;
    let (_, before, after) = FEW_USERS.run(server, look)?;
    let one = |host: usize| {
        let rate = |from: &Done, to: &Done| {
            (to.beside - from.beside) / (to.at - from.at).as_secs_f64() / cores
        };
        let share = rate(&quiet[host], &asked[host]);
        let seconds = (after[host].at - before[host].at).as_secs_f64();
        let more = (rate(&before[host], &after[host]) - share).max(0.0) * seconds;
        let step_seconds = more / (after[host].steps - before[host].steps).max(1.0);
        (format!("h{}", host + 1), Overhead { share: 0.0, step_seconds })
    };
    Ok((0..cluster.count()).map(one).collect())
}

fn done(cluster: &LocalCluster, host: usize) -> Result<Done, Advice> {
    let failed = |source| Advice::new("the processor time of a host is not known", source);
    let text = client::metrics(&format!("http://{}", cluster.api(host)), None)?;
    Ok(Done {
        at: Instant::now(),
        beside: beside(cluster.pid(host)).map_err(failed)?,
        steps: client::metric(&text, "thalweg_shard_steps_total").unwrap_or_default(),
        busy: client::metric(&text, "thalweg_shard_busy_seconds_total").unwrap_or_default(),
    })
}

/// Seconds of processor time that a process has had, without those of the thread that computes.
fn beside(pid: u32) -> std::io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // User and system time are the 12th and 13th field behind the name, which may hold anything.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: f64 = fields.filter_map(|it| it.parse::<f64>().ok()).sum();
    let mut seconds = ticks / TICKS_PER_SECOND;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let folder = task?.path();
        let read = |file: &str| fs::read_to_string(folder.join(file));
        // A thread may end while it is looked at.
        let (Ok(name), Ok(times)) = (read("comm"), read("schedstat")) else { continue };
        if name.trim() == COMPUTE {
            let nanos = times.split_whitespace().next().and_then(|it| it.parse::<f64>().ok());
            seconds -= nanos.unwrap_or_default() * 1e-9;
        }
    }
    Ok(seconds)
}
