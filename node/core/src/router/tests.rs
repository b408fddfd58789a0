use std::collections::BTreeMap;

use proptest::prelude::*;
use thalweg_wire::{Assignment, End, Epoch, ModelId, Weight};

use super::*;
use crate::policy::Pack;

/// What a test knows of hosts.
struct Known<U> {
    usable: U,
    loads: BTreeMap<HostId, HostLoad>,
    /// Hosts that hold the start of the prompt.
    holders: Vec<HostId>,
}

impl<U: Fn(HostId) -> bool> View for Known<U> {
    fn usable(&self, host: HostId) -> bool {
        (self.usable)(host)
    }

    fn load(&self, host: HostId) -> HostLoad {
        self.loads.get(&host).copied().unwrap_or_default()
    }

    fn held_tokens(&self, host: HostId, _layers: LayerRange) -> u32 {
        u32::from(self.holders.contains(&host)) * 16
    }
}

fn only<U: Fn(HostId) -> bool>(usable: U) -> Known<U> {
    Known { usable, loads: BTreeMap::new(), holders: Vec::new() }
}

fn all() -> Known<impl Fn(HostId) -> bool> {
    only(|_| true)
}

fn weighted(plan: &Plan) -> Router {
    Router::new(plan, &Pack::THALWEG.gateway)
}

fn routed(plan: &Plan, routing: Routing) -> Router {
    Router::new(plan, &GatewayPolicy { routing, ..Pack::HELIX.gateway })
}

/// Numbers of the hosts of the next route.
fn hosts(router: &mut Router, view: &dyn View) -> Vec<u64> {
    let route = router.route(view).expect("the usable hosts cover the model");
    route.hops().iter().map(|hop| hop.host.0).collect()
}

fn host(n: u64) -> End {
    End::Host(HostId(n))
}

fn plan(layers: u32, stages: &[(u64, u32, u32)], weights: &[(End, End, f64)]) -> Plan {
    let assign = |&(id, first, end)| {
        let layers = LayerRange::new(first, end).expect("not empty");
        Assignment {
            host: HostId(id),
            layers,
            kv_tokens: 1024,
            batch_max: 8,
            chunk_tokens: 128,
            step_us: 0,
            requests_max: 0,
            micro_batches: 0,
        }
    };
    let weigh = |&(from, to, tokens_per_second)| Weight { from, to, tokens_per_second };
    Plan {
        epoch: Epoch(1),
        term: 1,
        model: ModelId::default(),
        layers,
        assignments: stages.iter().map(assign).collect(),
        weights: weights.iter().map(weigh).collect(),
        flow: 0.0,
        bound: 0.0,
        bottleneck: String::new(),
    }
}

/// Two entries, a partial overlap and two exits: 1 -> {3, 4}, 2 -> {3, 4}.
fn diamond() -> Plan {
    plan(
        8,
        &[(1, 0, 4), (2, 0, 3), (3, 3, 8), (4, 2, 8)],
        &[
            (End::Source, host(1), 30.0),
            (End::Source, host(2), 10.0),
            (host(1), host(3), 20.0),
            (host(1), host(4), 10.0),
            (host(2), host(4), 10.0),
            (host(3), End::Sink, 20.0),
            (host(4), End::Sink, 20.0),
        ],
    )
}

#[test]
fn every_hop_carries_its_share_of_500_requests() {
    let plan = diamond();
    let mut router = weighted(&plan);
    let mut counts: BTreeMap<(End, End), u32> = BTreeMap::new();
    for _ in 0..500 {
        let route = router.route(&all()).expect("all hosts are usable");
        let hosts = route.hops().iter().map(|hop| End::Host(hop.host));
        let ends: Vec<End> = [End::Source].into_iter().chain(hosts).chain([End::Sink]).collect();
        for pair in ends.windows(2) {
            *counts.entry((pair[0], pair[1])).or_default() += 1;
        }
    }
    for Weight { from, to, tokens_per_second } in plan.weights {
        let expected = 500.0 * tokens_per_second / 40.0;
        let count = f64::from(counts.remove(&(from, to)).unwrap_or(0));
        assert!((count - expected).abs() <= 0.05 * expected, "{from:?} {to:?}: {count}");
    }
    assert_eq!(counts, BTreeMap::new(), "hops without flow were used");
}

