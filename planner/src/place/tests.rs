use std::ops::ControlFlow;

use super::*;
use crate::cluster::{self, Choice};
use crate::flow;
use crate::instance::Instance;
use crate::method::Found;

const SINGLE24: &str = include_str!("../../../examples/clusters/single24.toml");
const GEO24: &str = include_str!("../../../examples/clusters/geo24.toml");
const HETERO42: &str = include_str!("../../../examples/clusters/hetero42.toml");

fn example(text: &str, partial: bool) -> Instance {
    let choice = Choice { partial, ..Choice::default() };
    cluster::parse(text).unwrap().resolve(&choice).unwrap().instance
}

fn place(name: &str, instance: &Instance, seed: u64) -> Option<Found> {
    method(name).unwrap().place(instance, seed, &mut |_| ControlFlow::Continue(()))
}

/// Flow as a method's own rules allow it.
fn judged(instance: &Instance, found: &Found) -> f64 {
    match &found.pipelines {
        Some(pipelines) => pipelines::flow(instance, &found.placement, pipelines),
        None => flow::value(instance, &found.placement),
    }
}

fn close(found: f64, expected: f64) -> bool {
    (found / expected - 1.0).abs() < 1e-6
}

/// Layouts recorded in the Helix artifact (ASPLOS 2025, repository Thesys-lab/Helix-ASPLOS25).
#[test]
fn swarm_has_the_flow_of_the_artifact() {
    let recorded = [
        (SINGLE24, 757.853_185_722_784),
        (GEO24, 616.455_078_125),
        (HETERO42, 4892.242_429_600_681),
    ];
    for (text, expected) in recorded {
        for partial in [false, true] {
            let instance = example(text, partial);
            let found = place("swarm", &instance, 0).unwrap();
            let value = judged(&instance, &found);
            assert!(close(value, expected), "{value} instead of {expected}");
        }
    }
}

/// The artifact's layouts come from one order of hosts, which its random generator fixes; ours
/// draws others. The recorded flows lie inside what 20 orders give.
#[test]
fn petals_of_the_artifact_is_inside_the_range_of_20_orders() {
    let recorded = [
        ("single24, whole hosts", SINGLE24, false, 531.702_584_552_362),
        ("single24", SINGLE24, true, 952.107_398_485_064),
        ("geo24, whole hosts", GEO24, false, 0.0),
        ("geo24", GEO24, true, 952.107_398_485_064),
        ("hetero42, whole hosts", HETERO42, false, 655.730_264_594_112),
        ("hetero42", HETERO42, true, 3292.243_768_977_14),
    ];
    for (name, text, partial, expected) in recorded {
        let instance = example(text, partial);
        let flows = (0..20)
            .map(|seed| place("petals", &instance, seed).map_or(0.0, |it| judged(&instance, &it)));
        let flows: Vec<f64> = flows.collect();
        let least = flows.iter().copied().fold(f64::INFINITY, f64::min);
        let most = flows.iter().copied().fold(0.0, f64::max);
        println!("petals, {name}: {least:.3} to {most:.3}, artifact {expected:.3}");
        assert!(least <= expected * (1.0 + 1e-9) && expected <= most * (1.0 + 1e-9), "{name}");
    }
}

#[test]
fn full_stages_are_the_homogeneous_layout_of_the_artifact() {
    let found = homogeneous::full_stages(&example(SINGLE24, false));
    assert_eq!((found.len(), found[0].hosts.len()), (1, 9));
    assert!(close(found[0].flow, 531.702_584_552_362));
}

#[test]
fn methods_on_the_examples() {
    for (cluster, text) in [("single24", SINGLE24), ("geo24", GEO24), ("hetero42", HETERO42)] {
        let instance = example(text, true);
        for (name, _) in NAMES.iter().filter(|it| !it.0.starts_with("milp")) {
            let found = place(name, &instance, 0);
            println!("{cluster} {name}: {:?}", found.map(|it| judged(&instance, &it)));
        }
    }
}
