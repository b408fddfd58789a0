//! Which regions work together.
//!
//! What regions could do together is estimated without links ([`room`]). A region that cannot hold
//! the model alone is worth nothing alone, so it is chained to others; two regions that can do
//! without each other stay apart, because a chain gains little and pays with thin crossings.

use crate::bound::network::room;
use crate::instance::Instance;

/// What joining two groups must bring that both could do alone, as a share of their sum.
const GAIN_MIN: f64 = 0.05;

/// Divides the regions that have hosts into groups, each a chain or a region of its own.
pub(super) fn split(instance: &Instance) -> Vec<Vec<usize>> {
    let occupied = |it: &usize| instance.hosts.iter().any(|host| host.region == *it);
    let regions = (0..instance.regions.len()).filter(occupied);
    let mut groups: Vec<(Vec<usize>, f64)> =
        regions.map(|it| (vec![it], estimate(instance, &[it]))).collect();
    while let Some((near, far, worth)) = best_union(instance, &groups) {
        let (joined, _) = groups.remove(far);
        groups[near].0.extend(joined);
        groups[near].1 = worth;
    }
    groups.into_iter().map(|it| it.0).collect()
}

/// The two groups that gain most from joining, and what they are then worth. Groups that cannot
/// hold the model join even if they still cannot, those with most room first.
fn best_union(instance: &Instance, groups: &[(Vec<usize>, f64)]) -> Option<(usize, usize, f64)> {
    let (mut best, mut top) = (None, (f64::NEG_INFINITY, 0.0));
    for (far, other) in groups.iter().enumerate() {
        for (near, one) in groups[..far].iter().enumerate() {
            let union = [one.0.as_slice(), other.0.as_slice()].concat();
            let worth = estimate(instance, &union);
            let alone = one.1 + other.1;
            let helpless = one.1 <= 0.0 && other.1 <= 0.0;
            let gain = worth - alone;
            let score = (gain, layers_at(instance, &union, f64::MIN_POSITIVE));
            let worthwhile = helpless || gain > GAIN_MIN * alone;
            if worthwhile && score > top {
                (best, top) = (Some((near, far, worth)), score);
            }
        }
    }
    best
}

/// The most tokens/s that `regions` could do together if links were no matter.
pub(super) fn estimate(instance: &Instance, regions: &[usize]) -> f64 {
    room::alone(instance, &room::counts(instance, regions))
}

/// Layers of a flow `target` that the hosts of `regions` are worth, at most.
pub(super) fn layers_at(instance: &Instance, regions: &[usize], target: f64) -> f64 {
    room::layers_at(instance, &room::counts(instance, regions), target)
}

/// Hosts of `regions`, ascending.
pub(super) fn hosts_of<'a>(
    instance: &'a Instance,
    regions: &'a [usize],
) -> impl Iterator<Item = usize> + 'a {
    (0..instance.hosts.len()).filter(|&it| regions.contains(&instance.hosts[it].region))
}
