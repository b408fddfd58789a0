//! A weight matrix in the form that suits the type it is stored in, and its products.
//!
//! Floats become panels of floats ([`float`]); products with them are exact to the order of the sum.
//! Quantised weights stay quantised ([`packed`](crate::packed)) unless the caller wants F32: products
//! with them round the activations to 8 bits. Either way every output is one chain of operations in a
//! fixed order: it does not depend on the other rows, on threads or on the width of registers.

mod float;

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::area::Area;
use crate::packed::{self, Activations, BadScale};
use crate::quant::Stored;
use crate::source::StoredRows;
use crate::workers::Workers;

/// Rows per thread from which each thread takes rows of its own and all packed panels; with fewer rows,
/// each takes all rows and panels of its own.
pub(crate) const ROWS_OF_ITS_OWN: usize = 64;

/// How to keep the weights of matrices in memory.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As they are stored: quantised weights stay quantised. Fast and small.
    #[default]
    Stored,
    /// As F32, with activations in F32: exact for what is stored, slower, 4 bytes a weight.
    F32,
}

/// A word that names no precision.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is no way to keep weights; there are `stored` and `f32`")]
pub struct UnknownPrecision(String);

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(word: &str) -> Result<Self, UnknownPrecision> {
        match word {
            "stored" => Ok(Self::Stored),
            "f32" => Ok(Self::F32),
            _ => Err(UnknownPrecision(word.to_owned())),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stored => "stored",
            Self::F32 => "f32",
        })
    }
}

/// A matrix of weights, `[outputs, inputs]`.
#[derive(Debug)]
pub(crate) enum Matrix {
    /// Floats.
    Float(float::Panels),
    /// Quantised.
    Packed(packed::Panels),
}

/// A weight that is infinite or no number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct NotFinite {
    /// Where, counting values from zero in row-major order.
    pub(crate) index: usize,
    /// The value.
    pub(crate) value: f32,
}

impl Matrix {
    /// Packs stored rows, panel by panel.
    pub(crate) fn pack(
        rows: &StoredRows<'_>,
        precision: Precision,
        workers: &Workers,
    ) -> Result<Self, NotFinite> {
        let StoredRows { stored, inputs, outputs, .. } = *rows;
        if precision == Precision::F32 || !packed::Panels::takes(stored, inputs) {
            return float::Panels::pack(rows, precision, workers).map(Self::Float);
        }
        let row = |output| rows.row(output);
        let panels = packed::Panels::pack(stored, inputs, outputs, row, workers);
        panels.map(Self::Packed).map_err(|BadScale { output }| {
            let values = rows.values(output);
            let at = values.iter().position(|it| !it.is_finite()).unwrap_or(0);
            NotFinite { index: output * inputs + at, value: values[at] }
        })
    }

    /// Bytes that a matrix takes in memory.
    pub(crate) fn size(
        stored: Stored,
        inputs: usize,
        outputs: usize,
        precision: Precision,
    ) -> usize {
        let packed = match precision {
            Precision::Stored => packed::Panels::size(stored, inputs, outputs),
            Precision::F32 => None,
        };
        packed.unwrap_or_else(|| match (precision, stored) {
            (Precision::Stored, Stored::F16 | Stored::BF16) => inputs * outputs * size_of::<u16>(),
            _ => inputs * outputs * size_of::<f32>(),
        })
    }

    /// Packs floats, one row of `inputs` values per output.
    #[cfg(test)]
    pub(crate) fn of_f32(weights: &[f32], inputs: usize) -> Self {
        let bytes: Vec<u8> = weights.iter().flat_map(|it| it.to_le_bytes()).collect();
        let rows = StoredRows::new(crate::quant::Stored::F32, inputs, &bytes);
        let workers = Workers::new(1).expect("no thread");
        Self::pack(&rows, Precision::F32, &workers).expect("weights are finite")
    }

    /// Values of one row that comes out.
    pub(crate) fn outputs(&self) -> usize {
        match self {
            Self::Float(panels) => panels.outputs(),
            Self::Packed(panels) => panels.outputs(),
        }
    }

    /// The weights of one output: a row of the matrix before packing.
    pub(crate) fn row(&self, output: usize) -> Vec<f32> {
        match self {
            Self::Float(panels) => panels.row(output),
            Self::Packed(panels) => panels.row(output),
        }
    }

