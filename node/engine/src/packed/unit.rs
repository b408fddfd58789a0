//! Blocks as a file stores them, taken apart into scales and codes.

use super::layout::{BLOCK, Unit};
use crate::quant::{Stored, small_scales};

/// Bits of the exponent of an f16; all are set in infinities and NaN.
const F16_EXPONENT: u16 = 0x7C00;

impl Unit {
    /// Whether both scales are finite, and with them all weights.
    pub(super) fn is_finite(&self) -> bool {
        [self.scale, self.minimum].iter().all(|it| it & F16_EXPONENT != F16_EXPONENT)
    }
}

/// Takes one stored block apart, into the unit of another one of the type or a new one; see
/// [`quant`](crate::quant) for what is where.
///
/// # Panics
///
/// If `bytes` are not one block of this type, or the type is not quantised.
pub(super) fn read(stored: Stored, bytes: &[u8], unit: &mut Unit) {
    assert_eq!(bytes.len(), stored.block_bytes(), "one block of type {stored}");
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    match stored {
        Stored::Q4_0 | Stored::Q5_0 | Stored::Q8_0 => unit.scale = half(0),
        Stored::Q4_1 | Stored::Q5_1 => (unit.scale, unit.minimum) = (half(0), half(2)),
        Stored::Q4K | Stored::Q5K => {
            (unit.scale, unit.minimum) = (half(0), half(2));
            unit.small = small_scales(&bytes[4..16]);
        }
        Stored::Q6K => {
            unit.scale = half(208);
            unit.small.copy_from_slice(bytes[192..208].as_chunks().0);
        }
        Stored::F32 | Stored::F16 | Stored::BF16 => unreachable!("floats have no blocks"),
    }
    match stored {
        Stored::Q4_0 => nibbles(&bytes[2..], &mut unit.codes[0]),
        Stored::Q4_1 => nibbles(&bytes[4..], &mut unit.codes[0]),
        Stored::Q5_0 => five_bits(&bytes[2..], &mut unit.codes[0]),
        Stored::Q5_1 => five_bits(&bytes[4..], &mut unit.codes[0]),
        Stored::Q8_0 => unit.codes[0].copy_from_slice(&bytes[2..]),
        Stored::Q4K => paired_nibbles(&bytes[16..], &mut unit.codes),
        Stored::Q5K => {
            paired_nibbles(&bytes[48..], &mut unit.codes);
            for (block, codes) in unit.codes.iter_mut().enumerate() {
                let bits = codes.iter_mut().zip(&bytes[16..48]);
                bits.for_each(|(code, bits)| *code |= (bits >> block & 1) << 4);
            }
        }
        _ => six_bits(bytes, &mut unit.codes),
    }
}

/// Low nibbles first, then high ones.
fn nibbles(bytes: &[u8], codes: &mut [u8; BLOCK]) {
    let (low, high) = codes.split_at_mut(BLOCK / 2);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
}

/// 32 high bits, then nibbles.
fn five_bits(bytes: &[u8], codes: &mut [u8; BLOCK]) {
    let (high, low) = bytes.split_at(4);
    nibbles(low, codes);
    for (input, code) in codes.iter_mut().enumerate() {
        *code |= (high[input / 8] >> (input % 8) & 1) << 4;
    }
}

/// Per 32 bytes: low nibbles of one block, high nibbles of the next.
fn paired_nibbles(bytes: &[u8], codes: &mut [[u8; BLOCK]; 8]) {
    for (pair, bytes) in codes.as_chunks_mut::<2>().0.iter_mut().zip(bytes.as_chunks::<BLOCK>().0) {
        *pair = [bytes.map(|it| it & 15), bytes.map(|it| it >> 4)];
    }
}

/// Nibbles of blocks 0 and 2, 1 and 3 of each half, with pairs of high bits from other bytes.
fn six_bits(bytes: &[u8], codes: &mut [[u8; BLOCK]; 8]) {
    let (nibbles, pairs) = (bytes.as_chunks::<BLOCK>().0, bytes[128..].as_chunks::<BLOCK>().0);
    for (block, codes) in codes.iter_mut().enumerate() {
        let (half, quarter) = (block / 4, block % 4);
        let low = nibbles[half * 2 + quarter % 2].iter().zip(&pairs[half]);
        for (code, (nibble, pair)) in codes.iter_mut().zip(low) {
            *code = nibble >> (quarter / 2 * 4) & 15 | (pair >> (quarter * 2) & 3) << 4;
        }
    }
}
