//! `thalweg serve`: starts everything a host is made of, in the order in which it is needed.

mod actors;
mod board;
mod compute;
mod conductor;
mod enrol;
mod gateway;
mod group;
mod life;
mod links;
pub(crate) mod measure;
mod network;
mod planning;
mod runtime;
mod stage;

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;

use actix::System;
use thalweg_certs::Credentials;
use thalweg_engine::{ComputeDevice, KvType, ModelSource};
use thalweg_wire::{Bytes, ModelShape};

use crate::cli::advice::Advice;
use crate::cli::models;

use crate::config::HostConfig;
pub(crate) use enrol::now;
pub(crate) use runtime::wait_for_stop;

/// Threads for the network and the API at most. Tensors have their own.
const IO_THREADS_MAX: usize = 2;
/// Processors for each of these threads: a frame that is handed from thread to thread wakes each of them,
/// which takes time from tensors where there are few.
const PROCESSORS_PER_IO_THREAD: usize = 4;

/// Run one host of a cluster
///
/// Joins the hosts named in the configuration, loads the layers the planner assigns, and answers
/// the OpenAI API.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// Configuration file
    #[arg(long, value_name = "HOST.toml")]
    config: PathBuf,

    /// Model, instead of the configured one
    #[arg(long)]
    model: Option<String>,

    /// API address, instead of the configured one
    #[arg(long)]
    host: Option<std::net::IpAddr>,

    /// API port, instead of the configured one
    #[arg(long)]
    port: Option<u16>,

    /// API key, beside the configured ones
    #[arg(long, env = "THALWEG_API_KEY", hide_env_values = true)]
    api_key: Option<String>,

    /// Longest context served, in tokens
    #[arg(long)]
    max_model_len: Option<u32>,

    /// Name under which the model is served
    #[arg(long)]
    served_model_name: Vec<String>,

    /// Note what this host's machines see and do in a file, for `thalweg simulate replay`
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,

    /// Keep token ids, which are the users' text, in the journal: stage and gateway need them to be
    /// replayed
    #[arg(long)]
    journal_tokens: bool,

    /// End when standard input does: for hosts that must not outlive whoever started them
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

/// Runs `thalweg serve` until the process is told to stop.
///
/// # Errors
///
/// If the configuration, the certificates or the model cannot be used, or an address is taken.
pub fn run(args: &ServeArgs) -> Result<(), Advice> {
    let mut config = HostConfig::read(&args.config)?;
    args.apply(&mut config);
    config.check()?;
    if args.until_stdin_closes {
        std::thread::spawn(|| {
            // An input that cannot be read is as good as closed.
            let _end = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(0);
        });
    }
    host(config)
}

impl ServeArgs {
    fn apply(&self, config: &mut HostConfig) {
        if let Some(model) = &self.model {
            config.model.clone_from(model);
        }
        let bind = config.api.bind;
        let ip = self.host.unwrap_or(bind.ip());
        config.api.bind = SocketAddr::new(ip, self.port.unwrap_or(bind.port()));
        config.api.keys.extend(self.api_key.clone());
        if let Some(tokens) = self.max_model_len {
            config.max_model_len = tokens;
        }
        if let Some(path) = &self.journal {
            config.journal = Some(path.clone());
        }
        config.journal_tokens |= self.journal_tokens;
        if !self.served_model_name.is_empty() {
            config.api.served_model_name.clone_from(&self.served_model_name);
        }
    }
}

/// Everything read from disk before the host starts.
struct Prepared {
    config: HostConfig,
    credentials: Credentials,
    source: Arc<ModelSource>,
    shape: ModelShape,
    memory: Bytes,
    threads: usize,
}

/// Runs a host until the process is told to stop.
///
/// # Errors
///
/// See [`run`].
pub fn host(config: HostConfig) -> Result<(), Advice> {
    let prepared = prepare(config)?;
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let io_threads = (processors / PROCESSORS_PER_IO_THREAD).clamp(1, IO_THREADS_MAX);
    let system = System::with_tokio_rt(move || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(io_threads)
            .enable_all()
            .build()
            .expect("a process that cannot start threads cannot serve")
    });
    system.block_on(runtime::run(prepared))
}

/// Checks that a device can be used, and keeps keys and values so.
///
/// # Errors
///
/// Says what is missing, or what to use instead.
pub fn check(device: ComputeDevice, kv: KvType) -> Result<(), Advice> {
    device
        .check(kv)
        .map_err(|source| Advice::new(format!("this host cannot compute on `{device}`"), source))
}

/// The memory that the planner may fill, as if weights took what the model's shape says.
fn memory(config: &HostConfig, source: &ModelSource) -> Result<Bytes, Advice> {
    let unknown = |e| Advice::new("cannot tell how much memory is free", e);
    let on_device = config
        .device
        .memory()
        .map_err(|source| Advice::new("cannot tell how much memory the device has", source))?;
    let memory = match (config.memory_mib, on_device) {
        (Some(mib), _) => Bytes::mib(mib),
        (None, Some(all)) => Bytes(all.0 / 4 * 3),
        (None, None) => measure::half_of_free_memory().map_err(unknown)?,
    };
    let growth = source.growth(config.weights, config.device);
    if growth > 1.0 {
        let device = config.device;
        tracing::info!(%device, growth, "weights take more on this device; offering less memory");
    }
    // Rounded down: a host must not be given more than it holds.
    Ok(Bytes((memory.0 as f64 / growth) as u64))
}

fn prepare(config: HostConfig) -> Result<Prepared, Advice> {
    check(config.device, config.kv)?;
    let credentials = Credentials::load(&config.credentials, &config.name).map_err(|source| {
        Advice::new(format!("cannot use the certificate of host `{}`", config.name), source)
            .hint("`thalweg certs issue NAME --region REGION` makes one.")
    })?;
    std::fs::create_dir_all(&config.data).map_err(|source| {
        Advice::new(format!("cannot create `{}`", config.data.display()), source)
    })?;
    let path = models::pull_with_bar(&config.model)?;
    let source = ModelSource::open(&path).map_err(|source| {
        Advice::new(format!("cannot use model `{}`", path.display()), source)
            .hint("`thalweg pull` fetches a fresh copy.")
    })?;
    let context = u32::try_from(source.config().context).unwrap_or(u32::MAX);
    let shape = source.shape(config.max_model_len.min(context), config.weights, config.kv);
    let memory = memory(&config, &source)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = config.threads.unwrap_or(cores).max(1);
    Ok(Prepared { config, credentials, source: Arc::new(source), shape, memory, threads })
}