    /// Values of one row that goes in.
    pub(crate) fn inputs(&self) -> usize {
        match self {
            Self::Float(panels) => panels.inputs(),
            Self::Packed(panels) => panels.inputs(),
        }
    }

    /// Cuts the work of multiplying `rows` rows into tasks for the threads: of some rows each, or of `run` of
    /// the widest panels each.
    fn cut<'a>(
        &'a self,
        out: &'a mut [f32],
        rows: usize,
        workers: &Workers,
        run: usize,
    ) -> Vec<Task<'a>> {
        let area = Area::new(out, self.outputs());
        let task =
            |first_row, first_output, area| Task { matrix: self, first_row, first_output, area };
        if matches!(self, Self::Packed(_)) && rows >= ROWS_OF_ITS_OWN * workers.threads() {
            let run = workers.run_of(rows / packed::TILE_ROWS, usize::MAX) * packed::TILE_ROWS;
            let parts = area.split_rows(run).zip((0..).step_by(run));
            return parts.map(|(area, row)| task(row, 0, area)).collect();
        }
        let run = run * float::PANEL;
        let parts = area.split_columns(run).zip((0..).step_by(run));
        parts.map(|(area, output)| task(0, output, area)).collect()
    }
}

/// A part of a product: some rows and outputs.
struct Task<'a> {
    matrix: &'a Matrix,
    first_row: usize,
    first_output: usize,
    area: Area<'a>,
}

/// Multiplies each row of `x` with matrices that all take such rows; returns one row of outputs per row
/// and matrix. Together they are prepared once and given out to the threads once.
pub(crate) fn multiply<const N: usize>(
    matrices: [&Matrix; N],
    x: &[f32],
    workers: &Workers,
) -> [Vec<f32>; N] {
    let inputs = matrices[0].inputs();
    assert!(matrices.iter().all(|it| it.inputs() == inputs), "matrices take the same rows");
    assert!(x.len().is_multiple_of(inputs), "activations are whole rows");
    let rows = x.len() / inputs;
    let mut outs = matrices.map(|it| vec![0.0; rows * it.outputs()]);
    if rows == 0 {
        return outs;
    }
    let packed = |it: &&Matrix| matches!(it, Matrix::Packed(_));
    let codes = matrices.iter().any(packed).then(|| Activations::new(x, inputs, workers));
    let tiles = if matrices.iter().all(packed) { vec![] } else { float::tiles(x, inputs, workers) };
    let outputs: usize = matrices.iter().map(|it| it.outputs()).sum();
    let multiply_adds = rows * outputs * inputs;
    let run = workers.run_of(outputs.div_ceil(float::PANEL), multiply_adds);
    let parts = matrices.iter().zip(&mut outs);
    let tasks = parts.flat_map(|(matrix, out)| matrix.cut(out, rows, workers, run)).collect();
    workers.each(
        tasks,
        multiply_adds,
        |Task { matrix, first_row, first_output, area }: Task<'_>| match (matrix, &codes) {
            (Matrix::Packed(panels), Some(codes)) => {
                panels.multiply(codes, first_row, first_output, area);
            }
            (Matrix::Packed(_), None) => unreachable!("packed matrices have codes"),
            (Matrix::Float(panels), _) => panels.multiply(&tiles, first_output, area),
        },
    );
    outs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::Stored;

    #[test]
    fn a_damaged_scale_is_reported_with_the_place_of_its_first_weight() {
        let mut bytes = vec![0; 3 * 64 / 32 * 34];
        bytes[3 * 34..3 * 34 + 2].copy_from_slice(&half::f16::INFINITY.to_le_bytes());
        bytes[3 * 34 + 2] = 1;
        let rows = StoredRows::new(Stored::Q8_0, 64, &bytes);
        let expected = NotFinite { index: 64 + 32, value: f32::INFINITY };
        for (precision, threads) in [(Precision::Stored, 1), (Precision::F32, 2)] {
            let workers = Workers::new(threads).expect("threads start");
            let error = Matrix::pack(&rows, precision, &workers).expect_err("infinite");
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn words_are_precisions_or_refused() {
        for precision in [Precision::Stored, Precision::F32] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        let error = "int8".parse::<Precision>().expect_err("there is no such way");
        let message = "`int8` is no way to keep weights; there are `stored` and `f32`";
        assert_eq!(error.to_string(), message);
    }
}
