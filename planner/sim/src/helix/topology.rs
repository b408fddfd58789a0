//! Which links a placement uses, in the artifact's order. The order decides between equals.

use std::collections::BTreeSet;

use thalweg_wire::LayerRange;

use super::mersenne::Mersenne;
use super::scenario::{End, Link};

/// Links of a plan: every wire, in either direction, over which a next layer is computed.
///
/// `ranges` are the layers of each host. A wire between hosts goes both ways, one of the gateway as
/// it says. With `partial`, a host may be entered in the middle of its layers. Links to hosts that
/// nothing leaves, and from hosts that nothing enters, are left out.
pub fn plan_links(layers: u32, ranges: &[LayerRange], wires: &[Link], partial: bool) -> Vec<Link> {
    let of = |host: u32| ranges[host as usize];
    let valid = |link: &Link| match (link.from, link.to) {
        (End::Gateway, End::Gateway) => false,
        (End::Gateway, End::Host(to)) => of(to).first() == 0,
        (End::Host(from), End::Gateway) => of(from).end() == layers,
        (End::Host(from), End::Host(to)) if partial => of(to).contains(of(from).end()),
        (End::Host(from), End::Host(to)) => of(to).first() == of(from).end(),
    };
    let mut links: Vec<Link> = wires.iter().flat_map(both_ways).filter(valid).collect();
    let left: BTreeSet<End> = links.iter().map(|it| it.from).collect();
    links.retain(|it| it.to == End::Gateway || left.contains(&it.to));
    let entered: BTreeSet<End> = links.iter().map(|it| it.to).collect();
    links.retain(|it| it.from == End::Gateway || entered.contains(&it.from));
    links
}

/// Links of a SWARM pipeline: from each host to all of the next stage, in drawn order.
///
/// Stages are the hosts of equal layers, the fastest by `tokens_per_second` first. Pairs without a
/// wire have no link.
pub fn swarm_links(
    ranges: &[LayerRange],
    tokens_per_second: &[f64],
    wires: &[Link],
    seed: u64,
) -> Vec<Link> {
    let firsts: BTreeSet<u32> = ranges.iter().map(|it| it.first()).collect();
    let stage = |first: &u32| {
        let mut stage: Vec<usize> =
            (0..ranges.len()).filter(|it| ranges[*it].first() == *first).collect();
        let rate = |at: &usize| tokens_per_second[*at];
        stage.sort_by(|a, b| rate(b).total_cmp(&rate(a)).then(b.cmp(a)));
        stage.into_iter().map(|it| End::Host(it as u32)).collect::<Vec<_>>()
    };
    let stages: Vec<Vec<End>> = firsts.iter().map(stage).collect();
    let mut pairs: Vec<(End, End)> = Vec::new();
    if let (Some(first), Some(last)) = (stages.first(), stages.last()) {
        pairs.extend(first.iter().map(|it| (End::Gateway, *it)));
        pairs.extend(last.iter().map(|it| (*it, End::Gateway)));
    }
    let mut draws = Mersenne::new(seed);
    for two in stages.windows(2) {
        for &from in &two[0] {
            pairs.extend(draws.sample(&two[1]).into_iter().map(|to| (from, to)));
        }
    }
    let all: Vec<Link> = wires.iter().flat_map(both_ways).collect();
    let link = |(from, to)| all.iter().find(|it| (it.from, it.to) == (from, to)).copied();
    pairs.into_iter().filter_map(link).collect()
}

/// A wire as it says and, between hosts, back.
fn both_ways(wire: &Link) -> impl Iterator<Item = Link> {
    let hosts = matches!((wire.from, wire.to), (End::Host(_), End::Host(_)));
    let back = Link { from: wire.to, to: wire.from, ..*wire };
    [*wire, back].into_iter().take(if hosts { 2 } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(from: Option<u32>, to: Option<u32>) -> Link {
        let end = |it: Option<u32>| it.map_or(End::Gateway, End::Host);
        Link { from: end(from), to: end(to), bytes_per_second: 1.0, latency_seconds: 0.0 }
    }

    /// Every pair of `hosts`, and the gateway's links.
    fn complete(hosts: u32) -> Vec<Link> {
        let enter = (0..hosts).map(|it| wire(None, Some(it)));
        let leave = (0..hosts).map(|it| wire(Some(it), None));
        let pairs = (0..hosts).flat_map(|a| (a + 1..hosts).map(move |b| wire(Some(a), Some(b))));
        enter.chain(leave).chain(pairs).collect()
    }

    fn ranges(ranges: &[(u32, u32)]) -> Vec<LayerRange> {
        ranges.iter().map(|&(first, end)| LayerRange::new(first, end).expect("layers")).collect()
    }

    fn names(links: &[Link]) -> Vec<String> {
        let name = |it: End| match it {
            End::Gateway => "g".to_owned(),
            End::Host(host) => host.to_string(),
        };
        links.iter().map(|it| format!("{}{}", name(it.from), name(it.to))).collect()
    }

    #[test]
    fn plans_use_links_that_go_on_with_the_next_layer() {
        // 3 ends where nobody begins, 4 begins where nobody ends.
        let ranges = ranges(&[(2, 4), (0, 2), (1, 4), (0, 3), (1, 4)]);
        let plain = plan_links(4, &ranges, &complete(5), false);
        assert_eq!(names(&plain), ["g1", "0g", "10"]);
        let partial = plan_links(4, &ranges, &complete(5), true);
        let expected = ["g1", "g3", "0g", "2g", "4g", "10", "30", "12", "13", "14", "32", "34"];
        assert_eq!(names(&partial), expected);
    }

    #[test]
    fn swarm_stages_are_sorted_and_joined_in_drawn_order() {
        let ranges = ranges(&[(1, 2), (0, 1), (1, 2), (0, 1), (1, 2)]);
        let links = swarm_links(&ranges, &[1.0, 2.0, 1.0, 2.0, 3.0], &complete(5), 0);
        // random.seed(0); random.sample([4, 2, 0], 3) gives [2, 0, 4] both times.
        let expected = ["g3", "g1", "4g", "2g", "0g", "32", "30", "34", "12", "10", "14"];
        assert_eq!(names(&links), expected);
    }
}
