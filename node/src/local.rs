//! A throw-away cluster of host processes on this machine, for the demo and the tests.
//!
//! Every process has its own certificate, data folder and log; all are killed when the cluster is
//! dropped, and end by themselves when the process that started them does.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use thalweg_certs::{Authority, UnixSeconds};
use thalweg_engine::{KvType, Precision};

use crate::cli::advice::Advice;

/// How often a file that a child writes is looked for.
const POLL: Duration = Duration::from_millis(20);
/// Hosts that vote: an odd number of at most three.
const VOTERS_MAX: usize = 3;
/// Name of the throw-away cluster.
const CLUSTER: &str = "local";

/// What to start.
#[derive(Clone, Debug)]
pub struct LocalSpec {
    /// The program: `thalweg` itself.
    pub binary: PathBuf,
    /// Where certificates, data and logs go.
    pub folder: PathBuf,
    /// Model, as `thalweg serve` takes it.
    pub model: String,
    /// One entry per host.
    pub hosts: Vec<LocalHost>,
    /// API port of the first host; the others, and 0, take any.
    pub port: u16,
    /// Longest context, in tokens.
    pub context_tokens: u32,
    /// How to keep weights.
    pub weights: Precision,
    /// How to keep keys and values.
    pub kv: KvType,
}

/// One host of a local cluster.
#[derive(Clone, Debug)]
pub struct LocalHost {
    /// Its name, `[a-z0-9-]+`.
    pub name: String,
    /// Its pretended region.
    pub region: String,
    /// Memory for weights and KV, in MiB.
    pub memory_mib: u64,
    /// Compute threads.
    pub threads: usize,
    /// Words put before the command, such as a cgroup wrapper. Usually empty.
    pub wrapper: Vec<String>,
}

impl LocalHost {
    /// Creates `count` equal hosts `h1`, `h2`, … in two regions.
    pub fn several(count: usize, memory_mib: u64, threads: usize) -> Vec<Self> {
        let host = |index: usize| Self {
            name: format!("h{}", index + 1),
            region: if index < count.div_ceil(2) { "eu" } else { "us" }.to_owned(),
            memory_mib,
            threads,
            wrapper: Vec::new(),
        };
        (0..count).map(host).collect()
    }
}

/// Running host processes.
#[derive(Debug)]
pub struct LocalCluster {
    spec: LocalSpec,
    hosts: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    api: SocketAddr,
}

impl LocalCluster {
    /// Creates certificates and starts every host.
    ///
    /// # Errors
    ///
    /// If a file cannot be written or a host ends before it listens; its log is part of the error.
    pub fn start(spec: LocalSpec) -> Result<Self, Advice> {
        let now = UnixSeconds::from(SystemTime::now());
        let certificates = spec.folder.join("certs");
        let authority = Authority::create(&certificates, CLUSTER, now)
            .map_err(|source| Advice::new("cannot create the cluster's certificates", source))?;
        for host in &spec.hosts {
            authority
                .issue(&host.name, &host.region, now)
                .map_err(|source| Advice::new("cannot issue a host certificate", source))?;
        }
        let mut cluster = Self { spec, hosts: Vec::new() };
        let mut seed = None;
        for index in 0..cluster.spec.hosts.len() {
            let running = cluster.spawn(index, seed.as_deref())?;
            cluster.hosts.push(running);
            if index == 0 {
                let address = cluster.wait_for(0, "address")?;
                seed = Some(format!("{}@{address}", cluster.spec.hosts[0].name));
            }
        }
        for index in 0..cluster.hosts.len() {
            let api = cluster.wait_for(index, "api")?;
            cluster.hosts[index].api = api;
        }
        Ok(cluster)
    }

    /// API address of a host.
    pub fn api(&self, index: usize) -> SocketAddr {
        self.hosts[index].api
    }

    /// Process id of a host.
    pub fn pid(&self, index: usize) -> u32 {
        self.hosts[index].child.id()
    }

    /// Number of hosts started, dead ones included.
    pub fn count(&self) -> usize {
        self.hosts.len()
    }

