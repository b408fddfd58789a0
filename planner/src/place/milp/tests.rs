use super::*;
use crate::cluster::{self, Choice};
use crate::flow;
use crate::instance::{Class, Host, Network, Pairs, Rates, Shared, Wire};
use crate::place::range;

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
        let program = Model::new(&example(text, false), links_max, false).program;
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
            let model = Model::new(&instance, None, true);
            let start = model.start(&found.placement).unwrap();
            let value = flow::value(&instance, &found.placement);
            assert!((start.objective - value).abs() <= 1e-6 * value.max(1.0), "{name} {value}");
            assert_eq!(model.placement(&start.values), found.placement);
        }
    }
}

/// A small cluster at random: rates that fall with the layers held and, for some, at the ends of
/// the model; policy, slow cards, missing and slow links, a shared line.
fn small(seed: u64, partial: bool) -> Instance {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (hosts, layers) = (3, 4);
    let classes = (0..hosts).map(|_| {
        let most = rng.usize(1..=4);
        let mut rate = 40.0 + 60.0 * rng.f64();
        let mut table = vec![0.0];
        for _ in 0..most {
            table.push(rate);
            rate *= 0.5 + 0.5 * rng.f64();
        }
        let slower = |factor: f64| table.iter().map(|it| it * factor).collect::<Vec<_>>();
        let rates = if rng.bool() {
            Rates::uniform(table)
        } else {
            Rates::new(table.clone(), slower(0.9), slower(0.8), slower(0.7))
        };
        Class { name: "any".to_owned(), rates, device: None }
    });
    let classes = classes.collect();
    let wire = |rng: &mut fastrand::Rng| {
        let tokens_per_second = 10.0 + 100.0 * rng.f64();
        (rng.u8(0..8) > 0).then_some(Wire { tokens_per_second, latency_seconds: 0.0 })
    };
    let host = |at: usize, rng: &mut fastrand::Rng| Host {
        name: at.to_string(),
        class: at,
        region: at % 2,
        may_be_first: rng.u8(0..5) > 0,
        may_be_last: rng.u8(0..5) > 0,
        nic_in: if rng.u8(0..4) == 0 { 30.0 } else { 1e6 },
        nic_out: if rng.u8(0..4) == 0 { 30.0 } else { 1e6 },
        price_per_hour: 0.0,
        load_bytes_per_second: 1e9,
    };
    Instance {
        layers,
        classes,
        hosts: (0..hosts).map(|it| host(it, &mut rng)).collect(),
        regions: vec!["a".to_owned(), "b".to_owned()],
        network: Network {
            pairs: Pairs::Each((0..hosts * hosts).map(|_| wire(&mut rng)).collect()),
            enter: (0..hosts).map(|_| wire(&mut rng)).collect(),
            leave: (0..hosts).map(|_| wire(&mut rng)).collect(),
            shared: vec![Shared {
                name: "line".to_owned(),
                tokens_per_second: 25.0,
                carries: vec![(0, 1)],
            }],
        },
        partial,
        layer_bytes: 1e9,
    }
}

/// The best of all placements, one by one.
fn brute(instance: &Instance) -> f64 {
    let ends = (0..instance.layers)
        .flat_map(|first| (first + 1..=instance.layers).map(move |end| range(first, end)));
    let choices: Vec<_> = ends.chain([None]).collect();
    let hosts = instance.hosts.len() as u32;
    let placements = (0..choices.len().pow(hosts)).map(|code| {
        let choice = |host: u32| choices[code / choices.len().pow(host) % choices.len()];
        (0..hosts).map(choice).collect::<Placement>()
    });
    let fits = |placement: &Placement| {
        let mut held = placement.iter().enumerate();
        held.all(|(host, it)| it.is_none_or(|it| instance.rate(host, it) > 0.0))
    };
    placements.filter(fits).map(|it| flow::value(instance, &it)).fold(0.0, f64::max)
}

#[test]
fn small_programs_find_what_trying_everything_finds() {
    let mut positive = 0;
    for seed in 0..24 {
        for (partial, redundant) in [(false, false), (false, true), (true, false), (true, true)] {
            let instance = small(seed, partial);
            let milp = Milp { redundant, ..Milp::default() };
            let found = milp.place(&instance, seed, &mut |_| ControlFlow::Continue(()));
            let best = brute(&instance);
            let value = found.as_ref().map_or(0.0, |it| flow::value(&instance, &it.placement));
            let what =
                format!("seed {seed}, partial {partial}, redundant {redundant}: {value} of {best}");
            assert!((value - best).abs() <= 1e-3 * best, "{what}");
            if let Some(found) = found {
                positive += 1;
                assert!(found.bound.unwrap() >= best * (1.0 - 1e-6), "{what}");
            }
        }
    }
    assert!(positive > 40, "most of the clusters can serve");
}
