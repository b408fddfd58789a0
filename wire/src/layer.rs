//! Contiguous ranges of a model's layers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A half-open range of layers, `first..end`, never empty.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "(u32, u32)", into = "(u32, u32)")]
pub struct LayerRange {
    first: u32,
    end: u32,
}

/// A range that holds no layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("layer range {first}..{end} is empty")]
pub struct LayerRangeError {
    /// First layer asked for.
    pub first: u32,
    /// One past the last layer asked for.
    pub end: u32,
}

impl LayerRange {
    /// Creates the range `first..end`.
    ///
    /// # Errors
    ///
    /// If the range would be empty.
    pub const fn new(first: u32, end: u32) -> Result<Self, LayerRangeError> {
        if first < end { Ok(Self { first, end }) } else { Err(LayerRangeError { first, end }) }
    }

    /// First layer of the range.
    pub const fn first(self) -> u32 {
        self.first
    }

    /// One past the last layer.
    pub const fn end(self) -> u32 {
        self.end
    }

    /// Number of layers, at least one.
    pub const fn count(self) -> u32 {
        self.end - self.first
    }

    /// Whether `layer` is in the range.
    pub const fn contains(self, layer: u32) -> bool {
        self.first <= layer && layer < self.end
    }

    /// Whether every layer of `other` is in this range.
    pub const fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.end <= self.end
    }
}

impl TryFrom<(u32, u32)> for LayerRange {
    type Error = LayerRangeError;

    fn try_from((first, end): (u32, u32)) -> Result<Self, Self::Error> {
        Self::new(first, end)
    }
}

impl From<LayerRange> for (u32, u32) {
    fn from(range: LayerRange) -> Self {
        (range.first, range.end)
    }
}

impl fmt::Display for LayerRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.first, self.end)
    }
}
