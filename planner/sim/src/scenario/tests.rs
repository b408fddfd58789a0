use std::ops::ControlFlow;

use super::*;
use crate::world::{Between, FaultKind};

const CLUSTER: &str = r#"
model = "toy"
hosts = [
    { name = "a", machine = "M", count = 3, region = "east" },
    { name = "b", machine = "M", count = 3, region = "west" },
]

[network]
default = { bytes_per_second = 1e6, latency_seconds = 0.001 }

[machines.M]
memory_bytes = 1e9
nic_bytes_per_second = 1e9
load_bytes_per_second = 1e6

[models.toy]
layers = 8
layer_bytes = 1e6
activation_bytes = 1000
token_bytes = 2
kv_bytes_per_token_layer = 100

[models.big]
layers = 100
layer_bytes = 1e6
activation_bytes = 1000
token_bytes = 2
kv_bytes_per_token_layer = 100

[[profiles]]
model = "toy"
machine = "M"
kv_blocks = [4000, 2000, 1200, 800]
prefill_ms = [[0, 0], [100, 1], [10000, 100]]
decode_ms = [[0, 0], [2, 1], [1000, 1]]

[[profiles]]
model = "big"
machine = "M"
kv_blocks = [4000, 2000, 1200, 800]
prefill_ms = [[0, 0], [100, 1], [10000, 100]]
decode_ms = [[0, 0], [2, 1], [1000, 1]]
"#;

const SCENARIO: &str = r#"
cluster = "somewhere/six.toml"
placement = "swarm"
window_seconds = [10, 60]

[workload]
arrivals = { kind = "users", count = 10 }
lengths = { kind = "fixed", prompt_tokens = 50, output_tokens = 20 }
"#;

/// The scenario with other lines.
fn changed(replace: &[(&str, &str)], more: &str) -> String {
    let changed = replace.iter().fold(SCENARIO.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from} is not in the scenario");
        text.replace(from, to)
    });
    changed + more
}

fn files() -> Files<'static> {
    Files { cluster: CLUSTER, ..Files::default() }
}

fn resolve(text: &str) -> Result<Scenario, ScenarioError> {
    parse(text)?.resolve(files())
}

fn run(text: &str) -> Result<Outcome, ScenarioError> {
    let scenario = resolve(text)?;
    let placed = scenario.place(&mut |_| ControlFlow::Continue(()))?;
    scenario.run(&placed)
}

fn refusal(text: &str) -> String {
    run(text).expect_err("a scenario that cannot be").to_string()
}

#[test]
fn a_scenario_runs() {
    let outcome = run(SCENARIO).expect("a scenario");
    assert_eq!((outcome.policy.as_str(), outcome.cluster.as_str()), ("thalweg", "six"));
    assert!(outcome.decode_tokens_per_second > 10.0);
    assert_eq!(outcome.window_seconds, (10.0, 60.0));
    assert_eq!(run(SCENARIO).expect("a scenario").to_json(), outcome.to_json());
    let text = outcome.to_json();
    for key in ["ttft_p95_seconds", "tpot_mean_seconds", "prompt_tokens_per_second", "events"] {
        assert!(text.contains(&format!("\"{key}\": ")), "{key}");
    }
}

#[test]
fn every_policy_runs() {
    for pack in Pack::ALL {
        let policy = format!("policy = \"{}\"\ncluster", pack.name);
        let outcome = run(&changed(&[("cluster", &policy)], "")).expect("a scenario");
        assert!(outcome.finished > 0, "{}", pack.name);
        assert_eq!((outcome.lost, outcome.policy.as_str()), (0, pack.name));
    }
}

#[test]
fn a_lost_host_is_repaired_and_no_request_lost() {
    let faults = r#"
        [[faults]]
        at_seconds = 20
        host_dies = "a-0"
        [[faults]]
        at_seconds = 40
        host_joins = "a-0"
    "#;
    let outcome = run(&changed(&[], faults)).expect("a scenario");
    assert_eq!((outcome.lost, outcome.rejected, outcome.cut_off), (0, 0, 0));
    let last = outcome.timeline.decode_tokens_per_second.last().copied();
    assert!(last > Some(10.0), "{last:?}");
    assert!(outcome.hosts[0].layers.is_some(), "it was given layers again");
}

