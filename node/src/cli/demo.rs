//! `thalweg demo`: one model over several hosts on this machine, from nothing to an answer.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use thalweg_engine::{KvType, Precision, pull};

use super::advice::Advice;
use super::{chat, client, models, status};
use crate::local::{LocalCluster, LocalHost, LocalSpec};

/// How often the cluster is asked how far it is.
const POLL: Duration = Duration::from_millis(50);
/// Context of the demo, in tokens.
const CONTEXT_TOKENS: u32 = 2048;
/// Memory per demo host: less than the default model needs, so that it must be split.
const MEMORY_MIB: u64 = 64;

/// Serve a model over several hosts on this machine, and ask it something
///
/// Obtains the model, creates a throw-away certificate authority, starts the hosts as processes in
/// two pretended regions, prints the plan they agree on, and streams an answer.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// End after the answer instead of serving until Ctrl-C
    #[arg(long)]
    once: bool,

    /// Model to serve
    #[arg(long, default_value = pull::DEFAULT_MODEL)]
    model: String,

    /// Number of hosts
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    hosts: u8,

    /// Memory for weights and KV per host, in MiB
    #[arg(long, default_value_t = MEMORY_MIB)]
    memory_mib: u64,

    /// Port of the first host's API; 0 takes any
    #[arg(long, default_value_t = 8000)]
    port: u16,

    /// What to ask
    #[arg(long, default_value = "Why do rivers bend? Answer in three sentences.")]
    prompt: String,
}

/// Runs `thalweg demo`.
///
/// # Errors
///
/// If the model cannot be obtained, a host does not start, or no plan fits.
pub fn run(args: &DemoArgs, stdout: &mut impl Write) -> Result<(), Advice> {
    let model = models::pull_with_bar(&args.model)?;
    let started = Instant::now();
    let folder = Folder::create()?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.div_ceil(usize::from(args.hosts));
    let spec = LocalSpec {
        binary: env::current_exe().map_err(|e| Advice::new("cannot find this program", e))?,
        folder: folder.0.clone(),
        model: model.display().to_string(),
        hosts: LocalHost::several(usize::from(args.hosts), args.memory_mib, threads),
        port: args.port,
        context_tokens: CONTEXT_TOKENS,
        weights: Precision::Stored,
        kv: KvType::F16,
    };
    let mut cluster = LocalCluster::start(spec)?;
    let base = format!("http://{}", cluster.api(0));
    wait_for_plan(&mut cluster, &base)?;
    let plan = client::get(&base, "/api/v1/status", None)?;
    let failed = |source| Advice::new("cannot write", source);
    writeln!(stdout, "{}", status::render(&plan)).map_err(failed)?;
    writeln!(stdout, "> {}\n", args.prompt).map_err(failed)?;
    let first = chat::answer(&base, None, &args.prompt, stdout)?;
    let since = first.duration_since(started).as_secs_f64();
    eprintln!("first token {since:.1} s after the start of the program (model already pulled)");
    if !args.once {
        eprintln!("\nserving on {base}/v1 until Ctrl-C; try:\n  curl {base}/v1/models");
        wait_for_stop();
    }
    Ok(())
}

/// Waits until a full pipeline answers, showing what the cluster waits for.
pub(super) fn wait_for_plan(cluster: &mut LocalCluster, base: &str) -> Result<(), Advice> {
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}");
    bar.set_style(style.expect("the template is valid"));
    loop {
        for index in 0..cluster.count() {
            cluster.check(index)?;
        }
        if let Ok(status) = client::get(base, "/api/v1/status", None) {
            if let Some(reason) = status["infeasible"].as_str() {
                return Err(Advice::plain(format!("no plan fits these hosts: {reason}"))
                    .hint("Give each host more memory with `--memory-mib`, or add hosts."));
            }
            bar.set_message(phase(&status));
            if status["phase"] == "serving" {
                break;
            }
        }
        bar.tick();
        thread::sleep(POLL);
    }
    bar.finish_and_clear();
    Ok(())
}

fn phase(status: &Value) -> String {
    let phase = status["phase"].as_str().unwrap_or("starting");
    let hosts = status["hosts"].as_array().map_or(0, Vec::len);
    match status["loading"].as_object() {
        Some(it) => format!("{phase}: layer {} of {}", it["done"], it["of"]),
        None => format!("{phase}: {hosts} hosts registered"),
    }
}

fn wait_for_stop() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    if let Ok(runtime) = runtime {
        // Without a signal handler Ctrl-C ends the process anyway.
        runtime.block_on(crate::serve::wait_for_stop());
    }
}

/// A folder that is removed in the end.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn create() -> Result<Self, Advice> {
        let path = env::temp_dir().join(format!("thalweg-demo-{}", process::id()));
        fs::create_dir_all(&path)
            .map_err(|e| Advice::new(format!("cannot create `{}`", path.display()), e))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed stays in the temporary folder; nothing depends on it.
        let _removed = fs::remove_dir_all(&self.0);
    }
}
