//! The hops a placement allows.

use std::collections::BTreeMap;

use thalweg_wire::LayerRange;

use crate::live::instance::Instance;

/// What prices are worth against flow in a program that maximises flow: enough to choose among equal
/// flows, too little to give flow away that anyone could measure.
pub(crate) const PRICE_WEIGHT: f64 = 1e-3;

/// A host that is busy all the time costs this share of the flow: among equal flows, the one whose
/// tokens are computed in the least time.
const BUSY_PRICE: f64 = 1e-3;

/// What the time of one hop costs at most, so that a very slow host is still better than none.
const BUSY_PRICE_MAX: f64 = 0.1;

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
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Hop {
    pub from: Place,
    pub to: Place,
    /// First layer still to be computed.
    pub position: u32,
    /// What its link carries.
    pub tokens_per_second: f64,
    /// Share of the flow it must earn for the way itself.
    pub price: f64,
    /// Seconds that a token which takes it keeps the far end busy.
    pub busy_seconds: f64,
}

impl Hop {
    /// Share of the flow that the hop must earn, with the time it takes. `scale`, in tokens/s, is
    /// the flow at which that time is valued.
    pub fn cost(&self, scale: f64) -> f64 {
        self.price + (BUSY_PRICE * self.busy_seconds * scale).min(BUSY_PRICE_MAX)
    }
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
    let busy = |host: usize, range, position| {
        instance.hosts[host].capacity.busy_seconds(&instance.model, range, position)
    };
    let mut found = Vec::new();
    for (host, range) in held() {
        let from = Place::Host(host);
        let tokens_per_second = f64::INFINITY;
        if range.first() == 0 {
            let (price, busy_seconds) = (instance.entry_price(), busy(host, range, 0));
            let (from, to) = (Place::Source, from);
            found.push(Hop { from, to, position: 0, tokens_per_second, price, busy_seconds });
        }
        let position = range.end();
        if position == instance.model.layers {
            let (to, price, busy_seconds) = (Place::Sink, 0.0, 0.0);
            found.push(Hop { from, to, position, tokens_per_second, price, busy_seconds });
        }
        for &next in &holders[&position] {
            let (Some(wire), Some(range)) = (instance.wire(host, next), ranges[next]) else {
                continue;
            };
            found.push(Hop {
                from,
                to: Place::Host(next),
                position,
                tokens_per_second: wire.tokens_per_second,
                price: wire.price,
                busy_seconds: busy(next, range, position),
            });
        }
    }
    found
}
