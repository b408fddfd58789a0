//! What real hosts did, done again by the machines alone.

#![allow(missing_docs, reason = "tests are read, not documented")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use serde_json::Value;
use thalweg_tests::cluster::{Cluster, binary, equal};
use thalweg_tests::golden;

/// Less than the model needs, so that it is split.
const MEMORY_MIB: u64 = 400;
const HOSTS: usize = 3;
/// Tokens of each answer.
const TOKENS: usize = 24;

/// Three hosts serve several clients, one of whom leaves early; then one host is killed, and the
/// others serve on. The last host keeps no token ids.
#[test]
fn what_hosts_did_is_done_again() {
    let journals = tempfile::tempdir().expect("a temporary folder");
    let path = |index: usize| journals.path().join(format!("h{}.journal", index + 1));
    let mut hosts = equal(HOSTS, MEMORY_MIB);
    for (index, host) in hosts.iter_mut().enumerate() {
        host.wrapper = with_journal(&path(index), index + 1 < HOSTS);
    }
    let mut cluster = Cluster::serving(hosts);
    ask_all(&cluster, &[0, 1, 2]);
    let cases = golden::cases();
    let mut stream = cluster.client(0).stream(&cases[1].prompt, TOKENS);
    assert!(matches!(stream.next(), Some(Ok(_))));
    drop(stream);
    cluster.kill(1);
    ask_all(&cluster, &[0, 2]);
    cluster.stop(0);
    cluster.stop(2);

    for (index, closed) in [(0, true), (1, false)] {
        let outcome = replayed(&path(index));
        assert_eq!(outcome["closed"], closed, "{outcome}");
        for name in ["stage", "gateway", "liveness", "conductor"] {
            let compared = count(&outcome, name, "compared");
            // A host may be stopped while a machine is at its last event.
            let missing = count(&outcome, name, "replayed") - compared;
            assert!(compared > 0 && missing <= 1, "{name}: {outcome}");
            assert_eq!(count(&outcome, name, "skipped"), 0, "{name}: {outcome}");
        }
    }
    let outcome = replayed(&path(2));
    assert_eq!(outcome["tokens_kept"], false);
    for name in ["stage", "gateway"] {
        assert!(count(&outcome, name, "skipped") > 0, "{name}: {outcome}");
    }
    for name in ["liveness", "conductor"] {
        assert!(count(&outcome, name, "compared") > 0, "{name}: {outcome}");
    }
    a_cut_is_told(&path(0));
}

/// Words before a host's command that add to its arguments.
fn with_journal(path: &Path, tokens: bool) -> Vec<String> {
    let tokens = if tokens { " --journal-tokens" } else { "" };
    let script = format!("exec \"$@\" --journal '{}'{tokens}", path.display());
    ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
}

/// Asks every case of several hosts at once. Cases are asked twice, the second time from the cache.
fn ask_all(cluster: &Cluster, hosts: &[usize]) {
    let cases = golden::cases();
    for _ in 0..2 {
        thread::scope(|scope| {
            for (at, case) in cases.iter().enumerate().take(8) {
                let client = cluster.client(hosts[at % hosts.len()]);
                scope.spawn(move || {
                    case.check(&client.tokens_in_turn(&case.prompt, TOKENS), "with a journal");
                });
            }
        });
    }
}

fn replayed(path: &Path) -> Value {
    let output = replay(path);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", path.display());
    let outcome: Value = serde_json::from_slice(&output.stdout).expect("an outcome");
    println!("{}: {outcome}", path.display());
    assert_eq!(outcome["trouble"], Value::Null);
    outcome
}

fn replay(path: &Path) -> Output {
    let mut command = Command::new(binary());
    command.args(["simulate", "replay", "--json"]).arg(path);
    command.output().expect("the program starts")
}

fn count(outcome: &Value, machine: &str, what: &str) -> u64 {
    let machines = outcome["machines"].as_array().expect("machines");
    let found = machines.iter().find(|it| it["machine"] == machine);
    found.and_then(|it| it[what].as_u64()).unwrap_or_else(|| panic!("{machine} {what}: {outcome}"))
}

fn a_cut_is_told(path: &Path) {
    let bytes = fs::read(path).expect("it was written");
    let cut = path.with_extension("cut");
    fs::write(&cut, &bytes[..bytes.len() - 2]).expect("the folder is writable");
    let output = replay(&cut);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty(), "{said}");
    assert!(said.contains("it breaks off at byte") && said.contains("events before"), "{said}");
}
