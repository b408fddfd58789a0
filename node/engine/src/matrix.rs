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

use crate::simd::{Kernel, dispatch, multiply_add};
use crate::workers::Workers;

/// Outputs that share a panel: two of the widest vectors.
const PANEL: usize = 32;
/// Rows of the largest tile: with [`PANEL`] outputs its sums fill half of the widest registers.
const TILE_ROWS: usize = 8;

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
        let tiles = Tiles::new(x, self.inputs);
        let rows = x.len() / self.inputs;
        let mut panels = vec![0.0; self.outputs.div_ceil(PANEL) * PANEL * rows];
        if rows == 0 {
            return panels;
        }
        workers.split(&mut panels, PANEL * rows, |first, out| {
            let lines = &self.lines[first * self.inputs..];
            dispatch(Product { lines, tiles: &tiles, rows, out });
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

/// Rows of activations regrouped so that the values of a tile's rows for one input are neighbours.
struct Tiles {
    inputs: usize,
    full: Vec<[f32; TILE_ROWS]>,
    rest: Rest,
}

/// The last tile, if it is smaller. Rows up to its size are padding, whose sums are thrown away.
enum Rest {
    None,
    One(Vec<[f32; 1]>),
    Two(Vec<[f32; 2]>),
    Four(Vec<[f32; 4]>),
}

impl Tiles {
    fn new(x: &[f32], inputs: usize) -> Self {
        let mut tiles = x.chunks_exact(TILE_ROWS * inputs);
        let mut full: Vec<_> = tiles.by_ref().flat_map(|tile| regroup(tile, inputs)).collect();
        let rest = tiles.remainder();
        let rest = match rest.len() / inputs {
            0 => Rest::None,
            1 => Rest::One(regroup(rest, inputs).collect()),
            2 => Rest::Two(regroup(rest, inputs).collect()),
            3 | 4 => Rest::Four(regroup(rest, inputs).collect()),
            _ => {
                full.extend(regroup(rest, inputs));
                Rest::None
            }
        };
        Self { inputs, full, rest }
    }
}

/// The values of each input over up to `ROWS` rows; zero for rows that are not there.
fn regroup<const ROWS: usize>(x: &[f32], inputs: usize) -> impl Iterator<Item = [f32; ROWS]> {
    let value = move |row: usize, input| x.get(row * inputs + input).copied().unwrap_or(0.0);
    (0..inputs).map(move |input| std::array::from_fn(|row| value(row, input)))
}

/// The product of some panels with all tiles.
struct Product<'a> {
    lines: &'a [Line],
    tiles: &'a Tiles,
    rows: usize,
    out: &'a mut [f32],
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool, const WIDE: bool>(self) {
        let inputs = self.tiles.inputs;
        let panels = self.lines.chunks_exact(inputs);
        for (out, panel) in self.out.chunks_exact_mut(self.rows * PANEL).zip(panels) {
            let (mut out, _) = out.as_chunks_mut::<PANEL>();
            for tile in self.tiles.full.chunks_exact(inputs) {
                let (own, later) = out.split_at_mut(TILE_ROWS.min(out.len()));
                if WIDE {
                    multiply_8::<PANEL, FMA>(panel, tile, own);
                } else {
                    multiply_8::<8, FMA>(panel, tile, own);
                }
                out = later;
            }
            self.tiles.rest.multiply::<FMA, WIDE>(panel, out);
        }
    }
}

impl Rest {
    /// Multiplies one panel with the rows that fill no tile.
    #[inline(always)]
    fn multiply<const FMA: bool, const WIDE: bool>(
        &self,
        panel: &[Line],
        out: &mut [[f32; PANEL]],
    ) {
        match self {
            Self::None => {}
            Self::One(tile) => multiply_1::<PANEL, FMA>(panel, tile, out),
            Self::Two(tile) => multiply_2::<PANEL, FMA>(panel, tile, out),
            Self::Four(tile) if WIDE => multiply_4::<PANEL, FMA>(panel, tile, out),
            Self::Four(tile) => multiply_4::<16, FMA>(panel, tile, out),
        }
    }
}

/// Defines the product of a panel with a tile of a fixed number of rows, `LANES` outputs at a time.
///
/// A macro, because the sums must be variables of their own to stay in registers: as an array
/// indexed in a loop they live in memory, and the product is 80 times slower.
macro_rules! define_multiply {
    ($name:ident, $rows:literal: $($sum:ident $row:literal),*) => {
        #[inline(always)]
        fn $name<const LANES: usize, const FMA: bool>(
            panel: &[Line],
            tile: &[[f32; $rows]],
            out: &mut [[f32; PANEL]],
        ) {
            for part in 0..PANEL / LANES {
                $(let mut $sum = [0.0; LANES];)*
                for (line, x) in panel.iter().zip(tile) {
                    let weights = &line.0.as_chunks::<LANES>().0[part];
                    $(add_product::<LANES, FMA>(&mut $sum, x[$row], weights);)*
                }
                for (out, sums) in out.iter_mut().zip([$($sum),*]) {
                    out.as_chunks_mut::<LANES>().0[part] = sums;
                }
            }
        }
    };
}

define_multiply!(multiply_1, 1: a 0);
define_multiply!(multiply_2, 2: a 0, b 1);
define_multiply!(multiply_4, 4: a 0, b 1, c 2, d 3);
define_multiply!(multiply_8, 8: a 0, b 1, c 2, d 3, e 4, f 5, g 6, h 7);

/// Adds `x` times the weights to the sums.
#[inline(always)]
fn add_product<const LANES: usize, const FMA: bool>(
    sums: &mut [f32; LANES],
    x: f32,
    weights: &[f32; LANES],
) {
    for (sum, &weight) in sums.iter_mut().zip(weights) {
        *sum = multiply_add::<FMA>(x, weight, *sum);
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

    #[test]
    fn portable_loops_agree_with_vector_loops() {
        let matrix = Matrix::pack(&values(64 * 32, 6), 64);
        let x = values(64 * 3, 7);
        let tiles = Tiles::new(&x, 64);
        let mut portable = vec![0.0; 3 * PANEL];
        let product = Product { lines: &matrix.lines, tiles: &tiles, rows: 3, out: &mut portable };
        product.run::<false, false>();
        let vector = matrix.multiply(&x, &Workers::new(1).expect("no thread"));
        for (portable, vector) in portable.iter().zip(vector) {
            assert!((portable - vector).abs() < 1e-5, "{portable} against {vector}");
        }
    }
}
