//! What benches write down: CSV rows `series,x,y` under lines that say what they are, ready to be
//! plotted, and the time that they measure.

#![allow(clippy::disallowed_methods)] // Benches own files and clocks.
#![allow(dead_code)] // No bench uses all of it.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Clock ticks of `/proc/self/stat` in a second, the same on all Linux machines of today.
const TICKS_PER_SECOND: f64 = 100.0;

/// Points of several series.
pub struct Series {
    text: String,
}

impl Series {
    /// Begins a file. `x` and `y` say what the columns are, with their units; `log` names the axes
    /// that are drawn logarithmic, if any.
    pub fn new(title: &str, (x, y): (&str, &str), log: &str) -> Self {
        let mut series = Self { text: String::new() };
        let (machine, commit) = (machine(), commit());
        let words = [("title", title), ("x", x), ("y", y), ("machine", &machine)];
        for (name, value) in words.into_iter().chain([("commit", commit.as_str()), ("log", log)]) {
            series.line(format_args!("# {name}: {value}"));
        }
        series.line(format_args!("series,x,y"));
        series
    }

    /// Adds a point, rounded to hundredths in `x`, of which it has one at least, and to thousandths
    /// in `y`.
    pub fn point(&mut self, series: &str, x: f64, y: f64) {
        let (x, y) = ((x * 1e2).round().max(1.0) / 1e2, (y * 1e3).round() / 1e3);
        self.line(format_args!("{series},{x},{y}"));
    }

    /// Writes `benches/results/NAME.csv`.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn save(&self, name: &str) -> Result<(), Box<dyn Error>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name).with_extension("csv"), &self.text)?;
        Ok(())
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a string takes any text");
    }
}

/// Processor time of this process so far, in seconds: on a machine that others use, too, it says more
/// than wall time. Zero where there is no `/proc`.
pub fn processor_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in brackets, may hold spaces; user and system time come 12 and 13
    // words after it.
    let words = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = words.skip(11).take(2).filter_map(|it| it.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

/// Most memory that this process ever held, in megabytes. Zero where there is no `/proc`.
pub fn memory_peak_megabytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).unwrap_or_default();
    let kibibytes = line.split_whitespace().next().and_then(|it| it.parse::<f64>().ok());
    kibibytes.unwrap_or(0.0) * 1024.0 / 1e6
}

fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = |it: &&str| it.starts_with("model name");
    let name = text.lines().find(named).and_then(|it| it.split(": ").nth(1)).unwrap_or("unknown");
    format!("{name}, {} threads, shared with other work", text.lines().filter(named).count())
}

fn commit() -> String {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let text = output.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned());
    text.unwrap_or_default()
}
