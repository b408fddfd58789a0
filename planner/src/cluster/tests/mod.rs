mod measured;
mod planned;
mod random;
mod refusals;

use thalweg_wire::LayerRange;

use super::*;
use crate::instance::Pairs;

const SINGLE24: &str = include_str!("../../../../examples/clusters/single24.toml");
const GEO24: &str = include_str!("../../../../examples/clusters/geo24.toml");
const HETERO42: &str = include_str!("../../../../examples/clusters/hetero42.toml");
const TOUR: &str = include_str!("../../../../examples/clusters/tour.toml");
const SMALL10: &str = include_str!("../../../../examples/clusters/small10.toml");

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
    let table = include_str!("../../../instances/expected/throughput.csv");
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

/// The simple bound `sum of max k T(k) / L` that the artifact prints for its clusters.
#[test]
fn layers_per_second_add_up_to_the_bound_of_the_artifact() {
    let bounds = [
        (SINGLE24, 2_803.860_988_272_895),
        (GEO24, 2_803.860_988_272_895),
        (HETERO42, 7_104.257_576_431_562),
        (SMALL10, 364.508_416_115_814),
    ];
    for (text, expected) in bounds {
        let it = resolved(text).instance;
        let most = |host: usize| {
            let rates = &it.class(host).rates;
            (1..=it.layers).map(|k| f64::from(k) * rates.most(k)).fold(0.0, f64::max)
        };
        let bound = (0..it.hosts.len()).map(most).sum::<f64>() / f64::from(it.layers);
        assert!((bound / expected - 1.0).abs() < 1e-9, "{bound} for {expected}");
    }
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

#[test]
fn the_tour_says_what_it_says() {
    let tour = resolved(TOUR);
    let it = &tour.instance;
    let at = |name: &str| it.hosts.iter().position(|it| it.name == name).expect("a host");
    let names: Vec<&str> = it.classes.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["A100", "L4", "A100 80 GB", "T4 1.25 GB/s", "RTX4090"]);
    assert_eq!(it.regions, ["eu-west", "us-east", "lab"]);
    assert_eq!(tour.notes, ["us-t4-11 is left out: policy excludes it"]);
    assert_eq!(it.hosts.len(), 4 + 8 + 1 + 11 + 2);
    assert_eq!(tour.mix, Mix { prompt_tokens: 1000.0, output_tokens: 192.0 });

    let price = |name: &str| it.hosts[at(name)].price_per_hour;
    assert_eq!(["eu-l4-3", "us-a100", "us-t4-0", "lab-0"].map(price), [0.80, 3.67, 0.53, 0.0]);
    let ends = |name: &str| (it.hosts[at(name)].may_be_first, it.hosts[at(name)].may_be_last);
    assert_eq!(ends("eu-a100-2"), (true, true));
    assert_eq!(ends("us-a100"), (false, true));
    assert_eq!(ends("lab-0"), (false, false));

    let tokens = |from: &str, to: &str| it.wire(at(from), at(to)).map(|it| it.tokens_per_second);
    assert_eq!(tokens("eu-l4-0", "eu-l4-1"), Some(1.25e9 / 16384.0));
    assert_eq!(tokens("eu-l4-0", "us-t4-0"), Some(12.5e6 / 16384.0));
    assert_eq!(tokens("eu-a100-0", "us-a100"), Some(125e6 / 16384.0));
    assert_eq!(tokens("lab-0", "eu-l4-0"), Some(2.5e6 / 16384.0));
    assert_eq!(tokens("lab-0", "us-t4-0"), None);
    let leave = |name: &str| it.network.leave[at(name)].map(|it| it.tokens_per_second);
    assert_eq!(leave("lab-0"), Some(1.25e6));
    assert_eq!(leave("lab-1"), None);
    assert_eq!(leave("us-t4-0"), Some(6.25e6));

    let shared = it
        .network
        .shared
        .iter()
        .map(|it| (it.name.as_str(), it.tokens_per_second * 16384.0, it.carries.clone()));
    let expected = [
        ("sea cable", 60e6, vec![(0, 1)]),
        ("egress of eu-west", 250e6, vec![(0, 1), (0, 2)]),
        ("egress of north", 500e6, vec![(0, 2), (1, 2)]),
    ];
    assert_eq!(shared.collect::<Vec<_>>(), expected);
}

