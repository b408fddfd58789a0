//! The operations as burn's own, on any of its devices: what our own loops and kernels are tested against.
//!
//! Matrices are dense: quantised weights are expanded as they are loaded. Rows, norms and sums of
//! attention are F32 on every device; products round them to the type of the matrix.

mod cache;
mod sight;
#[cfg(test)]
pub(super) mod tests;

use std::ops::Range;

use burn::tensor::activation::{gelu_approximate, silu};
use burn::tensor::{DType, Device, Element, Int, Tensor, TensorData, bf16};
pub(super) use cache::Cache;
#[cfg(feature = "cuda")]
pub(super) use cache::slots;

use super::{Ops, Rows};
use crate::attention::{Span, View};
use crate::gate::Activation;
use crate::kv::KvType;
use crate::matrix::{NotFinite, Precision};
use crate::rope::Turns;
use crate::source::StoredRows;
use crate::workers::Workers;

/// A device of burn's.
#[derive(Debug)]
pub(crate) struct Plain {
    device: Device,
    /// Type of matrices, unless F32 is asked for.
    dense: DType,
    workers: Workers,
}

/// A matrix, `[outputs, inputs]`.
#[derive(Debug)]
pub(crate) struct Dense(pub(super) Tensor<2>);

/// The weight of each column of a norm, `[1, width]`.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(super) weight: Tensor<2>,
    pub(super) eps: f32,
}

impl Plain {
    /// Computes on `device`, with matrices of type `dense` unless F32 is asked for; `workers` sample.
    pub(crate) fn new(device: Device, dense: DType, workers: Workers) -> Self {
        Self { device, dense, workers }
    }

    /// Where it computes.
    #[cfg(feature = "cuda")]
    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// Type of matrices, unless F32 is asked for.
    #[cfg(feature = "cuda")]
    pub(super) fn dense(&self) -> DType {
        self.dense
    }

    fn float<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values, shape), (&self.device, DType::F32))
    }
}

/// `x W^T`, with `x` rounded to the type of the matrix.
pub(super) fn product(x: Rows, matrix: &Dense) -> Rows {
    x.cast(matrix.0.dtype()).matmul(matrix.0.clone().transpose()).cast(DType::F32)
}

/// Numbers on a device. They name rows of tensors, of which there are fewer than 2^31.
fn indices(numbers: impl IntoIterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let numbers: Vec<i32> = numbers.into_iter().map(|it| it as i32).collect();
    let count = numbers.len();
    Tensor::from_data(TensorData::new(numbers, [count]), device)
}

/// The weights of stored rows, unless one is not finite.
fn dense<T: Element>(
    rows: &StoredRows<'_>,
    of: impl Fn(f32) -> T,
) -> Result<TensorData, NotFinite> {
    let StoredRows { inputs, outputs, .. } = *rows;
    let mut all = Vec::with_capacity(outputs * inputs);
    for output in 0..outputs {
        let values = rows.values(output);
        if let Some(at) = values.iter().position(|it| !it.is_finite()) {
            return Err(NotFinite { index: output * inputs + at, value: values[at] });
        }
        all.extend(values.into_iter().map(&of));
    }
    Ok(TensorData::new(all, [outputs, inputs]))
}

impl Ops for Plain {
    type Linear = Dense;
    type Norm = Norm;
    type Cache = Cache;
    type Sight = sight::Sight;

    fn load_linear(
        &self,
        weights: &StoredRows<'_>,
        precision: Precision,
    ) -> Result<Dense, NotFinite> {
        let dtype = match precision {
            Precision::Stored => self.dense,
            Precision::F32 => DType::F32,
        };
        let data = match dtype {
            DType::BF16 => dense(weights, bf16::from_f32)?,
            _ => dense(weights, |it| it)?,
        };
        Ok(Dense(Tensor::from_data(data, (&self.device, dtype))))
    }

    fn load_norm(&self, weights: Vec<f32>, eps: f32) -> Norm {
        let width = weights.len();
        Norm { weight: self.float(weights, [1, width]), eps }
    }

    fn cache(&self, kind: KvType, blocks: usize, kv_heads: usize, head_size: usize) -> Cache {
        Cache::new(kind, blocks, (kv_heads, head_size), &self.device)
    }

    fn rows(&self, values: Vec<f32>, width: usize) -> Rows {
        let count = values.len() / width;
        self.float(values, [count, width])
    }

    fn values(&self, rows: Rows) -> Vec<f32> {
        rows.into_data().try_into_vec().expect("rows are F32")
    }

    fn embed(&self, table: &Dense, tokens: &[u32], scale: f32) -> Rows {
        let tokens = indices(tokens.iter().map(|&it| it as usize), &self.device);
        table.0.clone().select(0, tokens).cast(DType::F32) * scale
    }

    fn norm(&self, norm: &Norm, x: Rows) -> Rows {
        let ([rows, columns], [_, width]) = (x.dims(), norm.weight.dims());
        let x = x.reshape([rows * columns / width, width]);
        let mean = x.clone().square().mean_dim(1);
        let normed = x / (mean + norm.eps).sqrt() * norm.weight.clone();
        normed.reshape([rows, columns])
    }

    fn linear<const N: usize>(&self, x: Rows, matrices: [&Dense; N]) -> [Rows; N] {
        matrices.map(|it| product(x.clone(), it))
    }

    fn add(&self, x: Rows, y: Rows) -> Rows {
        x + y
    }

    fn gated(&self, activation: Activation, gate: Rows, up: Rows) -> Rows {
        match activation {
            Activation::Silu => silu(gate) * up,
            Activation::Gelu => gelu_approximate(gate) * up,
        }
    }

    fn sight(&self, view: View, turns: Turns, positions: &[Range<usize>]) -> sight::Sight {
        sight::Sight::new(view, &turns, positions, &self.device)
    }

    fn attend(
        &self,
        cache: &mut Cache,
        sight: &sight::Sight,
        spans: &[Span<'_>],
        [query, key, value]: [Rows; 3],
    ) -> Rows {
        cache.append(spans, sight.turn(key), value);
        sight.attend(sight.turn(query), spans, cache)
    }

    fn workers(&self) -> &Workers {
        &self.workers
    }
}
