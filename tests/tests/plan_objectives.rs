//! Plans for what is served, that survive losses, and under disturbances, as an operator meets them.

#![allow(missing_docs, reason = "tests are read, not documented")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thalweg_tests::planning::{example, refusal, text, thalweg};

/// Two layers; prompts and answers of ten tokens; prompts take hardly any time; no link delays
/// anything; the model's KV memory holds 1000 tokens in two layers, of which 0.85 is used. Context
/// is 15 tokens on average, so that 850 / 15 = 56.7 requests are in flight on a host of its own.
///
/// | machine | seconds per token | output tokens/s | dollars per hour |
/// |---|---|---|---|
/// | `Fast` | 1.5 · 2 · 0.01 = 0.03 | 566.7 / (11 · 0.03) = 1717.2 | 10 |
/// | `Cheap` | 1.5 · 2 · 0.04 = 0.12 | 566.7 / (11 · 0.12) = 429.3 | 0.1 |
///
/// Both beside each other serve more than each alone, and cost more for a token than `Cheap`.
const CHOICE: &str = r#"
model = "tiny"
hosts = [
    { name = "fast", machine = "Fast", price_per_hour = 10.0 },
    { name = "cheap", machine = "Cheap", price_per_hour = 0.1 },
]
workload = { prompt_tokens = 10, output_tokens = 10 }
network = { default = { bytes_per_second = 1e12 } }

[machines.Fast]
memory_bytes = 1e9
nic_bytes_per_second = 1e12
load_bytes_per_second = 1e9
[machines.Cheap]
memory_bytes = 1e9
nic_bytes_per_second = 1e12
load_bytes_per_second = 1e9

[models.tiny]
layers = 2
layer_bytes = 1e8
activation_bytes = 100
token_bytes = 2
kv_bytes_per_token_layer = 1000

[[profiles]]
model = "tiny"
machine = "Fast"
prefill_ms = [[100000, 1e-9]]
decode_ms = [[1, 10.0], [100000, 10.0]]
kv_blocks = [62.5, 62.5]
[[profiles]]
model = "tiny"
machine = "Cheap"
prefill_ms = [[100000, 1e-9]]
decode_ms = [[1, 40.0], [100000, 40.0]]
kv_blocks = [62.5, 62.5]
"#;

/// The cluster file of [`CHOICE`], changed.
fn choice(folder: &Path, from: &str, to: &str) -> PathBuf {
    assert!(from.is_empty() || CHOICE.contains(from), "{from}");
    let path = folder.join("choice.toml");
    let changed = if from.is_empty() { CHOICE.to_owned() } else { CHOICE.replace(from, to) };
    fs::write(&path, changed).expect("the folder is writable");
    path
}

fn plan(args: &[&str]) -> Value {
    let output = thalweg(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} in {value}"))
}

#[test]
fn objectives_choose_by_hand() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = choice(folder.path(), "", "");
    let of = |more: &[&str]| {
        let args = [&[text(&file), "--json", "--seconds", "5", "--objective"], more].concat();
        plan(&args)
    };
    let held = |report: &Value| -> Vec<String> {
        let held = report["placement"].as_array().expect("a list").iter();
        held.map(|it| it["host"].as_str().expect("a name").to_owned()).collect()
    };
    let near = |is: f64, wanted: f64| assert!((is - wanted).abs() < 2e-3 * wanted, "{is} {wanted}");

    let latency = of(&["latency"]);
    assert_eq!(held(&latency), ["fast"]);
    near(number(&latency["frontier"][0], "tpot_seconds"), 0.03);

    let cost = of(&["cost"]);
    assert_eq!(held(&cost), ["cheap"]);
    near(number(&cost["frontier"][0], "tokens_per_second"), 429.3);
    near(number(&cost["frontier"][0], "price_per_hour"), 0.1);

    let most = of(&["throughput"]);
    assert_eq!(held(&most), ["fast", "cheap"]);
    let most = number(&most["frontier"][0], "tokens_per_second");
    assert!(most > 1717.2, "{most}");

    // Served in virtual time: blocks are whole, and requests begin and end one by one.
    let served = |report: &Value, wanted: f64| {
        let is = number(&report["frontier"][0], "tokens_per_second");
        assert!((is - wanted).abs() < 0.1 * wanted, "{is} {wanted}");
        assert!(report["notes"].to_string().contains("in virtual time"), "{report}");
    };
    let good = of(&["goodput", "--tpot-seconds", "0.0301"]);
    assert_eq!(held(&good), ["fast"]);
    assert!(number(&good["placement"][0], "chunk_tokens") >= 1.0);
    assert!(number(&good["frontier"][0], "tpot_seconds") <= 0.0301);
    served(&good, 1717.2);
    let good = of(&["goodput", "--ttft-seconds", "10"]);
    served(&good, most);
}