#[test]
fn a_hop_computes_only_what_is_left() {
    let mut router = weighted(&diamond());
    let route =
        router.route(&only(|id| id == HostId(1) || id == HostId(4))).expect("1 and 4 cover");
    let layers: Vec<String> = route.hops().iter().map(|hop| hop.layers.to_string()).collect();
    assert_eq!(layers, ["0..4", "4..8"], "host 4 holds 2..8");
}

#[test]
fn shares_are_kept_among_what_is_left() {
    let mut router = weighted(&diamond());
    for _ in 0..10 {
        let route = router.route(&only(|id| id != HostId(4))).expect("3 still leads to the end");
        assert_eq!(route.last().host, HostId(3));
    }
    assert_eq!(router.route(&only(|id| id.0 < 3)), None, "no host of the last layer");
    assert_eq!(router.route(&only(|id| id.0 > 2)), None, "no host of the first layer");
}

#[test]
fn dead_ends_are_not_entered_and_hops_without_flow_are_a_last_resort() {
    let stages = [(1, 0, 4), (2, 0, 4), (3, 4, 8), (4, 4, 8)];
    let weights = [
        (End::Source, host(1), 9.0),
        (End::Source, host(2), 1.0),
        (host(1), host(3), 9.0),
        (host(2), host(4), 1.0),
    ];
    let mut router = weighted(&plan(8, &stages, &weights));
    let route = router.route(&only(|id| id.0 != 3 && id.0 != 2)).expect("1 and 4 cover");
    assert_eq!(route.last().host, HostId(4), "1 -> 4 has no flow, but nothing else is left");
}

proptest! {
    /// Whatever hosts are usable: a route uses only them, and one is found if they cover.
    #[test]
    fn routes_are_complete_and_honour_the_mask(
        stages in prop::collection::vec((0_u32..8, 1_u32..8), 1..8),
        mask: u8,
    ) {
        let stages: Vec<_> = (0..)
            .zip(&stages)
            .map(|(id, &(first, count))| (id, first, (first + count).min(8)))
            .collect();
        let usable = |id: HostId| mask >> id.0 & 1 == 1;
        let covered = (0..8).all(|layer| {
            stages.iter().any(|&(id, s, e)| usable(HostId(id)) && s <= layer && layer < e)
        });
        let mut router = weighted(&plan(8, &stages, &[]));
        for _ in 0..4 {
            match router.route(&only(usable)) {
                Some(route) => {
                    prop_assert!(route.hops().iter().all(|hop| usable(hop.host)));
                    prop_assert_eq!(route.end(), 8);
                }
                None => prop_assert!(!covered),
            }
        }
    }
}

#[test]
fn hops_below_a_share_of_the_flow_are_a_last_resort() {
    let stages = [(1, 0, 8), (2, 0, 8)];
    let weights = [(End::Source, host(1), 96.0), (End::Source, host(2), 4.0)];
    let mut router = Router::new(&plan(8, &stages, &weights), &Pack::HELIX.gateway);
    assert!((0..100).all(|_| hosts(&mut router, &all()) == [1]), "4 % are below 5 %");
    assert_eq!(hosts(&mut router, &only(|id| id.0 == 2)), [2]);
}

#[test]
fn a_held_prefix_is_preferred_within_the_weights() {
    let weights = [(End::Source, host(1), 10.0), (End::Source, host(2), 10.0)];
    let plan = plan(8, &[(1, 0, 8), (2, 0, 8)], &weights);
    let mut router = weighted(&plan);
    let view = Known { holders: vec![HostId(2)], ..all() };
    let chosen: Vec<u64> = (0..100).map(|_| hosts(&mut router, &view)[0]).collect();
    assert!(chosen[..8].iter().all(|&it| it == 2), "{chosen:?}");
    let share = chosen.iter().filter(|&&it| it == 2).count();
    assert!((50..=54).contains(&share), "{share} of 100: at most four ahead of its half");
    let mut router = Router::new(&plan, &Pack::HELIX.gateway);
    let chosen: Vec<u64> = (0..4).map(|_| hosts(&mut router, &view)[0]).collect();
    assert_eq!(chosen, [1, 2, 1, 2], "without affinity nobody looks");
}

