//! The K types: blocks of 256 values in groups of 32 or 16, whose scales are quantised themselves.
//!
//! ```text
//! Q4_K  d f16, dmin f16 | 12 bytes: 8 scales and 8 minimums of 6 bits | 128 bytes of nibbles
//! Q5_K  d f16, dmin f16 | 12 bytes, the same | 32 bytes of high bits  | 128 bytes of nibbles
//! Q6_K  128 bytes of nibbles | 64 bytes of high pairs | 16 signed scales | d f16
//! ```

use super::K_BLOCK;
use super::blocks::half_at;

pub(super) fn q4_k(block: &[u8; 144], values: &mut [f32; K_BLOCK]) {
    let groups = groups(block);
    let nibbles = &block[16..];
    for (chunk, pair) in values.chunks_exact_mut(64).enumerate() {
        let bytes = &nibbles[chunk * 32..][..32];
        let (low, high) = pair.split_at_mut(32);
        let [(scale_low, min_low), (scale_high, min_high)] =
            [groups[chunk * 2], groups[chunk * 2 + 1]];
        for (i, byte) in bytes.iter().enumerate() {
            low[i] = scale_low * f32::from(byte & 15) - min_low;
            high[i] = scale_high * f32::from(byte >> 4) - min_high;
        }
    }
}

pub(super) fn q5_k(block: &[u8; 176], values: &mut [f32; K_BLOCK]) {
    let groups = groups(block);
    let (high_bits, nibbles) = block[16..].split_at(32);
    for (chunk, pair) in values.chunks_exact_mut(64).enumerate() {
        let bytes = &nibbles[chunk * 32..][..32];
        let (low, high) = pair.split_at_mut(32);
        let [(scale_low, min_low), (scale_high, min_high)] =
            [groups[chunk * 2], groups[chunk * 2 + 1]];
        for (i, byte) in bytes.iter().enumerate() {
            let low_bit = (high_bits[i] >> (chunk * 2) & 1) << 4;
            let high_bit = (high_bits[i] >> (chunk * 2 + 1) & 1) << 4;
            low[i] = scale_low * f32::from(byte & 15 | low_bit) - min_low;
            high[i] = scale_high * f32::from(byte >> 4 | high_bit) - min_high;
        }
    }
}

pub(super) fn q6_k(block: &[u8; 210], values: &mut [f32; K_BLOCK]) {
    let d = half_at(block, 208);
    for (half, outputs) in values.chunks_exact_mut(128).enumerate() {
        let nibbles = &block[half * 64..][..64];
        let pairs = &block[128 + half * 32..][..32];
        let scales = &block[192 + half * 8..][..8];
        for i in 0..32 {
            let codes = [
                nibbles[i] & 15 | (pairs[i] & 3) << 4,
                nibbles[i + 32] & 15 | (pairs[i] >> 2 & 3) << 4,
                nibbles[i] >> 4 | (pairs[i] >> 4 & 3) << 4,
                nibbles[i + 32] >> 4 | (pairs[i] >> 6) << 4,
            ];
            for (quarter, code) in codes.into_iter().enumerate() {
                let scale = d * f32::from(scales[quarter * 2 + i / 16].cast_signed());
                outputs[quarter * 32 + i] = scale * (f32::from(code) - 32.0);
            }
        }
    }
}

/// Scale and minimum of each of the eight groups of Q4_K and Q5_K.
fn groups(block: &[u8]) -> [(f32, f32); 8] {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    small_scales(&block[4..16])
        .map(|[scale, minimum]| (d * f32::from(scale), dmin * f32::from(minimum)))
}

/// The small scale and minimum of each of the eight groups of Q4_K and Q5_K, from twelve bytes.
///
/// The first four of each take the low six bits of their byte; of the last four, the low four bits
/// are in the last four bytes and the high two bits above the first ones.
pub(crate) fn small_scales(packed: &[u8]) -> [[u8; 2]; 8] {
    std::array::from_fn(|i| {
        if i < 4 {
            [packed[i] & 63, packed[i + 4] & 63]
        } else {
            [packed[i + 4] & 15 | packed[i - 4] >> 6 << 4, packed[i + 4] >> 4 | packed[i] >> 6 << 4]
        }
    })
}
