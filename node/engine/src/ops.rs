//! What the models are written in: operations on rows of activations.
//!
//! Rows are burn tensors, wherever the operations compute. Models name operations of [`Ops`] only, so
//! that none of them knows what it runs on.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod plain;

use std::fmt;
use std::ops::Range;

use burn::tensor::Tensor;
pub(crate) use cpu::Cpu;
#[cfg(feature = "cuda")]
pub(crate) use cuda::Cuda;
pub(crate) use plain::Plain;

use crate::attention::{Span, View};
use crate::gate::Activation;
use crate::kv::{KvBlocksError, KvType};
use crate::matrix::{NotFinite, Precision};
use crate::rope::Turns;
use crate::source::StoredRows;
use crate::workers::Workers;

/// Activations, `[tokens, width]`.
pub(crate) type Rows = Tensor<2>;

/// Operations of one machine. None of them mixes rows of different tokens, but attention, and that only
/// those of one request: the rest of a batch changes no result.
pub(crate) trait Ops: fmt::Debug + Send + Sync {
    /// Weights of a product.
    type Linear: fmt::Debug + Send + Sync;
    /// Weights of a norm.
    type Norm: fmt::Debug + Send + Sync;
    /// Keys and values of past tokens.
    type Cache: Cache;
    /// What the attention of all layers of a kind has in common during a pass.
    type Sight: fmt::Debug + Send + Sync;

    /// Prepares `[outputs, inputs]` weights for products, in the precision asked for.
    fn load_linear(
        &self,
        weights: &StoredRows<'_>,
        precision: Precision,
    ) -> Result<Self::Linear, NotFinite>;

    /// Prepares the weight of each column of a norm.
    fn load_norm(&self, weights: Vec<f32>, eps: f32) -> Self::Norm;

    /// Sets aside `blocks` blocks of 16 tokens with `kv_heads` keys and values of `head_size` each.
    fn cache(&self, kind: KvType, blocks: usize, kv_heads: usize, head_size: usize) -> Self::Cache;

    /// Makes rows of `width` values.
    fn rows(&self, values: Vec<f32>, width: usize) -> Rows;

    /// Takes the values out of rows.
    fn values(&self, rows: Rows) -> Vec<f32>;

    /// The rows of a table, `[tokens, width]`, that belong to `tokens`, times `scale`.
    fn embed(&self, table: &Self::Linear, tokens: &[u32], scale: f32) -> Rows;

    /// Root mean square norm (Zhang and Sennrich, 2019) of each run of columns that is as wide as the norm:
    /// a row, or a head.
    fn norm(&self, norm: &Self::Norm, x: Rows) -> Rows;

    /// `x W^T` for several matrices that take the same rows.
    fn linear<const N: usize>(&self, x: Rows, matrices: [&Self::Linear; N]) -> [Rows; N];

    /// `x + y`.
    fn add(&self, x: Rows, y: Rows) -> Rows;

    /// `activation(gate) * up`, the gated unit of a feed-forward block.
    fn gated(&self, activation: Activation, gate: Rows, up: Rows) -> Rows;

    /// Prepares the attention of all layers with this view, from rows at these positions: a range for
    /// each request.
    fn sight(&self, view: View, turns: Turns, positions: &[Range<usize>]) -> Self::Sight;

    /// Turns queries and keys, appends keys and values to the cache, and attends: `rows` are queries, keys
    /// and values, all heads of a token side by side; `spans` are the requests that they belong to, in
    /// the order of the positions that `sight` was prepared for.
    fn attend(
        &self,
        cache: &mut Self::Cache,
        sight: &Self::Sight,
        spans: &[Span<'_>],
        rows: [Rows; 3],
    ) -> Rows;

    /// Threads of this machine's processors.
    fn workers(&self) -> &Workers;
}

/// Keys and values of past tokens, in blocks of 16 tokens of one layer.
pub(crate) trait Cache: fmt::Debug + Send + Sync {
    /// Overwrites block `to` with what block `from` holds.
    fn copy(&mut self, from: u32, to: u32);

    /// Some blocks as bytes, with a header of shape and type.
    fn export(&self, blocks: &[u32]) -> Vec<u8>;

    /// Overwrites blocks with exported ones, or changes nothing.
    fn import(&mut self, blocks: &[u32], bytes: &[u8]) -> Result<(), KvBlocksError>;
}