#[test]
fn faults_are_found_by_name() {
    let faults = r#"
        [[faults]]
        at_seconds = 1
        links = { between = ["east", "west"], keeps = 0.7 }
        [[faults]]
        at_seconds = 2
        links = { from = "a-0", to = "b-1", loss = 0.25 }
        [[faults]]
        at_seconds = 3
        shared = { name = "cable", keeps = 0.5 }
    "#;
    let shared = "[[network.shared]]\nname = \"cable\"\nbytes_per_second = 1e6\n\
        carries = [[\"east\", \"west\"]]\n[machines.M]";
    let cluster = CLUSTER.replace("[machines.M]", shared);
    let file = parse(&changed(&[], faults)).expect("a scenario file");
    let scenario = file.resolve(Files { cluster: &cluster, ..files() }).expect("a scenario");
    let kinds: Vec<FaultKind> = scenario.faults.iter().map(|it| it.kind).collect();
    let slower = |between, share| FaultKind::LinksKeep { between, share };
    assert_eq!(
        kinds,
        [
            slower(Between::Regions(0, 1), 0.7),
            slower(Between::Regions(1, 0), 0.7),
            slower(Between::Hosts(0, 4), 0.75),
            FaultKind::SharedKeeps { shared: 0, share: 0.5 },
        ]
    );
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_number() {
    let poisson = r#"kind = "poisson", requests_per_second = 0"#;
    let users = r#"kind = "users", count = 10"#;
    assert_eq!(
        refusal(&changed(&[(users, poisson)], "")),
        "workload.arrivals.requests_per_second = 0: give a rate above 0 and up to a million"
    );
    assert_eq!(
        refusal(&changed(&[(users, r#"kind = "poisson", requests_per_second = nan"#)], "")),
        "workload.arrivals.requests_per_second = NaN: give a rate above 0 and up to a million"
    );
    assert_eq!(
        refusal(&changed(&[("[10, 60]", "[60, 10]")], "")),
        "window_seconds = 10: give an end behind the beginning"
    );
    assert_eq!(
        refusal(&changed(&[("count = 10", "count = 0")], "")),
        "workload.arrivals.count = 0: give a number from 1 up to a million"
    );
    assert!(refusal(&changed(&[("count = 10", "cuont = 10")], "")).contains("cuont"));
    assert!(refusal(&changed(&[("cluster", "clutser")], "")).contains("clutser"));
}

#[test]
fn names_that_nothing_has_are_refused_with_those_there_are() {
    let fault = "[[faults]]\nat_seconds = 1\nhost_dies = \"c-0\"";
    assert_eq!(
        refusal(&changed(&[], fault)),
        "faults[0].host_dies = \"c-0\": there is no such host; there are a-0, a-1, a-2, b-0, b-1, b-2"
    );
    let method = refusal(&changed(&[("\"swarm\"", "\"swram\"")], ""));
    assert!(method.starts_with("placement = \"swram\": there is no such method"), "{method}");
    let policy = refusal(&changed(&[("cluster", "policy = \"helx\"\ncluster")], ""));
    assert!(
        policy.starts_with("policy: no policy is called `helx`; there are thalweg"),
        "{policy}"
    );
    let two = "[[faults]]\nat_seconds = 1\nhost_dies = \"a-0\"\nhost_joins = \"a-1\"";
    assert_eq!(
        refusal(&changed(&[], two)),
        "faults[0]: give exactly one of host_dies, host_joins, links, shared"
    );
}

#[test]
fn a_model_that_does_not_fit_is_refused() {
    assert_eq!(
        refusal(&changed(&[("cluster", "model = \"big\"\ncluster")], "")),
        "big has 100 layers, and the hosts of the cluster hold 24 at most; add hosts, or choose a \
         smaller model"
    );
}

#[test]
fn traces_are_read_and_empty_ones_refused() {
    let recorded = changed(
        &[
            (r#"kind = "users", count = 10"#, r#"kind = "recorded", file = "times.csv""#),
            (
                r#"kind = "fixed", prompt_tokens = 50, output_tokens = 20"#,
                r#"kind = "recorded", file = "lengths.csv""#,
            ),
        ],
        "",
    );
    let file = parse(&recorded).expect("a scenario");
    assert_eq!(
        (file.arrivals_file(), file.lengths_file()),
        (Some("times.csv"), Some("lengths.csv"))
    );
    let with = |arrivals, lengths| {
        let files = Files { arrivals: Some(arrivals), lengths: Some(lengths), ..files() };
        file.resolve(files).map_err(|it| it.to_string())
    };
    let scenario = with("seconds\n0.5\n11\n12.5\n", "k,in,out\n0,30,4\n1,20,3\n").expect("traces");
    let placed = scenario.place(&mut |_| ControlFlow::Continue(())).expect("a placement");
    let outcome = scenario.run(&placed).expect("a run");
    assert_eq!((outcome.arrived, outcome.finished), (3, 3));
    let empty = with("seconds\n", "30,4").expect_err("no times");
    assert!(empty.starts_with("workload.arrivals: the file has no times"), "{empty}");
    let empty = with("1", "").expect_err("no lengths");
    assert!(empty.starts_with("workload.lengths: the file has no lengths"), "{empty}");
    let back = with("2\n1", "30,4").expect_err("times that fall");
    assert!(back.starts_with("workload.arrivals: line 2, \"1\""), "{back}");
    let zero = with("1", "30,0").expect_err("no answer");
    assert!(zero.starts_with("workload.lengths: line 1, \"30,0\""), "{zero}");
}

#[test]
fn placements_are_read_and_those_of_others_refused() {
    let text = changed(&[("\"swarm\"", "\"here.json\"")], "");
    let file = parse(&text).expect("a scenario");
    let with = |placement| {
        let files = Files { placement: Some(placement), ..files() };
        file.resolve(files).map_err(|it| it.to_string())
    };
    let layout = r#"{"layout": {"0": [0, 4], "4": [4, 8]}}"#;
    let scenario = with(layout).expect("a layout");
    let placed = scenario.place(&mut |_| ControlFlow::Continue(())).expect("a placement");
    assert!(scenario.run(&placed).expect("a run").finished > 0);
    let short = with(r#"{"layout": {"0": [0, 4], "4": [4, 6]}}"#).expect_err("six layers");
    assert_eq!(
        short,
        "the placement is of a model of 6 layers, the scenario serves toy of 8 layers; plan toy of 8 \
         layers first"
    );
    let stranger = with(r#"{"layout": {"9": [0, 8]}}"#).expect_err("six hosts");
    assert!(stranger.contains("names host \"9\""), "{stranger}");
    let broken = with("{").expect_err("no JSON");
    assert!(broken.starts_with("the placement file cannot be read"), "{broken}");
    let hole = with(r#"{"layout": {"0": [0, 3], "4": [4, 8]}}"#).expect("read, not served");
    let placed = hole.place(&mut |_| ControlFlow::Continue(())).expect("as the file says");
    assert_eq!(
        hole.run(&placed).expect_err("layer 3 is missing").to_string(),
        "placement: no host holds layer 3 of 8; choose a placement that covers all of them"
    );
}

#[test]
fn a_plan_printed_as_json_is_a_placement() {
    use thalweg_planner::bound;
    use thalweg_planner::report::{Remarks, Report};
    let scenario = resolve(SCENARIO).expect("a scenario");
    let placed = scenario.place(&mut |_| ControlFlow::Continue(())).expect("a placement");
    let remarks = Remarks {
        method: "coverage".to_owned(),
        cluster: "six".to_owned(),
        model: "toy".to_owned(),
        flow_other_charge: 0.0,
        seconds: 0.0,
        seed: 0,
        worst_loss: None,
        network_proof: None,
        notes: Vec::new(),
    };
    let proof = bound::prove(&scenario.resolved.instance, thalweg_planner::Charge::Full);
    let mut report =
        Report::new(&scenario.resolved.instance, &placed.placement, &placed.flow, proof, remarks);
    report.placement[1].chunk_tokens = Some(48);
    report.placement[1].micro_batches = Some(3);
    let text = serde_json::to_string(&report).expect("JSON");
    let read = read_placement(&text, &scenario.resolved).expect("a plan");
    assert_eq!(read.placement, placed.placement);
    let steps = |scenario: &str| {
        let file = parse(&scenario.replace("swarm", "plan.json")).expect("a scenario");
        let files = Files { cluster: CLUSTER, placement: Some(&text), ..Files::default() };
        let bounds = file.resolve(files).expect("a scenario").bounds;
        bounds.iter().map(|it| (it.chunk_tokens, it.micro_batches)).collect::<Vec<_>>()
    };
    assert_eq!(steps(SCENARIO)[..3], [(128, 0), (48, 3), (128, 0)]);
    let own = format!("{SCENARIO}\n[bounds]\nchunk_tokens = 16\n");
    assert_eq!(steps(&own)[..3], [(16, 0), (16, 3), (16, 0)], "the scenario has the last word");
    assert_eq!(read.flow.hops.len(), placed.flow.hops.len());
    for (read, placed) in read.flow.hops.iter().zip(&placed.flow.hops) {
        assert_eq!((read.from, read.to, read.position), (placed.from, placed.to, placed.position));
        // JSON is read to the last bit but one.
        assert!((read.tokens_per_second / placed.tokens_per_second - 1.0).abs() < 1e-12);
    }
    let other = text.replace("\"model\":\"toy\"", "\"model\":\"big\"");
    assert_eq!(
        read_placement(&other, &scenario.resolved).expect_err("another model").to_string(),
        "the placement is of big, the scenario serves toy; plan toy first"
    );
}

/// The scenarios of the repository, with their clusters.
#[test]
fn scenarios_of_the_repository_resolve() {
    let single = include_str!("../../../../examples/clusters/single24.toml");
    let geo = include_str!("../../../../examples/clusters/geo24.toml");
    let hetero = include_str!("../../../../examples/clusters/hetero42.toml");
    macro_rules! scenario {
        ($name:literal) => {
            include_str!(concat!("../../../../examples/scenarios/", $name, ".toml"))
        };
    }
    let all = [
        (single, scenario!("single24-offline")),
        (single, scenario!("single24-online")),
        (single, scenario!("single24-offline-30b")),
        (single, scenario!("single24-online-30b")),
        (geo, scenario!("geo24-offline")),
        (geo, scenario!("geo24-online")),
        (geo, scenario!("geo24-offline-30b")),
        (geo, scenario!("geo24-online-30b")),
        (hetero, scenario!("hetero42-offline")),
        (hetero, scenario!("hetero42-online")),
        (hetero, scenario!("hetero42-offline-30b")),
        (hetero, scenario!("hetero42-online-30b")),
    ];
    for (cluster, text) in all {
        let files = Files { cluster, ..Files::default() };
        let scenario = parse(text).and_then(|it| it.resolve(files));
        assert!(scenario.is_ok(), "{:?}\n{text}", scenario.err());
    }
}
