//! The bound: it must follow from the certificate, by arithmetic done anew.

use thalweg_wire::LayerRange;

use super::covers::least_cost;
use super::{Bound, Finding, exceeds};
use crate::bound::{Price, Reason, network};
use crate::instance::{Class, Instance};
use crate::report::{ChargeName, Report};

/// Sums of doubles are off by less than this share.
const ROUNDING: f64 = 1e-10;

/// Checks the bound against flow and certificates.
pub(super) fn check(report: &Report, instance: &Instance, findings: &mut Vec<Finding>) -> Bound {
    let bound = report.bound;
    let mut refuse = |problem: String| findings.push(Finding::Bound { bound, problem });
    if exceeds(report.flow, bound) {
        refuse(format!("the flow is {}", report.flow));
    }
    let full = report.charge == ChargeName::FullCharge;
    let mut proved = f64::INFINITY;
    match certificate(report, instance, full) {
        Ok(value) => proved = value,
        Err(problem) => refuse(problem),
    }
    match &report.network_proof {
        Some(_) if !full => refuse("its network certificate is for full charge only".to_owned()),
        Some(proof) => match network::check(instance, proof) {
            Ok(()) => proved = proved.min(proof.value),
            Err(doubt) => refuse(format!("its network certificate: {doubt}")),
        },
        None => {}
    }
    let claimed = matches!(report.proof.reason, Reason::Solver);
    let least = if claimed { proved.min(report.proof.value) } else { proved };
    if exceeds(least, bound) {
        refuse(format!("its certificates prove {least}"));
    }
    if exceeds(proved, bound) { Bound::Claimed } else { Bound::Proved }
}

/// What the certificate that holds on any network proves; infinite for a solver's word.
fn certificate(report: &Report, instance: &Instance, full: bool) -> Result<f64, String> {
    let value = report.proof.value;
    if !(value >= 0.0 && value.is_finite()) {
        return Err(format!("its certificate is for {value}"));
    }
    let counts = counts(instance);
    match &report.proof.reason {
        Reason::Work { price } => work(instance, &counts, *price, value)?,
        Reason::Configuration { .. } if !full => {
            return Err("covers of layers prove it under full charge only".to_owned());
        }
        Reason::Configuration { prices } => configuration(instance, &counts, prices, value)?,
        Reason::Layers { .. } if !full => {
            return Err("prices of layers prove it under full charge only".to_owned());
        }
        Reason::Layers { prices } => layers(instance, prices, value)?,
        _ => return Ok(f64::INFINITY),
    }
    Ok(value)
}

/// Hosts of each class.
fn counts(instance: &Instance) -> Vec<usize> {
    let of = |class| instance.hosts.iter().filter(|it| it.class == class).count();
    (0..instance.classes.len()).map(of).collect()
}

/// `value · L >= sum over hosts of max(0, max over k of k (T(k) + price))  -  price L`: what all
/// hosts compute in a second, each held layer beyond the model's counted against it.
fn work(instance: &Instance, counts: &[usize], price: f64, value: f64) -> Result<(), String> {
    if !(price >= 0.0 && price.is_finite()) {
        return Err(format!("its certificate has a price of {price}"));
    }
    let best = |class: &Class| {
        let rates = (1..=class.rates.count_max()).map(|it| (f64::from(it), class.rates.most(it)));
        let held = rates.filter(|it| it.1 > 0.0);
        held.map(|(layers, rate)| layers * (rate + price)).fold(0.0, f64::max)
    };
    let pairs = instance.classes.iter().zip(counts);
    let sum: f64 = pairs.map(|(class, &count)| count as f64 * best(class)).sum();
    let layers = f64::from(instance.layers);
    let least = (sum - price * layers) / layers;
    // The difference of two large sums is off by a share of these, not of itself.
    if value >= least - (sum / layers) * ROUNDING {
        Ok(())
    } else {
        Err(format!("at its price the hosts compute up to {least} tokens/s"))
    }
}

/// Every host on the seat where it is worth most: together they are worth less than `value`.
fn layers(instance: &Instance, prices: &[f64], value: f64) -> Result<(), String> {
    let sensible = prices.iter().all(|it| *it >= 0.0 && it.is_finite());
    if !sensible || prices.len() != instance.layers as usize || value <= 0.0 {
        return Err(format!(
            "its certificate has {} prices for {} layers, or some that are no numbers above 0",
            prices.len(),
            instance.layers,
        ));
    }
    let mut below = vec![0.0];
    for price in prices {
        below.push(below[below.len() - 1] + price);
    }
    let mut worth = 0.0;
    for host in 0..instance.hosts.len() {
        let mut most = 0.0_f64;
        for end in 1..=instance.layers {
            for first in end.saturating_sub(instance.class(host).rates.count_max())..end {
                let Ok(range) = LayerRange::new(first, end) else { continue };
                let held = below[end as usize] - below[first as usize];
                most = most.max(instance.rate(host, range).min(value) * held);
            }
        }
        worth += most;
    }
    // Prices are only meant in relation to each other.
    let needed = value * below[prices.len()];
    if worth < needed * (1.0 - ROUNDING / 10.0) {
        Ok(())
    } else {
        Err(format!("at its prices the hosts are worth {worth}, a flow of that size {needed}"))
    }
}

/// Every cover of a layer costs at least 1, all hosts together less than the model has layers.
fn configuration(
    instance: &Instance,
    counts: &[usize],
    prices: &[Price],
    value: f64,
) -> Result<(), String> {
    let names = instance.classes.iter().map(|it| it.name.as_str());
    if !names.eq(prices.iter().map(|it| it.class.as_str())) {
        return Err("its certificate has prices for other machines".to_owned());
    }
    if value <= 0.0 || prices.iter().any(|it| !(it.price >= 0.0 && it.price.is_finite())) {
        return Err("its certificate has prices or a flow that are no numbers above 0".to_owned());
    }
    let prices: Vec<f64> = prices.iter().map(|it| it.price).collect();
    let cover = least_cost(instance, counts, &prices, value);
    let hosts: f64 = prices.iter().zip(counts).map(|(price, &count)| price * count as f64).sum();
    let layers = f64::from(instance.layers);
    // Prices are only meant in relation to each other: divided by the cheapest cover they cost 1.
    if hosts < layers * cover * (1.0 - ROUNDING) {
        Ok(())
    } else {
        Err(format!("{layers} layers cost {} to cover, the hosts {hosts}", layers * cover))
    }
}
