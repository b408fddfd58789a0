//! The picture holds what the plan says, whatever names it has.

use super::*;
use crate::Charge;
use crate::bound::prove;
use crate::cluster::{Choice, generate, parse};
use crate::flow::maximum;
use crate::instance::Placement;
use crate::method::Method;
use crate::place::swarm::Swarm;
use crate::report::Remarks;
use std::ops::ControlFlow;

fn plan(instance: &Instance, placement: &Placement) -> Report {
    let flow = maximum(instance, placement, Charge::Full);
    let remarks = Remarks {
        method: "swarm".to_owned(),
        cluster: "test".to_owned(),
        model: "a model".to_owned(),
        flow_other_charge: 0.0,
        seconds: 1.0,
        seed: 0,
        worst_loss: None,
        network_proof: None,
        notes: Vec::new(),
    };
    Report::new(instance, placement, &flow, prove(instance, Charge::Full), remarks)
}

fn swarm(instance: &Instance) -> Placement {
    let found = Swarm.place(instance, 0, &mut |_| ControlFlow::Continue(()));
    found.expect("the model fits").placement
}

fn example() -> Instance {
    let file = parse(include_str!("../../../examples/clusters/single24.toml"));
    file.expect("it is good").resolve(&Choice::default()).expect("it is good").instance
}

/// Every element is closed, and nothing stands outside.
fn well_formed(svg: &str) {
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    for line in svg.lines().filter(|it| !it.starts_with("<svg") && !it.starts_with("</svg")) {
        let closed = ["/>", "</text>", "</path>", "font-family=\"Helvetica, Arial, sans-serif\">"];
        assert!(line.starts_with('<') && closed.iter().any(|it| line.ends_with(it)), "{line}");
        assert!(!line.contains("NaN") && !line.contains("inf"), "{line}");
    }
}

#[test]
fn every_host_and_every_hop_is_drawn() {
    let instance = example();
    let report = plan(&instance, &swarm(&instance));
    let svg = draw(&report, &instance);
    well_formed(&svg);
    for held in &report.placement {
        assert!(svg.contains(&format!(">{}</text>", held.host)), "{} is missing", held.host);
    }
    assert_eq!(svg.matches("<path ").count(), report.weights.len());
    assert!(svg.contains("a model on test: 757.9 tokens/s"), "the title says the flow");
    assert!(svg.contains(RED), "something limits");
}

#[test]
fn names_cannot_break_out() {
    let mut instance = example();
    instance.hosts[0].name = "<script>&\"\u{1}".to_owned();
    instance.regions[0] = "</svg>".to_owned();
    let report = plan(&instance, &swarm(&instance));
    let svg = draw(&report, &instance);
    well_formed(&svg);
    assert!(!svg.contains("<script>") && svg.contains("&lt;script&gt;&amp;&quot; "));
    assert_eq!(svg.matches("</svg>").count(), 1);
}

#[test]
fn many_hosts_share_rows_and_none_at_all_is_a_picture() {
    let file = generate(300, 1);
    let instance = file.resolve(&Choice::default()).expect("generated files are good").instance;
    let svg = draw(&plan(&instance, &swarm(&instance)), &instance);
    well_formed(&svg);
    assert!(svg.contains("hosts that hold the same are one row"));
    well_formed(&draw(&plan(&instance, &vec![None; 300]), &instance));
}
