//! Limits processes to a share of the processors, by Linux control groups.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where control groups of version 1 and 2 have their CPU controller.
const CGROUP_V1: &str = "/sys/fs/cgroup/cpu";
const CGROUP_V2: &str = "/sys/fs/cgroup";

/// The most that a group can weigh.
const SHARES_MOST_V1: &str = "262144";
const WEIGHT_MOST_V2: &str = "10000";

/// Moves the shell into the group in `$0`, then becomes the program.
const ENTER: &str = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"";

/// A control group with a quota of processor time; removed when dropped, after the processes in it.
#[derive(Debug)]
pub struct CpuQuota {
    group: PathBuf,
}

impl CpuQuota {
    /// Creates a group of either version whose processes get `cores` of processor time, given out
    /// anew every `period`. `name` must be unique on this machine.
    ///
    /// # Errors
    ///
    /// If control groups are not mounted, or may not be made by this user.
    pub fn create(name: &str, cores: f64, period: Duration) -> io::Result<Self> {
        let period_us = period.as_micros().to_string();
        let quota_us = format!("{:.0}", cores * period.as_secs_f64() * 1e6);
        let both = format!("{quota_us} {period_us}");
        let first = Self { group: Path::new(CGROUP_V1).join(name) };
        let settings = [("cpu.cfs_period_us", &period_us[..]), ("cpu.cfs_quota_us", &quota_us)];
        if first.set(&settings).is_ok() {
            return Ok(first);
        }
        drop(first);
        let second = Self { group: Path::new(CGROUP_V2).join(name) };
        second.set(&[("cpu.max", &both)]).map(|()| second)
    }

    /// Words to put before a command so that it runs in the group, with the same process id.
    pub fn wrapper(&self) -> Vec<String> {
        ["sh", "-c", ENTER, &self.group.display().to_string()].map(str::to_owned).to_vec()
    }

    /// Gives the group its quota before whatever else runs on this machine.
    ///
    /// # Errors
    ///
    /// If the group cannot be weighted.
    pub fn first(self) -> io::Result<Self> {
        let first = self.write("cpu.shares", SHARES_MOST_V1);
        first.or_else(|_| self.write("cpu.weight", WEIGHT_MOST_V2)).map(|()| self)
    }

    fn set(&self, settings: &[(&str, &str)]) -> io::Result<()> {
        // Only a mounted controller has this file; elsewhere a folder would be an empty one.
        fs::metadata(self.group.with_file_name("cgroup.procs"))?;
        fs::create_dir(&self.group)?;
        settings.iter().try_for_each(|(file, value)| self.write(file, value))
    }

    /// In a folder that is no control group, opening what is not there fails.
    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        let mut file = fs::File::options().write(true).open(self.group.join(file))?;
        file.write_all(value.as_bytes())
    }
}

impl Drop for CpuQuota {
    fn drop(&mut self) {
        // A group that was never made needs no removal.
        let _removed = fs::remove_dir(&self.group);
    }
}
