//! Small changes to a candidate, as long as the objective gains by the estimate.

use fastrand::Rng;

use super::{Targets, estimates, worth};
use crate::flow::Judge;
use crate::instance::{Instance, Placement};
use crate::method::{Progress, Watch};
use crate::survive::draw;

/// Changes that are tried, at most. Each takes a flow of least latency and some milliseconds.
const TRIES: u64 = 600;

/// A placement at least as good for the objective as `from`, with changes of one host or two: moved,
/// resized, traded, or left out. The same input gives the same placement unless `watch` ends it.
pub fn improve(
    instance: &Instance,
    targets: &Targets,
    from: &Placement,
    seed: u64,
    watch: &mut Watch<'_>,
) -> Placement {
    let mut rng = Rng::with_seed(seed);
    let mut judge = Judge::new(instance);
    let worth_of = |placement: &Placement| {
        let scores = estimates(instance, placement, targets);
        scores.iter().map(|it| worth(targets, it)).fold(f64::NEG_INFINITY, f64::max)
    };
    let mut best = (worth_of(from), from.clone());
    for count in 0..TRIES {
        let mut next = best.1.clone();
        if rng.u8(0..4) == 0 {
            let host = rng.usize(0..next.len().max(1));
            next.get_mut(host).map(Option::take);
        } else if let Some(change) = draw(instance, &next, &mut rng) {
            change.hosts().iter().for_each(|&(host, range)| next[host] = range);
        }
        if next == best.1 || judge.value(&next) <= 0.0 {
            continue;
        }
        let gained = worth_of(&next);
        if gained > best.0 {
            best = (gained, next);
        }
        let flow = judge.value(&best.1);
        if watch(Progress { flow, bound: f64::INFINITY, moves: count }).is_break() {
            break;
        }
    }
    best.1
}