#[test]
fn the_frontier_is_whole_and_its_plan_verifies() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = example("small10.toml");
    let report = plan(&[text(&file), "--json", "--seconds", "4", "--objective", "throughput"]);
    let frontier = report["frontier"].as_array().expect("a list");
    assert!(frontier.len() > 1, "{frontier:?}");
    let keys: Vec<&str> =
        frontier[0].as_object().expect("an object").keys().map(String::as_str).collect();
    let expected = [
        "flow",
        "in_flight",
        "price_per_hour",
        "tokens_per_second",
        "tpot_seconds",
        "ttft_seconds",
    ];
    assert!(expected.iter().all(|it| keys.contains(it)) && keys.len() == expected.len());
    assert!((number(&frontier[0], "flow") - number(&report, "flow")).abs() < 1e-6);
    for pair in frontier.windows(2) {
        assert!(number(&pair[0], "tokens_per_second") >= number(&pair[1], "tokens_per_second"));
        assert!(number(&pair[0], "tpot_seconds") >= number(&pair[1], "tpot_seconds"));
    }
    let path = folder.path().join("plan.json");
    fs::write(&path, report.to_string()).expect("the folder is writable");
    let output = thalweg(&["verify", text(&path), text(&file)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let args = [text(&file), "--seconds", "4", "--objective", "latency"];
    let said = String::from_utf8_lossy(&thalweg(&args).stdout).into_owned();
    assert!(said.contains("OUTPUT TOKENS/S") && said.contains("\n* "), "{said}");
    assert!(said.contains("by estimate serves"), "{said}");
}

#[test]
fn objectives_without_their_numbers_say_what_to_give() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let single = example("single24.toml");
    let said = refusal(&[text(&single), "--objective", "goodput"]);
    assert!(said.contains("--tpot-seconds") && said.contains("--ttft-seconds"), "{said}");
    let said = refusal(&[text(&single), "--objective", "cost"]);
    assert!(said.contains("no host has one") && said.contains("[prices]"), "{said}");
    let said = refusal(&[text(&single), "--objective", "fame"]);
    assert!(said.contains("fame") && said.contains("goodput"), "{said}");
    let said = refusal(&[text(&single), "--objective", "cost", "--method", "swarm"]);
    assert!(said.contains("--method"), "{said}");
    for wrong in ["0", "-1", "nan", "inf", "soon"] {
        let option = format!("--tpot-seconds={wrong}");
        let said = refusal(&[text(&single), "--objective", "goodput", &option]);
        assert!(said.contains(wrong), "{said}");
    }
    let file = choice(folder.path(), "", "");
    let said = refusal(&[text(&file), "--objective", "goodput", "--tpot-seconds", "0.01"]);
    assert!(said.contains("0.01 s per token") && said.contains("0.030 s per token"), "{said}");
    let rates = "tokens_per_second = [9, 9]\n[[profiles]]\nmodel = \"tiny\"\nmachine = \"Cheap\"";
    let from = "prefill_ms = [[100000, 1e-9]]\ndecode_ms = [[1, 10.0], [100000, 10.0]]\n\
                kv_blocks = [62.5, 62.5]\n[[profiles]]\nmodel = \"tiny\"\nmachine = \"Cheap\"";
    let file = choice(folder.path(), from, rates);
    let said = refusal(&[text(&file), "--objective", "latency"]);
    assert!(said.contains("curves") && said.contains("Fast"), "{said}");
}

#[test]
fn survival_is_kept_tabulated_or_refused_with_its_numbers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let single = example("single24.toml");
    let said = refusal(&[text(&single), "--survive", "0.25"]);
    assert!(said.contains("160") && said.contains("152") && said.contains("8 layers"), "{said}");

    // Two like hosts that hold the model each: either may go, and half of the flow with it.
    let file = choice(folder.path(), "machine = \"Cheap\", price", "machine = \"Fast\", price");
    let report = plan(&[text(&file), "--json", "--survive", "0.5", "--seconds", "5"]);
    assert_eq!(report["placement"].as_array().map(Vec::len), Some(2));
    assert!((number(&report["worst_loss"], "share") - 0.5).abs() < 1e-9, "{report}");
    let output = thalweg(&[text(&file), "--survive", "0,0.5,0.75", "--seconds", "2"]);
    let said = String::from_utf8_lossy(&output.stdout);
    let rows: Vec<&str> = said.lines().collect();
    assert!(output.status.success() && rows.len() == 4, "{said}");
    assert!(rows[2].contains("50.0 %") && rows[3].contains("none"), "{said}");
    for wrong in ["1.5", "-0.1", "nan", "half"] {
        let option = format!("--survive={wrong}");
        assert!(refusal(&[text(&file), &option]).contains(wrong));
    }
}

#[test]
fn disturbances_are_in_the_text_and_in_the_json() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = choice(folder.path(), "machine = \"Cheap\", price", "machine = \"Fast\", price");
    let report = plan(&[text(&file), "--json", "--sensitivity", "--seconds", "2"]);
    let kinds = report["sensitivity"].as_array().expect("a list");
    let lost = kinds.iter().find(|it| it["disturbance"] == "host_lost").expect("hosts are lost");
    // Two like hosts that share all the flow.
    assert_eq!(lost["cases"], 2);
    assert!((number(&lost["reweighted"], "min") - 0.5).abs() < 1e-9, "{lost}");
    let output = thalweg(&[text(&file), "--sensitivity", "--seconds", "2"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("P10") && said.contains("one host is lost"), "{said}");
}
