//! Turns queries and keys, and puts keys and values into their blocks.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use crate::kv::BLOCK_TOKENS;

/// Heads of a row.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(in crate::ops::cuda) struct Heads {
    /// Of queries.
    pub(in crate::ops::cuda) queries: usize,
    /// Of keys, and of values.
    pub(in crate::ops::cuda) keys: usize,
    /// Values of one.
    pub(in crate::ops::cuda) size: usize,
}

/// Each unit turns one pair of a query or key head of a row; the latter also stores it, with the pair of
/// the value head.
///
/// `plan` begins with the slot of each row. A block begins `key_stride` and `value_stride` values after
/// the one before it.
#[cube(launch, address_type = "dynamic")]
#[expect(clippy::too_many_arguments, reason = "the buffers of a kernel are its arguments")]
pub(in crate::ops::cuda) fn turn_and_append<E: Float>(
    queries: &[f32],
    keys: &[f32],
    values: &[f32],
    sines: &[f32],
    cosines: &[f32],
    plan: &[u32],
    turned: &mut [f32],
    cached_keys: &mut [E],
    cached_values: &mut [E],
    units: usize,
    key_stride: usize,
    value_stride: usize,
    #[comptime] heads: Heads,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let pairs = comptime!(heads.size / 2);
    let all = comptime!(heads.queries + heads.keys);
    let pair = ABSOLUTE_POS % pairs;
    let head = ABSOLUTE_POS / pairs % all;
    let row = ABSOLUTE_POS / (pairs * all);
    let sine = sines[row * pairs + pair];
    let cosine = cosines[row * pairs + pair];
    if head < heads.queries {
        let at = (row * heads.queries + head) * heads.size + pair;
        let left = queries[at];
        let right = queries[at + pairs];
        turned[at] = left * cosine - right * sine;
        turned[at + pairs] = right * cosine + left * sine;
    } else {
        let head = head - heads.queries;
        let at = (row * heads.keys + head) * heads.size + pair;
        let slot = plan[row] as usize;
        let block = slot / BLOCK_TOKENS;
        let inside = (slot % BLOCK_TOKENS * heads.keys + head) * heads.size + pair;
        let left = keys[at];
        let right = keys[at + pairs];
        let key = block * key_stride + inside;
        cached_keys[key] = E::cast_from(left * cosine - right * sine);
        cached_keys[key + pairs] = E::cast_from(right * cosine + left * sine);
        let value = block * value_stride + inside;
        cached_values[value] = E::cast_from(values[at]);
        cached_values[value + pairs] = E::cast_from(values[at + pairs]);
    }
}
