//! What regions can do by themselves, at most.
//!
//! At a flow `F` each layer is covered by rates that sum to `F`, of which a host of rate `T` counts
//! as `min(1, T / F)` at most. A host is therefore worth `k min(1, T(k) / F)` layers, and hosts that
//! are together worth fewer layers than the model has cannot reach `F`.

use crate::instance::Instance;

/// Halvings of the interval that holds a limit: more than a number has bits to tell.
const HALVINGS: u32 = 60;

/// Largest rate of a class.
pub(crate) fn fastest(instance: &Instance, class: usize) -> f64 {
    let rates = &instance.classes[class].rates;
    (1..=rates.count_max()).map(|it| rates.most(it)).fold(0.0, f64::max)
}

/// Hosts of `regions` in each class.
pub(crate) fn counts(instance: &Instance, regions: &[usize]) -> Vec<usize> {
    let mut counts = vec![0; instance.classes.len()];
    for host in instance.hosts.iter().filter(|it| regions.contains(&it.region)) {
        counts[host.class] += 1;
    }
    counts
}

/// Layers of a flow `target` that so many hosts of each class are worth, at most.
pub(crate) fn layers_at(instance: &Instance, counts: &[usize], target: f64) -> f64 {
    let worth = |(class, &count): (usize, &usize)| {
        let rates = &instance.classes[class].rates;
        let share = |it: u32| f64::from(it) * (rates.most(it) / target).min(1.0);
        count as f64 * (1..=rates.count_max()).map(share).fold(0.0, f64::max)
    };
    counts.iter().enumerate().filter(|it| *it.1 > 0).map(worth).sum()
}

/// No flow that so many hosts of each class carry alone is above this; zero if they cannot hold
/// the model.
pub(crate) fn alone(instance: &Instance, counts: &[usize]) -> f64 {
    let layers = f64::from(instance.layers);
    if layers_at(instance, counts, f64::MIN_POSITIVE) < layers {
        return 0.0;
    }
    let all = counts.iter().enumerate().map(|(class, &it)| it as f64 * fastest(instance, class));
    let (mut low, mut high) = (0.0, all.sum::<f64>());
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if layers_at(instance, counts, middle) >= layers { low = middle } else { high = middle }
    }
    high
}
