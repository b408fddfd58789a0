//! A scenario and the files it names, read from disk.

use std::fs;
use std::path::{Path, PathBuf};

use thalweg_sim::scenario::{
    ArrivalsEntry, Files, LengthsEntry, Scenario, ScenarioError, ScenarioFile, parse,
};

use super::ChangeArgs;
use crate::cli::advice::Advice;

/// A scenario with the text of every file it names.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub file: ScenarioFile,
    pub cluster: String,
    pub placement: Option<String>,
    lengths: Option<String>,
    arrivals: Option<String>,
}

/// Reads a scenario, changed as asked, and its files. Those that the scenario names lie beside it;
/// those of the command line are relative to where it was typed.
pub(super) fn open(path: &Path, change: &ChangeArgs) -> Result<Opened, Advice> {
    let text =
        read(path).map_err(|it| it.hint("Scenarios to begin with are in examples/scenarios."))?;
    let mut file = parse(&text).map_err(|error| in_file(path, error))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    apply(&mut file, change);
    let beside = |name: Option<&str>| name.map(|it| read(&folder.join(it))).transpose();
    let given = |path: &Option<PathBuf>, name: Option<&str>| match path {
        Some(path) => read(path).map(Some),
        None => beside(name),
    };
    Ok(Opened {
        cluster: read(&folder.join(&file.cluster))?,
        placement: given(&change.layout, file.placement_file())?,
        lengths: given(&change.lengths, file.lengths_file())?,
        arrivals: given(&change.arrivals, file.arrivals_file())?,
        file,
    })
}

impl Opened {
    /// Checks everything and turns names into numbers.
    pub fn resolve(&self) -> Result<Scenario, Advice> {
        let files = Files {
            cluster: &self.cluster,
            placement: self.placement.as_deref(),
            lengths: self.lengths.as_deref(),
            arrivals: self.arrivals.as_deref(),
        };
        self.file.resolve(files).map_err(refused)
    }
}

fn apply(file: &mut ScenarioFile, change: &ChangeArgs) {
    let ChangeArgs { policy, placement, layout, lengths, arrivals, model, seed } = change;
    let name = |path: &Path| path.display().to_string();
    file.policy = policy.clone().unwrap_or(std::mem::take(&mut file.policy));
    file.placement = placement.clone().unwrap_or(std::mem::take(&mut file.placement));
    file.seed = seed.unwrap_or(file.seed);
    if model.is_some() {
        file.model.clone_from(model);
    }
    if let Some(path) = layout {
        file.placement = name(path);
    }
    if let Some(path) = lengths {
        file.workload.lengths = LengthsEntry::Recorded { file: name(path) };
    }
    if let Some(path) = arrivals {
        file.workload.arrivals = ArrivalsEntry::Recorded { file: name(path) };
    }
}

/// A scenario that cannot be run, as advice.
pub(super) fn refused(error: ScenarioError) -> Advice {
    Advice::new("cannot run the scenario", error)
        .hint("examples/scenarios/README.md describes every key.")
}

fn in_file(path: &Path, error: ScenarioError) -> Advice {
    Advice::new(format!("cannot use {}", path.display()), error)
        .hint("examples/scenarios/README.md describes every key.")
}

fn read(path: &Path) -> Result<String, Advice> {
    fs::read_to_string(path)
        .map_err(|error| Advice::new(format!("cannot read {}", path.display()), error))
}
