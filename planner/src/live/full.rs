//! Full charge: the exact maximum flow when a host is charged all its layers for every token.

use thalweg_wire::LayerRange;

use crate::live::instance::Instance;
use crate::live::maxflow::Graph;
use crate::live::network::{Hop, Place, hops};

/// Flows are counted in this many parts of a token per second, so that they are exact.
const PARTS: f64 = 1e6;

/// A maximum flow under full charge.
#[derive(Clone, Debug)]
pub(crate) struct FullFlow {
    /// Its value, in tokens/s.
    pub flow: f64,
    /// Hops with positive flow, in tokens/s.
    pub hops: Vec<(Hop, f64)>,
}

/// Computes the maximum flow of a placement under full charge.
pub(crate) fn full_flow(instance: &Instance, ranges: &[Option<LayerRange>]) -> FullFlow {
    let hosts = ranges.len();
    let (source, sink) = (2 * hosts, 2 * hosts + 1);
    let mut graph = Graph::new(2 * hosts + 2);
    for (host, range) in ranges.iter().enumerate() {
        if let Some(range) = *range {
            graph.add(2 * host, 2 * host + 1, parts(instance.tokens_per_second(host, range)));
        }
    }
    let leaves = |place| match place {
        Place::Source => source,
        Place::Host(host) => 2 * host + 1,
        Place::Sink => sink,
    };
    let enters = |place| match place {
        Place::Host(host) => 2 * host,
        end => leaves(end),
    };
    let hops = hops(instance, ranges);
    let arcs: Vec<usize> = hops
        .iter()
        .map(|hop| graph.add(leaves(hop.from), enters(hop.to), parts(hop.tokens_per_second)))
        .collect();
    let flow = tokens(graph.maximise(source, sink));
    let carried = hops.into_iter().zip(arcs).map(|(hop, arc)| (hop, tokens(graph.flow(arc))));
    FullFlow { flow, hops: carried.filter(|it| it.1 > 0.0).collect() }
}

/// Full-charge coverage of every layer: the sum of `T` over the hosts that hold it.
pub(crate) fn coverage(instance: &Instance, ranges: &[Option<LayerRange>]) -> Vec<f64> {
    let mut coverage = vec![0.0; instance.model.layers as usize];
    for (host, range) in ranges.iter().enumerate() {
        let Some(range) = *range else { continue };
        let tokens_per_second = instance.tokens_per_second(host, range);
        for layer in range.first()..range.end() {
            coverage[layer as usize] += tokens_per_second;
        }
    }
    coverage
}

/// Rounds down, so that no capacity is overstated; what is infinite becomes the largest part count
/// whose sums cannot overflow.
fn parts(tokens_per_second: f64) -> u64 {
    const PARTS_MAX: u64 = u64::MAX >> 16;
    // A float beyond the range of the integer saturates in the conversion.
    ((tokens_per_second * PARTS) as u64).min(PARTS_MAX)
}

fn tokens(parts: u64) -> f64 {
    parts as f64 / PARTS
}
