//! The gated units of feed-forward blocks.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::exponential;
use crate::gate::{Activation, CUBIC, SQRT_2_OVER_PI};

/// `out = activation(gate) * up`, a unit for each value.
#[cube(launch, address_type = "dynamic")]
pub(in crate::ops::cuda) fn gate(
    gates: &[f32],
    ups: &[f32],
    out: &mut [f32],
    units: usize,
    #[comptime] activation: Activation,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let x = gates[ABSOLUTE_POS];
    let mut y = x;
    // (1 + tanh(y)) / 2 is the logistic function of 2 y.
    if comptime!(activation == Activation::Gelu) {
        y = comptime!(2.0 * SQRT_2_OVER_PI) * (x + CUBIC * x * x * x);
    }
    out[ABSOLUTE_POS] = x / (1.0 + exponential(-y)) * ups[ABSOLUTE_POS];
}
