//! Limits a process to half a core, with what this machine has for it.

use std::process::{self, Command, Stdio};
use std::time::Duration;

use thalweg::quota::CpuQuota;

/// Starts Debian's `cpulimit`, which ends with the program that the shell becomes.
const CPULIMIT: &str = "cpulimit --limit=50 --pid=$$ --lazy > /dev/null & exec \"$@\"";

/// The usual period of a quota.
const PERIOD: Duration = Duration::from_millis(100);

/// A limit of half a core; removed when dropped, after the processes under it.
#[derive(Debug)]
pub struct HalfCore {
    group: Option<CpuQuota>,
}

impl HalfCore {
    /// Creates a control group, of either version.
    ///
    /// # Panics
    ///
    /// If neither may be created here and `cpulimit` is not installed either.
    pub fn create() -> Self {
        let name = format!("thalweg-test-{}", process::id());
        if let Ok(group) = CpuQuota::create(&name, 0.5, PERIOD) {
            return Self { group: Some(group) };
        }
        let mut cpulimit = Command::new("cpulimit");
        let found = cpulimit.arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(found.is_ok(), "no control group may be made here; install `cpulimit`");
        Self { group: None }
    }

    /// Words to put before a command so that it runs under the limit, with the same process id.
    pub fn wrapper(&self) -> Vec<String> {
        match &self.group {
            Some(group) => group.wrapper(),
            None => ["sh", "-c", CPULIMIT, "sh"].map(str::to_owned).to_vec(),
        }
    }
}
