//! The search against brute force and known optima.

use std::ops::ControlFlow;

use proptest::prelude::*;

use super::regions::{self, Free};
use super::{Coverage, Greedy, Intervals};
use crate::bound::tests::{HETERO42, SINGLE24, SMALL10, brute, instance, shipped, small};
use crate::cluster::{Choice, generate};
use crate::instance::{Instance, Pairs, Wire};
use crate::method::{Method, Progress};
use crate::{Charge, bound, flow};

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
    // So slow with all of them that moving towards it looks like a loss all the way.
    assert!((flow(&instance(2, &[(1, vec![4.35, 0.1])]), 100_000).0 - 0.1).abs() < 1e-9);
}

/// Two regions. In the first are a host that does 200 tokens/s with one layer of two, and one that
/// does 100 with one layer or 50 with both, in the second another such. Apart they do 100 and 50.
fn fast_and_slow(link: f64) -> Instance {
    let mut instance = instance(2, &[(1, vec![200.0]), (2, vec![100.0, 50.0])]);
    instance.regions = ["a", "b"].map(str::to_owned).to_vec();
    let Pairs::ByRegion(wires) = &instance.network.pairs else { unreachable!() };
    let near = wires[0].expect("hosts are linked");
    let far = Wire { tokens_per_second: link, ..near };
    instance.network.pairs = Pairs::ByRegion([near, far, far, near].map(Some).to_vec());
    instance.hosts[2].region = 1;
    instance
}

/// Where links between regions carry it, the fast host feeds a host of the other region; where
/// they do not, regions stay apart.
#[test]
fn regions_work_together_where_their_links_carry_it() {
    for (link, most) in [(100.0, 200.0), (60.0, 160.0), (10.0, 150.0)] {
        let instance = fast_and_slow(link);
        let found = Coverage.place(&instance, 1, &mut |_| ControlFlow::Continue(())).unwrap();
        let flow = flow::value(&instance, &found.placement);
        assert!((flow - most).abs() < 1e-6, "{flow} over links of {link}");
    }
}

/// Where hosts are many, thin links are many: together regions do more than the sum of what each
/// could do at most by itself.
#[test]
fn many_hosts_beat_the_bounds_of_their_regions() {
    let instance = generate(200, 1).resolve(&Choice::default()).unwrap().instance;
    let Free::Inside(parts) = regions::free(&instance) else { panic!("links bind across only") };
    let apart: f64 = parts.iter().map(|it| bound::prove(&it.instance, Charge::Full).value).sum();
    let mut watch = |it: Progress| match it.moves < 20_000_000 {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    };
    let found = Coverage.place(&instance, 1, &mut watch).unwrap();
    let flow = flow::value(&instance, &found.placement);
    assert!(flow > apart, "{flow} together, {apart} apart at most");
    assert!(flow > 0.88 * found.bound.unwrap(), "{flow} of {:?}", found.bound);
}

/// Covers know no positions, so that their bound is not always met. Few hosts and layers are few
/// columns: the program proves that nothing better is there.
#[test]
fn the_program_proves_what_covers_do_not() {
    let mut instance = generate(4, 2).resolve(&Choice::default()).unwrap().instance;
    instance.hosts.iter_mut().for_each(|it| it.region = 0);
    instance.layers = 8;
    let covers = bound::prove(&instance, Charge::Full).value;
    let found = Coverage.place(&instance, 1, &mut |_| ControlFlow::Continue(())).unwrap();
    let (flow, proved) = (flow::value(&instance, &found.placement), found.bound.unwrap());
    assert!(flow <= proved * (1.0 + 1e-9) && flow >= proved * (1.0 - 2e-4), "{flow} of {proved}");
    assert!(proved < covers * 0.995, "{proved}, by covers {covers}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_search_finds_the_optimum_of_small_instances(instance in small()) {
        let (flow, best) = (flow(&instance, 200_000).0, brute(&instance));
        prop_assert!((flow - best).abs() < 1e-9, "{flow} of {best}");
    }

    #[test]
    fn the_interval_program_finds_the_optimum_of_small_instances(instance in small()) {
        let best = brute(&instance);
        let found = Intervals.place(&instance, 1, &mut |_| ControlFlow::Continue(()));
        let flow = found.as_ref().map_or(0.0, |it| flow::value(&instance, &it.placement));
        prop_assert!(flow >= best * (1.0 - 1e-4), "{flow} of {best}");
        prop_assert!(found.is_none_or(|it| it.bound.unwrap() >= best * (1.0 - 1e-6)));
    }

    #[test]
    fn greedy_finds_no_more_than_there_is(instance in small()) {
        let found = Greedy.place(&instance, 1, &mut |_| ControlFlow::Continue(()));
        let flow = found.map_or(0.0, |it| flow::value(&instance, &it.placement));
        prop_assert!(flow <= brute(&instance) * (1.0 + 1e-9));
    }
}
