//! Plain types and blocks of 32 values that share one scale.
//!
//! ```text
//! Q4_0  scale f16            | 16 bytes of nibbles          value = scale * (q - 8)
//! Q4_1  scale f16, min f16   | 16 bytes of nibbles          value = scale * q + min
//! Q5_0  scale f16            | 32 high bits | 16 bytes      value = scale * (q - 16)
//! Q5_1  scale f16, min f16   | 32 high bits | 16 bytes      value = scale * q + min
//! Q8_0  scale f16            | 32 signed bytes              value = scale * q
//! ```
//!
//! The low nibbles of the 16 bytes are values 0 to 15, the high nibbles values 16 to 31.

use half::{bf16 as BFloat, f16 as Half};

/// Expands block after block. `BYTES` and `VALUES` come from the type of `expand`.
pub(super) fn each<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    values: &mut [f32],
    expand: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    let (blocks, rest) = bytes.as_chunks::<BYTES>();
    let (outputs, rest_values) = values.as_chunks_mut::<VALUES>();
    assert!(rest.is_empty() && rest_values.is_empty(), "sizes were checked against the type");
    for (block, output) in blocks.iter().zip(outputs) {
        expand(block, output);
    }
}

/// Reads a half-precision number at `at`.
pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
    Half::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

pub(super) fn f32(block: &[u8; 4], values: &mut [f32; 1]) {
    values[0] = f32::from_le_bytes(*block);
}

pub(super) fn f16(block: &[u8; 2], values: &mut [f32; 1]) {
    values[0] = Half::from_le_bytes(*block).to_f32();
}

pub(super) fn bf16(block: &[u8; 2], values: &mut [f32; 1]) {
    values[0] = BFloat::from_le_bytes(*block).to_f32();
}

pub(super) fn q4_0(block: &[u8; 18], values: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    for (i, byte) in block[2..].iter().enumerate() {
        values[i] = scale * (f32::from(byte & 15) - 8.0);
        values[i + 16] = scale * (f32::from(byte >> 4) - 8.0);
    }
}

pub(super) fn q4_1(block: &[u8; 20], values: &mut [f32; 32]) {
    let (scale, min) = (half_at(block, 0), half_at(block, 2));
    for (i, byte) in block[4..].iter().enumerate() {
        values[i] = scale * f32::from(byte & 15) + min;
        values[i + 16] = scale * f32::from(byte >> 4) + min;
    }
}

pub(super) fn q5_0(block: &[u8; 22], values: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for (i, byte) in block[6..].iter().enumerate() {
        values[i] = scale * (with_high_bit(byte & 15, high, i) - 16.0);
        values[i + 16] = scale * (with_high_bit(byte >> 4, high, i + 16) - 16.0);
    }
}

pub(super) fn q5_1(block: &[u8; 24], values: &mut [f32; 32]) {
    let (scale, min) = (half_at(block, 0), half_at(block, 2));
    let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for (i, byte) in block[8..].iter().enumerate() {
        values[i] = scale * with_high_bit(byte & 15, high, i) + min;
        values[i + 16] = scale * with_high_bit(byte >> 4, high, i + 16) + min;
    }
}

pub(super) fn q8_0(block: &[u8; 34], values: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    for (value, &byte) in values.iter_mut().zip(&block[2..]) {
        *value = scale * f32::from(byte.cast_signed());
    }
}

/// Puts bit `i` of `high` above the four bits of a nibble.
fn with_high_bit(nibble: u8, high: u32, i: usize) -> f32 {
    let bit = if high >> i & 1 == 1 { 16 } else { 0 };
    f32::from(nibble | bit)
}
