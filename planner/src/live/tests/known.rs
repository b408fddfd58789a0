//! Instances whose answer is worked out by hand.

use thalweg_wire::{BitsPerSecond, Bytes, CurvePoint, End, Epoch, HostId};

use super::cluster::{LAYER, check, host, link, planned, problem, range};
use crate::{Charge, Outcome, Problem, Reason, Search, Workload, reweigh};

fn near(value: f64, expected: f64) -> bool {
    (value - expected).abs() <= 1e-3 * expected
}

/// The example that tells the two charges apart: A holds both layers at T = 1, B the first at T = 1.
#[test]
fn two_layers_flow_one_under_full_charge_and_one_and_a_half_under_work_charge() {
    let cluster = problem(2, vec![host("a", 0.5, 2), host("b", 1.0, 1)]);
    let placement = [(HostId::of("a"), range(0, 2)), (HostId::of("b"), range(0, 1))];
    let Outcome::Planned(solution) = reweigh(&cluster, &placement) else { panic!("it flows") };
    check(&cluster, &solution);
    assert_eq!(solution.charge, Charge::Work);
    assert!(near(solution.flow, 1.5), "{}", solution.flow);
    assert!(near(solution.flow_full_charge, 1.0), "{}", solution.flow_full_charge);
    // Layers per second are 2 + 1, and a token needs 2: nothing does better.
    assert!(near(solution.bound, 1.5), "{}", solution.bound);
    let searched = planned(cluster);
    assert!(near(searched.flow, 1.5), "{}", searched.flow);
}

#[test]
fn one_host_holds_everything() {
    let solution = planned(problem(4, vec![host("a", 0.25, 4)]));
    assert!(near(solution.flow, 1.0));
    assert_eq!(solution.placement(), [(HostId::of("a"), range(0, 4))]);
    assert!(near(solution.hops, 1.0));
    assert_eq!(solution.flow_after_loss, 0.0);
    assert_eq!(
        solution.bottleneck.to_string(),
        "host `a` computes layers 0..4 all the time (100 %)"
    );
}

#[test]
fn equal_hosts_share_equally_in_a_chain() {
    let hosts = ["a", "b", "c", "d"].map(|it| host(it, 0.01, 10));
    let solution = planned(problem(32, hosts.to_vec()));
    let mut counts: Vec<u32> = solution.assignments.iter().map(|it| it.layers.count()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [8, 8, 8, 8]);
    assert!(near(solution.flow, 12.5), "{}", solution.flow);
    assert_eq!(solution.weights.len(), 5, "one route: {:?}", solution.weights);
}

#[test]
fn hosts_that_can_hold_the_whole_model_are_not_chained() {
    let hosts = ["a", "b", "c"].map(|it| host(it, 0.01, 30));
    let solution = planned(problem(30, hosts.to_vec()));
    assert!(solution.assignments.iter().all(|it| it.layers == range(0, 30)));
    assert!(near(solution.hops, 1.0));
    assert!(near(solution.flow, 10.0));
    assert!(near(solution.flow_after_loss, 20.0 / 3.0));
}

#[test]
fn a_slower_host_gets_fewer_layers() {
    for slowdown in [1.5, 2.0, 3.0] {
        let mut hosts = ["a", "b", "c", "d"].map(|it| host(it, 0.01, 10)).to_vec();
        hosts[2] = host("c", 0.01 * slowdown, 10);
        let solution = planned(problem(30, hosts));
        let counts = |slow: bool| {
            let chosen =
                solution.assignments.iter().filter(move |it| (it.host == HostId::of("c")) == slow);
            chosen.map(|it| it.layers.count())
        };
        let (most, least) = (counts(true).max().unwrap_or(0), counts(false).min().unwrap_or(0));
        assert!(most < least, "{:?}", solution.placement());
    }
}

/// Two fast hosts and a slow one. The best chain is 14, 13 and 3 layers at 1 / 0.14 tokens/s; all
/// three are busy all the time, at 2.25 / 0.3, if the slow one only takes some of the requests.
#[test]
fn ranges_overlap_where_that_flows_more_and_tokens_enter_in_their_middle() {
    let hosts = vec![host("a", 0.01, 25), host("b", 0.01, 25), host("c", 0.04, 25)];
    let solution = planned(problem(30, hosts));
    assert!(solution.flow > 7.3, "{}", solution.flow);
    let sources = solution.weights.iter().filter(|it| it.from == End::Source).count();
    assert!(sources >= 2, "one route only: {:?}", solution.weights);
    let held =
        |id: HostId| solution.assignments.iter().find(|it| it.host == id).expect("assigned").layers;
    let partial = solution.weights.iter().any(|it| match (it.from, it.to) {
        (End::Host(from), End::Host(to)) => held(from).end() > held(to).first(),
        _ => false,
    });
    assert!(partial, "nobody enters in the middle: {:?}", solution.placement());
}

