use super::stages::loads;
use super::*;
use crate::survive::neighbour;
use crate::survive::tests::{instance, range};

/// Two fast hosts hold a layer each, a slow one both. Without the first fast host layer 0 has the
/// slow host's 1 only; the second fast host extends to both layers and serves 2 + 1 on each. That is
/// one layer to load, and the only way to load one.
#[test]
fn a_repair_by_hand() {
    let cluster = instance(2, &[&[4.0, 2.0], &[4.0, 2.0], &[2.0, 1.0]]);
    let old = vec![range(0, 1), range(1, 2), range(0, 2)];
    let repair = replan(&cluster, &old, &Change::HostLost { host: 0 }, 1);
    let step = Step {
        host: 1,
        from: range(1, 2),
        to: range(0, 2),
        loads: 1,
        bytes: 1e9,
        seconds: 1.0,
        stage: 1,
    };
    assert_eq!(repair.steps, [step]);
    assert_eq!((repair.flow_reweighted, repair.flow_after), (1.0, [3.0, 3.0]));
    assert_eq!((repair.loads, repair.bytes), (1, 1e9));
    assert_eq!((repair.seconds_to_coverage, repair.seconds_to_flow), (0.0, 1.0));
    assert!(repair.stays_covered);
}

/// Host 0 held layer 0 and is lost. Host 1 has memory for one layer and holds layer 1, as host 2
/// does: it may drop it. The layer is covered as soon as it is loaded.
#[test]
fn a_full_host_drops_only_what_others_hold() {
    let cluster = instance(2, &[&[4.0], &[4.0], &[4.0]]);
    let old = vec![range(0, 1), range(1, 2), range(1, 2)];
    let repair = replan(&cluster, &old, &Change::HostLost { host: 0 }, 1);
    assert_eq!((repair.flow_reweighted, repair.flow_after), (0.0, [4.0, 4.0]));
    assert_eq!((repair.loads, repair.steps.len()), (1, 1));
    assert_eq!((repair.seconds_to_coverage, repair.stays_covered), (1.0, true));
}

/// Host 1 must leave layer 1 for layer 0, and only host 2 can take layer 1 over: first stage host
/// 2, second stage host 1.
#[test]
fn two_stages_where_one_would_uncover() {
    let cluster = instance(3, &[&[4.0], &[4.0], &[4.0, 4.0]]);
    let old = vec![range(0, 1), range(1, 2), range(2, 3)];
    let left = vec![None, range(1, 2), range(2, 3)];
    let to = vec![None, range(0, 1), range(1, 3)];
    let lost = Change::HostLost { host: 0 };
    let after = lost.apply(&cluster);
    assert_eq!(lost.survivors(&old), left);
    let schedule = Schedule::order(&after, &left, &to).unwrap();
    let stages: Vec<(usize, u8)> = schedule.steps.iter().map(|it| (it.host, it.stage)).collect();
    assert_eq!(stages, [(2, 1), (1, 2)]);
    assert_eq!(schedule.between, [None, range(1, 2), range(1, 3)]);
    assert_eq!(schedule.seconds(&after, &left), (2.0, 2.0));
    // Hosts 1 and 2, both full, would have to wait for each other.
    let to = vec![None, range(2, 3), range(0, 2)];
    assert_eq!(Schedule::order(&after, &left, &to).unwrap_err(), [1]);
}

#[test]
fn nothing_moves_where_new_weights_are_enough() {
    let cluster = instance(2, &[&[9.0, 5.0][..]; 30]);
    let old = vec![range(0, 2); 30];
    let repair = replan(&cluster, &old, &Change::HostLost { host: 7 }, 1);
    assert!(repair.steps.is_empty() && repair.loads == 0);
    assert_eq!(repair.flow_after, [145.0, 145.0]);
    assert_eq!((repair.seconds_to_coverage, repair.seconds_to_flow), (0.0, 0.0));
}

/// A fast host joins a cluster of slow ones.
#[test]
fn a_host_that_joins_is_used() {
    let tables: [&[f64]; 3] = [&[2.0, 1.0], &[2.0, 1.0], &[20.0, 10.0]];
    let (before, after) = (instance(2, &tables[..2]), instance(2, &tables));
    let old = vec![range(0, 1), range(1, 2)];
    let joined = Change::HostsJoined { cluster: Box::new(after) };
    let repair = replan(&before, &old, &joined, 1);
    assert_eq!(repair.placement, [range(0, 1), range(1, 2), range(0, 2)]);
    assert_eq!((repair.loads, repair.flow_after[1]), (2, 12.0));
}

/// At the new workload a host has room for one layer less: what it cannot hold is dropped, and
/// loaded elsewhere.
#[test]
fn a_shifted_workload_shrinks_what_fits() {
    let before = instance(3, &[&[6.0, 3.0], &[6.0, 3.0]]);
    let after = instance(3, &[&[3.0], &[3.0, 1.5]]);
    let old = vec![range(0, 2), range(2, 3)];
    let shift = Change::WorkloadShifted { cluster: Box::new(after) };
    let repair = replan(&before, &old, &shift, 1);
    assert_eq!(repair.flow_reweighted, 0.0);
    assert!(repair.flow_after[1] >= 1.5, "{repair:?}");
}

#[test]
fn repairs_of_random_clusters_keep_what_they_say() {
    let mut rng = Rng::with_seed(5);
    for round in 0..60 {
        let layers = rng.u32(1..10);
        let tables: Vec<Vec<f64>> = (0..rng.usize(1..8))
            .map(|_| {
                (1..=rng.u32(1..6)).map(|k| (10.0 + rng.f64() * 90.0) / f64::from(k)).collect()
            })
            .collect();
        let tables: Vec<&[f64]> = tables.iter().map(Vec::as_slice).collect();
        let cluster = instance(layers, &tables);
        let old: Placement =
            (0..tables.len()).map(|it| neighbour(&cluster, it, None, &mut rng)).collect();
        let host = rng.usize(0..tables.len());
        let change = match round % 3 {
            0 => Change::HostLost { host },
            1 => Change::HostSlower { host, share: 0.3 },
            _ => Change::LinkSlower { from: 0, to: 0, share: 0.7 },
        };
        let repair = replan(&cluster, &old, &change, round);
        assert_eq!(repair, replan(&cluster, &old, &change, round), "not deterministic");
        check(&repair, &change.survivors(&old));
    }
}

/// Steps lead from what is held to the placement, stages and sums are right, flows do not fall
/// below what new weights bring, and no layer is lost between the stages.
fn check(repair: &Repair, old: &Placement) {
    let mut held = old.clone();
    let covered = |it: &Placement| -> Vec<bool> {
        repair.instance.coverage(it).iter().map(|it| *it > 0.0).collect()
    };
    let before = covered(old);
    for stage in [1, 2] {
        for step in repair.steps.iter().filter(|it| it.stage == stage) {
            assert_eq!(held[step.host], step.from);
            assert_eq!(step.loads, loads(step.from, step.to));
            assert!(step.to.is_none_or(|to| repair.instance.rate(step.host, to) > 0.0));
            held[step.host] = step.to;
        }
        let now = covered(&held);
        assert!(!repair.stays_covered || before.iter().zip(now).all(|(was, is)| !was || is));
    }
    assert_eq!(held, repair.placement);
    assert_eq!(repair.loads, repair.steps.iter().map(|it| it.loads).sum::<u32>());
    assert!(repair.flow_after[1] >= repair.flow_reweighted);
    assert_eq!(repair.seconds_to_coverage.is_finite(), repair.flow_after[1] > 0.0, "{repair:?}");
}
