//! Panels of floats, and their product with rows of activations.
//!
//! ```text
//!            output:  0 .. 31    32 .. 63   ...       panel = 32 outputs of all inputs, contiguous
//! input 0            [ line  ]  [ line  ]             line  = 32 weights that meet the same input
//! input 1            [ line  ]  [ line  ]
//! ...                 panel 0    panel 1
//! ```
//!
//! A product walks each panel once from memory, for tiles of up to six rows whose sums stay in
//! registers. Every output is one chain of multiply-adds over the inputs in order. 16-bit floats are widened
//! in registers: half the memory, the same bits.

use half::{bf16, f16};

use super::{NotFinite, Precision};
use crate::area::Area;
use crate::quant::Stored;
use crate::simd::{Float, Kernel, dispatch, fetch};
use crate::source::StoredRows;
use crate::tile::{TILE_ROWS, Tile};
use crate::workers::Workers;

/// Outputs that share a panel: two of the widest vectors.
pub(super) const PANEL: usize = 32;

/// Tiles that meet a run of lines while it is in the nearest cache.
const RUN_TILES: usize = 4;

/// Regrouping a value takes as long as so many multiply-adds of a product.
const REGROUPING_WORK: usize = 16;

/// Lines of a run where memory is what one waits for: few, so that the next run comes while this one is
/// computed with.
const LINES_FROM_MEMORY: usize = 16;

/// Lines of a run where all but the first tiles meet panels that are in a cache.
const LINES_FROM_CACHE: usize = 64;

/// Weights of consecutive outputs for one input, on a cache line boundary.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line<T>([T; PANEL]);

/// The lines of all panels, one panel after the other.
#[derive(Debug)]
enum Lines {
    F32(Vec<Line<f32>>),
    F16(Vec<Line<f16>>),
    BF16(Vec<Line<bf16>>),
}

/// A matrix of floats, `[outputs, inputs]`.
#[derive(Debug)]
pub(crate) struct Panels {
    inputs: usize,
    outputs: usize,
    lines: Lines,
}

impl Panels {
    /// Packs rows: 16-bit floats as they are, if wanted, and all else as F32.
    pub(super) fn pack(
        rows: &StoredRows<'_>,
        precision: Precision,
        workers: &Workers,
    ) -> Result<Self, NotFinite> {
        let StoredRows { stored, inputs, outputs, .. } = *rows;
        let finite = |output| {
            let values = rows.values(output);
            match values.iter().position(|it| !it.is_finite()) {
                None => Ok(values),
                Some(at) => Err(NotFinite { index: output * inputs + at, value: values[at] }),
            }
        };
        // What has all bits of the exponent is infinite or no number.
        let halves = |output, exponent| {
            let halves = || rows.row(output).as_chunks().0.iter().map(|&it| u16::from_le_bytes(it));
            if halves().any(|it| it & exponent == exponent) {
                finite(output)?;
            }
            Ok(halves())
        };
        let f16 = |output| halves(output, 0x7C00).map(|it| it.map(f16::from_bits));
        let bf16 = |output| halves(output, 0x7F80).map(|it| it.map(bf16::from_bits));
        let lines = match (precision, stored) {
            (Precision::Stored, Stored::F16) => Lines::F16(lines(inputs, outputs, f16, workers)?),
            (Precision::Stored, Stored::BF16) => {
                Lines::BF16(lines(inputs, outputs, bf16, workers)?)
            }
            _ => Lines::F32(lines(inputs, outputs, finite, workers)?),
        };
        Ok(Self { inputs, outputs, lines })
    }

    /// Values of one row that comes out.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// The weights of one output.
    pub(super) fn row(&self, output: usize) -> Vec<f32> {
        assert!(output < self.outputs, "output {output} of {}", self.outputs);
        let (first, lane) = (output / PANEL * self.inputs, output % PANEL);
        match &self.lines {
            Lines::F32(lines) => lane_of(&lines[first..][..self.inputs], lane),
            Lines::F16(lines) => lane_of(&lines[first..][..self.inputs], lane),
            Lines::BF16(lines) => lane_of(&lines[first..][..self.inputs], lane),
        }
    }

    /// Values of one row that goes in.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Multiplies the rows of `tiles` with the outputs from `first_output` on, a whole number of panels.
    pub(super) fn multiply(&self, tiles: &[Tile], first_output: usize, out: Area<'_>) {
        let first = first_output / PANEL * self.inputs;
        let inputs = self.inputs;
        match &self.lines {
            Lines::F32(lines) => dispatch(Product { inputs, lines: &lines[first..], tiles, out }),
            Lines::F16(lines) => dispatch(Product { inputs, lines: &lines[first..], tiles, out }),
            Lines::BF16(lines) => dispatch(Product { inputs, lines: &lines[first..], tiles, out }),
        }
    }
}

/// Regroups rows of `inputs` activations for products: as few tiles as there can be, about alike.
pub(super) fn tiles(x: &[f32], inputs: usize, workers: &Workers) -> Vec<Tile> {
    let rows = x.len() / inputs;
    let count = rows.div_ceil(TILE_ROWS);
    let first = |tile| rows * tile / count;
    let row = |row: usize| &x[row * inputs..][..inputs];
    let tile = |it| Tile::new(first(it + 1) - first(it), |index| row(first(it) + index));
    workers.each((0..count).collect(), x.len() * REGROUPING_WORK, tile)
}

