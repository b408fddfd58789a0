//! Any hop.

use super::graph::{Graph, HostIndex};
use super::{Choose, View};

/// Draws hops evenly (SplitMix64).
#[derive(Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    /// Starts the draws of a seed.
    pub(super) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // Of 2^64 equally likely numbers each result gets the same share to one part in 2^50.
        ((u128::from(z) * end as u128) >> 64) as usize
    }
}

impl Choose for Random {
    fn choose(&mut self, graph: &Graph, live: &[bool], _view: &dyn View) -> Option<Vec<HostIndex>> {
        graph.walk(live, |_, open| open[self.below(open.len())].0)
    }
}
