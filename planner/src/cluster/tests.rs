use thalweg_wire::LayerRange;

use super::*;
use crate::instance::Pairs;

const SINGLE24: &str = include_str!("../../../examples/clusters/single24.toml");
const GEO24: &str = include_str!("../../../examples/clusters/geo24.toml");
const HETERO42: &str = include_str!("../../../examples/clusters/hetero42.toml");
const SMALL10: &str = include_str!("../../../examples/clusters/small10.toml");

fn resolved(text: &str) -> Resolved {
    parse(text).expect("a cluster file").resolve(&Choice::default()).expect("a good cluster")
}

fn rate(resolved: &Resolved, machine: &str, count: u32) -> f64 {
    let class = resolved.instance.classes.iter().find(|it| it.name == machine).expect("a class");
    class.rates.of(LayerRange::new(1, 1 + count).expect("not empty"), resolved.model.layers)
}

/// Rates as the artifact computes them, for three of its clusters.
#[test]
fn throughput_is_that_of_the_artifact() {
    let clusters =
        [("single24", SINGLE24), ("hetero42", HETERO42), ("small10", SMALL10), ("geo24", GEO24)];
    let clusters = clusters.map(|(name, text)| (name, resolved(text)));
    let table = include_str!("../../instances/expected/throughput.csv");
    let mut rows = 0;
    for row in table.lines().filter(|it| !it.starts_with('#')) {
        let [cluster, model, machine, count, expected] =
            row.split(',').collect::<Vec<_>>().try_into().expect("five columns");
        let expected: f64 = expected.parse().expect("a number");
        let count: u32 = count.parse().expect("a number");
        // geo24 has the machines of single24, and the estimate does not look at links.
        for (_, at) in clusters
            .iter()
            .filter(|it| it.0 == cluster || (it.0 == "geo24" && cluster == "single24"))
        {
            assert_eq!(at.model_name, model);
            let found = rate(at, machine, count);
            assert!((found / expected - 1.0).abs() < 1e-12, "{row}: {found}");
            rows += 1;
        }
    }
    assert_eq!(rows, 132);
}

#[test]
fn example_clusters_have_the_hosts_and_links_of_the_artifact() {
    let geo = resolved(GEO24).instance;
    assert_eq!((geo.hosts.len(), geo.regions.len()), (24, 3));
    let Pairs::Each(links) = &geo.network.pairs else { panic!("links are listed one by one") };
    assert_eq!(links.iter().flatten().count(), 24 * 23);
    let first = geo.network.enter[0].expect("every host has one");
    assert!((first.tokens_per_second - 7_100_000.0).abs() < 1e-6);
    assert!((first.latency_seconds - 0.055).abs() < 1e-12);

    let hetero = resolved(HETERO42).instance;
    assert_eq!((hetero.hosts.len(), hetero.classes.len()), (42, 7));
    let link = hetero.wire(0, 41).expect("all pairs are linked");
    assert!((link.tokens_per_second - 1e9 / 16384.0).abs() < 1e-6);
    assert_eq!(resolved(SMALL10).instance.layers, 60);
}
