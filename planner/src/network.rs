//! The hops a placement allows.

use std::collections::BTreeMap;

use crate::instance::Instance;
use thalweg_wire::LayerRange;

/// An end of a hop, by index.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Place {
    /// Any gateway.
    Source,
    /// A host.
    Host(usize),
    /// Where tokens go to.
    Sink,
}

/// A hop that a route may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hop {
    pub from: Place,
    pub to: Place,
    /// First layer still to be computed.
    pub position: u32,
    /// What its link carries.
    pub tokens_per_second: f64,
    /// Share of the flow it must earn.
    pub price: f64,
}

/// Lists every hop of a placement: a token with layers `0..x` done may go to any linked host that
/// holds `x`, and is computed there up to the end of what the host holds. Ends only grow along a
/// route, so that no host comes twice.
pub(crate) fn hops(instance: &Instance, ranges: &[Option<LayerRange>]) -> Vec<Hop> {
    let held = || ranges.iter().enumerate().filter_map(|(host, it)| Some((host, (*it)?)));
    // Who holds a position, for the positions at which some host ends.
    let mut holders: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (_, range) in held() {
        let position = range.end();
        holders.entry(position).or_insert_with(|| {
            held().filter(|(_, it)| it.contains(position)).map(|(host, _)| host).collect()
        });
    }
    let mut found = Vec::new();
    for (host, range) in held() {
        let from = Place::Host(host);
        let free = |from, to, position, price| Hop {
            from,
            to,
            position,
            tokens_per_second: f64::INFINITY,
            price,
        };
        if range.first() == 0 {
            found.push(free(Place::Source, from, 0, instance.entry_price()));
        }
        let position = range.end();
        if position == instance.model.layers {
            found.push(free(from, Place::Sink, position, 0.0));
        }
        for &next in &holders[&position] {
            if let Some(wire) = instance.wire(host, next) {
                let (tokens_per_second, price) = (wire.tokens_per_second, wire.price);
                found.push(Hop { from, to: Place::Host(next), position, tokens_per_second, price });
            }
        }
    }
    found
}
