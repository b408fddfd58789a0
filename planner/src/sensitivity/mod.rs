//! How much of a plan's flow survives errors of measurement, slow links and losses.
//!
//! Every case changes the cluster a little and asks twice: what the same placement carries with new
//! weights, and what it carries after a [`repair`](crate::repair). Shares are of the flow before.
//! A case that speeds hosts up may end above one.

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::flow::Judge;
use crate::instance::{Class, Instance, Placement};
use crate::repair::{Change, replan};

/// How far profiles are taken to be off, either way.
pub const PROFILE_ERROR: f64 = 0.1;

/// What a slow region link is taken to lose.
pub const LINK_LOSS: f64 = 0.3;

/// Random errors of all hosts together that are tried.
const RANDOM_PROFILES: usize = 20;

/// What is changed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Disturbance {
    /// All profiles are too high, or too low, by [`PROFILE_ERROR`].
    AllProfiles,
    /// The profile of one machine type is.
    OneClass,
    /// The profile of each host is by up to that much, on its own.
    EachHost,
    /// The links from one region to another lose [`LINK_LOSS`].
    RegionLink,
    /// One host is lost.
    HostLost,
}

/// Shares of the flow that is left, over all cases of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// The worst case.
    pub min: f64,
    /// One case in ten is worse.
    pub p10: f64,
    /// Half of the cases are worse.
    pub median: f64,
    /// The best case.
    pub max: f64,
}

/// All cases of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// What was changed.
    pub disturbance: Disturbance,
    /// Cases looked at.
    pub cases: usize,
    /// Flow kept by new weights alone.
    pub reweighted: Spread,
    /// Flow kept after a repair.
    pub repaired: Spread,
}

/// Looks at every disturbance that the cluster allows. Empty if the placement has no flow.
///
/// Each case is repaired, which takes up to some seconds on a large cluster; after each one
/// `watch` is told how many are done, of how many. After its `Break` the kinds done so far are
/// returned.
pub fn report(
    instance: &Instance,
    placement: &Placement,
    seed: u64,
    watch: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Vec<Kept> {
    let flow = Judge::new(instance).value(placement);
    if flow <= 0.0 {
        return Vec::new();
    }
    let all = cases(instance, placement, seed);
    let total: usize = all.iter().map(|it| it.1.len()).sum();
    let (mut done, mut kinds) = (0, Vec::new());
    for (disturbance, changes) in all {
        let (mut reweighted, mut repaired) = (Vec::new(), Vec::new());
        for change in &changes {
            let repair = replan(instance, placement, change, seed);
            reweighted.push(repair.flow_reweighted / flow);
            repaired.push(repair.flow_after[1] / flow);
            done += 1;
            if watch(done, total).is_break() {
                return kinds;
            }
        }
        if let (Some(reweighted), Some(repaired)) = (spread(reweighted), spread(repaired)) {
            kinds.push(Kept { disturbance, cases: changes.len(), reweighted, repaired });
        }
    }
    kinds
}

fn cases(instance: &Instance, placement: &Placement, seed: u64) -> Vec<(Disturbance, Vec<Change>)> {
    let mut rng = Rng::with_seed(seed);
    let off = [1.0 - PROFILE_ERROR, 1.0 + PROFILE_ERROR];
    let classes = 0..instance.classes.len();
    let all = off.map(|factor| scaled(instance, |_| factor)).to_vec();
    let one = classes.flat_map(|class| {
        let factor = move |at: usize, off: f64| if at == class { off } else { 1.0 };
        off.map(|off| scaled(instance, |host| factor(instance.hosts[host].class, off)))
    });
    let each = (0..RANDOM_PROFILES).map(|_| {
        let errors: Vec<f64> =
            instance.hosts.iter().map(|_| off[0] + (off[1] - off[0]) * rng.f64()).collect();
        scaled(instance, |host| errors[host])
    });
    let (one, each) = (one.collect(), each.collect());
    let lost = (0..placement.len()).filter(|&it| placement[it].is_some());
    vec![
        (Disturbance::AllProfiles, all),
        (Disturbance::OneClass, one),
        (Disturbance::EachHost, each),
        (Disturbance::RegionLink, slow_links(instance)),
        (Disturbance::HostLost, lost.map(|host| Change::HostLost { host }).collect()),
    ]
}

/// The cluster with each host's rates multiplied. Hosts that stay alike share a class.
fn scaled(instance: &Instance, factor: impl Fn(usize) -> f64) -> Change {
    let mut cluster = instance.clone();
    let mut classes: Vec<(usize, u64, Class)> = Vec::new();
    for (index, host) in cluster.hosts.iter_mut().enumerate() {
        let (class, factor) = (host.class, factor(index));
        let known = classes.iter().position(|it| (it.0, it.1) == (class, factor.to_bits()));
        host.class = known.unwrap_or_else(|| {
            let was = &instance.classes[class];
            let (name, rates) = (was.name.clone(), was.rates.scaled(factor));
            let device = was.device.clone();
            classes.push((class, factor.to_bits(), Class { name, rates, device }));
            classes.len() - 1
        });
    }
    cluster.classes = classes.into_iter().map(|it| it.2).collect();
    Change::WorkloadShifted { cluster: Box::new(cluster) }
}

/// Each pair of different regions, both ways at once apart.
fn slow_links(instance: &Instance) -> Vec<Change> {
    let regions = 0..instance.regions.len();
    let pairs = regions.clone().flat_map(|from| regions.clone().map(move |to| (from, to)));
    let lived = |region: usize| instance.hosts.iter().any(|it| it.region == region);
    pairs
        .filter(|&(from, to)| from != to && lived(from) && lived(to))
        .map(|(from, to)| Change::LinkSlower { from, to, share: 1.0 - LINK_LOSS })
        .collect()
}

/// `None` for no values.
fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    // Rounds down: of ten values the first is the one that a tenth does not exceed.
    let at =
        |tenths: usize| values.get((values.len() * tenths / 10).min(values.len() - 1)).copied();
    let (min, max) = (values.first().copied()?, values.last().copied()?);
    Some(Spread { min, p10: at(1)?, median: at(5)?, max })
}
