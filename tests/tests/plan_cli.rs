//! `thalweg plan` as an operator meets it: the real program on the clusters of the examples.

#![allow(missing_docs, reason = "tests are read, not documented")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thalweg_tests::planning::{example, refusal, text, thalweg};

/// Seconds of search: enough for a plan, not for the best one.
const SECONDS: &str = "3";

/// The plan of a run, and the file it was written to.
fn plan(folder: &Path, args: &[&str]) -> (Value, PathBuf) {
    let output = thalweg(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(output.stderr.is_empty(), "no terminal, no progress: {said}");
    let path = folder.join("plan.json");
    fs::write(&path, &output.stdout).expect("the folder is writable");
    (serde_json::from_slice(&output.stdout).expect("one JSON object"), path)
}

#[test]
fn plans_of_the_examples_say_what_they_must_and_verify() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["single24.toml", "geo24.toml", "hetero42.toml", "small10.toml"] {
        let file = example(name);
        let args = [text(&file), "--json", "--seconds", SECONDS];
        let (report, path) = plan(folder.path(), &args);
        for key in ["flow", "bound", "gap", "seconds"] {
            assert!(report[key].as_f64().is_some_and(|it| it >= 0.0), "{name}: {key}");
        }
        assert_eq!(report["method"], "coverage");
        assert!(report["bottleneck"].as_str().is_some_and(|it| it.contains("limit")), "{name}");
        let first = &report["placement"][0];
        assert!(first["host"].is_string() && first["end"].as_u64() > first["first"].as_u64());
        assert!(report["weights"][0]["tokens_per_second"].as_f64() > Some(0.0), "{name}");
        let output = thalweg(&["verify", text(&path), text(&file)]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("the plan holds") && said.contains("certificate holds"), "{said}");
    }
}

#[test]
fn a_plan_that_was_tampered_with_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = example("single24.toml");
    let args = [text(&file), "--json", "--method", "swarm"];
    let (report, path) = plan(folder.path(), &args);
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut report = report.clone();
        change(&mut report);
        fs::write(&path, report.to_string()).expect("the folder is writable");
        refusal(&["verify", text(&path), text(&file)])
    };
    let bound = report["bound"].as_f64().expect("a number") * 0.9;
    assert!(refused(&|it| it["bound"] = bound.into()).contains("does not hold"));
    assert!(refused(&|it| it["weights"][0]["tokens_per_second"] = 9e3.into()).contains("carries"));
    assert!(refused(&|it| it["placement"][0]["end"] = 99.into()).contains("99"));
    assert!(refused(&|it| it["flow"] = Value::Null).contains("is no plan"));
}

#[test]
fn the_picture_is_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("plan.svg");
    let file = example("single24.toml");
    let output = thalweg(&[text(&file), "--method", "swarm", "--explain", "--svg", text(&path)]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("757.9 tokens/s"), "{said}");
    assert!(said.contains("LAYERS"), "{said}");
    let svg = fs::read_to_string(&path).expect("it was written");
    assert!(svg.starts_with("<svg") && svg.contains("a100-0"));
}

#[test]
fn what_cannot_be_says_why_and_what_to_try() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("cluster.toml");
    let network = "[network]\ndefault = { bytes_per_second = 1e9, latency_seconds = 0.001 }\n";
    let write = |text: &str| fs::write(&file, text).expect("the folder is writable");

    write(&format!(
        "model = \"llama-2-70b\"\nhosts = [{{ name = \"a\", machine = \"T4\" }}]\n{network}"
    ));
    let said = refusal(&[text(&file)]);
    assert!(said.contains("80 layers") && said.contains("GB of weights"), "{said}");

    write(&format!(
        "model = \"llama-2-70b\"\nhosts = [{{ name = \"a\", machine = \"A100\", count = 20 }}]\n\
         [policy]\nfirst_stage_hosts = []\n{network}"
    ));
    let said = refusal(&[text(&file)]);
    assert!(said.contains("policy"), "{said}");

    write("modle = 3\n");
    let said = refusal(&[text(&file)]);
    assert!(said.contains("modle") && said.contains("Hint:"), "{said}");

    let absent = folder.path().join("absent.toml");
    assert!(refusal(&[text(&absent)]).contains("absent.toml"));
    let single = example("single24.toml");
    let said = refusal(&[text(&single), "--method", "magic"]);
    assert!(said.contains("magic") && said.contains("coverage"), "{said}");
}
