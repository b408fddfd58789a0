//! Limits a process to half a core, with what this machine has for it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};

/// Where control groups of version 1 and 2 have their CPU controller.
const CGROUP_V1: &str = "/sys/fs/cgroup/cpu";
const CGROUP_V2: &str = "/sys/fs/cgroup";

/// Moves the shell into the group in `$0`, then becomes the program.
const ENTER: &str = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"";
/// Starts Debian's `cpulimit`, which ends with the program that the shell becomes.
const CPULIMIT: &str = "cpulimit --limit=50 --pid=$$ --lazy > /dev/null & exec \"$@\"";

/// A limit of half a core; removed when dropped, after the processes under it.
#[derive(Debug)]
pub struct HalfCore {
    group: Option<PathBuf>,
}

impl HalfCore {
    /// Creates a control group, of either version.
    ///
    /// # Panics
    ///
    /// If neither may be created here and `cpulimit` is not installed either.
    pub fn create() -> Self {
        let name = format!("thalweg-test-{}", process::id());
        let limits: [(PathBuf, &[(&str, &str)]); 2] = [
            (
                Path::new(CGROUP_V1).join(&name),
                &[("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "50000")],
            ),
            (Path::new(CGROUP_V2).join(&name), &[("cpu.max", "50000 100000")]),
        ];
        for (group, settings) in limits {
            let limited = Self { group: Some(group.clone()) };
            if set(&group, settings).is_ok() {
                return limited;
            }
        }
        let mut cpulimit = Command::new("cpulimit");
        let found = cpulimit.arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(found.is_ok(), "no control group may be made here; install `cpulimit`");
        Self { group: None }
    }

    /// Words to put before a command so that it runs under the limit, with the same process id.
    pub fn wrapper(&self) -> Vec<String> {
        let words = match &self.group {
            Some(group) => ["sh", "-c", ENTER, &group.display().to_string()].map(str::to_owned),
            None => ["sh", "-c", CPULIMIT, "sh"].map(str::to_owned),
        };
        words.to_vec()
    }
}

impl Drop for HalfCore {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            // A group that was never made needs no removal.
            let _removed = fs::remove_dir(group);
        }
    }
}

fn set(group: &Path, settings: &[(&str, &str)]) -> io::Result<()> {
    // Only a mounted controller has this file; elsewhere a folder would be an empty one.
    fs::metadata(group.with_file_name("cgroup.procs"))?;
    fs::create_dir(group)?;
    // In a folder that is no control group, opening what is not there fails.
    let write = |&(file, value): &(&str, &str)| {
        let mut file = fs::File::options().write(true).open(group.join(file))?;
        io::Write::write_all(&mut file, value.as_bytes())
    };
    settings.iter().try_for_each(write)
}
