//! `host.toml`: what a host must be told. Unknown keys are refused, with the nearest known one.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thalweg_engine::{ComputeDevice, KvType, Precision};

use crate::cli::advice::Advice;

/// Edits that turn a misspelt key into a known one, at most, for it to be suggested.
const SUGGESTION_EDITS_MAX: usize = 4;

/// Configuration of one host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// Name of this host; its certificate `node-<name>.crt` lies in `credentials`.
    pub name: String,
    /// Directory with `ca.crt`, `ca.crl`, this host's certificate and key.
    pub credentials: PathBuf,
    /// Directory for the replicated log. Created if absent.
    pub data: PathBuf,
    /// UDP address to listen on; port 0 takes any.
    #[serde(default = "default_bind")]
    pub bind: SocketAddr,
    /// Address other hosts reach this one at, `address:port`. Defaults to the bound address.
    pub advertise: Option<String>,
    /// Model: a path, a Hugging Face id, or a built-in name.
    pub model: String,
    /// What to compute with: `cpu`; `cuda`, or `cuda:N` for GPU number N, in binaries of `./x cuda`; or
    /// `burn`, a slow reference.
    #[serde(default)]
    pub device: ComputeDevice,
    /// Memory for weights and KV, in MiB. Defaults to half of what is free, on GPUs to three quarters of
    /// what there is.
    pub memory_mib: Option<u64>,
    /// Compute threads. Defaults to the number of cores.
    pub threads: Option<usize>,
    /// How to keep weights in memory: `stored`, as in the file, with activations rounded to 8 bits
    /// in products with quantised ones; or `f32`, exact, slower and larger. The same on every host.
    #[serde(default)]
    pub weights: Precision,
    /// How to keep keys and values: `f32`, `f16`, or `int8` with a scale for each token and head. The
    /// same on every host.
    #[serde(default)]
    pub kv: KvType,
    /// Longest context served, in tokens.
    #[serde(default = "default_context")]
    pub max_model_len: u32,
    /// File to note what the host's machines see and do in, for `thalweg simulate replay`. An older
    /// one is kept as `NAME.old`.
    pub journal: Option<PathBuf>,
    /// Keep token ids in the journal: without them stage and gateway cannot be replayed, with them
    /// it holds the users' text.
    #[serde(default)]
    pub journal_tokens: bool,
    /// The HTTP API.
    #[serde(default)]
    pub api: ApiConfig,
    /// How hosts find each other.
    #[serde(default)]
    pub cluster: ClusterConfig,
}

/// Configuration of the HTTP API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Address to listen on; port 0 takes any. A non-loopback address needs keys.
    pub bind: SocketAddr,
    /// Accepted `Authorization: Bearer` keys. Empty means that none is asked for.
    pub keys: Vec<String>,
    /// Allows a non-loopback address without keys.
    pub insecure: bool,
    /// Names under which the model is served. Defaults to the model's own.
    pub served_model_name: Vec<String>,
}

/// How hosts find each other and elect the planner.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// Names of the hosts that vote for the planner: one, three or five, the same on every host.
    pub voters: Vec<String>,
    /// Hosts to dial first, `name@address:port`.
    pub seeds: Vec<String>,
    /// The planner waits for this many hosts before its first plan (or until a grace time ends).
    pub hosts_expected: usize,
    /// Directory of the certificate authority, on the one host that lets others join by token.
    pub authority: Option<PathBuf>,
    /// Largest round trip between voters, in milliseconds, for the election timeouts.
    pub round_trip_ms: Option<u64>,
}

impl Default for ApiConfig {
    fn default() -> Self {
        let bind = SocketAddr::from(([127, 0, 0, 1], 8000));
        Self { bind, keys: Vec::new(), insecure: false, served_model_name: Vec::new() }
    }
}

fn default_bind() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4433))
}

fn default_context() -> u32 {
    2048
}

