//! Why there is no plan.

use thalweg_wire::{Bytes, LayerRange};

use crate::live::chain::{EVERY_ORDER_HOSTS_MAX, end, longest};
use crate::live::instance::Instance;
use crate::{Infeasible, Reason};

/// Explains why no placement of `instance` carries a flow. Tried from the plainest reason on.
pub(crate) fn diagnose(instance: &Instance) -> Infeasible {
    let model = &instance.model;
    let reason = no_host(instance)
        .or_else(|| layer_too_large(instance))
        .or_else(|| too_little_memory(instance));
    let all: Vec<usize> = (0..instance.hosts.len()).collect();
    let proved = all.len() <= EVERY_ORDER_HOSTS_MAX;
    let reached = end(&longest(instance, &all, 0.0));
    let reached_if_linked = end(&longest(&instance.with_perfect_links(), &all, 0.0));
    let links_missing = reason.is_none() && reached_if_linked == model.layers;
    let reason = reason.unwrap_or({
        let layers = model.layers;
        if !proved {
            Reason::NotFound { layers, hosts: all.len() }
        } else if links_missing {
            Reason::NotLinked { layers }
        } else {
            let (need, have) = (Bytes(model.need(model.whole())), offered(instance));
            Reason::DoesNotDivide { layers, need, have }
        }
    });
    let missing_layers = missing(instance, &reason, reached);
    let missing_memory = match (missing_layers.first(), missing_layers.last()) {
        (Some(first), Some(last)) if !links_missing => {
            let hull = LayerRange::new(first.first(), last.end()).expect("ranges are in order");
            Bytes(model.need(hull))
        }
        _ => Bytes(0),
    };
    let excluded = instance.excluded.clone();
    Infeasible { reason, missing_layers, missing_memory, excluded }
}

/// Joins layers that fail `held` into ranges.
pub(crate) fn uncovered(layers: u32, held: impl Fn(u32) -> bool) -> Vec<LayerRange> {
    let mut ranges: Vec<LayerRange> = Vec::new();
    for layer in (0..layers).filter(|&it| !held(it)) {
        let first = match ranges.last() {
            Some(last) if last.end() == layer => ranges.pop().map_or(layer, LayerRange::first),
            _ => layer,
        };
        ranges.push(LayerRange::new(first, layer + 1).expect("a layer is no empty range"));
    }
    ranges
}

/// Layers without a host in the best attempt.
fn missing(instance: &Instance, reason: &Reason, reached: u32) -> Vec<LayerRange> {
    match reason {
        Reason::LayerTooLarge { .. } => {
            uncovered(instance.model.layers, |layer| held_by_any(instance, layer))
        }
        _ => uncovered(instance.model.layers, |layer| layer < reached),
    }
}

fn no_host(instance: &Instance) -> Option<Reason> {
    instance.hosts.is_empty().then_some(Reason::NoHost)
}

fn layer_too_large(instance: &Instance) -> Option<Reason> {
    let layer = (0..instance.model.layers).find(|&it| !held_by_any(instance, it))?;
    let largest = instance.hosts.iter().map(|it| it.capacity.memory()).max().unwrap_or(0);
    let need = Bytes(instance.model.need(single(layer)));
    Some(Reason::LayerTooLarge { layer, need, largest: Bytes(largest) })
}

fn too_little_memory(instance: &Instance) -> Option<Reason> {
    let need = Bytes(instance.model.need(instance.model.whole()));
    let have = offered(instance);
    (have < need).then_some(Reason::TooLittleMemory { need, have })
}

/// Memory of all usable hosts.
fn offered(instance: &Instance) -> Bytes {
    let memories = instance.hosts.iter().map(|it| it.capacity.memory());
    Bytes(memories.fold(0, u64::saturating_add))
}

fn held_by_any(instance: &Instance, layer: u32) -> bool {
    (0..instance.hosts.len()).any(|host| instance.holds(host, single(layer)))
}

fn single(layer: u32) -> LayerRange {
    LayerRange::new(layer, layer + 1).expect("a layer is no empty range")
}
