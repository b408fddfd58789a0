//! The search against brute force and known optima.

use std::ops::ControlFlow;

use proptest::prelude::*;

use super::Coverage;
use crate::bound::tests::{HETERO42, SINGLE24, SMALL10, brute, instance, shipped, small};
use crate::instance::Instance;
use crate::method::{Method, Progress};

/// Least coverage of what is found within so many moves, and its gap.
fn flow(instance: &Instance, moves_max: u64) -> (f64, f64) {
    let mut watch = |it: Progress| match it.moves < moves_max {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    };
    let Some(found) = Coverage.place(instance, 1, &mut watch) else { return (0.0, 1.0) };
    let cover = instance.coverage(&found.placement);
    let flow = cover.into_iter().fold(f64::INFINITY, f64::min);
    let bound = found.bound.unwrap();
    (flow, (bound - flow) / bound)
}

#[test]
fn optima_of_the_shipped_clusters() {
    for (text, least, gap_max) in
        [(SINGLE24, 2045.6, 1e-4), (SMALL10, 286.587, 1e-4), (HETERO42, 5890.0, 0.03)]
    {
        let (flow, gap) = flow(&shipped(text), 70_000_000);
        assert!(flow >= least && gap <= gap_max, "{flow} at a gap of {gap}");
    }
}

/// The strongest hosts may not hold the ends of the model.
#[test]
fn policy_is_kept() {
    let mut instance = instance(4, &[(2, vec![8.0, 4.0]), (2, vec![2.0, 1.0])]);
    for host in &mut instance.hosts[..2] {
        host.may_be_first = false;
        host.may_be_last = false;
    }
    let (flow, _) = flow(&instance, 500_000);
    assert!((flow - brute(&instance)).abs() < 1e-9, "{flow}");
}

#[test]
fn no_hosts_and_no_room_are_no_placement() {
    assert!(flow(&instance(3, &[(2, vec![1.0])]), 100_000).0 <= 0.0);
    assert!(flow(&instance(3, &[(0, vec![1.0])]), 100_000).0 <= 0.0);
}

#[test]
fn one_host_that_holds_everything() {
    assert!((flow(&instance(2, &[(1, vec![5.0, 3.0])]), 100_000).0 - 3.0).abs() < 1e-9);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_search_finds_the_optimum_of_small_instances(instance in small()) {
        let (flow, best) = (flow(&instance, 200_000).0, brute(&instance));
        prop_assert!((flow - best).abs() < 1e-9, "{flow} of {best}");
    }
}
