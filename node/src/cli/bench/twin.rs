//! `thalweg bench twin`: what `thalweg simulate` predicts of hosts on this machine, and what they do.
//!
//! ```text
//! 1. a control group per host: its quota of processor time
//! 2. the hosts start in their groups and agree on a plan
//! 3. nobody asks, then a few, then some more: processor time beside the tensors
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
/// Users of the runs that show what hosts do beside computing, by step and by request in a step.
const FEW_USERS: [Users; 2] = [Users { count: 3, seconds: 10 }, Users { count: 9, seconds: 10 }];
/// How long the cluster is looked at without any before.
const QUIET: Duration = Duration::from_secs(4);
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
    let begin = Instant::now();
    let (measured, before, after) = args.users.run(&server, || look(&cluster, begin))?;
    let work = |host: &HostOutcome| {
        let done = before[place(&host.name)].until(&after[place(&host.name)]);
        let window = f64::from(args.users.seconds);
        let steps_per_second = [host.steps as f64 / window, done.steps / done.seconds];
        let busy = [host.utilisation, done.busy / done.seconds];
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

/// The cluster, with the step times of hosts that are all busy in place of their own, and links that are
/// longer by what busy hosts take to pass things on.
fn status(server: &ServerArgs, steps: &[StepsReport]) -> Result<ClusterStatus, Advice> {
    let value = client::get(&server.server, "/api/v1/status", None)?;
    let mut status: ClusterStatus = serde_json::from_value(value)
        .map_err(|source| Advice::new("the status is not understood", source))?;
    for host in &mut status.hosts {
        host.profile = steps[place(&host.name)].profile.clone();
    }
    for link in &mut status.links {
        let ends = [&link.from, &link.to].map(|it| &steps[place(it)]);
        let seconds: f64 = ends.iter().map(|it| it.pass_on_seconds + it.take_in_seconds).sum();
        link.rtt_us += (seconds * 1e6) as u64;
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

/// What a host has done, so far or in some time.
#[derive(Clone, Copy, Debug)]
struct Done {
    seconds: f64,
    /// Processor time beside the tensors, in seconds.
    beside: f64,
    /// Steps computed.
    steps: f64,
    /// Parts of requests in these.
    parts: f64,
    /// Seconds with a step running.
    busy: f64,
}

impl Done {
    fn until(&self, after: &Self) -> Self {
        Self {
            seconds: after.seconds - self.seconds,
            beside: after.beside - self.beside,
            steps: after.steps - self.steps,
            parts: after.parts - self.parts,
            busy: after.busy - self.busy,
        }
    }
}

/// What hosts do beside computing, by step and by request in a step, with a few users. Half a core does everything half as fast.
/// What they do without users they do while steps are measured too: it is in the times of those.
fn overheads(
    cluster: &LocalCluster,
    server: &ServerArgs,
    cores: f64,
) -> Result<BTreeMap<String, Overhead>, Advice> {
    let begin = Instant::now();
    let look = || look(cluster, begin);
    let quiet = look()?;
    thread::sleep(QUIET);
    let asked = look()?;
    let mut runs = Vec::new();
    for users in FEW_USERS {
        let (_, before, after) = users.run(server, look)?;
        runs.push((before, after));
    }
    let one = |host: usize| {
        let idle = quiet[host].until(&asked[host]);
        let runs = runs.iter().map(|(before, after)| {
            let run = before[host].until(&after[host]);
            let more = run.beside - idle.beside / idle.seconds * run.seconds;
            Done { beside: more.max(0.0) / cores, ..run }
        });
        (format!("h{}", host + 1), overhead(&runs.collect::<Vec<_>>()))
    };
    Ok((0..cluster.count()).map(one).collect())
}

/// The time for each step and for each part of one that explains two runs; neither is negative.
fn overhead(runs: &[Done]) -> Overhead {
    let sum = |of: fn(&Done) -> f64| runs.iter().map(of).sum::<f64>();
    let (few, more) = (&runs[0], &runs[1]);
    let determinant = few.steps * more.parts - more.steps * few.parts;
    let step_seconds = (few.beside * more.parts - more.beside * few.parts) / determinant;
    let part_seconds = (few.steps * more.beside - more.steps * few.beside) / determinant;
    let (step_seconds, part_seconds) = match (step_seconds >= 0.0, part_seconds >= 0.0) {
        (true, true) => (step_seconds, part_seconds),
        (false, _) => (0.0, sum(|it| it.beside) / sum(|it| it.parts).max(1.0)),
        (true, false) => (sum(|it| it.beside) / sum(|it| it.steps).max(1.0), 0.0),
    };
    Overhead { share: 0.0, step_seconds, part_seconds }
}

fn done(cluster: &LocalCluster, host: usize, begin: Instant) -> Result<Done, Advice> {
    let failed = |source| Advice::new("the processor time of a host is not known", source);
    let text = client::metrics(&format!("http://{}", cluster.api(host)), None)?;
    let count = |name: &str| client::metric(&text, name).unwrap_or_default();
    Ok(Done {
        seconds: begin.elapsed().as_secs_f64(),
        beside: beside(cluster.pid(host)).map_err(failed)?,
        steps: count("thalweg_shard_steps_total"),
        parts: count("thalweg_shard_parts_total"),
        busy: count("thalweg_shard_busy_seconds_total"),
    })
}

/// Seconds of processor time that the threads of a process have had, but the one that computes.
fn beside(pid: u32) -> std::io::Result<f64> {
    let mut seconds = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let folder = task?.path();
        let read = |file: &str| fs::read_to_string(folder.join(file));
        // A thread may end while it is looked at.
        let (Ok(name), Ok(times)) = (read("comm"), read("schedstat")) else { continue };
        if name.trim() != COMPUTE {
            let nanos = times.split_whitespace().next().and_then(|it| it.parse::<f64>().ok());
            seconds += nanos.unwrap_or_default() * 1e-9;
        }
    }
    Ok(seconds)
}

/// Looks at all hosts.
fn look(cluster: &LocalCluster, begin: Instant) -> Result<Vec<Done>, Advice> {
    (0..cluster.count()).map(|it| done(cluster, it, begin)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hosts_do_beside_is_told_apart_by_steps_and_parts() {
        let run = |steps: f64, parts: f64, beside: f64| Done {
            seconds: 1.0,
            beside,
            steps,
            parts,
            busy: 0.0,
        };
        let found = overhead(&[run(100.0, 100.0, 0.3), run(50.0, 200.0, 0.45)]);
        assert!((found.step_seconds - 0.001).abs() < 1e-9, "{found:?}");
        assert!((found.part_seconds - 0.002).abs() < 1e-9, "{found:?}");
        // More parts cost less, or as many parts in each step: all is by step.
        for more in [run(100.0, 300.0, 0.1), run(100.0, 100.0, 0.1)] {
            let found = overhead(&[run(100.0, 100.0, 0.3), more]);
            assert_eq!((found.step_seconds, found.part_seconds), (0.002, 0.0), "{more:?}");
        }
        let found = overhead(&[run(100.0, 100.0, 0.1), run(100.0, 300.0, 0.5)]);
        assert_eq!((found.step_seconds, found.part_seconds), (0.0, 0.0015));
    }
}
