//! How weights are stored, and how stored blocks become F32.

mod blocks;
mod k_blocks;

pub(crate) use k_blocks::small_scales;

use std::fmt;

/// Values in a block of the K types.
const K_BLOCK: usize = 256;

/// The type in which a tensor's values are stored.
///
/// Quantised types store blocks of values that share scales; a row is a whole number of blocks.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "the names are those of the formats")]
pub enum Stored {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// Bytes that are not the tensor they should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{count} values of type {stored} take {expected} bytes, found {found}")]
pub struct StoredSizeError {
    /// Type of the values.
    pub stored: Stored,
    /// Number of values to fill.
    pub count: usize,
    /// Bytes they take, rounded up to whole blocks.
    pub expected: usize,
    /// Bytes given.
    pub found: usize,
}

impl Stored {
    /// All types, the floats first.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Returns the type with this number in a GGUF file, if it is supported.
    pub fn from_gguf(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::BF16,
            _ => return None,
        })
    }

    /// Number of values in a block.
    pub const fn block_values(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => K_BLOCK,
        }
    }

    /// Size of a block, in bytes.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Size of `count` values in bytes, rounded up to whole blocks; `None` if it overflows.
    pub fn bytes_of(self, count: usize) -> Option<usize> {
        count.div_ceil(self.block_values()).checked_mul(self.block_bytes())
    }

    /// Expands `bytes` into `values`.
    ///
    /// # Errors
    ///
    /// If `bytes` are not exactly as many blocks as `values` need.
    pub fn expand(self, bytes: &[u8], values: &mut [f32]) -> Result<(), StoredSizeError> {
        let count = values.len();
        let expected = self.bytes_of(count).unwrap_or(usize::MAX);
        if bytes.len() != expected || !count.is_multiple_of(self.block_values()) {
            return Err(StoredSizeError { stored: self, count, expected, found: bytes.len() });
        }
        match self {
            Self::F32 => blocks::each(bytes, values, blocks::f32),
            Self::F16 => blocks::each(bytes, values, blocks::f16),
            Self::BF16 => blocks::each(bytes, values, blocks::bf16),
            Self::Q4_0 => blocks::each(bytes, values, blocks::q4_0),
            Self::Q4_1 => blocks::each(bytes, values, blocks::q4_1),
            Self::Q5_0 => blocks::each(bytes, values, blocks::q5_0),
            Self::Q5_1 => blocks::each(bytes, values, blocks::q5_1),
            Self::Q8_0 => blocks::each(bytes, values, blocks::q8_0),
            Self::Q4K => blocks::each(bytes, values, k_blocks::q4_k),
            Self::Q5K => blocks::each(bytes, values, k_blocks::q5_k),
            Self::Q6K => blocks::each(bytes, values, k_blocks::q6_k),
        }
        Ok(())
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// Blocks of random codes and what the reference implementation (PyPI `gguf`) expands them to.
    #[derive(Deserialize)]
    struct Golden {
        r#type: String,
        bytes: String,
        values: String,
    }

    fn from_hex(text: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
        (0..text.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn every_type_expands_to_the_reference_bits() {
        let text = include_str!("../golden/quant.json");
        let golden: Vec<Golden> = serde_json::from_str(text).expect("committed data");
        let mut seen = Vec::new();
        for Golden { r#type, bytes, values } in golden {
            let stored =
                Stored::ALL.into_iter().find(|it| it.to_string() == r#type).expect("a known type");
            let expected = from_hex(&values);
            let mut found = vec![0.0; expected.len() / 4];
            stored.expand(&from_hex(&bytes), &mut found).expect("whole blocks");
            let found: Vec<u8> = found.iter().flat_map(|it| it.to_le_bytes()).collect();
            assert_eq!(found, expected, "{stored}");
            seen.push(stored);
        }
        seen.sort_unstable();
        assert_eq!(seen, Stored::ALL);
    }

    #[test]
    fn a_wrong_number_of_bytes_is_refused_with_both_numbers() {
        let error = Stored::Q4_1.expand(&[0; 39], &mut [0.0; 64]).expect_err("one byte is missing");
        assert_eq!(error.to_string(), "64 values of type Q4_1 take 40 bytes, found 39");
        let error = Stored::Q6K.expand(&[0; 210], &mut [0.0; 255]).expect_err("no whole block");
        assert_eq!(error.to_string(), "255 values of type Q6_K take 210 bytes, found 210");
        assert_eq!(Stored::Q8_0.bytes_of(usize::MAX), None);
    }
}
