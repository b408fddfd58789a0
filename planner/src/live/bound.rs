//! A limit that no placement passes, in a few lines.
//!
//! A flow of `F` tokens/s needs `F · L` layers computed per second, and `F` times the head. A host
//! with `k` layers computes at most `k T(k) = 1 / c(k)` layers per second, and the hosts must hold at
//! least `L` layers in sum. Full charge allows no more than work charge, so the bound holds for both.

use thalweg_wire::LayerRange;

use crate::live::instance::Instance;

/// Steps of the table at most; past them the need to hold `L` layers in sum is dropped, which only
/// makes the bound larger.
const STEPS_MAX: u64 = 50_000_000;

/// Returns a flow, in tokens/s, that no placement exceeds. Zero if memory is too little in sum.
pub(crate) fn simple_bound(instance: &Instance) -> f64 {
    let layers = instance.model.layers;
    let steps = instance.hosts.len() as u64 * u64::from(layers) * u64::from(layers);
    let needed = if steps > STEPS_MAX { 1 } else { layers };
    // best[j]: most layers per second of hosts that hold j layers, or `needed` and more, in sum.
    let mut best = vec![f64::NEG_INFINITY; needed as usize + 1];
    best[0] = 0.0;
    for host in &instance.hosts {
        let rates: Vec<f64> = (1..=needed)
            .map_while(|count| host.capacity.least_layer_seconds(&instance.model, count))
            .map(|seconds| 1.0 / seconds)
            .collect();
        let mut with = best.clone();
        for (held, &sum) in best.iter().enumerate().filter(|it| it.1.is_finite()) {
            for (index, rate) in rates.iter().enumerate() {
                let to = (held + index + 1).min(needed as usize);
                with[to] = with[to].max(sum + rate);
            }
        }
        best = with;
    }
    let layers_per_second = best[needed as usize].max(0.0);
    layers_per_second / (f64::from(layers) + head_layers(instance))
}

/// Returns a flow that a placement does not exceed, at a fraction of the cost of its exact flow.
///
/// The layers `a..b` need `F · (b - a)` layers computed per second, and only hosts that hold some of
/// them can compute any.
pub(crate) fn work_limit(instance: &Instance, ranges: &[Option<LayerRange>]) -> f64 {
    let layers = instance.model.layers as usize;
    // Layers per second of hosts that end at or before each layer, and that start at or after it.
    let mut ended = vec![0.0; layers + 1];
    let mut starting = vec![0.0; layers + 1];
    let mut total = 0.0;
    for (host, range) in ranges.iter().enumerate() {
        let Some(range) = *range else { continue };
        let seconds = instance.hosts[host].capacity.layer_seconds(&instance.model, range);
        total += 1.0 / seconds;
        ended[range.end() as usize] += 1.0 / seconds;
        starting[range.first() as usize] += 1.0 / seconds;
    }
    for at in 1..=layers {
        ended[at] += ended[at - 1];
        starting[layers - at] += starting[layers - at + 1];
    }
    let mut limit = f64::INFINITY;
    for (first, before) in ended.iter().enumerate() {
        for (end, after) in starting.iter().enumerate().skip(first + 1) {
            limit = limit.min((total - before - after) / (end - first) as f64);
        }
    }
    // What subtractions leave behind must not dismiss anything.
    limit + total * 1e-9
}

/// The least any host's head costs, in layers of that host.
fn head_layers(instance: &Instance) -> f64 {
    let costs = instance.hosts.iter().map(|it| it.capacity.head_layers());
    let least = costs.fold(f64::INFINITY, f64::min);
    if least.is_finite() { least } else { 0.0 }
}
