//! Models from the Hugging Face hub, in its own cache and with its own settings.
//!
//! `HF_HOME` names the cache, `HF_ENDPOINT` another hub, `HF_TOKEN` grants access to gated models.

use std::env;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::built_in::BuiltIn;
use super::{Listed, Progress, PullError, checksum, entries, listed};

/// Files of a safetensors repository that are fetched besides the weights.
const COMPANIONS: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
];
const INDEX: &str = "model.safetensors.index.json";
const MAIN: &str = "main";
/// Length of a SHA-256 in hexadecimal; the cache names large files by theirs.
const SHA256_DIGITS: usize = 64;
/// Types to prefer where a repository has one GGUF file of each: smallest loss first.
const PREFERRED: [&str; 4] = ["q8_0", "q6_k", "q5_k_m", "q4_k_m"];

/// A connection to a hub and its cache.
pub(super) struct Hub {
    api: Api,
    cache: Cache,
}

/// Splits `owner/name` or `owner/name/file.gguf`.
pub(super) fn parse(spec: &str) -> Option<(&str, Option<&str>)> {
    let (owner, rest) = spec.split_once('/')?;
    let (name, file) = match rest.split_once('/') {
        Some((name, file)) => (name, Some(file)),
        None => (rest, None),
    };
    let plain = |it: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !it.is_empty() && !it.starts_with('.') && it.chars().all(allowed)
    };
    let fits = plain(owner) && plain(name) && file.is_none_or(|it| it.split('/').all(plain));
    fits.then(|| (&spec[..owner.len() + 1 + name.len()], file))
}

/// Models in the hub's cache, whichever program fetched them.
pub(super) fn cached() -> Vec<Listed> {
    let mut found = Vec::new();
    for folder in entries(Cache::from_env().path()) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(repo) = name.strip_prefix("models--") else { continue };
        let repo = repo.replacen("--", "/", 1);
        for snapshot in entries(&folder.join("snapshots")) {
            found.extend(listed(&snapshot, Some(repo.clone())));
            found.extend(entries(&snapshot).filter(|it| it.is_file()).filter_map(|file| {
                let name = file.file_name()?.to_string_lossy().into_owned();
                listed(&file, Some(format!("{repo}/{name}")))
            }));
        }
    }
    found
}

impl Hub {
    /// Uses the hub and the cache that the environment names.
    pub(super) fn from_env() -> Result<Self, PullError> {
        let token = env::var("HF_TOKEN").ok().filter(|it| !it.is_empty());
        Self::new(env::var("HF_ENDPOINT").ok(), Cache::from_env(), token)
    }

    /// Uses the hub at `endpoint`, or the public one.
    pub(super) fn new(
        endpoint: Option<String>,
        cache: Cache,
        token: Option<String>,
    ) -> Result<Self, PullError> {
        let mut builder = ApiBuilder::from_cache(cache.clone()).with_progress(false);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if token.is_some() {
            builder = builder.with_token(token);
        }
        let api = builder.build().map_err(failed("its settings"))?;
        Ok(Self { api, cache })
    }

    /// Fetches the file of a built-in model.
    pub(super) fn built_in(
        &self,
        model: &BuiltIn,
        progress: Progress<'_>,
    ) -> Result<PathBuf, PullError> {
        let (name, revision, file) = model.hub;
        let repo = Repo::with_revision(name.to_owned(), RepoType::Model, revision.to_owned());
        let path = self.fetch(&repo, file, progress)?;
        let size = path.metadata().map_err(io(&path))?.len();
        if size != model.bytes {
            let (what, expected) = (format!("{name}/{file}"), model.sha256.to_owned());
            let found = checksum::of_file(&path).map_err(io(&path))?;
            return Err(PullError::Checksum { what, expected, found });
        }
        Ok(path)
    }

    /// Fetches a repository's model: `file`, or what the repository has.
    pub(super) fn model(
        &self,
        name: &str,
        file: Option<&str>,
        progress: Progress<'_>,
    ) -> Result<PathBuf, PullError> {
        let repo = Repo::with_revision(name.to_owned(), RepoType::Model, MAIN.to_owned());
        if let Some(file) = file {
            return self.fetch(&repo, file, progress);
        }
        let files = match self.api.repo(repo.clone()).info() {
            Ok(found) => found.siblings.into_iter().map(|it| it.rfilename).collect::<Vec<_>>(),
            Err(error) => {
                return self.cached_folder(&repo).ok_or_else(|| failed(name)(error));
            }
        };
        if files.iter().any(|it| it == "config.json") && files.iter().any(|it| is_weights(it)) {
            return self.folder(&repo, &files, progress);
        }
        let file = choose_gguf(name, &files)?;
        self.fetch(&repo, file, progress)
    }

