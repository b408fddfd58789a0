//! Sound plans pass; plans that were tampered with do not.

use proptest::prelude::*;

use super::*;
use crate::Charge;
use crate::bound::{Reason, prove};
use crate::cluster::{Choice, parse};
use crate::flow::maximum;
use crate::instance::Placement;
use crate::report::{Remarks, Weight};
use thalweg_wire::LayerRange;

const MODEL: &str = "tiny";

/// Two regions, a shared line between them, and a policy.
const CLUSTER: &str = r#"
model = "tiny"
hosts = [
    { name = "a0", machine = "big", region = "east" },
    { name = "a1", machine = "big", region = "east" },
    { name = "b0", machine = "small", region = "west" },
    { name = "b1", machine = "small", region = "west" },
]
[network]
default = { bytes_per_second = 1_000_000, latency_seconds = 0.001 }
shared = [{ name = "the sea", bytes_per_second = 9_000, carries = [["east", "west"]] }]
[policy]
first_stage_hosts = ["a0", "a1"]
[machines.big]
memory_bytes = 1e9
nic_bytes_per_second = 1e9
load_bytes_per_second = 1e9
[machines.small]
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
machine = "big"
tokens_per_second = [120, 60, 40]
[[profiles]]
model = "tiny"
machine = "small"
tokens_per_second = [80, 40]
"#;

fn instance() -> Instance {
    let file = parse(CLUSTER).expect("the file is good");
    file.resolve(&Choice::default()).expect("the file is good").instance
}

/// The hosts hold `ranges`, routed along a maximum flow.
fn plan(instance: &Instance, ranges: &[(u32, u32)], charge: Charge) -> Report {
    let placement: Placement =
        ranges.iter().map(|&(first, end)| LayerRange::new(first, end).ok()).collect();
    let flow = maximum(instance, &placement, charge);
    let remarks = Remarks {
        method: "test".to_owned(),
        cluster: "test".to_owned(),
        model: MODEL.to_owned(),
        flow_other_charge: 0.0,
        seconds: 0.0,
        seed: 0,
        worst_loss: None,
        network_proof: None,
        notes: Vec::new(),
    };
    Report::new(instance, &placement, &flow, prove(instance, charge), remarks)
}

const SOUND: [(u32, u32); 4] = [(0, 3), (0, 2), (2, 4), (3, 4)];

fn findings(report: &Report, instance: &Instance) -> Vec<Finding> {
    verify(report, instance, MODEL).expect_err("the plan is wrong")
}

#[test]
fn a_sound_plan_passes_under_both_charges() {
    let instance = instance();
    for charge in [Charge::Full, Charge::Work] {
        let report = plan(&instance, &SOUND, charge);
        assert!(report.flow > 50.0, "{report:?}");
        let verdict = verify(&report, &instance, MODEL).expect("the plan is sound");
        let hops = report.weights.len();
        assert_eq!(verdict, Verdict { hosts: 4, hops, bound: Bound::Proved });
    }
}

#[test]
fn a_report_survives_json() {
    let report = plan(&instance(), &SOUND, Charge::Full);
    let text = serde_json::to_string(&report).expect("numbers and strings have a text");
    assert_eq!(serde_json::from_str::<Report>(&text).expect("the same type"), report);
}

#[test]
fn placements_that_cannot_be_are_named() {
    let instance = instance();
    let change = |to: &dyn Fn(&mut Report)| {
        let mut report = plan(&instance, &SOUND, Charge::Full);
        to(&mut report);
        findings(&report, &instance)[0].to_string()
    };
    assert_eq!(change(&|it| it.placement[0].end = 4), "a0 cannot hold 0..4: at most 3 layers fit");
    assert_eq!(
        change(&|it| it.placement[0].end = 9),
        "a0 holds 0..9, not a range within the 4 layers"
    );
    assert_eq!(
        change(&|it| it.placement[2].first = 4),
        "b0 holds 4..4, not a range within the 4 layers"
    );
    assert_eq!(
        change(&|it| it.placement[3].first = 0),
        "policy does not let b1 hold the first layer"
    );
    assert_eq!(
        change(&|it| it.placement[1].host = "zz".to_owned()),
        "the placement names \"zz\", which is not in the cluster"
    );
    assert_eq!(change(&|it| it.placement[1].host = "a0".to_owned()), "a0 is placed twice");
    assert_eq!(
        change(&|it| it.model = "other".to_owned()),
        "the plan is for model \"other\", the cluster resolves to \"tiny\""
    );
}

#[test]
fn a_shared_capacity_binds_the_weights() {
    let mut instance = instance();
    let report = plan(&instance, &SOUND, Charge::Full);
    instance.network.shared[0].tokens_per_second = report.flow / 2.0;
    let found = findings(&report, &instance);
    assert!(found.iter().any(|it| it.to_string().starts_with("the sea carries")), "{found:?}");
}

