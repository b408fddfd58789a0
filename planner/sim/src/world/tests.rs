use thalweg_core::policy::{Growth, Pack};
use thalweg_planner::cluster::{self, Choice, Resolved};
use thalweg_planner::instance::Placement;
use thalweg_planner::{Charge, flow};
use thalweg_wire::{Epoch, LayerRange};

use super::*;
use crate::agenda::SECOND;
use crate::outcome::Outcome;
use crate::plan::{Bounds, plan};
use crate::workload::{Length, Lengths, Workload};

/// Six hosts that hold up to four of eight layers each; a step of a layer takes a millisecond, and
/// another for each hundred prompt tokens. Rows of 1000 bytes, a million bytes a second and ten
/// milliseconds between any two.
const CLUSTER: &str = r#"
model = "toy"
hosts = [{ name = "h", machine = "M", count = 6 }]

[network]
default = { bytes_per_second = 1e6, latency_seconds = 0.01 }

[machines.M]
memory_bytes = 1e9
nic_bytes_per_second = 1e9
load_bytes_per_second = 1e6

[models.toy]
layers = 8
layer_bytes = 1e6
activation_bytes = 1000
token_bytes = 1000
kv_bytes_per_token_layer = 100

[[profiles]]
model = "toy"
machine = "M"
kv_blocks = [1000, 400, 250, 150]
prefill_ms = [[0, 0], [100, 1], [10000, 100]]
decode_ms = [[0, 0], [2, 1], [1000, 1]]
"#;

struct Rig {
    resolved: Resolved,
    placement: Placement,
    plan: Plan,
    bounds: Bounds,
}

impl Rig {
    /// Host by host, first layer and last + 1.
    fn new(ranges: &[(u32, u32)]) -> Self {
        let file = cluster::parse(CLUSTER).expect("a cluster file");
        let resolved = file.resolve(&Choice::default()).expect("a cluster");
        let mut placement: Placement = vec![None; resolved.instance.hosts.len()];
        for (held, &(first, end)) in placement.iter_mut().zip(ranges) {
            *held = LayerRange::new(first, end).ok();
        }
        let bounds = Bounds {
            batch_max: 8,
            chunk_tokens: 100,
            step_us: 0,
            requests_max: 0,
            micro_batches: 0,
        };
        let plan = planned(&resolved, &placement, bounds, Epoch(1));
        Self { resolved, placement, plan, bounds }
    }

    /// Two ways through each half of the model.
    fn double() -> Self {
        Self::new(&[(0, 4), (0, 4), (4, 8), (4, 8)])
    }

    fn world(&self, workload: Workload, faults: Vec<Fault>, settings: Settings) -> World<'_> {
        World::new(
            &self.resolved,
            (&self.placement, &self.plan),
            workload,
            (faults, None),
            settings,
        )
        .expect("a world")
    }

    fn run(&self, workload: Workload, faults: Vec<Fault>, settings: Settings) -> Outcome {
        let mut world = self.world(workload, faults, settings);
        world.run(100 * SECOND);
        world.outcome()
    }
}

fn planned(resolved: &Resolved, placement: &Placement, bounds: Bounds, epoch: Epoch) -> Plan {
    let flow = flow::maximum(&resolved.instance, placement, Charge::Full);
    plan(resolved, placement, &flow, &vec![bounds; placement.len()], epoch).expect("a plan")
}

fn fixed(prompt: u32, output: u32) -> Lengths {
    Lengths::Fixed(Length { prompt, output })
}

fn workload(arrivals: Arrivals, lengths: Lengths) -> Workload {
    Workload { arrivals, lengths, prefixes: None, longer: None, seed: 1 }
}

fn users(count: u32, lengths: Lengths) -> Workload {
    workload(
        Arrivals::Users { count, start: count, ramp_seconds: 1.0, pause_seconds: 0.0 },
        lengths,
    )
}

fn once(lengths: Lengths) -> Workload {
    workload(Arrivals::Recorded(vec![0]), lengths)
}

fn fault(at_seconds: u64, kind: FaultKind) -> Fault {
    Fault { at: at_seconds * SECOND, kind }
}

fn assert_near(found: f64, wanted: f64) {
    assert!((found / wanted - 1.0).abs() < 0.01, "{found} instead of {wanted}");
}

