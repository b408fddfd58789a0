//! The operations as kernels of our own, for GPUs.
//!
//! What is shared with [`Plain`] needs no kernel of ours: dense matrices, the cache, sums. Everything else
//! is one launch where burn's operations are five to ten, keys and values are read where they lie, and
//! quantised weights stay quantised.
//!
//! The kernels are written in cubecl's language, which compiles them for NVIDIA's GPUs and, for tests, for
//! processors. None of them needs more of CUDA than the driver.

mod attention;
mod bridge;
mod codes;
mod kernels;
#[cfg(test)]
mod ptx;
#[cfg(test)]
mod tests;

use std::ops::Range;

use attention::Sight;
use bridge::{Team, addresses, close, empty, open};
use burn::tensor::{DType, Device};
use burn_cubecl::cubecl::prelude::*;
use codes::{CUBE_ROWS_MAX, Codes, FEW_ROWS_MAX};

use super::plain::{Cache, Dense, Norm, Plain, product};
use super::{Ops, Rows};
use crate::attention::{Span, View};
use crate::gate::Activation;
use crate::kv::KvType;
use crate::matrix::{NotFinite, Precision};
use crate::rope::Turns;
use crate::source::StoredRows;
use crate::workers::Workers;

/// A device of cubecl's.
#[derive(Debug)]
pub(crate) struct Cuda {
    plain: Plain,
}

/// A matrix, `[outputs, inputs]`.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a model has a few hundred matrices")]
pub(crate) enum Matrix {
    /// Floats.
    Dense(Dense),
    /// Quantised.
    Codes(Codes),
}

impl Cuda {
    /// Computes on `device`. Matrices of floats, and what products of many rows expand quantised ones to,
    /// are of type `dense` unless F32 is asked for; `workers` load and sample.
    pub(crate) fn new(device: Device, dense: DType, workers: Workers) -> Self {
        Self { plain: Plain::new(device, dense, workers) }
    }

    fn multiply(&self, x: &Rows, matrix: &Matrix) -> Rows {
        let [rows, _] = x.dims();
        match matrix {
            Matrix::Dense(dense) => match Codes::over(&dense.0).filter(|_| rows <= CUBE_ROWS_MAX) {
                Some(words) => close(words.multiply(open(x.clone()))),
                None => product(x.clone(), dense),
            },
            Matrix::Codes(codes) if rows <= FEW_ROWS_MAX => close(codes.multiply(open(x.clone()))),
            Matrix::Codes(codes) => {
                product(x.clone(), &Dense(close(codes.expand(self.plain.dense(), None, 1.0))))
            }
        }
    }
}

impl Ops for Cuda {
    type Linear = Matrix;
    type Norm = Norm;
    type Cache = Cache;
    type Sight = Sight;

    fn load_linear(
        &self,
        weights: &StoredRows<'_>,
        precision: Precision,
    ) -> Result<Matrix, NotFinite> {
        let codes = match precision {
            Precision::Stored => Codes::load(weights, self.plain.device(), self.workers())?,
            Precision::F32 => None,
        };
        match codes {
            Some(codes) => Ok(Matrix::Codes(codes)),
            None => {
                let Dense(floats) = self.plain.load_linear(weights, precision)?;
                Ok(Matrix::Dense(Dense(close(open(floats)))))
            }
        }
    }

    fn load_norm(&self, weights: Vec<f32>, eps: f32) -> Norm {
        self.plain.load_norm(weights, eps)
    }

    fn cache(&self, kind: KvType, blocks: usize, kv_heads: usize, head_size: usize) -> Cache {
        self.plain.cache(kind, blocks, kv_heads, head_size)
    }

    fn rows(&self, values: Vec<f32>, width: usize) -> Rows {
        self.plain.rows(values, width)
    }

    fn values(&self, rows: Rows) -> Vec<f32> {
        self.plain.values(rows)
    }

    fn embed(&self, table: &Matrix, tokens: &[u32], scale: f32) -> Rows {
        match table {
            Matrix::Dense(dense) => self.plain.embed(dense, tokens, scale),
            Matrix::Codes(codes) => close(codes.expand(DType::F32, Some(tokens), scale)),
        }
    }

    fn norm(&self, norm: &Norm, x: Rows) -> Rows {
        let (shape, x, weight) = (x.dims(), open(x), open(norm.weight.clone()));
        let [_, width] = norm.weight.dims();
        let runs = shape[0] * shape[1] / width;
        let out = empty(&x.device, shape, DType::F32);
        let team = Team::of(&x.client);
        kernels::norm::norm::launch(
            &x.client.clone(),
            CubeCount::Static(runs as u32, 1, 1),
            team.dim(),
            addresses([&x]),
            x.into_buffer_arg(),
            weight.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            runs,
            width,
            norm.eps,
            team.lanes,
            team.planes,
        );
        close(out)
    }

    fn linear<const N: usize>(&self, x: Rows, matrices: [&Matrix; N]) -> [Rows; N] {
        matrices.map(|it| self.multiply(&x, it))
    }

    fn add(&self, x: Rows, y: Rows) -> Rows {
        self.plain.add(x, y)
    }

    fn gated(&self, activation: Activation, gate: Rows, up: Rows) -> Rows {
        let (shape, gate, up) = (gate.dims(), open(gate), open(up));
        let out = empty(&gate.device, shape, DType::F32);
        let units = shape[0] * shape[1];
        let (count, dim) = bridge::units(&gate.client, units);
        kernels::gate::gate::launch(
            &gate.client.clone(),
            count,
            dim,
            addresses([&gate]),
            gate.into_buffer_arg(),
            up.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            units,
            activation,
        );
        close(out)
    }

    fn sight(&self, view: View, turns: Turns, positions: &[Range<usize>]) -> Sight {
        Sight::new(view, &turns, positions, self.plain.device())
    }

    fn attend(
        &self,
        cache: &mut Cache,
        sight: &Sight,
        spans: &[Span<'_>],
        rows: [Rows; 3],
    ) -> Rows {
        sight.attend(cache, spans, rows)
    }

    fn workers(&self) -> &Workers {
        self.plain.workers()
    }
}
