//! The promise where links may bind: hill climbing with exact flows.

use fastrand::Rng;

use super::anneal::{KEPT, least, span};
use super::moves::neighbour;
use super::worst_of;
use crate::flow::Judge;
use crate::instance::{Instance, Placement};
use crate::method::{Progress, Watch};

/// Hill climbing with exact flows, where links may bind.
pub(super) struct Exact<'a, 'b> {
    judge: &'a mut Judge<'b>,
    instance: &'b Instance,
    alpha: f64,
}

/// Placements that the exact search values, at most. Each may take a flow per host.
const EXACT_TRIES: u64 = 20_000;

/// How far below the best the search may wander, as a share of it, at first.
const EXACT_WANDER: f64 = 0.03;

impl<'a, 'b> Exact<'a, 'b> {
    pub fn new(judge: &'a mut Judge<'b>, instance: &'b Instance, alpha: f64) -> Self {
        Self { judge, instance, alpha }
    }

    /// The best placement near the better one of those found without links and given.
    pub fn improve(
        &mut self,
        found: &Option<Placement>,
        start: Option<&Placement>,
        seed: u64,
        watch: &mut Watch<'_>,
    ) -> Option<Placement> {
        let fits = |it: &&Placement| it.len() == self.instance.hosts.len();
        let starts: Vec<Placement> = found.iter().chain(start.filter(fits)).cloned().collect();
        let mut best: Option<(f64, Placement)> = None;
        let mut now: Option<(f64, Placement)> = None;
        for start in starts {
            let (score, kept) = self.score(&start, 0.0);
            if kept && best.as_ref().is_none_or(|it| score > it.0) && score > 0.0 {
                best = Some((score, start.clone()));
            }
            if now.as_ref().is_none_or(|it| score > it.0) {
                now = Some((score, start));
            }
        }
        let (mut score, mut now) = now?;
        let mut rng = Rng::with_seed(seed);
        for count in 0..EXACT_TRIES {
            let heat = EXACT_WANDER * (1.0 - count as f64 / EXACT_TRIES as f64);
            let host = rng.usize(0..now.len());
            let Some(to) = neighbour(self.instance, host, now[host], &mut rng) else { continue };
            let mut next = now.clone();
            next[host] = Some(to);
            if rng.f64() < 0.3 {
                let other = rng.usize(0..next.len());
                next[other] =
                    neighbour(self.instance, other, next[other], &mut rng).or(next[other]);
            }
            let floor = score * (1.0 - heat * rng.f64());
            let (value, kept) = self.score(&next, floor);
            if value < floor || value <= 0.0 {
                continue;
            }
            if kept && best.as_ref().is_none_or(|it| value > it.0) {
                best = Some((value, next.clone()));
            }
            (score, now) = (value, next);
            let flow = best.as_ref().map_or(0.0, |it| it.0);
            let progress = Progress { flow, bound: f64::INFINITY, moves: count };
            if count % 64 == 0 && watch(progress).is_break() {
                break;
            }
        }
        best.map(|it| it.1)
    }

    /// What the placement can promise, and whether all of its flow is covered by the promise.
    /// Anything below `floor` may come back too large, but below `floor`.
    fn score(&mut self, placement: &Placement, floor: f64) -> (f64, bool) {
        if least(&self.instance.coverage(placement)) < floor {
            return (0.0, false);
        }
        let flow = self.judge.value(placement);
        if flow < floor || flow <= 0.0 || self.alpha <= 0.0 {
            return (flow, true);
        }
        // The coverage alone bounds what a loss leaves, and is cheap.
        let bound = coverage_kept(self.instance, placement) / self.alpha;
        if bound < floor {
            return (bound, false);
        }
        let worst = worst_of(self.judge, self.instance, placement, flow);
        let kept = worst.map_or(0.0, |it| it.flow_kept);
        (flow.min(kept / self.alpha), kept >= self.alpha * flow * KEPT)
    }
}

/// The most that any loss can leave: coverage without the largest holder.
fn coverage_kept(instance: &Instance, placement: &Placement) -> f64 {
    let mut largest = vec![0.0_f64; instance.layers as usize];
    for (host, range) in placement.iter().enumerate() {
        let Some(range) = *range else { continue };
        let rate = instance.rate(host, range);
        span(Some(range)).for_each(|it| largest[it as usize] = largest[it as usize].max(rate));
    }
    let pairs = instance.coverage(placement).into_iter().zip(largest);
    pairs.map(|(all, largest)| all - largest).fold(f64::INFINITY, f64::min).max(0.0)
}