#[test]
fn allowed_regions_hold_for_their_model_only() {
    let small = Choice { model: Some("llama-1-30b".to_owned()), ..Choice::default() };
    let without = TOUR.replace("name = \"lab\"", "name = \"x\"");
    let file = parse(&without.replace("lab-1", "x-1")).expect("a cluster file");
    let found = file.resolve(&small).expect("a good cluster");
    assert_eq!(found.instance.hosts.len(), 12);
    assert_eq!(
        found.notes[0],
        "us-a100 is left out: policy keeps llama-1-30b out of region us-east"
    );
    assert!(found.instance.classes.iter().all(|it| it.name != "RTX4090"));
}

/// A model whose layers, embedding and head take 10, 5 and 20 bytes, a KV block of 16 tokens 16.
const ENDS: &str = r#"
model = "tiny"
hosts = [{ name = "a", machine = "M" }, { name = "b", machine = "M", memory_bytes = 200 }]
workload = { prompt_tokens = 100, output_tokens = 100 }
network = { default = { bytes_per_second = 1000 } }
[machines.M]
memory_bytes = 100
nic_bytes_per_second = 300
load_bytes_per_second = 1
[models.tiny]
layers = 4
layer_bytes = 10
activation_bytes = 1
token_bytes = 1
kv_bytes_per_token_layer = 1
embedding_bytes = 5
head_bytes = 20
[[profiles]]
model = "tiny"
machine = "M"
"#;

#[test]
fn embedding_and_head_leave_less_kv_and_other_memory_more_or_less() {
    let curves = "kv_blocks = [5, 2]\nprefill_ms = [[1, 1]]\ndecode_ms = [[1, 1]]\n";
    let found = resolved(&format!("{ENDS}{curves}"));
    let kv = |class: usize| {
        found.instance.classes[class].device.as_ref().expect("curves").kv_token_layers.clone()
    };
    assert_eq!(kv(0), [0.0, 80.0, 64.0]);
    // 100 bytes more: 5 + 6 blocks, 2 + 3; with 3 layers 164 - 10 bytes are 3 blocks, with 4 of them 2.
    assert_eq!(kv(1), [0.0, 176.0, 160.0, 144.0, 128.0]);
    let of = |first, end| {
        let range = LayerRange::new(first, end).expect("not empty");
        found.instance.classes[0].rates.of(range, 4)
    };
    let (middle, first, last) = (of(1, 2), of(0, 1), of(3, 4));
    assert!(middle > first && first > last && last > 0.0, "{middle} {first} {last}");
    assert_eq!((of(2, 4) > 0.0, of(0, 2) > 0.0), (true, true));
}

#[test]
fn listed_rates_are_kept_where_weights_fit_and_the_card_allows() {
    let rates = "tokens_per_second = [400, 200, 120, 90]\n";
    let text =
        format!("{ENDS}{rates}").replace("head_bytes = 20", "head_bytes = 65\nhead_layers = 1");
    let found = resolved(&text);
    let of = |class: usize, first, end| {
        let range = LayerRange::new(first, end).expect("not empty");
        found.instance.classes[class].rates.of(range, 4)
    };
    // The card carries 300 activations; four layers, embedding and head are 110 bytes of 100.
    assert_eq!([of(0, 1, 2), of(0, 1, 3), of(0, 0, 3)], [300.0, 200.0, 120.0]);
    assert_eq!([of(0, 3, 4), of(0, 2, 4), of(0, 1, 4)], [200.0, 200.0 * 2.0 / 3.0, 90.0]);
    assert_eq!([of(0, 0, 4), of(1, 0, 4)], [0.0, 72.0]);
}

#[test]
fn longer_prompts_give_other_rates() {
    let file = parse(SINGLE24).expect("a cluster file");
    let at = |prompt_tokens| {
        let mix = Some(Mix { prompt_tokens, output_tokens: 240.0 });
        file.resolve(&Choice { mix, ..Choice::default() }).expect("a good cluster")
    };
    let (usual, long) = (at(750.0), at(3000.0));
    assert_eq!(usual.instance, resolved(SINGLE24).instance);
    for (machine, count) in [("A100", 12), ("L4", 4), ("T4", 2)] {
        let (usual, long) = (rate(&usual, machine, count), rate(&long, machine, count));
        assert!(long > 0.2 * usual && long < 4.0 * usual, "{machine}: {usual} to {long}");
    }
}
