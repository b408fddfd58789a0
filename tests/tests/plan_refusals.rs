//! Files and flags that cannot be meant: each ends in a plan or in a refusal that says what was wrong
//! and what to do, whatever they say.

#![allow(missing_docs, reason = "tests are read, not documented")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use thalweg_tests::cluster::binary;
use thalweg_tests::planning::{refusal, text, thalweg};

/// Four layers on hosts of up to three. `x` and `y` are regions.
const CLUSTER: &str = r#"
model = "tiny"
hosts = [
    { name = "a", machine = "m", count = 2, region = "x" },
    { name = "b", machine = "m", count = 2, region = "y" },
]
[network]
default = { bytes_per_second = 1e6, latency_seconds = 0.001 }
[machines.m]
memory_bytes = 1e9
nic_bytes_per_second = 1e9
load_bytes_per_second = 1e9
[models.tiny]
layers = 4
layer_bytes = 1e6
activation_bytes = 100
token_bytes = 2
kv_bytes_per_token_layer = 100
[[profiles]]
model = "tiny"
machine = "m"
tokens_per_second = [120, 60, 40]
"#;

/// A folder with a cluster file in it.
struct Folder {
    folder: tempfile::TempDir,
    file: PathBuf,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("cluster.toml");
        Self { folder, file }
    }

    /// Writes [`CLUSTER`] with one part replaced by another.
    fn write(&self, from: &str, to: &str) -> &str {
        assert!(CLUSTER.contains(from), "{from}");
        fs::write(&self.file, CLUSTER.replacen(from, to, 1)).expect("the folder is writable");
        text(&self.file)
    }

    /// What a refusal of the changed file says; it must hold all of `expected`.
    fn refused(&self, from: &str, to: &str, expected: &[&str]) {
        says(&[self.write(from, to), "--seconds", "1"], expected);
    }

    /// The flow of a plan for the changed file.
    fn planned(&self, from: &str, to: &str) -> f64 {
        let output = thalweg(&[self.write(from, to), "--json", "--seconds", "1"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{to}: {said}");
        let report: serde_json::Value =
            serde_json::from_slice(&output.stdout).expect("one JSON object");
        report["flow"].as_f64().expect("a number")
    }
}

fn says(args: &[&str], expected: &[&str]) {
    let said = refusal(args);
    for words in expected {
        assert!(said.contains(words), "{args:?}: `{words}` is missing from: {said}");
    }
}

#[test]
fn numbers_that_cannot_be_meant() {
    let folder = Folder::new();
    let refused = |from: &str, to: &str, expected: &[&str]| folder.refused(from, to, expected);
    let default = "default = { bytes_per_second = 1e6";
    for (number, shown) in [("nan", "NaN"), ("-5", "-5"), ("inf", "inf"), ("1e99", "1000000")] {
        let to = format!("default = {{ bytes_per_second = {number}");
        refused(default, &to, &["network.default.bytes_per_second", shown, "Hint:"]);
    }
    refused("latency_seconds = 0.001", "latency_seconds = -1", &["latency_seconds = -1"]);
    refused("layers = 4", "layers = 0", &["models.tiny.layers = 0", "1 to 4096"]);
    refused("layers = 4", "layers = 5000000000", &["layers"]);
    refused("layers = 4", "layers = 4.5", &["layers"]);
    refused("count = 2", "count = 0", &["hosts[0].count = 0"]);
    refused("count = 2", "count = 65536", &["65538", "65536"]);
    refused("[120, 60, 40]", "[120, -60, 40]", &["tokens_per_second[1] = -60"]);
    refused("[120, 60, 40]", "[120, nan, 40]", &["tokens_per_second[1] = NaN"]);
    refused("memory_bytes = 1e9", "memory_bytes = 0", &["machines.m.memory_bytes = 0"]);
    refused("[network]", "[prices]\nm = -3\n[network]", &["prices.m = -3"]);
    refused("[network]", "[workload]\nttft_seconds = -1\n[network]", &["ttft_seconds = -1"]);
}

#[test]
fn names_and_keys_that_are_wrong() {
    let folder = Folder::new();
    let refused = |from: &str, to: &str, expected: &[&str]| folder.refused(from, to, expected);
    refused("name = \"b\"", "name = \"a\"", &["a-0", "twice"]);
    refused("machine = \"m\", count", "machine = \"n\", count", &["\"n\"", "machine type"]);
    refused("model = \"tiny\"", "model = \"tinny\"", &["tinny", "tiny"]);
    refused("activation_bytes", "activation_bites", &["activation_bites"]);
    refused("[network]", "[netwerk]", &["netwerk"]);
    refused("hosts = [", "hosts = [[", &["TOML"]);
    refused(CLUSTER, "", &["no hosts"]);
    refused(CLUSTER, "hosts = []\nmodel = \"llama-2-70b\"", &["no hosts"]);
    refused(CLUSTER, "\u{0}\u{1}", &["TOML"]);
}

#[test]
fn what_cannot_be_placed_says_why() {
    let folder = Folder::new();
    let refused = |from: &str, to: &str, expected: &[&str]| folder.refused(from, to, expected);
    refused("layers = 4", "layers = 40", &["40 layers", "together hold 12", "28", "Hint:"]);
    refused("[120, 60, 40]", "[0, 0, 0]", &["4 layers", "together hold 0"]);
    refused("bytes_per_second = 1e6", "bytes_per_second = 0", &["gateway", "Hint:"]);
    // Two hosts of three layers in each region: six apart, which is too few for seven.
    let apart = "gateway = { bytes_per_second = 1e6 }\nwithin_region = { bytes_per_second = 1e6 }";
    let default = "default = { bytes_per_second = 1e6, latency_seconds = 0.001 }";
    let both = CLUSTER.replace("layers = 4", "layers = 7").replace(default, apart);
    refused(CLUSTER, &both, &["7 layers", "2 groups", "holds 6", "region_links"]);
    let policy = "[policy]\nexcluded_hosts = [\"a\", \"b\"]\n[network]";
    refused("[network]", policy, &["policy"]);
    let policy = "[policy]\nlast_stage_hosts = []\n[network]";
    refused("[network]", policy, &["last layer", "last_stage_hosts"]);
    let policy = "[policy]\nallowed_regions = { tiny = [\"z\"] }\n[network]";
    refused("[network]", policy, &["\"z\"", "region"]);
}

#[test]
fn small_and_odd_clusters_are_planned() {
    let folder = Folder::new();
    let near = |is: f64, wanted: f64| assert!((is - wanted).abs() < 1e-6, "{is} {wanted}");
    // Two hosts hold two layers each, or four of them: 60 and 60.
    near(folder.planned("", ""), 120.0);
    // One host holds everything, or each does.
    let one = "{ name = \"a\", machine = \"m\" },";
    let hosts = "{ name = \"a\", machine = \"m\", count = 2, region = \"x\" },\n    \
                 { name = \"b\", machine = \"m\", count = 2, region = \"y\" },";
    let alone = CLUSTER.replace(hosts, one).replace("layers = 4", "layers = 3");
    near(folder.planned(CLUSTER, &alone), 40.0);
    // Regions that do not reach each other, each with the whole model.
    let apart = "gateway = { bytes_per_second = 1e6 }\nwithin_region = { bytes_per_second = 1e6 }";
    let default = "default = { bytes_per_second = 1e6, latency_seconds = 0.001 }";
    near(folder.planned(default, apart), 120.0);
    near(folder.planned("layers = 4", "layers = 1"), 480.0);
}

#[test]
fn flags_and_files_that_are_wrong() {
    let folder = Folder::new();
    let file = folder.write("", "");
    says(&[file, "--method", "magic", "--seconds", "1"], &["magic", "coverage", "milp"]);
    says(&[file, "--model", "none"], &["none", "model"]);
    says(&[file, "--charge", "half"], &["half", "full", "work"]);
    for (flag, wrong) in [
        ("--seconds", "0"),
        ("--seconds", "-1"),
        ("--seconds", "nan"),
        ("--seconds", "1e99"),
        ("--threads", "0"),
        ("--threads", "65"),
        ("--seed", "-1"),
        ("--seed", "many"),
    ] {
        says(&[file, &format!("{flag}={wrong}")], &[wrong, flag]);
    }
    says(&["--seconds", "1"], &["no cluster file"]);
    let absent = folder.folder.path().join("absent.toml");
    says(&[text(&absent)], &["absent.toml", "examples/clusters"]);
    says(&[text(folder.folder.path())], &["cannot read"]);
    fs::write(&absent, [0xff, 0xfe, 0x00]).expect("the folder is writable");
    says(&[text(&absent)], &["absent.toml"]);
    says(&["verify", file, file], &["is no plan", "--json"]);
    says(&["verify", text(&folder.folder.path().join("plan.json")), file], &["cannot read"]);
    says(&["compare", text(&folder.folder.path().join("none.toml"))], &["cannot read"]);
}

#[test]
fn a_picture_that_cannot_be_written_costs_no_plan() {
    let folder = Folder::new();
    let file = folder.write("", "");
    let picture = folder.folder.path().join("no/such/folder.svg");
    let output = thalweg(&[file, "--seconds", "1", "--svg", text(&picture)]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("cannot write the picture"), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("120.0 tokens/s"));
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let folder = Folder::new();
    let file = folder.write("", "");
    let mut child = Command::new(binary())
        .args(["plan", "compare", file, "--seconds", "0.1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// Files spoilt in one place, as by a slip of the keyboard: never a panic, never silence.
#[test]
fn spoilt_files_end_in_a_plan_or_in_words() {
    let folder = Folder::new();
    let slips = ["", "9", "-", "0", "e9", "\"", "x", "nan", ".", "[", "\n"];
    let places = CLUSTER.len() / 29;
    for place in 0..places {
        let at = (0..=place * 29).rev().find(|it| CLUSTER.is_char_boundary(*it)).unwrap_or(0);
        let (before, after) = CLUSTER.split_at(at);
        let slip = slips[place % slips.len()];
        fs::write(&folder.file, format!("{before}{slip}{}", &after[1.min(after.len())..]))
            .expect("the folder is writable");
        let output = thalweg(&[text(&folder.file), "--seconds", "0.1", "--method", "swarm"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{said}");
        assert!(output.status.success() != said.starts_with("Error: "), "{said}");
        assert_eq!(output.status.success(), !output.stdout.is_empty());
    }
}
