//! A cluster of real host processes, and the little HTTP that tests ask it with.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use thalweg::http::{ClusterStatus, Phase};
use thalweg::local::{LocalCluster, LocalHost, LocalSpec};
use thalweg_engine::{KvType, Precision, pull};

use crate::client::Client;

/// Built-in name of the model that clusters serve.
pub const MODEL: &str = "smollm2-135m";
/// Longest context that clusters serve, in tokens.
pub const CONTEXT_TOKENS: u32 = 2048;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(25);
/// The file whose lock a running cluster holds: a machine of two cores has room for one.
const LOCK_FILE: &str = "thalweg-test-cluster.lock";

/// Host processes that serve [`MODEL`]; killed when dropped.
#[derive(Debug)]
pub struct Cluster {
    hosts: LocalCluster,
    killed: Vec<usize>,
    folder: tempfile::TempDir,
    _turn: File,
}

impl Cluster {
    /// Starts hosts and waits until a plan is in effect on every one of them.
    pub fn serving(hosts: Vec<LocalHost>) -> Self {
        let mut cluster = Self::started(hosts);
        for index in 0..cluster.hosts.count() {
            cluster.until(index, |it| (it.phase == Phase::Serving).then_some(()));
        }
        cluster
    }

    /// Starts hosts; what they do then is for the caller to see.
    pub fn started(hosts: Vec<LocalHost>) -> Self {
        let turn = turn();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let spec = LocalSpec {
            binary: binary(),
            folder: folder.path().to_owned(),
            model: model().display().to_string(),
            hosts,
            port: 0,
            context_tokens: CONTEXT_TOKENS,
            // Their tokens are compared with those of another implementation in F32.
            weights: Precision::F32,
            kv: KvType::F32,
        };
        let hosts = LocalCluster::start(spec).unwrap_or_else(|error| panic!("{error}"));
        Self { hosts, killed: Vec::new(), folder, _turn: turn }
    }

    /// A client of a host.
    pub fn client(&self, index: usize) -> Client {
        Client::new(self.hosts.api(index))
    }

    /// Asks host `index` until `seen` sees in its status what it looks for.
    ///
    /// There is no deadline: what never comes about ends with the test run's own. A host that ends
    /// on its own ends the wait, with its log.
    pub fn until<T>(&mut self, index: usize, seen: impl Fn(&ClusterStatus) -> Option<T>) -> T {
        let client = self.client(index);
        loop {
            self.check();
            if let Some(found) = client.status().as_ref().and_then(&seen) {
                return found;
            }
            thread::sleep(POLL);
        }
    }

    /// The status as host `index` sees it.
    pub fn status(&mut self, index: usize) -> ClusterStatus {
        self.until(index, |it| Some(it.clone()))
    }

    /// Kills a host as a crash would.
    pub fn kill(&mut self, index: usize) {
        self.killed.push(index);
        self.hosts.kill(index).expect("a child can be killed");
    }

    /// Tells a host to stop, and waits until it has.
    pub fn stop(&mut self, index: usize) {
        self.killed.push(index);
        let pid = self.hosts.pid(index).to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(told.is_ok_and(|it| it.success()), "host {index} runs");
        while self.hosts.check(index).is_ok() {
            thread::sleep(POLL);
        }
    }

    /// The log of a host.
    pub fn log(&self, index: usize) -> String {
        self.hosts.log(index)
    }

    /// Looks at the log of host `index` until it says what `seen` looks for.
    pub fn until_log(&mut self, index: usize, seen: impl Fn(&str) -> bool) {
        while !seen(&self.log(index)) {
            self.check();
            thread::sleep(POLL);
        }
    }

    /// Where certificates, data and logs are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A number in bytes from `/proc/PID/status` of a host, such as `VmRSS`.
    pub fn memory_bytes(&self, index: usize, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.hosts.pid(index));
        let text = fs::read_to_string(path).expect("the host runs");
        let value = text.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(':'));
        let kib = value.and_then(|it| it.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("no {name} in:\n{text}")) * 1024
    }

    fn check(&mut self) {
        for index in (0..self.hosts.count()).filter(|it| !self.killed.contains(it)) {
            self.hosts.check(index).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

/// Waits for this process' turn to run host processes; it ends when the file is dropped.
pub fn turn() -> File {
    let path = env::temp_dir().join(LOCK_FILE);
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.expect("the temporary folder is writable");
    file.lock().expect("a file on disk can be locked");
    file
}

/// The program under test, which lies beside the folder of the test executables.
pub fn binary() -> PathBuf {
    let test = env::current_exe().expect("a test knows where it is");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in deps/");
    let binary = folder.join("thalweg");
    let path = binary.display();
    assert!(binary.exists(), "`{path}` is missing; build it with the same profile as the tests");
    binary
}

/// The model's file; fetched on first use.
pub fn model() -> PathBuf {
    pull::pull(MODEL, &|_done, _total| {}).unwrap_or_else(|error| panic!("no {MODEL}: {error}"))
}

/// Equal hosts of one thread each.
pub fn equal(count: usize, memory_mib: u64) -> Vec<LocalHost> {
    LocalHost::several(count, memory_mib, 1)
}

/// Hosts with these amounts of memory, of one thread each.
pub fn with_memory(memory_mib: &[u64]) -> Vec<LocalHost> {
    let mut hosts = equal(memory_mib.len(), 0);
    for (host, &memory) in hosts.iter_mut().zip(memory_mib) {
        host.memory_mib = memory;
    }
    hosts
}