impl HostConfig {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    ///
    /// Names file, line and key, and the nearest known key if one was misspelt.
    pub fn read(path: &Path) -> Result<Self, Advice> {
        let text = fs::read_to_string(path).map_err(|source| {
            Advice::new(format!("cannot read configuration `{}`", path.display()), source)
                .hint("See examples/host.toml for a commented one.")
        })?;
        let config = parse(&text).map_err(|error| refuse(path, &text, error))?;
        config.check()?;
        Ok(config)
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    ///
    /// If the API would be open to the network, or the voters cannot form a majority.
    pub fn check(&self) -> Result<(), Advice> {
        let api = &self.api;
        if !api.bind.ip().is_loopback() && api.keys.is_empty() && !api.insecure {
            let message = format!("the API would listen on {} without keys", api.bind);
            return Err(Advice::plain(message)
                .hint("Set `api.keys`, or `api.insecure = true` if the network is trusted."));
        }
        let voters = self.cluster.voters.len();
        if voters > 1 && voters.is_multiple_of(2) {
            let message = format!("{voters} voters: an even number survives no more than one less");
            return Err(Advice::plain(message).hint("Name 1, 3 or 5 hosts in `cluster.voters`."));
        }
        if self.max_model_len == 0 {
            return Err(Advice::plain("`max_model_len` is 0").hint("Use at least 16 tokens."));
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<HostConfig, toml::de::Error> {
    toml::from_str(text)
}

fn refuse(path: &Path, text: &str, error: toml::de::Error) -> Advice {
    let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
    let message = error.message().to_owned();
    let advice = Advice::new(format!("`{}` line {line}: {message}", path.display()), error);
    match suggestion(&message) {
        Some(known) => advice.hint(format!("Did you mean `{known}`?")),
        None => advice,
    }
}

/// Finds the known key nearest to the unknown one in serde's message.
fn suggestion(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2);
    let near = known.map(|it| (strsim::damerau_levenshtein(unknown, it), it)).min()?;
    (near.0 <= SUGGESTION_EDITS_MAX).then_some(near.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "name = 'h1'\ncredentials = 'c'\ndata = 'd'\nmodel = 'm.gguf'\n";

    fn advice(text: &str) -> String {
        let error = parse(text).expect_err("the text is wrong");
        refuse(Path::new("host.toml"), text, error).to_string()
    }

    #[test]
    fn unknown_key_names_line_and_nearest_key() {
        let text = format!("{MINIMAL}thread = 2\n");
        let advice = advice(&text);
        assert!(advice.contains("`host.toml` line 5: unknown field `thread`"), "{advice}");
        assert!(advice.contains("Did you mean `threads`?"), "{advice}");
    }

    #[test]
    fn unknown_key_in_a_table_is_found() {
        let advice = advice(&format!("{MINIMAL}[api]\nkey = ['a']\n"));
        assert!(advice.contains("line 6") && advice.contains("`keys`"), "{advice}");
    }

    #[test]
    fn a_device_is_one_of_those_there_are() {
        let with = |word: &str| format!("{MINIMAL}device = '{word}'\n");
        let device = |text: &str| parse(text).expect("valid").device;
        assert_eq!(device(MINIMAL), ComputeDevice::Cpu);
        assert_eq!(device(&with("cuda:1")), ComputeDevice::Cuda(1));
        let advice = advice(&with("gpu"));
        assert!(advice.contains("line 5: `gpu` is no device; there are `cpu`, `cuda`"), "{advice}");
    }

    #[test]
    fn an_open_api_needs_keys() {
        let config = parse(&format!("{MINIMAL}[api]\nbind = '0.0.0.0:8000'\n")).expect("valid");
        let error = config.check().expect_err("no keys").to_string();
        assert!(error.contains("0.0.0.0:8000") && error.contains("api.keys"), "{error}");
    }

    #[test]
    fn an_even_number_of_voters_is_refused() {
        let text = format!("{MINIMAL}[cluster]\nvoters = ['h1', 'h2']\n");
        let error = parse(&text).expect("valid").check().expect_err("two voters").to_string();
        assert!(error.contains("2 voters"), "{error}");
    }
}
