//! A weight matrix packed for the processor, and its product with rows of activations.
//!
//! ```text
//!            output:  0 .. 31    32 .. 63   ...       panel = 32 outputs of all inputs, contiguous
//! input 0            [ line  ]  [ line  ]             line  = 32 weights that meet the same input
//! input 1            [ line  ]  [ line  ]
//! ...                 panel 0    panel 1
//! ```
//!
//! A product walks each panel once from memory, for tiles of up to eight rows whose sums stay in
//! registers. Every output is one chain of multiply-adds over the inputs in order, whatever the
//! number of rows, threads or lanes: results do not depend on who else is in the batch.

use crate::simd::{Kernel, dispatch};
use crate::tile::{TILE_ROWS, Tile};
use crate::workers::Workers;

/// Outputs that share a panel: two of the widest vectors.
const PANEL: usize = 32;
/// Weights of consecutive outputs for one input, on a cache line boundary.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line([f32; PANEL]);

/// A matrix of weights, `[outputs, inputs]`, in panels.
#[derive(Debug)]
pub(crate) struct Matrix {
    inputs: usize,
    outputs: usize,
    lines: Vec<Line>,
}

impl Matrix {
    /// Packs row-major `weights`, one row of `inputs` values per output.
    pub(crate) fn pack(weights: &[f32], inputs: usize) -> Self {
        assert!(inputs > 0 && weights.len().is_multiple_of(inputs), "weights are whole rows");
        let outputs = weights.len() / inputs;
        let mut lines = vec![Line([0.0; PANEL]); outputs.div_ceil(PANEL) * inputs];
        for (panel, rows) in lines.chunks_mut(inputs).zip(weights.chunks(PANEL * inputs)) {
            for (output, row) in rows.chunks(inputs).enumerate() {
                for (line, &weight) in panel.iter_mut().zip(row) {
                    line.0[output] = weight;
                }
            }
        }
        Self { inputs, outputs, lines }
    }

    /// Values of one row that comes out.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// The weights of one output: a row of the matrix before packing.
    pub(crate) fn row(&self, output: usize) -> impl Iterator<Item = f32> {
        assert!(output < self.outputs, "output {output} of {}", self.outputs);
        let first = output / PANEL * self.inputs;
        self.lines[first..first + self.inputs].iter().map(move |line| line.0[output % PANEL])
    }

    /// Multiplies each row of `x`; returns one row of outputs per row.
    pub(crate) fn multiply(&self, x: &[f32], workers: &Workers) -> Vec<f32> {
        assert!(x.len().is_multiple_of(self.inputs), "activations are whole rows");
        let inputs = self.inputs;
        let rows = x.len() / inputs;
        let mut panels = vec![0.0; self.outputs.div_ceil(PANEL) * PANEL * rows];
        if rows == 0 {
            return panels;
        }
        let tiles = x.chunks(TILE_ROWS * inputs);
        let tile = |x: &[f32]| Tile::new(x.len() / inputs, |row| &x[row * inputs..][..inputs]);
        let tiles: Vec<Tile> = tiles.map(tile).collect();
        let multiply_adds = panels.len() * inputs;
        workers.split(&mut panels, PANEL * rows, multiply_adds, |first, out| {
            let lines = &self.lines[first * inputs..];
            dispatch(Product { inputs, lines, tiles: &tiles, rows, out });
        });
        self.row_major(panels, rows)
    }

    /// Turns panels of outputs into rows of outputs.
    fn row_major(&self, mut panels: Vec<f32>, rows: usize) -> Vec<f32> {
        if rows == 1 {
            panels.truncate(self.outputs);
            return panels;
        }
        let mut out = vec![0.0; rows * self.outputs];
        for (row, out) in out.chunks_mut(self.outputs).enumerate() {
            for (out, panel) in out.chunks_mut(PANEL).zip(panels.chunks(PANEL * rows)) {
                out.copy_from_slice(&panel[row * PANEL..][..out.len()]);
            }
        }
        out
    }
}

/// The product of some panels with all tiles.
struct Product<'a> {
    inputs: usize,
    lines: &'a [Line],
    tiles: &'a [Tile],
    rows: usize,
    out: &'a mut [f32],
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool, const WIDE: bool>(self) {
        let panels = self.lines.chunks_exact(self.inputs);
        for (out, panel) in self.out.chunks_exact_mut(self.rows * PANEL).zip(panels) {
            let rows = out.as_chunks_mut::<PANEL>().0.chunks_mut(TILE_ROWS);
            for (out, tile) in rows.zip(self.tiles) {
                tile.multiply::<PANEL, FMA, WIDE>(panel.iter().map(|line| &line.0), out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: u64) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..count).map(|_| random.f32() * 2.0 - 1.0).collect()
    }

    fn naive(weights: &[f32], x: &[f32], inputs: usize) -> Vec<f32> {
        let dot = |x: &[f32], w: &[f32]| {
            x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum::<f64>() as f32
        };
        let rows = x.chunks(inputs);
        rows.flat_map(|x| weights.chunks(inputs).map(move |w| dot(x, w))).collect()
    }

    #[test]
    fn product_matches_the_definition_for_odd_sizes() {
        let workers = Workers::new(2).expect("threads start");
        for (inputs, outputs) in [(1, 1), (5, 31), (64, 33), (100, 96)] {
            let weights = values(inputs * outputs, 1);
            let matrix = Matrix::pack(&weights, inputs);
            for rows in [0, 1, 2, 3, 5, 8, 9, 12, 17] {
                let x = values(rows * inputs, 2);
                let found = matrix.multiply(&x, &workers);
                let expected = naive(&weights, &x, inputs);
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(expected) {
                    assert!((found - expected).abs() < 1e-4, "{found} against {expected}");
                }
            }
        }
    }

    #[test]
    fn rows_alone_give_the_bits_of_rows_together() {
        let (one, two) = (Workers::new(1).expect("no thread"), Workers::new(2).expect("threads"));
        let matrix = Matrix::pack(&values(300 * 70, 3), 300);
        let x = values(300 * 13, 4);
        let together = matrix.multiply(&x, &two);
        let alone: Vec<f32> = x.chunks(300).flat_map(|it| matrix.multiply(it, &one)).collect();
        assert_eq!(together, alone);
    }

    #[test]
    fn rows_come_back_as_they_went_in() {
        let weights = values(7 * 40, 5);
        let matrix = Matrix::pack(&weights, 7);
        assert!(matrix.row(39).eq(weights[39 * 7..].iter().copied()));
    }
}
