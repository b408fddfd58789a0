//! How GPUs keep quantised weights: codes of 4 or 8 bits, and scales in F16.
//!
//! ```text
//! weight = scale * (code - center) [+ minimum]       scale and minimum of a group of 16 or 32 inputs
//! ```
//!
//! Codes lie in words of 32 bits, the first in the lowest bits, and four words are a vector: what a unit
//! of a GPU loads at once. All stored types become one of a few layouts, so that one kernel serves them;
//! codes of 5 and 6 bits take 8.

use half::f16;

use crate::quant::Stored;

/// Words of a vector of codes.
#[cfg(feature = "cuda")]
const WORDS: usize = 4;

/// How the weights of a matrix are kept.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Layout {
    /// Bits of a code: 4 or 8; or 16 or 32, then codes are BF16 or F32, without scales.
    pub(crate) bits: usize,
    /// Inputs that share a scale.
    pub(crate) group: usize,
    /// What is subtracted from every code.
    pub(crate) center: u32,
    /// Whether a group has a minimum, beside its scale.
    pub(crate) minimum: bool,
}

impl Layout {
    /// BF16 or F32, as words.
    #[cfg(feature = "cuda")]
    pub(crate) const fn floats(bits: usize) -> Self {
        Self { bits, group: usize::MAX, center: 0, minimum: false }
    }

    /// Whether codes are floats.
    #[cfg(feature = "cuda")]
    pub(crate) const fn is_floats(self) -> bool {
        self.bits > 8
    }

    /// The layout of a stored type, unless it is one of floats.
    pub(crate) const fn of(stored: Stored) -> Option<Self> {
        let (bits, group, center, minimum) = match stored {
            Stored::Q4_0 => (4, 32, 8, false),
            Stored::Q4_1 | Stored::Q4K => (4, 32, 0, true),
            Stored::Q5_0 => (8, 32, 16, false),
            Stored::Q5_1 | Stored::Q5K => (8, 32, 0, true),
            Stored::Q8_0 => (8, 32, 128, false),
            Stored::Q6K => (8, 16, 32, false),
            Stored::F32 | Stored::F16 | Stored::BF16 => return None,
        };
        Some(Self { bits, group, center, minimum })
    }

    /// Codes of a word.
    pub(crate) const fn in_word(self) -> usize {
        u32::BITS as usize / self.bits
    }

    /// Codes of a vector. They are of one group.
    #[cfg(feature = "cuda")]
    pub(crate) const fn in_vector(self) -> usize {
        WORDS * self.in_word()
    }

    /// Numbers kept for a group, beside its codes.
    pub(crate) const fn scales(self) -> usize {
        if self.minimum { 2 } else { 1 }
    }

    /// Bytes of so many weights: whole rows.
    pub(crate) const fn bytes(self, weights: usize) -> usize {
        let scales = weights / self.group * self.scales();
        weights / self.in_word() * size_of::<u32>() + scales * size_of::<f16>()
    }
}
