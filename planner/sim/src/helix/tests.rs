//! A cluster small enough to be computed by hand.

use thalweg_planner::cluster::Model;
use thalweg_planner::device::Device;
use thalweg_wire::LayerRange;

use super::*;

/// Hosts with a layer each, one after the other. A prompt token takes 10 ms, a decode 100 ms; links
/// carry 1000 bytes/s and take half a second, network cards 1500 bytes/s; a token weighs 2 bytes
/// beside the gateway and 100 elsewhere.
pub(super) fn chain(hosts: u32) -> Scenario {
    let model = Model {
        layers: hosts,
        layer_bytes: 1e9,
        activation_bytes: 98.0,
        token_bytes: 2.0,
        kv_bytes_per_token_layer: 1.0,
        embedding_bytes: 0.0,
        head_bytes: 0.0,
        head_layers: 0.0,
    };
    let device = Device {
        prefill: vec![(0.0, 0.0), (2048.0, 20.48)],
        decode: vec![(0.0, 0.0), (10.0, 1.0)],
        kv_token_layers: vec![0.0, 1000.0],
        prefill_requests_max: 1,
        decode_requests_max: vec![0, 10],
    };
    let host = |at: u32| Host {
        device: 0,
        layers: LayerRange::new(at, at + 1).expect("a layer"),
        kv_token_layers: 1000,
        nic_bytes_per_second: 1500.0,
        load_bytes_per_second: 1e9,
    };
    let end = |at: u32| if at == 0 || at > hosts { End::Gateway } else { End::Host(at - 1) };
    let link = |at: u32| Link {
        from: end(at),
        to: end(at + 1),
        bytes_per_second: 1000.0,
        latency_seconds: 0.5,
    };
    Scenario {
        model,
        devices: vec![device],
        hosts: (0..hosts).map(host).collect(),
        links: (0..=hosts).map(link).collect(),
        gateway_nic_bytes_per_second: 1500.0,
        policy: Policy::Random,
        work: Work::Online { arrivals: vec![Arrival { at_seconds: 2.0, length: (10, 2) }] },
        window: Window { warm_up_seconds: 0.0, seconds: 100.0 },
        seed: 0,
    }
}

/// Hosts that each hold the whole model of one layer, side by side.
fn side_by_side(hosts: u32) -> Scenario {
    let mut scenario = chain(1);
    let (host, line) = (scenario.hosts[0], scenario.links[0]);
    scenario.hosts = vec![host; hosts as usize];
    let enter = (0..hosts).map(|it| Link { to: End::Host(it), ..line });
    let leave = (0..hosts).map(|it| Link { from: End::Host(it), to: End::Gateway, ..line });
    scenario.links = enter.chain(leave).collect();
    scenario.gateway_nic_bytes_per_second = 1e6;
    scenario
}

/// Queries that come in together.
fn at_once(queries: usize, length: Length) -> Work {
    Work::Online { arrivals: vec![Arrival { at_seconds: 2.0, length }; queries] }
}

/// First links of the routes of all queries; `None` for those without one.
fn first_links(outcome: &Outcome) -> Vec<Option<u32>> {
    outcome.queries.iter().map(|it| it.route.first().copied()).collect()
}

fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "{found} for {expected}");
}

#[test]
fn a_query_takes_the_time_of_its_hops_and_steps() {
    let outcome = simulate(&chain(2)).expect("it can be run");
    // Gathering and copying 10 tokens of 98 bytes, twice.
    let gather = 2.0 * 980.0 * (1.0 / 4e9 + 1.0 / 5e9);
    let prompt = 0.52 + 0.1 + 1.5 + 0.1 + 0.52 + gather;
    // A single decode takes twice its 100 ms.
    let decode = 0.502 + 0.2 + 0.6 + 0.2 + 0.502 + gather / 10.0;
    near(outcome.prompt_seconds[0], prompt);
    assert_eq!(outcome.decode_seconds.len(), 2);
    outcome.decode_seconds.iter().for_each(|it| near(*it, decode));
    near(outcome.queries[0].last_end_seconds.unwrap_or_default(), 2.0 + prompt + 2.0 * decode);
    near(outcome.decode_tokens_per_second, 0.02);
    near(outcome.prompt_tokens_per_second, 0.1);
    assert_eq!((outcome.issued, outcome.accepted, outcome.finished), (1, 1, 1));
    assert_eq!(outcome.queries[0].route, [0, 1, 2]);
    // Of an iteration: 3 for each of 3 hops, 4 for each of 2 steps, 3 at the gateway; and 4 for
    // each host to load.
    assert_eq!(outcome.events, 3 * (9 + 8 + 3) + 8);
}

