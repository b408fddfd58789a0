use super::*;
use crate::instance::{Pairs, Wire};
use crate::survive::tests::{instance, range};

/// Two layers; hosts of class 0 and 1 hold one layer each with T = 10 and 20, host 2 both with
/// T(2) = 10: coverage (20, 30), flow 20.
///
/// All profiles off by a tenth: 18 and 22, which is 0.9 and 1.1. Class 0 alone: (19, 30) and
/// (21, 30), 0.95 and 1.05; class 1 alone changes nothing; class 2 alone as class 0. Without host 0
/// 10 are left, without host 1 10, without host 2 10: 0.5 each.
#[test]
fn shares_by_hand() {
    let cluster = instance(2, &[&[10.0, 5.0], &[20.0, 10.0], &[20.0, 10.0]]);
    let placement = vec![range(0, 1), range(1, 2), range(0, 2)];
    let kinds = report(&cluster, &placement, 1, &mut |_, _| ControlFlow::Continue(()));
    let of = |kind: Disturbance| kinds.iter().find(|it| it.disturbance == kind);
    let near = |it: Spread, [min, p10, median, max]: [f64; 4]| {
        let pairs = [(it.min, min), (it.p10, p10), (it.median, median), (it.max, max)];
        assert!(pairs.iter().all(|(is, wanted)| (is - wanted).abs() < 1e-12), "{it:?}");
    };
    near(of(Disturbance::AllProfiles).unwrap().reweighted, [0.9, 0.9, 1.1, 1.1]);
    near(of(Disturbance::OneClass).unwrap().reweighted, [0.95, 0.95, 1.0, 1.05]);
    near(of(Disturbance::HostLost).unwrap().reweighted, [0.5, 0.5, 0.5, 0.5]);
    // One region has no region links.
    assert_eq!(of(Disturbance::RegionLink), None);
    let each = of(Disturbance::EachHost).unwrap();
    assert!(each.reweighted.min >= 0.9 && each.reweighted.max <= 1.1);
    assert_eq!(each.cases, RANDOM_PROFILES);
    // Without host 0, host 2 holds layer 0 alone: 20 on each layer again. Without host 1 or host 2
    // the other two hold both layers: 5 + 10.
    near(of(Disturbance::HostLost).unwrap().repaired, [0.75, 0.75, 0.75, 1.0]);
}

/// Hosts 0 and 2 in one region, host 1 in another, one layer each at T = 30, 6, 30; hosts of two
/// regions share links of 20 that way and 12 back. Host 0 and host 1 hold a layer each: flow 20.
///
/// The link that is used loses 30 %: 14, which is 0.7. Then host 2 loads either layer and carries 6
/// beside the 14: 20 again. The link that is not used may lose what it likes.
#[test]
fn a_slow_region_link_by_hand() {
    let mut cluster = instance(2, &[&[30.0], &[30.0], &[6.0]]);
    cluster.regions = vec!["near".into(), "far".into()];
    cluster.hosts[1].region = 1;
    let link = |rate| Some(Wire { tokens_per_second: rate, latency_seconds: 0.01 });
    let pairs = vec![link(1e9), link(20.0), link(12.0), link(1e9)];
    cluster.network.pairs = Pairs::ByRegion(pairs);
    let placement = vec![range(0, 1), range(1, 2), None];
    let kinds = report(&cluster, &placement, 1, &mut |_, _| ControlFlow::Continue(()));
    let kept = kinds.iter().find(|it| it.disturbance == Disturbance::RegionLink).unwrap();
    let near = |it: Spread, [min, p10, median, max]: [f64; 4]| {
        let pairs = [(it.min, min), (it.p10, p10), (it.median, median), (it.max, max)];
        assert!(pairs.iter().all(|(is, wanted)| (is - wanted).abs() < 1e-12), "{it:?}");
    };
    assert_eq!(kept.cases, 2);
    near(kept.reweighted, [0.7, 0.7, 1.0, 1.0]);
    near(kept.repaired, [1.0; 4]);
}

#[test]
fn a_placement_without_flow_has_no_report() {
    let cluster = instance(2, &[&[10.0, 5.0]]);
    assert!(report(&cluster, &vec![range(0, 1)], 1, &mut |_, _| ControlFlow::Break(())).is_empty());
}