#[test]
fn a_full_link_is_named() {
    let (a, b) = (host("a", 0.001, 2), host("b", 0.001, 2));
    let mut cluster = problem(4, vec![a.clone(), b.clone()]);
    // 32,000 bits a token: 10 and 5 tokens/s.
    cluster.links = vec![link(&a, &b, 320_000), link(&b, &a, 160_000)];
    let solution = planned(cluster);
    assert!(near(solution.flow, 10.0), "{}", solution.flow);
    assert_eq!(solution.bottleneck.to_string(), "link `a` -> `b` is full at 10.0 tokens/s (100 %)");
}

#[test]
fn a_chain_follows_the_links_there_are() {
    let names = ["a", "b", "c"].map(|it| host(it, 0.01, 2));
    let mut cluster = problem(6, names.to_vec());
    let [a, b, c] = names;
    cluster.links = vec![link(&b, &a, 1 << 40), link(&a, &c, 1 << 40)];
    let solution = planned(cluster);
    let order: Vec<HostId> = solution.assignments.iter().map(|it| it.host).collect();
    assert_eq!(order, [b.id, a.id, c.id]);
}

fn refusal(problem: Problem) -> crate::Infeasible {
    match Search::new(&problem, 1).finish() {
        Outcome::Infeasible(refusal) => refusal,
        Outcome::Planned(solution) => panic!("planned {:?}", solution.placement()),
    }
}

#[test]
fn too_little_memory_says_which_layers_are_missing_and_how_much() {
    let refusal = refusal(problem(8, vec![host("a", 0.01, 3), host("b", 0.01, 3)]));
    assert_eq!(refusal.missing_layers, [range(6, 8)]);
    assert!(refusal.missing_memory >= Bytes(2 * LAYER));
    assert_eq!(
        refusal.to_string(),
        "model needs 8.0 GiB of memory but the cluster offers 6.0 GiB; layers without a host: \
         6..8; 2.0 GiB more on one more host would hold them",
    );
}

#[test]
fn the_memory_named_is_enough() {
    let mut cluster = problem(8, vec![host("a", 0.01, 3), host("b", 0.01, 3)]);
    let missing = refusal(cluster.clone()).missing_memory;
    let mut more = host("c", 0.01, 0);
    more.memory = missing;
    cluster = problem(8, [cluster.hosts, vec![more]].concat());
    assert!(planned(cluster).flow > 0.0);
}

#[test]
fn a_layer_too_large_for_all_is_named() {
    let mut cluster = problem(3, vec![host("a", 0.01, 5)]);
    cluster.shape.layer_bytes[1] = Bytes::gib(100);
    let refusal = refusal(cluster);
    assert!(matches!(refusal.reason, Reason::LayerTooLarge { layer: 1, .. }), "{refusal}");
    assert_eq!(refusal.missing_layers, [range(1, 2)]);
}

#[test]
fn memory_that_does_not_divide_is_told_from_too_little() {
    let mut cluster = problem(3, vec![host("a", 0.01, 1), host("b", 0.01, 1)]);
    for host in &mut cluster.hosts {
        host.memory = Bytes(LAYER + LAYER * 3 / 4);
    }
    assert!(matches!(refusal(cluster).reason, Reason::DoesNotDivide { layers: 3, .. }));
}

#[test]
fn hosts_without_links_are_told_from_hosts_without_memory() {
    let mut cluster = problem(4, vec![host("a", 0.01, 2), host("b", 0.01, 2)]);
    cluster.links.iter_mut().for_each(|it| it.bandwidth = BitsPerSecond(0));
    let refusal = refusal(cluster);
    assert_eq!(refusal.reason, Reason::NotLinked { layers: 4 });
    assert_eq!(refusal.missing_layers, [range(2, 4)]);
    assert_eq!(refusal.missing_memory, Bytes(0));
}

#[test]
fn a_host_with_impossible_times_is_left_out_and_named() {
    let mut hosts = vec![host("a", 0.01, 4), host("b", 0.01, 4)];
    hosts[1].profile.decode[0].seconds = f64::NAN;
    let solution = planned(problem(4, hosts.clone()));
    assert_eq!(solution.excluded[0].name, "b");
    hosts.remove(0);
    let refusal = refusal(problem(4, hosts));
    assert_eq!(
        refusal.to_string(),
        "cluster has no usable host; layers without a host: 0..4; 4.0 GiB more on one more host \
         would hold them; host `b` left out: decode curve: 1 tokens in NaN s per layer is no \
         measurement",
    );
}