#[test]
fn a_link_carries_one_query_after_the_other() {
    let mut scenario = chain(1);
    scenario.work = at_once(2, (100, 1));
    let outcome = simulate(&scenario).expect("it can be run");
    let ends: Vec<f64> = outcome.queries.iter().filter_map(|it| it.prompt_end_seconds).collect();
    // The second waits 0.2 s for the link and 0.8 s for the step of the first.
    let gather = 9800.0 * (1.0 / 4e9 + 1.0 / 5e9);
    near(ends[0], 2.0 + 0.7 + 1.0 + gather + 0.7);
    near(ends[1], ends[0] + 1.0 + gather);
}

#[test]
fn plans_are_followed_in_turn_and_ties_go_to_the_first() {
    let mut scenario = side_by_side(2);
    scenario.hosts.iter_mut().for_each(|it| it.kv_token_layers = 1_000_000);
    scenario.policy = Policy::Helix(Helix::online(vec![32.0, 16.0, 32.0, 16.0]));
    scenario.work = at_once(6, (64, 1));
    let outcome = simulate(&scenario).expect("it can be run");
    // 64 tokens are 2 s of the one and 4 s of the other.
    assert_eq!(first_links(&outcome), [0, 0, 1, 0, 0, 1].map(Some));
    // Less than a twentieth of the flow is no flow.
    scenario.policy = Policy::Helix(Helix::online(vec![96.0, 4.0, 96.0, 4.0]));
    let outcome = simulate(&scenario).expect("it can be run");
    assert_eq!(first_links(&outcome), [Some(0); 6]);
}

#[test]
fn hosts_expected_to_be_full_are_passed_by_and_the_rest_is_rejected() {
    let mut scenario = side_by_side(2);
    // Each query is expected to take 64 + 240 of a host's 1000 token-layers; 150 must stay free.
    scenario.policy = Policy::Helix(Helix::offline(vec![32.0, 1.7, 32.0, 1.7]));
    scenario.work = at_once(5, (64, 1));
    let outcome = simulate(&scenario).expect("it can be run");
    assert_eq!(first_links(&outcome), [Some(0), Some(0), Some(1), Some(1), None]);
    assert_eq!((outcome.accepted, outcome.rejected, outcome.finished), (4, 1, 4));
    let stop = Helix { when_full: WhenFull::Stop, ..Helix::offline(vec![32.0, 1.7, 32.0, 1.7]) };
    scenario.policy = Policy::Helix(stop);
    assert_eq!(simulate(&scenario), Err(HelixError::NoRoute { query: 4, at_seconds: 2.0 }));
}

#[test]
fn offline_plans_take_more_while_memory_is_expected_to_be_free() {
    let mut scenario = chain(1);
    scenario.policy = Policy::Helix(Helix::offline(vec![1.0, 1.0]));
    let lengths = Lengths::Recorded(vec![(64, 100); 50]);
    scenario.work = Work::Offline { lengths, at_once: 1 };
    scenario.window = Window { warm_up_seconds: 0.0, seconds: 10.0 };
    let outcome = simulate(&scenario).expect("it can be run");
    // 304 expected after the first prompt, 608 after the second: the third is fed and rejected, and
    // no prompt or query ends any more within ten seconds.
    assert_eq!((outcome.issued, outcome.rejected), (3, 1));
    let created = |it: usize| outcome.queries[it].created_seconds;
    let ended = |it: usize| outcome.queries[it].prompt_end_seconds.unwrap_or_default();
    near(created(1), ended(0) + 0.1);
    near(created(2), ended(1) + 0.1);
}

#[test]
fn other_policies_keep_their_number_of_queries() {
    for policy in [Policy::Random, Policy::ShortestQueue, Policy::Swarm] {
        let mut scenario = side_by_side(3);
        scenario.policy = policy;
        scenario.work =
            Work::Offline { lengths: Lengths::Drawn(vec![(10, 2), (20, 3)]), at_once: 4 };
        let outcome = simulate(&scenario).expect("it can be run");
        assert!(outcome.finished > 10);
        let running = outcome.issued - outcome.finished;
        assert!((4..=5).contains(&running), "{running} queries at the end");
        assert_eq!(simulate(&scenario).expect("it can be run"), outcome, "the same seed");
    }
}

#[test]
fn swarm_prefers_who_is_fast() {
    let mut scenario = side_by_side(2);
    scenario.devices.push(scenario.devices[0].clone());
    scenario.devices[1].prefill.iter_mut().for_each(|it| it.1 *= 10.0);
    scenario.hosts[1].device = 1;
    scenario.policy = Policy::Swarm;
    let lengths = Lengths::Recorded(vec![(100, 1); 500]);
    scenario.work = Work::Offline { lengths, at_once: 2 };
    let outcome = simulate(&scenario).expect("it can be run");
    let firsts = first_links(&outcome);
    assert_eq!(firsts[..2], [Some(0), Some(1)], "nothing is known at first");
    let to = |link| firsts.iter().filter(|it| **it == Some(link)).count();
    assert!(to(0) > 3 * to(1), "{} against {}", to(0), to(1));
}