/// Regroups rows of values into lines, unless a row is refused.
fn lines<T: Float, I: IntoIterator<Item = T>>(
    inputs: usize,
    outputs: usize,
    row: impl Fn(usize) -> Result<I, NotFinite> + Sync + Send,
    workers: &Workers,
) -> Result<Vec<Line<T>>, NotFinite> {
    let mut lines = vec![Line([T::default(); PANEL]); outputs.div_ceil(PANEL) * inputs];
    let panels = lines.chunks_mut(inputs.max(1)).enumerate().collect();
    let packed = workers.each(panels, inputs * outputs * REGROUPING_WORK, |(index, panel)| {
        for (lane, output) in (index * PANEL..outputs).take(PANEL).enumerate() {
            panel.iter_mut().zip(row(output)?).for_each(|(line, it)| line.0[lane] = it);
        }
        Ok(())
    });
    packed.into_iter().collect::<Result<(), _>>()?;
    Ok(lines)
}

/// One value of each line.
fn lane_of<T: Float>(lines: &[Line<T>], lane: usize) -> Vec<f32> {
    lines.iter().map(|line| T::widen::<1, false>(&[line.0[lane]])[0]).collect()
}

/// The product of some panels, the first lines of `lines`, with all tiles.
struct Product<'a, T> {
    inputs: usize,
    lines: &'a [Line<T>],
    tiles: &'a [Tile],
    out: Area<'a>,
}

impl<T: Float> Kernel for Product<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool, const WIDE: bool>(mut self) {
        let few = self.tiles.len() <= RUN_TILES;
        let run_lines = if few { LINES_FROM_MEMORY } else { LINES_FROM_CACHE };
        for column in (0..self.out.columns()).step_by(PANEL) {
            let lines = &self.lines[column / PANEL * self.inputs..];
            let width = PANEL.min(self.out.columns() - column);
            let mut row = 0;
            for tiles in self.tiles.chunks(RUN_TILES) {
                let mut sums = [[[0.0; PANEL]; TILE_ROWS]; RUN_TILES];
                for first in (0..self.inputs).step_by(run_lines) {
                    let (run, next) = lines[first..].split_at(run_lines.min(self.inputs - first));
                    fetch(&next[..run_lines.min(next.len())]);
                    let run = run.iter().map(|line| &line.0);
                    for (tile, sums) in tiles.iter().zip(&mut sums) {
                        tile.multiply::<T, PANEL, FMA, WIDE>(first, run.clone(), sums);
                    }
                }
                for (tile, sums) in tiles.iter().zip(&sums) {
                    for sums in &sums[..tile.rows()] {
                        self.out.row(row)[column..][..width].copy_from_slice(&sums[..width]);
                        row += 1;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{Matrix, multiply};

    fn values(count: usize, seed: u64) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..count).map(|_| random.f32() * 2.0 - 1.0).collect()
    }

    fn product(matrix: &Matrix, x: &[f32], workers: &Workers) -> Vec<f32> {
        let [product] = multiply([matrix], x, workers);
        product
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
            let matrix = Matrix::of_f32(&weights, inputs);
            for rows in [0, 1, 2, 3, 5, 8, 9, 12, 17] {
                let x = values(rows * inputs, 2);
                let found = product(&matrix, &x, &workers);
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
        let matrix = Matrix::of_f32(&values(300 * 70, 3), 300);
        let x = values(300 * 13, 4);
        let together = product(&matrix, &x, &two);
        let alone: Vec<f32> = x.chunks(300).flat_map(|it| product(&matrix, it, &one)).collect();
        assert_eq!(together, alone);
    }

    #[test]
    fn rows_come_back_as_they_went_in() {
        let weights = values(7 * 40, 5);
        let matrix = Matrix::of_f32(&weights, 7);
        assert!(matrix.row(39) == weights[39 * 7..]);
    }

    #[test]
    fn halves_give_the_bits_of_the_floats_they_stand_for() {
        let workers = Workers::new(2).expect("threads start");
        let mut random = fastrand::Rng::with_seed(6);
        let (inputs, outputs, rows) = (70, 45, 9);
        let x = values(rows * inputs, 7);
        for stored in [Stored::F16, Stored::BF16] {
            // Without the highest bit of the exponent no value is infinite.
            let bits = |_| (random.u16(..) & 0xBFFF).to_le_bytes();
            let bytes: Vec<u8> = (0..inputs * outputs).flat_map(bits).collect();
            let stored_rows = StoredRows::new(stored, inputs, &bytes);
            let [narrow, wide] = [Precision::Stored, Precision::F32].map(|it| {
                let panels = Panels::pack(&stored_rows, it, &workers).expect("finite");
                assert!(matches!(panels.lines, Lines::F32(_)) == (it == Precision::F32));
                Matrix::Float(panels)
            });
            let [found, expected] = multiply([&narrow, &wide], &x, &workers);
            assert_eq!(found, expected, "{stored}");
            let row = stored_rows.values(44);
            assert_eq!((narrow.row(44), wide.row(44)), (row.clone(), row));
        }
    }
}
