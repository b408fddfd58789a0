//! `thalweg join`: become a host of a running cluster with a token.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use thalweg_certs::{Enrolment, HostIdentity, JoinToken, enrol_client_config};
use thalweg_engine::{ComputeDevice, KvType, Precision, pull};

use super::advice::Advice;
use crate::config::{ApiConfig, ClusterConfig, HostConfig};
use crate::serve;
use crate::transport;

/// Join a running cluster, and serve in it
///
/// The token comes from `thalweg certs join-token` on the host that holds the authority. It works
/// once; afterwards this host has a certificate of its own in `--data`.
#[derive(Clone, clap::Args)]
pub struct JoinArgs {
    /// A host of the cluster that holds its authority
    #[arg(value_name = "NAME@ADDRESS:PORT")]
    seed: String,

    /// Join token; better in the environment than on the command line
    #[arg(long, env = "THALWEG_JOIN_TOKEN", hide_env_values = true)]
    token: String,

    /// Name of this host, unless the token says it
    #[arg(long)]
    name: Option<String>,

    /// Region of this host, unless the token says it
    #[arg(long)]
    region: Option<String>,

    /// Where certificate, key and log are kept
    #[arg(long, default_value = "thalweg-data")]
    data: PathBuf,

    /// Model served by the cluster
    #[arg(long, default_value = pull::DEFAULT_MODEL)]
    model: String,

    /// UDP address to listen on; port 0 takes any
    #[arg(long, default_value = "0.0.0.0:0")]
    bind: SocketAddr,

    /// Address other hosts reach this one at
    #[arg(long)]
    advertise: Option<String>,

    /// What to compute with: `cpu`; `cuda`, or `cuda:N` for GPU number N; or `burn`, a slow reference
    #[arg(long, default_value_t = ComputeDevice::Cpu)]
    device: ComputeDevice,

    /// Memory for weights and KV, in MiB
    #[arg(long)]
    memory_mib: Option<u64>,

    /// Compute threads
    #[arg(long)]
    threads: Option<usize>,

    /// How to keep weights in memory: `stored`, as in the file, with activations rounded to 8 bits
    /// in products with quantised ones; or `f32`, exact, slower and larger. The same on every host
    #[arg(long, default_value_t = Precision::Stored)]
    weights: Precision,

    /// How to keep keys and values: `f32`, `f16`, or `int8` with a scale for each token and head. The
    /// same on every host
    #[arg(long, default_value_t = KvType::F16)]
    kv: KvType,

    /// Longest context served, in tokens
    #[arg(long, default_value_t = 2048)]
    max_model_len: u32,

    /// Address of this host's API
    #[arg(long, default_value = "127.0.0.1:8000")]
    api: SocketAddr,
}

impl fmt::Debug for JoinArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is a secret.
        f.debug_struct("JoinArgs").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// Runs `thalweg join` until the process is told to stop.
///
/// # Errors
///
/// If the cluster cannot be reached, refuses the token, or the host cannot serve.
pub fn run(args: &JoinArgs) -> Result<(), Advice> {
    // Before the token is used up.
    serve::check(args.device, args.kv)?;
    let credentials = args.data.join("certs");
    let identity = enrol(args, &credentials)?;
    eprintln!("joined cluster {} as {} in {}", identity.cluster, identity.name, identity.region);
    let (first, _) = args.seed.split_once('@').unwrap_or((args.seed.as_str(), ""));
    let config = HostConfig {
        name: identity.name,
        credentials,
        data: args.data.clone(),
        bind: args.bind,
        advertise: args.advertise.clone(),
        model: args.model.clone(),
        device: args.device,
        memory_mib: args.memory_mib,
        threads: args.threads,
        weights: args.weights,
        kv: args.kv,
        max_model_len: args.max_model_len,
        journal: None,
        journal_tokens: false,
        api: ApiConfig { bind: args.api, ..ApiConfig::default() },
        cluster: ClusterConfig {
            // A host that joins does not vote; it asks the one it knows who leads.
            voters: vec![first.to_owned()],
            seeds: vec![args.seed.clone()],
            ..ClusterConfig::default()
        },
    };
    config.check()?;
    serve::host(config)
}

fn enrol(args: &JoinArgs, credentials: &std::path::Path) -> Result<HostIdentity, Advice> {
    let token: JoinToken = args.token.parse().map_err(|source| {
        Advice::new("the join token cannot be used", source)
            .hint("`thalweg certs join-token` on the authority's host prints a new one.")
    })?;
    let (_, address) = args.seed.split_once('@').ok_or_else(|| {
        Advice::plain(format!("`{}` does not say which host to ask", args.seed))
            .hint("Write it as `name@address:port`.")
    })?;
    let refused = |source| {
        Advice::new("this host cannot join", source)
            .hint("`thalweg certs join-token` on the authority's host prints a new token.")
    };
    let (name, region) = (args.name.as_deref(), args.region.as_deref());
    let enrolment =
        Enrolment::begin(&token, name, region, credentials, serve::now()).map_err(refused)?;
    let request = bytes::Bytes::copy_from_slice(enrolment.request());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Advice::new("cannot start", source))?;
    let tls = enrol_client_config(token.ca_fingerprint);
    let reply = runtime.block_on(transport::enrol(address, tls, request)).map_err(|source| {
        Advice::new(format!("no answer from {address}"), source)
            .hint("Check the address, and that the host runs with `cluster.authority` set.")
    })?;
    enrolment.finish(&reply).map_err(refused)
}
