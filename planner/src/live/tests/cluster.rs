//! Clusters for tests, written in layers and seconds.

use thalweg_wire::{BitsPerSecond, Bytes, CurvePoint, HostId, LayerRange, ModelId, ModelShape};
use thalweg_wire::{End, Profile};

use crate::{Outcome, PlanHost, PlanLink, Problem, Search, Solution, Workload};

/// A layer of the test model. Its KV is so small that only weights count.
pub(crate) const LAYER: u64 = 1 << 30;

/// A host that computes a token in one layer in `seconds` and has memory for `layers` layers.
pub(crate) fn host(name: &str, seconds: f64, layers: u64) -> PlanHost {
    let curve = vec![CurvePoint { tokens: 1, seconds }];
    PlanHost {
        id: HostId::of(name),
        name: name.to_owned(),
        region: "here".to_owned(),
        // The KV of one request, a few bytes per layer, must fit beside the weights.
        memory: Bytes(layers * (LAYER + 1024)),
        profile: Profile { prefill: curve.clone(), decode: curve, head_seconds: 0.0 },
    }
}

/// A model of `layers` equal layers on `hosts`, with a fast link between every pair.
pub(crate) fn problem(layers: u32, hosts: Vec<PlanHost>) -> Problem {
    let mut links = Vec::new();
    for from in &hosts {
        for to in hosts.iter().filter(|it| it.id != from.id) {
            links.push(link(from, to, 100_000_000_000));
        }
    }
    let shape = ModelShape {
        model: ModelId([1; 32]),
        name: "test".to_owned(),
        layers,
        hidden: 1000,
        layer_bytes: vec![Bytes(LAYER); layers as usize],
        embedding_bytes: Bytes(0),
        head_bytes: Bytes(0),
        kv_bytes_per_token_layer: Bytes(1),
        context_tokens: 1024,
    };
    let workload = Workload { prompt_tokens: 8, output_tokens: 8 };
    Problem { shape, hosts, links, workload }
}

/// A link of one millisecond. A row of activations has 32,000 bits.
pub(crate) fn link(from: &PlanHost, to: &PlanHost, bits_per_second: u64) -> PlanLink {
    let bandwidth = BitsPerSecond(bits_per_second);
    PlanLink { from: from.id, to: to.id, rtt_us: 1000, bandwidth }
}

pub(crate) fn range(first: u32, end: u32) -> LayerRange {
    LayerRange::new(first, end).expect("not empty")
}

/// Searches to the end and expects a plan that makes sense.
pub(crate) fn planned(problem: Problem) -> Solution {
    match Search::new(&problem, 1).finish() {
        Outcome::Planned(solution) => {
            check(&problem, &solution);
            solution
        }
        Outcome::Infeasible(refusal) => panic!("no plan: {refusal}"),
    }
}

/// Asserts what every plan must satisfy: memory, conservation, links, time, bound.
pub(crate) fn check(problem: &Problem, solution: &Solution) {
    let layers = problem.shape.layers;
    let held = |id: HostId| solution.assignments.iter().find(|it| it.host == id);
    let sum = |pick: &dyn Fn(End, End) -> bool| -> f64 {
        let hops = solution.weights.iter().filter(|it| pick(it.from, it.to));
        hops.map(|it| it.tokens_per_second).sum()
    };
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-4 * solution.flow;
    assert!(solution.flow > 0.0 && solution.flow.is_finite());
    assert!(solution.flow <= solution.bound && solution.bound.is_finite());
    assert!(solution.flow_full_charge <= solution.flow * 1.001);
    assert!(near(sum(&|from, _| from == End::Source), solution.flow));
    assert!(near(sum(&|_, to| to == End::Sink), solution.flow));
    for it in &solution.assignments {
        assert!(it.layers.end() <= layers && it.batch_max > 0);
        let end = End::Host(it.host);
        assert!(near(sum(&|_, to| to == end), sum(&|from, _| from == end)), "flow is lost");
        let host = problem.hosts.iter().find(|host| host.id == it.host).expect("a known host");
        let weights = problem.shape.layer_bytes
            [it.layers.first() as usize..it.layers.end() as usize]
            .iter()
            .map(|it| u128::from(it.0))
            .sum::<u128>();
        let token = problem.shape.kv_bytes_per_token_layer.0 * u64::from(it.layers.count());
        let kv = u128::from(it.kv_tokens) * u128::from(token);
        assert!(weights + kv <= u128::from(host.memory.0), "memory is exceeded");
    }
    for hop in &solution.weights {
        assert!(hop.tokens_per_second > 0.0);
        let (first, end) = match (hop.from, hop.to) {
            (End::Source, End::Host(to)) => (0, held(to).expect("assigned").layers),
            (End::Host(from), End::Host(to)) => {
                let position = held(from).expect("assigned").layers.end();
                let link = problem.links.iter().rfind(|it| it.from == from && it.to == to);
                let bits = link.expect("a link").bandwidth.0 as f64;
                let row_bits = f64::from(problem.shape.hidden) * 32.0;
                assert!(hop.tokens_per_second <= bits / row_bits * 1.0001, "link is exceeded");
                (position, held(to).expect("assigned").layers)
            }
            (End::Host(from), End::Sink) => {
                assert_eq!(held(from).expect("assigned").layers.end(), layers);
                continue;
            }
            ends => panic!("no hop leads {ends:?}"),
        };
        assert!(end.contains(first), "a hop enters {end} at {first}");
    }
}
