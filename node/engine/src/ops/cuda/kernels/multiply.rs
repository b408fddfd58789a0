//! Products of a few rows with weights that stay codes, or with floats.
//!
//! ```text
//! cube     planes, each with a few outputs; as many rows as `Cut::rows`
//! plane    units that take vectors of codes in turn, and add up what they have at the end
//! unit     sum of code * x, then times the scale of the group: one multiplication per weight and row
//! ```
//!
//! A plane reads activations once for all its outputs and codes once for all its rows: with one row the
//! weights' way from memory takes the time, with more the additions do.

use burn_cubecl::cubecl;
use cubecl::prelude::*;
use half::f16;

use super::expand::centered;
use super::plane_total;
use crate::device::Layout;

/// How the work is cut.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(in crate::ops::cuda) struct Cut {
    /// Units of a plane.
    pub(in crate::ops::cuda) lanes: usize,
    /// Planes of a cube.
    pub(in crate::ops::cuda) planes: usize,
    /// Outputs of a plane.
    pub(in crate::ops::cuda) outputs: usize,
    /// Rows of a cube.
    pub(in crate::ops::cuda) rows: usize,
}

/// `out = x W^T`, for `rows` rows of `outputs` values. A row of `W` is `in_row` vectors of codes.
#[cube(launch, address_type = "dynamic")]
#[expect(clippy::too_many_arguments, reason = "the buffers of a kernel are its arguments")]
pub(in crate::ops::cuda) fn multiply_few<S: Size>(
    x: &[Vector<f32, Const<4>>],
    codes: &[Vector<u32, Const<4>>],
    scales: &[Vector<f16, S>],
    out: &mut [f32],
    rows: usize,
    outputs: usize,
    in_row: usize,
    #[comptime] cut: Cut,
    #[comptime] layout: Layout,
) {
    let lane = UNIT_POS as usize % cut.lanes;
    let plane = CUBE_POS_X as usize * cut.planes + UNIT_POS as usize / cut.lanes;
    let first_output = plane * cut.outputs;
    let first_row = CUBE_POS_Y as usize * cut.rows;
    let mut sums = Array::<f32>::new(comptime!(cut.outputs * cut.rows));
    for round in 0..in_row.div_ceil(cut.lanes) {
        let at = round * cut.lanes + lane;
        if at < in_row {
            add_vector::<S>(
                x,
                codes,
                scales,
                &mut sums,
                first_row,
                rows,
                first_output,
                outputs,
                in_row,
                at,
                cut,
                layout,
            );
        }
    }
    #[unroll]
    for row in 0..cut.rows {
        #[unroll]
        for output in 0..cut.outputs {
            let total = plane_total(sums[row * cut.outputs + output], cut.lanes);
            if lane == 0 && first_row + row < rows && first_output + output < outputs {
                out[(first_row + row) * outputs + first_output + output] = total;
            }
        }
    }
}

/// Adds what vector number `at` of all outputs gives for all rows. Rows and outputs past the end repeat
/// the last one.
#[cube]
#[expect(clippy::too_many_arguments, reason = "the buffers of a kernel are its arguments")]
fn add_vector<S: Size>(
    x: &[Vector<f32, Const<4>>],
    codes: &[Vector<u32, Const<4>>],
    scales: &[Vector<f16, S>],
    sums: &mut Array<f32>,
    first_row: usize,
    rows: usize,
    first_output: usize,
    outputs: usize,
    in_row: usize,
    at: usize,
    #[comptime] cut: Cut,
    #[comptime] layout: Layout,
) {
    let quads = comptime!(layout.in_vector() / 4);
    let mut words = Array::<Vector<u32, Const<4>>>::new(cut.outputs);
    #[unroll]
    for output in 0..cut.outputs {
        words[output] = codes[min(first_output + output, outputs - 1) * in_row + at];
    }
    let mut products = Array::<f32>::new(comptime!(cut.outputs * cut.rows));
    let mut totals = Array::<f32>::new(cut.rows);
    #[unroll]
    for quad in 0..quads {
        let mut values = Array::<Vector<f32, Const<4>>>::new(cut.rows);
        #[unroll]
        for row in 0..cut.rows {
            values[row] = x[(min(first_row + row, rows - 1) * in_row + at) * quads + quad];
        }
        #[unroll]
        for it in 0..4usize {
            if comptime!(layout.minimum) {
                #[unroll]
                for row in 0..cut.rows {
                    totals[row] += values[row].extract(it);
                }
            }
            #[unroll]
            for output in 0..cut.outputs {
                let word = comptime!((quad * 4 + it) / layout.in_word());
                let place = comptime!((quad * 4 + it) % layout.in_word());
                let code = centered(words[output].extract(word), place, layout);
                #[unroll]
                for row in 0..cut.rows {
                    products[row * cut.outputs + output] += code * values[row].extract(it);
                }
            }
        }
    }
    if comptime!(layout.is_floats()) {
        #[unroll]
        for at in 0..comptime!(cut.outputs * cut.rows) {
            sums[at] += products[at];
        }
    } else {
        scale_up::<S>(
            scales,
            &products,
            &totals,
            sums,
            first_output,
            outputs,
            in_row,
            at,
            cut,
            layout,
        );
    }
}

/// Adds products times the scales of their groups.
#[cube]
#[expect(clippy::too_many_arguments, reason = "the buffers of a kernel are its arguments")]
fn scale_up<S: Size>(
    scales: &[Vector<f16, S>],
    products: &Array<f32>,
    totals: &Array<f32>,
    sums: &mut Array<f32>,
    first_output: usize,
    outputs: usize,
    in_row: usize,
    at: usize,
    #[comptime] cut: Cut,
    #[comptime] layout: Layout,
) {
    #[unroll]
    for output in 0..cut.outputs {
        let vector = min(first_output + output, outputs - 1) * in_row + at;
        let of_group = scales[vector / comptime!(layout.group / layout.in_vector())];
        let scale = f32::cast_from(of_group.extract(0usize));
        #[unroll]
        for row in 0..cut.rows {
            let mut sum = products[row * cut.outputs + output] * scale;
            if comptime!(layout.minimum) {
                sum += f32::cast_from(of_group.extract(1usize)) * totals[row];
            }
            sums[row * cut.outputs + output] += sum;
        }
    }
}