/// One request over two hosts, by hand.
///
/// First token: 450 bytes and 10 ms to the first host, where 100 tokens take 4 layers of 1 ms; 100,000
/// bytes take 100 ms and 10 ms; 4 ms and the memory; a token of a few bytes and 10 ms. Then each
/// token: 10 ms from the last to the first host, 4 ms, a row of 1000 bytes in 1 ms and 10 ms, 4 ms.
#[test]
fn one_request_takes_the_time_of_its_steps_and_hops() {
    let rig = Rig::new(&[(0, 4), (4, 8)]);
    let outcome = rig.run(once(fixed(100, 11)), vec![], Settings::default());
    assert_eq!((outcome.finished, outcome.accepted, outcome.arrived), (1, 1, 1));
    assert_near(outcome.ttft_mean_seconds, 0.010_6 + 0.004 + 0.110_1 + 0.004_05 + 0.010);
    assert_near(outcome.tpot_mean_seconds, 0.010_05 + 0.004 + 0.011_05 + 0.004);
    assert_eq!((outcome.hosts[0].steps, outcome.hosts[1].steps), (11, 11));
    assert!((outcome.decode_tokens_per_second - 10.0 / 100.0).abs() < 1e-9);
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let rig = Rig::double();
    let run = |seed| {
        let workload = Workload { seed, ..users(20, Lengths::AzureConversation) };
        rig.run(workload, vec![], Settings::default()).to_json()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn everything_asked_is_answered_turned_away_or_at_hand() {
    let rig = Rig::double();
    let overload = workload(Arrivals::Poisson { per_second: 50.0 }, fixed(100, 20));
    let mut pack = Pack::THALWEG;
    pack.gateway.waiting_max = 30;
    pack.gateway.patience = Duration::from_secs(5);
    let settings = Settings { pack, ..Settings::default() };
    let outcome = rig.run(overload, vec![], settings);
    let Outcome { arrived, finished, rejected, running, waiting, lost, .. } = outcome;
    assert_eq!(arrived, finished + rejected + running + waiting);
    assert_eq!(lost, 0);
    assert!(rejected > 500 && finished > 100, "{rejected} rejected, {finished} finished");
    assert!(waiting < 100, "thirty, and those that stages refused: {waiting}");
}

#[test]
fn a_backlog_never_ends_and_never_grows() {
    let rig = Rig::double();
    let arrivals = Arrivals::Backlog { waiting: 5, in_flight_max: 30 };
    let outcome = rig.run(workload(arrivals, fixed(50, 20)), vec![], Settings::default());
    assert_eq!(outcome.running + outcome.waiting, 30);
    assert!(outcome.finished > 100, "{}", outcome.finished);
    assert_eq!(outcome.rejected, 0);
}

#[test]
fn requests_that_no_route_has_room_for_do_not_hang_a_backlog() {
    let rig = Rig::double();
    let arrivals = Arrivals::Backlog { waiting: 5, in_flight_max: 30 };
    let outcome = rig.run(workload(arrivals, fixed(20_000, 2)), vec![], Settings::default());
    assert_eq!(outcome.finished, 0);
    assert!((45..=55).contains(&outcome.rejected), "one every two seconds: {}", outcome.rejected);
}

#[test]
fn a_dead_host_costs_time_but_no_request() {
    let rig = Rig::double();
    let dies = fault(50, FaultKind::HostDies(3));
    let outcome = rig.run(users(60, fixed(60, 40)), vec![dies], Settings::default());
    assert_eq!((outcome.lost, outcome.rejected, outcome.cut_off), (0, 0, 0));
    assert!(outcome.replays > 0, "it worked on something");
    let before = outcome.timeline.decode_tokens_per_second[8];
    let after = outcome.timeline.decode_tokens_per_second[18];
    assert!(after > 0.3 * before && after < 0.9 * before, "{before} tokens/s, then {after}");
    assert_eq!(outcome.hosts[3].layers, None);
    assert!(outcome.timeline.busy[3][18] <= 0.0);
}

#[test]
fn without_its_layers_everything_waits_until_a_new_plan_has_loaded_them() {
    let rig = Rig::new(&[(0, 4), (4, 8)]);
    let dies = fault(50, FaultKind::HostDies(1));
    let replan: Replan<'_> = Box::new(|situation: &Situation<'_>| {
        assert_eq!(situation.change, Change::HostLost(1));
        let mut placement = situation.placement.clone();
        placement[1] = None;
        placement[4] = LayerRange::new(4, 8).ok();
        let plan = planned(&rig.resolved, &placement, rig.bounds, situation.epoch);
        Some(Replanned { placement, plan, delay: SECOND })
    });
    let settings = Settings { look_every: SECOND, ..Settings::default() };
    let workload = users(10, fixed(60, 40));
    let plans = (&rig.placement, &rig.plan);
    let mut world =
        World::new(&rig.resolved, plans, workload, (vec![dies], Some(replan)), settings)
            .expect("a world");
    world.run(120 * SECOND);
    let outcome = world.outcome();
    let served = |second: usize| outcome.timeline.decode_tokens_per_second[second];
    assert_eq!((outcome.lost, outcome.rejected), (0, 0));
    // 2.4 s of silence, 1 s of planning, and 4 MB at 1 MB/s.
    assert!(served(45) > 10.0);
    assert!((52..57).all(|it| served(it) <= 0.0));
    assert!(served(70) > 0.8 * served(45), "{} after {}", served(70), served(45));
    assert_eq!(outcome.hosts[4].layers, Some((4, 8)));
}

#[test]
fn a_host_that_joins_is_put_to_work() {
    let rig = Rig::new(&[(0, 4), (4, 8), (0, 4)]);
    let joins = fault(50, FaultKind::HostJoins(5));
    let replan: Replan<'_> = Box::new(|situation: &Situation<'_>| {
        let mut placement = situation.placement.clone();
        placement[5] = LayerRange::new(4, 8).ok();
        let plan = planned(&rig.resolved, &placement, rig.bounds, situation.epoch);
        Some(Replanned { placement, plan, delay: SECOND })
    });
    let plans = (&rig.placement, &rig.plan);
    let workload = users(20, fixed(60, 40));
    let faults = (vec![joins], Some(replan));
    let mut world =
        World::new(&rig.resolved, plans, workload, faults, Settings::default()).expect("a world");
    world.run(100 * SECOND);
    let outcome = world.outcome();
    assert_eq!((outcome.lost, outcome.rejected), (0, 0));
    assert!(outcome.hosts[5].steps > 1000 && outcome.hosts[5].utilisation > 0.1);
    assert_eq!(outcome.hosts[0].layers, Some((0, 4)), "kept, not loaded again");
    assert_eq!(outcome.refusals.get("stale_epoch"), None);
}