    /// Fetches a safetensors repository and returns its folder.
    fn folder(
        &self,
        repo: &Repo,
        files: &[String],
        progress: Progress<'_>,
    ) -> Result<PathBuf, PullError> {
        let sharded = files.iter().any(|it| it == INDEX);
        let wanted = files.iter().filter(|it| {
            COMPANIONS.contains(&it.as_str())
                || it.as_str() == INDEX
                || (is_weights(it) && (sharded || *it == "model.safetensors"))
        });
        for file in wanted {
            self.fetch(repo, file, progress)?;
        }
        self.cached_folder(repo).ok_or_else(|| PullError::NoWeights { repo: repo.url() })
    }

    /// The folder of a repository that was fetched before.
    fn cached_folder(&self, repo: &Repo) -> Option<PathBuf> {
        let config = self.cache.repo(repo.clone()).get("config.json")?;
        let folder = config.parent()?.to_owned();
        listed(&folder, None).map(|it| it.path)
    }

    /// Fetches one file unless it is in the cache, and verifies its checksum if the hub has one.
    fn fetch(&self, repo: &Repo, file: &str, progress: Progress<'_>) -> Result<PathBuf, PullError> {
        if let Some(path) = self.cache.repo(repo.clone()).get(file) {
            return Ok(path);
        }
        let remote: ApiRepo = self.api.repo(repo.clone());
        let what = format!("{}/{file}", repo.url());
        let path =
            remote.download_with_progress(file, Watch::new(progress)).map_err(failed(&what))?;
        let blob = path.canonicalize().map_err(io(&path))?;
        let etag = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if etag.len() != SHA256_DIGITS {
            return Ok(path);
        }
        let found = checksum::of_file(&blob).map_err(io(&blob))?;
        if found == etag {
            return Ok(path);
        }
        // The next attempt must not find the damaged file.
        for damaged in [&path, &blob] {
            std::fs::remove_file(damaged).map_err(io(damaged))?;
        }
        Err(PullError::Checksum { what, expected: etag, found })
    }
}

/// Weights in the repository's own folder, not in one of another format.
fn is_weights(file: &str) -> bool {
    file.ends_with(".safetensors") && !file.contains('/')
}

/// Chooses among a repository's GGUF files: the only one, or the preferred type.
fn choose_gguf<'a>(repo: &str, files: &'a [String]) -> Result<&'a str, PullError> {
    let files: Vec<&str> =
        files.iter().map(String::as_str).filter(|it| it.ends_with(".gguf")).collect();
    if let [only] = files[..] {
        return Ok(only);
    }
    let of_type = |kind: &&str| {
        let mut fitting = files.iter().filter(|it| it.to_ascii_lowercase().contains(*kind));
        fitting.next().copied().filter(|_| fitting.next().is_none())
    };
    if let Some(file) = PREFERRED.iter().find_map(of_type) {
        return Ok(file);
    }
    if files.is_empty() {
        return Err(PullError::NoWeights { repo: repo.to_owned() });
    }
    let files = files.iter().map(|it| format!("{repo}/{it}")).collect::<Vec<_>>().join(", ");
    Err(PullError::Ambiguous { repo: repo.to_owned(), files })
}

fn failed<E>(what: &str) -> impl FnOnce(E) -> PullError + use<E>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let what = what.to_owned();
    |source| PullError::Hub { what, source: Box::new(source) }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> PullError + use<> {
    let path = path.to_owned();
    |source| PullError::Io { path, source }
}

/// Passes the library's progress on.
struct Watch<'a> {
    progress: Progress<'a>,
    done: u64,
    total: u64,
}

impl<'a> Watch<'a> {
    fn new(progress: Progress<'a>) -> Self {
        Self { progress, done: 0, total: 0 }
    }
}

impl hf_hub::api::Progress for Watch<'_> {
    fn init(&mut self, size: usize, _filename: &str) {
        self.total = size as u64;
        (self.progress)(self.done, self.total);
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        (self.progress)(self.done, self.total);
    }

    fn finish(&mut self) {
        (self.progress)(self.total, self.total);
    }
}
