//! Chooses a route, hop by hop, so that traffic follows the plan's flow.
//!
//! Every end of a hop keeps an interleaved weighted round robin over the hops that leave it: each
//! choice adds its weight to every candidate and takes the total from the one ahead, so shares are
//! met after every few requests and not only on average.
//!
//! A hop is a candidate only if a route can still be completed behind it. Hops without flow in the
//! plan are taken when no hop with flow is usable: after a loss the surviving stages serve what
//! they can until the next plan.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_wire::{Assignment, End, Hop, HostId, LayerRange, Plan, Route};

/// Routes requests by one plan.
#[derive(Clone, Debug, Default)]
pub struct Router {
    layers: u32,
    stages: BTreeMap<HostId, LayerRange>,
    /// Candidates by where they start.
    hops: BTreeMap<End, Vec<Candidate>>,
}

#[derive(Clone, Debug)]
struct Candidate {
    to: HostId,
    /// Flow of the plan, in tokens/s; zero for hops that the plan does not use.
    weight: f64,
    /// How far ahead of its share the hop is behind, in tokens/s.
    due: f64,
}

impl Router {
    /// Creates a router for `plan`.
    pub fn new(plan: &Plan) -> Self {
        let stages: BTreeMap<_, _> =
            plan.assignments.iter().map(|it| (it.host, it.layers)).collect();
        let mut hops = BTreeMap::new();
        hops.insert(End::Source, candidates(plan, End::Source, 0));
        for &Assignment { host, layers, .. } in &plan.assignments {
            let from = End::Host(host);
            hops.insert(from, candidates(plan, from, layers.end()));
        }
        Self { layers: plan.layers, stages, hops }
    }

    /// Returns the next route over hosts that are `usable`, or `None` if they do not cover the
    /// model.
    pub fn route(&mut self, usable: impl Fn(HostId) -> bool) -> Option<Route> {
        let live = self.live(usable);
        let mut hops = Vec::new();
        let mut from = End::Source;
        let mut at = 0;
        while at < self.layers {
            let host = choose(self.hops.get_mut(&from)?, &live)?;
            let end = self.stages[&host].end();
            let layers = LayerRange::new(at, end).expect("a candidate's layers end behind");
            hops.push(Hop { host, layers });
            from = End::Host(host);
            at = end;
        }
        Route::new(hops).ok()
    }

    /// Hosts that are usable and from which a route can be completed over usable hosts.
    fn live(&self, usable: impl Fn(HostId) -> bool) -> BTreeSet<HostId> {
        let mut by_end: Vec<_> = self.stages.iter().collect();
        by_end.sort_by_key(|(_, layers)| std::cmp::Reverse(layers.end()));
        let mut live = BTreeSet::new();
        for (&host, layers) in by_end {
            let complete = layers.end() == self.layers
                || self.hops[&End::Host(host)].iter().any(|hop| live.contains(&hop.to));
            if complete && usable(host) {
                live.insert(host);
            }
        }
        live
    }
}

/// Hops from an end where layers `0..at` are done: to every host that holds layer `at`.
fn candidates(plan: &Plan, from: End, at: u32) -> Vec<Candidate> {
    let weight = |to| {
        let hop = plan.weights.iter().find(|it| it.from == from && it.to == End::Host(to));
        hop.map_or(0.0, |it| it.tokens_per_second).max(0.0)
    };
    plan.assignments
        .iter()
        .filter(|it| it.layers.contains(at))
        .map(|it| Candidate { to: it.host, weight: weight(it.host), due: 0.0 })
        .collect()
}

/// Takes the candidate that is most behind its share.
fn choose(candidates: &mut [Candidate], live: &BTreeSet<HostId>) -> Option<HostId> {
    let total: f64 = candidates.iter().filter(|it| live.contains(&it.to)).map(|it| it.weight).sum();
    // Without any flow left every candidate counts the same.
    let floor = if total > 0.0 { 0.0 } else { 1.0 };
    let mut open: Vec<_> = candidates
        .iter_mut()
        .filter(|it| live.contains(&it.to) && (it.weight > 0.0 || floor > 0.0))
        .collect();
    let mut sum = 0.0;
    for it in &mut open {
        let weight = it.weight.max(floor);
        it.due += weight;
        sum += weight;
    }
    let chosen = open.into_iter().reduce(|a, b| if b.due > a.due { b } else { a })?;
    chosen.due -= sum;
    Some(chosen.to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use thalweg_wire::{Epoch, ModelId, Weight};

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
        let mut router = Router::new(&plan);
        let mut counts: BTreeMap<(End, End), u32> = BTreeMap::new();
        for _ in 0..500 {
            let route = router.route(|_| true).expect("all hosts are usable");
            let hosts = route.hops().iter().map(|hop| End::Host(hop.host));
            let ends: Vec<End> =
                [End::Source].into_iter().chain(hosts).chain([End::Sink]).collect();
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
        let mut router = Router::new(&diamond());
        let route = router.route(|id| id == HostId(1) || id == HostId(4)).expect("1 and 4 cover");
        let layers: Vec<String> = route.hops().iter().map(|hop| hop.layers.to_string()).collect();
        assert_eq!(layers, ["0..4", "4..8"], "host 4 holds 2..8");
    }

    #[test]
    fn shares_are_kept_among_what_is_left() {
        let mut router = Router::new(&diamond());
        for _ in 0..10 {
            let route = router.route(|id| id != HostId(4)).expect("3 still leads to the end");
            assert_eq!(route.last().host, HostId(3));
        }
        assert_eq!(router.route(|id| id.0 < 3), None, "no host of the last layer");
        assert_eq!(router.route(|id| id.0 > 2), None, "no host of the first layer");
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
        let mut router = Router::new(&plan(8, &stages, &weights));
        let route = router.route(|id| id.0 != 3 && id.0 != 2).expect("1 and 4 cover");
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
            let mut router = Router::new(&plan(8, &stages, &[]));
            for _ in 0..4 {
                match router.route(usable) {
                    Some(route) => {
                        prop_assert!(route.hops().iter().all(|hop| usable(hop.host)));
                        prop_assert_eq!(route.end(), 8);
                    }
                    None => prop_assert!(!covered),
                }
            }
        }
    }
}
