//! Whatever a cluster resolves to, every step from there to a printed plan ends, and what is printed
//! verifies.

use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;
use crate::Charge;
use crate::frontier::{self, Objective, Targets};
use crate::instance::{Instance, Placement};
use crate::report::{Loss, Remarks, Report};
use crate::{bound, flow, place, sensitivity, survive, svg, verify};

/// Methods that end soon when told to; those by HiGHS have tests of their own.
const METHODS: [&str; 7] = [
    "coverage",
    "swarm",
    "petals",
    "petals-rebalanced",
    "separate",
    "separate-plus",
    "homogeneous",
];

fn report(found: &Resolved, instance: &Instance, placement: &Placement, charge: Charge) -> Report {
    let flow = flow::maximum(instance, placement, charge);
    let proof = bound::prove(&found.instance, charge);
    let binds = charge == Charge::Full && flow::links_bind(&found.instance);
    let worst = survive::worst_loss(instance, placement);
    let remarks = Remarks {
        method: "test".to_owned(),
        cluster: "test".to_owned(),
        model: found.model_name.clone(),
        flow_other_charge: 0.0,
        seconds: 0.0,
        seed: 0,
        worst_loss: worst.map(|it| Loss {
            host: instance.hosts[it.host].name.clone(),
            flow_kept: it.flow_kept,
            share: it.share,
        }),
        network_proof: binds.then(|| bound::network::prove(&found.instance, proof.value)).flatten(),
        notes: found.notes.clone(),
    };
    Report::new(instance, placement, &flow, proof, remarks)
}

/// Plans with every method, and asks all there is to ask of the plan.
fn planned(found: &Resolved) -> Result<(), TestCaseError> {
    let whole = &found.instance;
    for name in METHODS {
        let method = place::method(name).expect("its name is known");
        let placed = method.place(whole, 1, &mut |_| ControlFlow::Break(()));
        let Some(placed) = placed else { continue };
        let instance = match &placed.pipelines {
            Some(pipelines) => place::pipelines::confined(whole, pipelines),
            None => whole.clone(),
        };
        for charge in [Charge::Full, Charge::Work] {
            let report = report(found, &instance, &placed.placement, charge);
            prop_assert!(report.flow.is_finite() && report.flow >= 0.0, "{name}: {report:?}");
            let verdict = verify::verify(&report, whole, &found.model_name);
            prop_assert!(verdict.is_ok(), "{name}, {charge:?}: {verdict:?} {report:?}");
            prop_assert!(svg::draw(&report, whole).ends_with("</svg>\n"));
        }
        let once = &mut |_, _| ControlFlow::Break(());
        sensitivity::report(&instance, &placed.placement, 1, once);
        for objective in [Objective::Latency, Objective::Goodput, Objective::Cost] {
            let targets = Targets { mix: found.mix, objective, ..Targets::default() };
            frontier::rank(&instance, &targets, std::slice::from_ref(&placed.placement), None);
        }
    }
    survive::search(whole, 0.5, 1, None, &mut |_| ControlFlow::Break(()));
    prop_assert!(survive::limit(whole, 0.5).is_finite());
    Ok(())
}

proptest! {
    // Always the same clusters: what fails here is to be found when it is written.
    #![proptest_config(ProptestConfig {
        cases: 200,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_resolves_is_planned(file in random::file()) {
        if let Ok(found) = file.resolve(&Choice::default()) {
            planned(&found)?;
        }
    }
}

/// One host that holds everything, none that hold anything, two that do not reach each other.
#[test]
fn the_smallest_clusters_are_planned() {
    let tiny = |hosts: &str, network: &str| {
        resolved(&format!(
            "model = \"tiny\"\nhosts = [{hosts}]\n[network]\n{network}\n\
             [machines.m]\nmemory_bytes = 1e9\nnic_bytes_per_second = 1e9\n\
             load_bytes_per_second = 1e9\n\
             [models.tiny]\nlayers = 2\nlayer_bytes = 1e6\nactivation_bytes = 100\n\
             token_bytes = 2\nkv_bytes_per_token_layer = 100\n\
             [[profiles]]\nmodel = \"tiny\"\nmachine = \"m\"\ntokens_per_second = [80, 40]\n"
        ))
    };
    let one = "{ name = \"a\", machine = \"m\" }";
    let two = "{ name = \"a\", machine = \"m\", region = \"x\" }, \
               { name = \"b\", machine = \"m\", region = \"y\" }";
    let linked = "default = { bytes_per_second = 1e6 }";
    let apart = "gateway = { bytes_per_second = 1e6 }";
    for (hosts, network, flow) in [
        (one, linked, 40.0),
        (one, "", 0.0),
        (two, linked, 80.0),
        (two, apart, 80.0),
        (two, "default = { bytes_per_second = 0 }", 0.0),
    ] {
        let found = tiny(hosts, network);
        planned(&found).expect("every step ends");
        let best = place::method("coverage").expect("it is there");
        let mut watch = |_| ControlFlow::Continue(());
        let placed = best.place(&found.instance, 1, &mut watch);
        let reached = placed.map_or(0.0, |it| flow::value(&found.instance, &it.placement));
        assert!((reached - flow).abs() < 1e-9, "{hosts} {network}: {reached} for {flow}");
    }
}