#[test]
fn slower_links_are_felt() {
    let rig = Rig::new(&[(0, 4), (4, 8)]);
    let slow = fault(50, FaultKind::LinksKeep { between: Between::Hosts(0, 1), share: 0.01 });
    let outcome = rig.run(users(5, fixed(20, 50)), vec![slow], Settings::default());
    let at = |second: usize| outcome.timeline.decode_tokens_per_second[second / 5];
    // 10,000 bytes/s are ten rows.
    assert!(at(45) > 50.0 && at(95) < 10.5, "{} then {}", at(45), at(95));
    assert_eq!(outcome.lost, 0);
}

#[test]
fn a_gateway_that_dies_takes_only_its_own_streams() {
    let rig = Rig::double();
    let settings = Settings { gateways: Gateways::At(vec![0, 5]), ..Settings::default() };
    let dies = fault(50, FaultKind::HostDies(5));
    let outcome = rig.run(users(20, fixed(60, 40)), vec![dies], settings);
    assert_eq!(outcome.cut_off, 10);
    assert_eq!((outcome.lost, outcome.rejected), (0, 0));
    assert_eq!(outcome.running + outcome.waiting, 10);
}

#[test]
fn requests_that_outgrow_their_kv_are_preempted_and_end() {
    let rig = Rig::new(&[(0, 4), (4, 8)]);
    let mut pack = Pack::THALWEG;
    pack.stage.growth = Growth::OnDemand { headroom: 0.0 };
    let settings = Settings { pack, look_every: SECOND / 10, ..Settings::default() };
    // 150 blocks of 16 tokens: room for the prompts of forty, but not for their answers.
    let arrivals = Arrivals::Recorded(vec![0; 40]);
    let outcome = rig.run(workload(arrivals, fixed(32, 120)), vec![], settings);
    assert_eq!((outcome.finished, outcome.lost), (40, 0));
    assert!(outcome.preempted > 0);
    assert!(outcome.replays >= outcome.preempted);
    assert!(outcome.hosts[0].kv_used_max > 0.9);
}

#[test]
fn a_world_that_cannot_be_is_refused() {
    let refused = |rig: &Rig, faults: Vec<Fault>, settings: Settings| {
        let plans = (&rig.placement, &rig.plan);
        let workload = users(1, fixed(1, 1));
        let world = World::new(&rig.resolved, plans, workload, (faults, None), settings);
        world.err().map(|it| it.to_string())
    };
    let mut rig = Rig::double();
    let joins = vec![fault(1, FaultKind::HostJoins(2))];
    let early = refused(&rig, joins, Settings::default());
    assert_eq!(
        early.as_deref(),
        Some("h-2 holds layers from the start, but joins only later; place nothing on it")
    );
    let nowhere = Settings { gateways: Gateways::At(vec![]), ..Settings::default() };
    assert!(refused(&rig, vec![], nowhere).is_some_and(|it| it.contains("at least one gateway")));
    rig.resolved.instance.network.enter.fill(None);
    let alone = refused(&rig, vec![], Settings::default());
    assert_eq!(
        alone.as_deref(),
        Some(
            "nothing joins gateway to h-0, not even over a third host; see network in the cluster file"
        )
    );
}

#[test]
fn where_the_file_has_no_link_a_third_host_passes_on() {
    let mut rig = Rig::new(&[(0, 3), (3, 6), (6, 8)]);
    rig.resolved.instance.network.enter[1..].fill(None);
    rig.resolved.instance.network.leave[..2].fill(None);
    let outcome = rig.run(once(fixed(100, 11)), vec![], Settings::default());
    assert_eq!(outcome.finished, 1);
    assert!(outcome.timeline.kv_used[1][0] <= 0.0, "the release reached the host in the middle");
}
