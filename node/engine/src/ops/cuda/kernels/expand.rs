//! Weights out of codes; [`layout`](crate::device::Layout) says where these are.

use burn_cubecl::cubecl;
use cubecl::prelude::*;
use half::f16;

use crate::device::Layout;

/// A float of which the last bits count from zero: 2^23.
const COUNTER: u32 = 0x4B00_0000;

/// Code number `at` of a word, less the center.
#[cube]
pub(super) fn centered(word: u32, #[comptime] at: usize, #[comptime] layout: Layout) -> f32 {
    let code =
        word >> comptime!((at * layout.bits) as u32) & comptime!(u32::MAX >> (32 - layout.bits));
    if comptime!(layout.is_floats()) {
        f32::reinterpret(code << comptime!(32 - layout.bits as u32))
    } else {
        // Reading the bits as the end of a large float takes fewer cycles than a conversion.
        f32::reinterpret(code | COUNTER) - comptime!((8_388_608 + layout.center) as f32)
    }
}

/// Expands rows of a matrix: each unit one vector of codes. `rows` tells which, if they are not all from
/// the first on. Weights are multiplied by `factor`.
#[cube(launch, address_type = "dynamic")]
#[expect(clippy::too_many_arguments, reason = "the buffers of a kernel are its arguments")]
pub(in crate::ops::cuda) fn expand_rows<E: Float, S: Size>(
    codes: &[Vector<u32, Const<4>>],
    scales: &[Vector<f16, S>],
    rows: &[u32],
    out: &mut [Vector<E, Const<4>>],
    units: usize,
    in_row: usize,
    factor: f32,
    #[comptime] listed: bool,
    #[comptime] layout: Layout,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let place = ABSOLUTE_POS / in_row;
    let mut row = place;
    if comptime!(listed) {
        row = rows[place] as usize;
    }
    let at = row * in_row + ABSOLUTE_POS % in_row;
    let words = codes[at];
    let of_group = scales[at / comptime!(layout.group / layout.in_vector())];
    let scale = f32::cast_from(of_group.extract(0usize)) * factor;
    let mut minimum = 0.0f32;
    if comptime!(layout.minimum) {
        minimum = f32::cast_from(of_group.extract(1usize)) * factor;
    }
    #[unroll]
    for quad in 0..comptime!(layout.in_vector() / 4) {
        let mut weights = Vector::<E, Const<4>>::empty();
        #[unroll]
        for it in 0..4usize {
            let word = comptime!((quad * 4 + it) / layout.in_word());
            let at = comptime!((quad * 4 + it) % layout.in_word());
            let code = centered(words.extract(word), at, layout);
            weights.insert(it, E::cast_from(code * scale + minimum));
        }
        out[ABSOLUTE_POS * comptime!(layout.in_vector() / 4) + quad] = weights;
    }
}