#[test]
fn the_shortest_delay_counts_whole_routes() {
    let stages = [(1, 0, 4), (2, 0, 4), (3, 4, 8), (4, 0, 8)];
    let mut router = routed(&plan(8, &stages, &[]), Routing::ShortestDelay);
    assert_eq!(hosts(&mut router, &all()), [4], "one hop is shorter than two");
    let queue = |queue_us, unseen| HostLoad { queue_us, unseen, requests: 0 };
    let loads = [(1, queue(9000, 0)), (2, queue(500, 0)), (3, queue(500, 0)), (4, queue(9000, 0))];
    let loads = loads.map(|(id, load)| (HostId(id), load));
    let mut view = Known { loads: loads.into(), ..all() };
    assert_eq!(hosts(&mut router, &view), [2, 3]);
    view.loads.insert(HostId(3), queue(500, 1));
    assert_eq!(hosts(&mut router, &view), [4], "a request it has not told of waits there");
    assert_eq!(router.route(&only(|id| id.0 < 3)), None);
}

#[test]
fn the_shortest_queue_is_joined() {
    let plan = plan(8, &[(1, 0, 4), (2, 0, 4), (3, 4, 8), (4, 4, 8)], &[]);
    let mut router = routed(&plan, Routing::ShortestQueue);
    let load = |requests| HostLoad { requests, ..HostLoad::default() };
    let loads = [(1, 5), (2, 3), (3, 1), (4, 2)].map(|(id, it)| (HostId(id), load(it)));
    assert_eq!(hosts(&mut router, &Known { loads: loads.into(), ..all() }), [2, 3]);
}

#[test]
fn random_hops_are_even_and_repeat_with_their_seed() {
    let plan = plan(8, &[(1, 0, 8), (2, 0, 8), (3, 0, 8), (4, 0, 8)], &[]);
    let draw = |seed| {
        let mut router = routed(&plan, Routing::Random { seed });
        (0..400).map(|_| hosts(&mut router, &all())[0]).collect::<Vec<_>>()
    };
    assert_eq!(draw(3), draw(3));
    assert_ne!(draw(3), draw(4));
    for id in 1..=4 {
        let count = draw(3).iter().filter(|&&it| it == id).count();
        assert!((70..=130).contains(&count), "{count} of 400");
    }
}

#[test]
fn swarm_uses_hops_in_inverse_proportion_to_their_times() {
    let plan = plan(8, &[(1, 0, 8), (2, 0, 8)], &[]);
    let mut router = routed(&plan, Routing::Swarm { gamma: 0.8 });
    let mut chosen = [0_u32; 2];
    for _ in 0..600 {
        let route = router.route(&all()).expect("both are usable");
        let id = route.first().host.0;
        chosen[id as usize - 1] += 1;
        router.answered(&route, Duration::from_millis(if id == 1 { 100 } else { 200 }));
    }
    assert!((390..=410).contains(&chosen[0]), "{chosen:?}: two thirds");
}

#[test]
fn pipelines_share_no_host_and_take_turns() {
    let stages = [(1, 0, 4), (2, 0, 4), (3, 4, 8), (4, 4, 8), (5, 4, 8)];
    let weights = [
        (End::Source, host(1), 1.0),
        (End::Source, host(2), 2.0),
        (host(2), host(5), 2.0),
        (host(1), host(3), 1.0),
        (host(1), host(5), 9.0),
    ];
    let mut router = routed(&plan(8, &stages, &weights), Routing::FixedPipelines);
    let turns: Vec<_> = (0..4).map(|_| hosts(&mut router, &all())).collect();
    assert_eq!(turns, [[2, 5], [1, 3], [2, 5], [1, 3]]);
    assert_eq!(hosts(&mut router, &only(|id| id.0 != 5)), [1, 3]);
    assert_eq!(router.route(&only(|id| id.0 != 5 && id.0 != 3)), None, "no host is swapped");
}
