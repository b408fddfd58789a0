//! Root mean square norms.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::plane_total;

/// Divides each run of `width` values by its root mean square and multiplies it by `weight`: a cube for
/// each run.
#[cube(launch, address_type = "dynamic")]
#[expect(clippy::too_many_arguments, reason = "the buffers of a kernel are its arguments")]
pub(in crate::ops::cuda) fn norm(
    x: &[f32],
    weight: &[f32],
    out: &mut [f32],
    runs: usize,
    width: usize,
    eps: f32,
    #[comptime] lanes: usize,
    #[comptime] planes: usize,
) {
    if CUBE_POS >= runs {
        terminate!();
    }
    let first = CUBE_POS * width;
    let unit = UNIT_POS as usize;
    let units = comptime!(lanes * planes);
    let rounds = width.div_ceil(units);
    let mut squares = 0.0f32;
    for round in 0..rounds {
        let at = round * units + unit;
        if at < width {
            squares += x[first + at] * x[first + at];
        }
    }
    let of_plane = plane_total(squares, lanes);
    let mut of_planes = Shared::<[f32]>::new_slice(planes);
    let lane = unit % lanes;
    if lane == 0 {
        of_planes[unit / lanes] = of_plane;
    }
    sync_cube();
    let mut total = 0.0f32;
    #[unroll]
    for plane in 0..planes {
        total += of_planes[plane];
    }
    let factor = 1.0 / (total / f32::cast_from(width) + eps).sqrt();
    for round in 0..rounds {
        let at = round * units + unit;
        if at < width {
            out[first + at] = x[first + at] * factor * weight[at];
        }
    }
}
