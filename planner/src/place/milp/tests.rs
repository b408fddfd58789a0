use super::*;
use crate::cluster::{self, Choice};
use crate::flow;

const SINGLE24: &str = include_str!("../../../../examples/clusters/single24.toml");
const GEO24: &str = include_str!("../../../../examples/clusters/geo24.toml");
const HETERO42: &str = include_str!("../../../../examples/clusters/hetero42.toml");
const SMALL10: &str = include_str!("../../../../examples/clusters/small10.toml");

fn example(text: &str, partial: bool) -> Instance {
    let choice = Choice { partial, ..Choice::default() };
    cluster::parse(text).unwrap().resolve(&choice).unwrap().instance
}

/// Rows and columns of the programs whose solver logs are in the Helix artifact (ASPLOS 2025,
/// repository Thesys-lab/Helix-ASPLOS25).
#[test]
fn programs_are_as_large_as_those_of_the_artifact() {
    let logged = [
        (SINGLE24, None, 1848, 1376),
        (GEO24, Some(12), 1122, 876),
        (GEO24, None, 1848, 1376),
        (HETERO42, Some(12), 2772, 2144),
        (HETERO42, None, 5502, 4004),
        (SMALL10, None, 350, 316),
    ];
    for (text, links_max, rows, columns) in logged {
        let program = Model::new(&example(text, false), links_max, true).program;
        assert_eq!((program.rows.len(), program.columns.len()), (rows, columns));
    }
}

/// A start is worth what the placement carries, with whole hosts and with partial inference.
#[test]
fn a_start_carries_the_flow_of_its_placement() {
    for (text, partial) in [(SINGLE24, false), (GEO24, true)] {
        let instance = example(text, partial);
        for name in ["swarm", "petals"] {
            let method = super::super::method(name).unwrap();
            let go_on = &mut |_| ControlFlow::Continue(());
            let Some(found) = method.place(&instance, 0, go_on) else { continue };
            let model = Model::new(&instance, None, false);
            let start = model.start(&found.placement).unwrap();
            let value = flow::value(&instance, &found.placement);
            assert!((start.objective - value).abs() <= 1e-6 * value.max(1.0), "{name} {value}");
            assert_eq!(model.placement(&start.values), found.placement);
        }
    }
}