#[test]
fn partial_hops_need_partial_inference() {
    let mut instance = instance();
    let mut report = plan(&instance, &[(0, 3), (0, 2), (2, 4), (2, 4)], Charge::Full);
    let partial = |it: &Weight| it.from == "a0" && it.position == 3;
    assert!(report.weights.iter().any(partial), "{:?}", report.weights);
    instance.partial = false;
    report.partial_inference = false;
    let found = findings(&report, &instance);
    let said = |it: &Finding| it.to_string().contains("without partial inference");
    assert!(found.iter().any(said), "{found:?}");
}

/// A cluster of the examples, with hosts that each hold as much as fits, spread evenly.
fn example(text: &str) -> Instance {
    let file = parse(text).expect("the examples are good");
    file.resolve(&Choice::default()).expect("the examples are good").instance
}

#[test]
fn certificates_of_real_clusters_hold_and_no_lower_bound_does() {
    for text in [
        include_str!("../../../examples/clusters/single24.toml"),
        include_str!("../../../examples/clusters/hetero42.toml"),
    ] {
        let instance = example(text);
        for charge in [Charge::Full, Charge::Work] {
            let mut report = plan(&instance, &[], charge);
            report.model = MODEL.to_owned();
            let verdict = verify(&report, &instance, MODEL).expect("an empty plan is sound");
            assert_eq!(verdict.bound, Bound::Proved);
            report.bound *= 0.99;
            assert!(verify(&report, &instance, MODEL).is_err(), "below its own certificate");
            report.proof.value *= 0.99;
            assert!(verify(&report, &instance, MODEL).is_err(), "with a forged certificate");
        }
    }
}

#[test]
fn a_certificate_for_other_hosts_is_refused() {
    let instance = example(include_str!("../../../examples/clusters/single24.toml"));
    let mut report = plan(&instance, &[], Charge::Full);
    let Reason::Configuration { prices } = &mut report.proof.reason else {
        panic!("covers prove it: {:?}", report.proof)
    };
    prices.pop();
    let found = findings(&report, &instance)[0].to_string();
    assert!(found.contains("prices"), "{found}");
    report.charge = crate::report::ChargeName::WorkCharge;
    report.proof.reason = Reason::Configuration { prices: Vec::new() };
    let found = findings(&report, &instance);
    assert!(found.iter().any(|it| it.to_string().contains("full charge")), "{found:?}");
}

/// One small host alone may hold the first layer: 80 tokens/s, which only prices of layers prove.
#[test]
fn prices_of_layers_are_checked() {
    let mut instance = instance();
    instance.hosts.iter_mut().for_each(|it| it.may_be_first = it.name == "b1");
    let report = plan(&instance, &[], Charge::Full);
    assert!(matches!(report.proof.reason, Reason::Layers { .. }), "{:?}", report.proof);
    let verdict = verify(&report, &instance, MODEL).expect("an empty plan is sound");
    assert_eq!(verdict.bound, Bound::Proved);
    let forge = |to: &dyn Fn(&mut Vec<f64>)| {
        let mut forged = report.clone();
        let Reason::Layers { prices } = &mut forged.proof.reason else { unreachable!() };
        to(prices);
        findings(&forged, &instance)[0].to_string()
    };
    let found = forge(&|prices| prices.fill(0.25));
    assert!(found.contains("hosts are worth"), "{found}");
    let found = forge(&|prices| prices.truncate(3));
    assert!(found.contains("3 prices for 4 layers"), "{found}");
    let mut lower = report.clone();
    (lower.proof.value, lower.bound) = (79.0, 79.0);
    assert!(verify(&lower, &instance, MODEL).is_err(), "with a forged bound");
}

proptest! {
    #[test]
    fn a_changed_weight_is_refused(at in 0_usize..16, factor in prop_oneof![0.0..0.99, 1.01..9.0], work: bool) {
        let instance = instance();
        let mut report = plan(&instance, &SOUND, if work { Charge::Work } else { Charge::Full });
        let at = at % report.weights.len();
        report.weights[at].tokens_per_second *= factor;
        prop_assert!(verify(&report, &instance, MODEL).is_err());
    }

    #[test]
    fn a_moved_range_is_refused(at in 0_usize..4, by in 1_u32..4) {
        let instance = instance();
        let mut report = plan(&instance, &SOUND, Charge::Full);
        // Tokens leave where a range ends, so that no end can move.
        report.placement[at].end += by;
        prop_assert!(verify(&report, &instance, MODEL).is_err());
        report.placement[at].end = report.placement[at].end.saturating_sub(2 * by);
        prop_assert!(verify(&report, &instance, MODEL).is_err());
    }

    #[test]
    fn no_report_makes_it_panic(flow: f64, bound: f64, position: u32, rate: f64, first: u32, end: u32) {
        let instance = instance();
        let mut report = plan(&instance, &SOUND, Charge::Work);
        (report.flow, report.bound) = (flow, bound);
        report.weights[0].position = position;
        report.weights[1].tokens_per_second = rate;
        report.placement[0].first = first;
        report.placement[1].end = end;
        let _either = verify(&report, &instance, MODEL);
    }
}