#[test]
fn embedding_and_head_are_charged_to_the_ends() {
    let mut hosts = vec![host("a", 0.01, 4), host("b", 0.01, 4)];
    let mut cluster = problem(6, hosts.clone());
    cluster.shape.embedding_bytes = Bytes(2 * LAYER);
    let first = planned(cluster).assignments[0];
    assert_eq!(first.layers.count(), 2, "four layers' memory, two of it for the embedding");
    hosts.iter_mut().for_each(|it| it.profile.head_seconds = 0.08);
    // Half of the tokens are output: the head costs 0.04 s a token, as much as four layers.
    hosts[0].memory = Bytes(5 * (LAYER + 1024));
    let last = planned(problem(6, hosts)).assignments[1];
    assert_eq!((last.host, last.layers), (HostId::of("b"), range(5, 6)));
}

#[test]
fn losing_a_copy_costs_flow_and_losing_the_only_one_is_infeasible() {
    let hosts = ["a", "b", "c"].map(|it| host(it, 0.01, 4)).to_vec();
    let placement =
        [(hosts[0].id, range(0, 4)), (hosts[1].id, range(0, 4)), (hosts[2].id, range(4, 8))];
    let cluster = problem(8, hosts);
    let mut without = cluster.clone();
    without.hosts.remove(0);
    let Outcome::Planned(solution) = reweigh(&without, &placement) else { panic!("b is left") };
    check(&without, &solution);
    assert!(near(solution.flow, 25.0));
    assert_eq!(solution.placement(), placement[1..]);
    without.hosts.remove(1);
    let Outcome::Infeasible(refusal) = reweigh(&without, &placement) else { panic!("c is gone") };
    assert_eq!(refusal.reason, Reason::Uncovered { count: 4, layers: 8 });
    assert_eq!(refusal.missing_layers, [range(4, 8)]);
}

#[test]
fn a_problem_that_makes_no_sense_is_refused() {
    let mut cluster = problem(4, vec![host("a", 0.01, 4)]);
    cluster.shape.layer_bytes.pop();
    assert_eq!(refusal(cluster).to_string(), "model has 4 layers but 3 layer sizes");
}

#[test]
fn seed_and_problem_decide_the_plan_however_it_is_stepped() {
    let hosts: Vec<_> =
        (0..6_u32).map(|it| host(&format!("h{it}"), 0.01 + 0.003 * f64::from(it), 9)).collect();
    let cluster = problem(30, hosts);
    let mut turned = cluster.clone();
    turned.hosts.reverse();
    let plan = planned(cluster.clone()).into_plan(Epoch(3), 2);
    let mut stepped = Search::new(&turned, 1);
    while !stepped.step(777).done {}
    let Outcome::Planned(solution) = stepped.best() else { panic!("planned before") };
    assert_eq!(solution.into_plan(Epoch(3), 2), plan);
    assert_eq!((plan.epoch, plan.term, plan.layers), (Epoch(3), 2, 30));
}

#[test]
fn kv_and_batch_follow_memory() {
    let mut cluster = problem(4, vec![host("a", 0.01, 4)]);
    cluster.shape.kv_bytes_per_token_layer = Bytes(1 << 20);
    cluster.hosts[0].memory = Bytes(4 * LAYER + (100 << 22));
    let assignment = planned(cluster.clone()).assignments[0];
    assert_eq!((assignment.kv_tokens, assignment.batch_max), (96, 12));
    cluster.hosts[0].memory = Bytes(4 * LAYER + (1000 << 22));
    let assignment = planned(cluster).assignments[0];
    assert_eq!((assignment.kv_tokens, assignment.batch_max), (992, 124));
}

/// A model of 135 M parameters in F32, with a copy of the embedding as head, on four hosts that hold
/// half of it each: the sizes of the demo.
#[test]
fn a_small_model_spreads_over_four_hosts() {
    let mut hosts = ["a", "b", "c", "d"].map(|it| host(it, 0.0, 0)).to_vec();
    for (at, host) in (0_u8..).zip(&mut hosts) {
        host.memory = Bytes::mib(330);
        let times = [(1, 0.8e-3), (4, 1.6e-3), (16, 3.2e-3), (128, 16e-3)];
        let slower = 1.0 + 0.1 * f64::from(at);
        let curve = |&(tokens, seconds)| CurvePoint { tokens, seconds: seconds * slower };
        host.profile.decode = times[..3].iter().map(curve).collect();
        host.profile.prefill = times[2..].iter().map(curve).collect();
        host.profile.head_seconds = 5e-3;
    }
    let mut cluster = problem(30, hosts);
    cluster.shape.hidden = 576;
    cluster.shape.layer_bytes = vec![Bytes(14_160_384); 30];
    cluster.shape.embedding_bytes = Bytes(113_246_208);
    cluster.shape.head_bytes = Bytes(113_248_512);
    cluster.shape.kv_bytes_per_token_layer = Bytes(1536);
    cluster.workload = Workload::default();
    let solution = planned(cluster);
    assert_eq!(solution.assignments.len(), 4);
    assert!(solution.gap() < 0.25, "{} of {}", solution.flow, solution.bound);
    assert!(solution.assignments.iter().all(|it| it.kv_tokens >= 384 && it.batch_max >= 8));
}