    /// Checks that a host still runs.
    ///
    /// # Errors
    ///
    /// If it ended; its log is part of the error.
    pub fn check(&mut self, index: usize) -> Result<(), Advice> {
        let Ok(Some(status)) = self.hosts[index].child.try_wait() else { return Ok(()) };
        let name = &self.spec.hosts[index].name;
        Err(Advice::plain(format!("host {name} ended with {status}:\n{}", self.log(index))))
    }

    /// Kills a host as a crash would.
    ///
    /// # Errors
    ///
    /// If the process cannot be signalled.
    pub fn kill(&mut self, index: usize) -> io::Result<()> {
        self.hosts[index].child.kill()?;
        self.hosts[index].child.wait().map(|_status| ())
    }

    /// Returns the log of a host.
    pub fn log(&self, index: usize) -> String {
        let path = self.folder(index).join("log");
        fs::read_to_string(path).unwrap_or_else(|error| format!("(no log: {error})"))
    }

    fn folder(&self, index: usize) -> PathBuf {
        self.spec.folder.join(&self.spec.hosts[index].name)
    }

    fn spawn(&self, index: usize, seed: Option<&str>) -> Result<Running, Advice> {
        let folder = self.folder(index);
        let failed = |source: io::Error| {
            Advice::new(format!("cannot start a host in `{}`", folder.display()), source)
        };
        fs::create_dir_all(&folder).map_err(failed)?;
        let config = folder.join("host.toml");
        fs::write(&config, self.config(index, seed)).map_err(failed)?;
        let log = fs::File::create(folder.join("log")).map_err(failed)?;
        let mut words = self.spec.hosts[index].wrapper.clone();
        words.push(self.spec.binary.display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("serve").arg("--config").arg(&config);
        command.arg("--until-stdin-closes").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(failed)?;
        Ok(Running { child, api: SocketAddr::from(([127, 0, 0, 1], 0)) })
    }

    fn config(&self, index: usize, seed: Option<&str>) -> String {
        let spec = &self.spec;
        let host = &spec.hosts[index];
        let voters = if spec.hosts.len() < VOTERS_MAX { 1 } else { VOTERS_MAX };
        // Earlier voters stand for election sooner. The seed comes last, so that the planner is
        // usually a host that nobody was told to dial: the harder case, and the common one.
        let voters = spec.hosts[..voters].iter().rev();
        let voters: Vec<&str> = voters.map(|it| it.name.as_str()).collect();
        let seeds: Vec<&str> = seed.into_iter().collect();
        let port = if index == 0 { spec.port } else { 0 };
        format!(
            "name = {:?}\ncredentials = {:?}\ndata = {:?}\nbind = \"127.0.0.1:0\"\nmodel = {:?}\n\
             memory_mib = {}\nthreads = {}\nweights = \"{}\"\nkv = \"{}\"\nmax_model_len = {}\n\n[api]\nbind = \"127.0.0.1:{port}\"\n\n\
             [cluster]\nvoters = {voters:?}\nseeds = {seeds:?}\nhosts_expected = {}\nround_trip_ms = 1\n",
            host.name,
            spec.folder.join("certs"),
            self.folder(index),
            spec.model,
            host.memory_mib,
            host.threads,
            spec.weights,
            spec.kv,
            spec.context_tokens,
            spec.hosts.len(),
        )
    }

    /// Waits until a host has written one of its addresses.
    fn wait_for(&mut self, index: usize, file: &str) -> Result<SocketAddr, Advice> {
        let path = self.folder(index).join(file);
        loop {
            if let Some(address) = read_address(&path) {
                return Ok(address);
            }
            self.check(index)?;
            thread::sleep(POLL);
        }
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        for host in &mut self.hosts {
            // A host that is already gone is what we want.
            let _gone = host.child.kill();
            let _reaped = host.child.wait();
        }
    }
}

fn read_address(path: &Path) -> Option<SocketAddr> {
    fs::read_to_string(path).ok()?.parse().ok()
}
