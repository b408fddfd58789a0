//! The operations as loops of our own, on burn's CPU backend.
//!
//! Its product of few rows moves 2 to 5 GB/s where memory gives 10, knows no quantised weights, and
//! rounds differently for one row than for many; its attention copies the cache at every step; its
//! exponential is one call per value.

use std::ops::Range;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Tensor, TensorData};

use super::{Cache, Ops, Rows};
use crate::attention::{Span, View, attend};
use crate::gate::{self, Activation};
use crate::kv::{self, KvBlocksError, KvType};
use crate::matrix::{Matrix, NotFinite, Precision, multiply};
use crate::norm::RmsNorm;
use crate::rope::Turns;
use crate::source::StoredRows;
use crate::workers::Workers;

/// Adding two values takes as long as so many multiply-adds of a product.
const ADD_WORK: usize = 4;

/// Finding a value in a matrix takes as long as so many multiply-adds of a product.
const EMBED_WORK: usize = 64;

/// The processors of this machine.
#[derive(Debug)]
pub(crate) struct Cpu {
    workers: Workers,
}

impl Cpu {
    /// Computes with these threads.
    pub(crate) fn new(workers: Workers) -> Self {
        Self { workers }
    }
}

/// What rows see, and how far they turn.
#[derive(Debug)]
pub(crate) struct Sight {
    view: View,
    turns: Turns,
}

impl Ops for Cpu {
    type Linear = Matrix;
    type Norm = RmsNorm;
    type Cache = kv::Cache;
    type Sight = Sight;

    fn load_linear(
        &self,
        weights: &StoredRows<'_>,
        precision: Precision,
    ) -> Result<Matrix, NotFinite> {
        Matrix::pack(weights, precision, &self.workers)
    }

    fn load_norm(&self, weights: Vec<f32>, eps: f32) -> RmsNorm {
        RmsNorm::new(weights, eps)
    }

    fn cache(&self, kind: KvType, blocks: usize, kv_heads: usize, head_size: usize) -> kv::Cache {
        kv::Cache::new(kind, blocks, kv_heads, head_size)
    }

    fn rows(&self, values: Vec<f32>, width: usize) -> Rows {
        let count = values.len() / width;
        let data = TensorData::new(values, [count, width]);
        Tensor::from_primitive::<Flex>(FlexTensor::from_data(data))
    }

    fn values(&self, rows: Rows) -> Vec<f32> {
        open(rows).into_data().try_into_vec().expect("rows are F32")
    }

    fn embed(&self, table: &Matrix, tokens: &[u32], scale: f32) -> Rows {
        let width = table.inputs();
        let mut rows = vec![0.0; tokens.len() * width];
        self.workers.split(&mut rows, width, tokens.len() * width * EMBED_WORK, |first, rows| {
            for (row, &token) in rows.chunks_exact_mut(width).zip(&tokens[first..]) {
                let weights = table.row(token as usize);
                row.iter_mut().zip(weights).for_each(|(it, weight)| *it = weight * scale);
            }
        });
        self.rows(rows, width)
    }

    fn norm(&self, norm: &RmsNorm, x: Rows) -> Rows {
        in_place(x, |x| norm.apply(x, &self.workers))
    }

    fn linear<const N: usize>(&self, x: Rows, matrices: [&Matrix; N]) -> [Rows; N] {
        let products = multiply(matrices, slice(&open(x)), &self.workers).into_iter();
        let mut products =
            products.zip(matrices).map(|(it, matrix)| self.rows(it, matrix.outputs()));
        std::array::from_fn(|_| products.next().expect("one product per matrix"))
    }

    fn add(&self, x: Rows, y: Rows) -> Rows {
        let y = open(y);
        let y = slice(&y);
        in_place(x, |x| {
            self.workers.split(x, 1, x.len() * ADD_WORK, |first, x| {
                x.iter_mut().zip(&y[first..]).for_each(|(x, y)| *x += y);
            });
        })
    }

    fn gated(&self, activation: Activation, gate: Rows, up: Rows) -> Rows {
        let up = open(up);
        in_place(gate, |it| gate::gated(activation, it, slice(&up), &self.workers))
    }

    fn sight(&self, view: View, turns: Turns, _: &[Range<usize>]) -> Sight {
        Sight { view, turns }
    }

    fn attend(
        &self,
        cache: &mut kv::Cache,
        sight: &Sight,
        spans: &[Span<'_>],
        [query, key, value]: [Rows; 3],
    ) -> Rows {
        let [_, width] = query.dims();
        let turn = |rows| in_place(rows, |it| sight.turns.apply(it, &self.workers));
        let [query, key, value] = [open(turn(query)), open(turn(key)), open(value)];
        let slots: Vec<_> = spans.iter().flat_map(|it| it.slots()).collect();
        cache.append(&slots, slice(&key), slice(&value), &self.workers);
        self.rows(attend(slice(&query), spans, cache, sight.view, &self.workers), width)
    }

    fn workers(&self) -> &Workers {
        &self.workers
    }
}

impl Cache for kv::Cache {
    fn copy(&mut self, from: u32, to: u32) {
        kv::Cache::copy(self, from, to);
    }

    fn export(&self, blocks: &[u32]) -> Vec<u8> {
        kv::Cache::export(self, blocks)
    }

    fn import(&mut self, blocks: &[u32], bytes: &[u8]) -> Result<(), KvBlocksError> {
        kv::Cache::import(self, blocks, bytes)
    }
}

fn open(rows: Rows) -> FlexTensor {
    rows.try_into_primitive::<Flex>().expect("rows are on this machine")
}

fn slice(rows: &FlexTensor) -> &[f32] {
    rows.as_slice().expect("rows are contiguous F32")
}

/// Changes the values of rows, or of a copy if somebody else still has them.
fn in_place(rows: Rows, change: impl FnOnce(&mut [f32])) -> Rows {
    let mut rows = open(rows);
    change(rows.storage_mut());
    Tensor::from_primitive::<Flex>(rows)
}