#[test]
fn the_shortest_queue_gets_the_next() {
    let mut scenario = side_by_side(2);
    scenario.policy = Policy::ShortestQueue;
    scenario.links.iter_mut().for_each(|it| it.bytes_per_second = 1e5);
    scenario.hosts.iter_mut().for_each(|it| {
        (it.nic_bytes_per_second, it.kv_token_layers) = (1e6, 100_000);
    });
    // Steps of 20 s. The first two start them, or the second waits and the third starts the other;
    // then whoever has nobody waiting gets the next.
    let arrival = |at_seconds| Arrival { at_seconds, length: (2000, 1) };
    scenario.work = Work::Online { arrivals: [5.0, 6.0, 7.0, 8.0].map(arrival).to_vec() };
    for seed in 0..8 {
        scenario.seed = seed;
        let mut firsts = first_links(&simulate(&scenario).expect("it can be run"));
        firsts.sort_unstable();
        assert_eq!(firsts, [0, 0, 1, 1].map(Some), "seed {seed}");
    }
}

#[test]
fn a_run_ends_where_memory_or_steps_do() {
    let mut scenario = chain(1);
    scenario.hosts[0].kv_token_layers = 12;
    scenario.work = at_once(1, (10, 5));
    let full = simulate(&scenario);
    let is_full = |it: &HelixError| {
        matches!(it, HelixError::KvFull { host: 0, needed: 13, capacity: 12, .. })
    };
    assert!(full.as_ref().is_err_and(is_full), "{full:?}");
    scenario.work = at_once(1, (3000, 1));
    let too_long = HelixError::TooLong { query: 0, host: 0, tokens: 3000, max: 2048 };
    assert_eq!(simulate(&scenario), Err(too_long));
    let lengths = Lengths::Recorded(vec![(1, 1)]);
    scenario.work = Work::Offline { lengths, at_once: 2 };
    assert_eq!(simulate(&scenario), Err(HelixError::Lengths { lengths: 1, at_seconds: 2.1 }));
}

#[test]
fn memory_is_given_back_when_a_query_ends() {
    let mut scenario = chain(1);
    scenario.hosts[0].kv_token_layers = 12;
    let arrival = |at_seconds| Arrival { at_seconds, length: (10, 2) };
    scenario.work =
        Work::Online { arrivals: (1..6).map(|it| arrival(20.0 * f64::from(it))).collect() };
    assert_eq!(simulate(&scenario).map(|it| it.finished), Ok(5));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    type Spoil = fn(&mut Scenario);
    let refusal = |spoil: Spoil| {
        let mut scenario = chain(2);
        spoil(&mut scenario);
        simulate(&scenario).map_or_else(|it| it.to_string(), |_| "nothing".to_owned())
    };
    let cases: [(Spoil, &str); 16] = [
        (|it| it.hosts.clear(), "no host"),
        (|it| it.links.clear(), "no link"),
        (|it| it.work = at_once(0, (1, 1)), "no query"),
        (|it| it.hosts[1].device = 7, "host 1 is of machine type 7"),
        (|it| it.devices[0].decode_requests_max.clear(), "lists no limits"),
        (|it| it.devices[0].prefill_requests_max = 5000, "prefill_requests_max of machine type 0"),
        (
            |it| it.devices[0].decode_requests_max[1] = 1 << 21,
            "decode_requests_max of machine type 0",
        ),
        (|it| it.model.layers = 1, "host 1 holds layers up to 2 of a model of 1"),
        (|it| it.links[1].to = End::Host(9), "an end of link 1 is 9"),
        (|it| it.links[1].latency_seconds = f64::NAN, "latency_seconds of link 1 is NaN"),
        (|it| it.links[2].bytes_per_second = 0.0, "bytes_per_second of link 2 is 0"),
        (|it| it.links[0].to = End::Host(1), "link 0 leads from layer 0 to a host that holds 1..2"),
        (|it| it.links.truncate(2), "no link leaves host 1"),
        (|it| it.policy = Policy::Helix(Helix::online(vec![1.0])), "1 flows for 3 links"),
        (|it| it.work = at_once(1, (0, 1)), "prompt of query 0 is 0"),
        (
            |it| {
                it.work =
                    Work::Online { arrivals: vec![Arrival { at_seconds: 1.0, length: (1, 1) }] }
            },
            "time of arrival 0 is 1",
        ),
    ];
    for (spoil, expected) in cases {
        let found = refusal(spoil);
        assert!(found.contains(expected), "{found}, not {expected}");
    }
}
