//! Bound under work charge: how many layers per second all hosts compute at most.
//!
//! A flow of `F` needs `F · L` layers computed per second. What a host computes falls with the
//! layers it holds, but together the hosts must hold all `L`: that is priced by one multiplier, and
//! any multiplier gives a bound.

use crate::bound::{Proof, Reason};
use crate::instance::{Instance, Rates};

/// Halvings of the interval that holds the best multiplier.
const HALVINGS: u32 = 100;

/// Proves a bound from the layers computed per second, with a price on held layers.
pub fn prove(instance: &Instance) -> Proof {
    let kinds = kinds(instance);
    // The bound is convex in the price; its slope is the layers held beyond L.
    let (mut low, mut high) = (0.0, 1.0);
    let short = |price| held(&kinds, price) < f64::from(instance.layers);
    while short(high) && high < f64::MAX / 4.0 {
        (low, high) = (high, high * 2.0);
    }
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        if short(middle) { low = middle } else { high = middle }
    }
    let price = [0.0, low, high]
        .into_iter()
        .min_by(|a, b| value(instance, &kinds, *a).total_cmp(&value(instance, &kinds, *b)))
        .unwrap_or(0.0);
    Proof { value: value(instance, &kinds, price), reason: Reason::Work { price } }
}

/// Hosts of each class.
pub(crate) fn counts(instance: &Instance) -> Vec<usize> {
    let mut counts = vec![0; instance.classes.len()];
    instance.hosts.iter().for_each(|it| counts[it.class] += 1);
    counts
}

/// Rates and number of hosts of the classes in use.
fn kinds(instance: &Instance) -> Vec<(&Rates, f64)> {
    let rates = instance.classes.iter().map(|it| &it.rates);
    rates.zip(counts(instance)).map(|(rates, count)| (rates, count as f64)).collect()
}

/// The best a host does at a price: layers per second with the price of what it holds, and how many
/// layers that is.
fn best(rates: &Rates, price: f64) -> (f64, u32) {
    (1..=rates.count_max())
        .filter(|&count| rates.most(count) > 0.0)
        .map(|count| (f64::from(count) * (rates.most(count) + price), count))
        .fold((0.0, 0), |best, it| if it.0 >= best.0 { it } else { best })
}

fn held(kinds: &[(&Rates, f64)], price: f64) -> f64 {
    kinds.iter().map(|(rates, count)| count * f64::from(best(rates, price).1)).sum()
}

fn value(instance: &Instance, kinds: &[(&Rates, f64)], price: f64) -> f64 {
    let layers = f64::from(instance.layers);
    let sum: f64 = kinds.iter().map(|(rates, count)| count * best(rates, price).0).sum();
    ((sum - price * layers) / layers).max(0.0)
}
