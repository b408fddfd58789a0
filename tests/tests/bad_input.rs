//! What an operator can get wrong, with the real program: it says what, and where.

#![allow(missing_docs, reason = "tests are read, not documented")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use thalweg::http::Phase;
use thalweg_certs::{Authority, UnixSeconds};
use thalweg_tests::cluster::{Cluster, binary, equal, model};

/// Bytes of the model's file that a broken download might have left.
const TRUNCATED_BYTES: usize = 1 << 20;

/// A configuration of a host called `name`, with certificates of an authority of its own.
fn configure(folder: &Path, name: &str, model: &Path, seeds: &str) -> String {
    let certificates = folder.join("certs");
    let now = UnixSeconds::from(SystemTime::now());
    let authority = Authority::create(&certificates, "local", now).expect("a fresh folder");
    authority.issue(name, "eu", now).expect("a good name");
    format!(
        "name = {name:?}\ncredentials = {certificates:?}\ndata = {:?}\nbind = \"127.0.0.1:0\"\n\
         model = {model:?}\nmemory_mib = 900\n[api]\nbind = \"127.0.0.1:0\"\n\
         [cluster]\nvoters = [{name:?}]\nseeds = [{seeds}]\n",
        folder.join("data"),
    )
}

fn serve(folder: &Path, config: &str) -> Command {
    let path = folder.join("host.toml");
    fs::write(&path, config).expect("the folder is writable");
    let mut command = Command::new(binary());
    command.arg("serve").arg("--config").arg(path).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Runs a host that cannot start, and returns what it says.
fn refusal(folder: &Path, config: &str) -> String {
    let output = serve(folder, config).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn unknown_key_is_named_with_the_nearest_known_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = configure(folder.path(), "h1", Path::new("m.gguf"), "");
    let said = refusal(folder.path(), &format!("memory_mb = 3\n{config}"));
    assert!(said.contains("line 1") && said.contains("`memory_mb`"), "{said}");
    assert!(said.contains("Did you mean `memory_mib`?"), "{said}");
}

#[test]
fn missing_model_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let absent = folder.path().join("absent.gguf");
    let said = refusal(folder.path(), &configure(folder.path(), "h1", &absent, ""));
    assert!(said.contains("absent.gguf"), "{said}");
}

#[test]
fn truncated_model_is_named_with_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let truncated = folder.path().join("truncated.gguf");
    let whole = fs::read(model()).expect("the model is readable");
    fs::write(&truncated, &whole[..TRUNCATED_BYTES]).expect("the folder is writable");
    let said = refusal(folder.path(), &configure(folder.path(), "h1", &truncated, ""));
    assert!(said.contains("truncated.gguf"), "{said}");
    assert!(said.contains("byte"), "what was found and what was expected: {said}");
}

#[test]
fn too_large_model_is_refused_with_layers_and_memory() {
    let mut cluster = Cluster::started(equal(2, 200));
    let reason = cluster.until(0, |it| it.infeasible.clone());
    assert!(reason.contains("layers") && reason.contains("MiB"), "{reason}");
    assert!(cluster.log(0).contains(&reason) || cluster.log(1).contains(&reason), "{reason}");
    let status = cluster.status(0);
    assert!(status.plan.is_none() && status.phase != Phase::Serving, "{status:?}");
    let body = "{\"prompt\": \"The capital\", \"max_tokens\": 1}";
    let (code, answer) = cluster.client(0).post("/v1/completions", body);
    assert_eq!(code, 503, "{answer}");
}

#[test]
fn host_of_another_authority_never_gets_in() {
    let mut cluster = Cluster::serving(equal(1, 900));
    let address = fs::read_to_string(cluster.folder().join("h1/address")).expect("h1 is up");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = configure(folder.path(), "stranger", &model(), &format!("\"h1@{address}\""));
    let log = fs::File::create(folder.path().join("log")).expect("the folder is writable");
    let mut command = serve(folder.path(), &config);
    let _stranger = Killed(command.stderr(log).spawn().expect("the program starts"));
    // Both sides say why: h1 to its operator, the stranger to its own.
    cluster.until_log(0, |log| log.contains("refused") && log.contains("certificate"));
    let status = cluster.status(0);
    let names: Vec<_> = status.hosts.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["h1"]);
    assert!(status.links.is_empty(), "{:?}", status.links);
}

/// A process that ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // A process that is already gone is what we want.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}
