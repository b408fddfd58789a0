//! The bound of the interval program's relaxation: prices of layers, in place of prices of hosts.
//!
//! It knows where ranges lie, which the configuration bound does not: who may hold the first layer
//! and the last, and what they do there. It does not know that whole hosts cover a layer. So it says
//! more where few hosts may hold an end of the model, and less elsewhere.
//!
//! Let layers have prices that sum to 1, and let no host count for more than `F` in any layer. At a
//! flow `F` all hosts together are then worth `F` at least, while a host is worth at most the best
//! of its seats. Any prices prove a bound, those of the relaxed program nearly the least.

use thalweg_wire::LayerRange;

use crate::bound::{Proof, Reason};
use crate::instance::Instance;
use crate::solver::{Answer, Effort, Program};

/// Halvings of the interval that holds the least bound of given prices.
const HALVINGS: u32 = 60;
/// Programs solved at most, each with rates cut to the bound of the one before.
const PROGRAMS_MAX: u32 = 3;
/// Sums of doubles are off by less than this share.
const ROUNDING: f64 = 1e-10;
/// A bound that is lower by less than this share is not worth another program.
const GAIN_MIN: f64 = 1e-4;

/// Hosts that may do the same: how many, and the rate of each range that they may hold.
struct Group {
    host: usize,
    count: f64,
    seats: Vec<(LayerRange, f64)>,
}

/// Proves a bound below `below`, which must itself be one. `None` if none is found, or if every host
/// may hold every layer alike.
pub fn prove(instance: &Instance, below: f64) -> Option<Proof> {
    if !ends_matter(instance) {
        return None;
    }
    let groups = groups(instance);
    let (mut value, mut best) = (below, None);
    for _ in 0..PROGRAMS_MAX {
        let prices = relax(instance.layers, &groups, value)?;
        let Some(lower) = least(&groups, &prices, value) else { break };
        let gained = value - lower;
        (value, best) = (lower, Some(prices));
        if gained < GAIN_MIN * value {
            break;
        }
    }
    Some(Proof { value, reason: Reason::Layers { prices: best? } })
}

/// Whether policy or the rates tell the ends of the model from its middle.
fn ends_matter(instance: &Instance) -> bool {
    let host = |at: usize| {
        let it = &instance.hosts[at];
        let rates = &instance.classes[it.class].rates;
        let differs = |count: u32| {
            let inner = LayerRange::new(1, 1 + count).map_or(0.0, |it| rates.of(it, u32::MAX));
            let first = LayerRange::new(0, count).map_or(0.0, |it| rates.of(it, u32::MAX));
            let last = LayerRange::new(1, 1 + count).map_or(0.0, |it| rates.of(it, 1 + count));
            first < inner || last < inner
        };
        !it.may_be_first || !it.may_be_last || (1..=rates.count_max()).any(differs)
    };
    (0..instance.hosts.len()).any(host)
}

fn groups(instance: &Instance) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let key = |host: usize| {
        let it = &instance.hosts[host];
        (it.class, it.may_be_first, it.may_be_last)
    };
    for host in 0..instance.hosts.len() {
        if let Some(group) = groups.iter_mut().find(|it| key(it.host) == key(host)) {
            group.count += 1.0;
            continue;
        }
        let most = instance.class(host).rates.count_max().min(instance.layers);
        let ranges = (1..=most).flat_map(|count| {
            (0..=instance.layers - count).filter_map(move |it| LayerRange::new(it, it + count).ok())
        });
        let seats = ranges.map(|it| (it, instance.rate(host, it))).filter(|it| it.1 > 0.0);
        groups.push(Group { host, count: 1.0, seats: seats.collect() });
    }
    groups
}

/// Prices of layers from the relaxed program, rates cut to `flow`.
fn relax(layers: u32, groups: &[Group], flow: f64) -> Option<Vec<f64>> {
    let mut program = Program::default();
    let level = program.add(1.0, f64::INFINITY);
    let mut covers = vec![vec![(level, -1.0)]; layers as usize];
    for group in groups {
        let mut all = Vec::new();
        for &(range, rate) in &group.seats {
            let column = program.add(0.0, f64::INFINITY);
            all.push((column, 1.0));
            let share = rate.min(flow) / flow;
            let held = &mut covers[range.first() as usize..range.end() as usize];
            held.iter_mut().for_each(|it| it.push((column, share)));
        }
        program.constrain(f64::NEG_INFINITY, all, group.count);
    }
    let rows: Vec<usize> =
        covers.into_iter().map(|it| program.constrain(0.0, it, f64::INFINITY)).collect();
    let Answer::Optimal(point) = program.maximise(&Effort::default()) else { return None };
    let prices: Vec<f64> = rows.iter().map(|&it| point.duals[it].abs()).collect();
    let sum: f64 = prices.iter().sum();
    (sum > 0.0).then(|| prices.iter().map(|it| it / sum).collect())
}

/// The least flow that these prices refute all flows above; `None` if it is not below `below`.
fn least(groups: &[Group], prices: &[f64], below: f64) -> Option<f64> {
    let refuted = |flow: f64| worth(groups, prices, flow) < flow * (1.0 - ROUNDING);
    if !refuted(below) {
        return None;
    }
    let (mut low, mut high) = (0.0, below);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if refuted(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

/// What all hosts are worth at most, none of them counted for more than `flow` in a layer.
fn worth(groups: &[Group], prices: &[f64], flow: f64) -> f64 {
    let seat = |(range, rate): &(LayerRange, f64)| {
        let held = &prices[range.first() as usize..range.end() as usize];
        rate.min(flow) * held.iter().sum::<f64>()
    };
    groups.iter().map(|it| it.count * it.seats.iter().map(seat).fold(0.0, f64::max)).sum()
}
