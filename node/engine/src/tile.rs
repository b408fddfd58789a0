//! Products of a panel of weights with a few rows of values, the one inner loop of the engine.
//!
//! ```text
//! out[row, lane] += sum over i, in order, of tile[i, row] * panel[i, lane]
//! ```
//!
//! Weights of linear layers, keys of a block and values of a block are all panels. Every sum is one
//! chain of multiply-adds from zero in the order of `i`: its bits do not depend on the other rows, on
//! the size of the tile or on the width of the registers.

use crate::simd::multiply_add;

/// Rows of the largest tile: with the widest panel its sums fill half of the widest registers.
pub(crate) const TILE_ROWS: usize = 8;

/// Up to eight rows of values, regrouped so that the values for one input are neighbours.
///
/// A tile may have more rows than were put in; those are zero.
#[derive(Clone, Debug)]
pub(crate) enum Tile {
    /// One row.
    One(Vec<[f32; 1]>),
    /// Two rows.
    Two(Vec<[f32; 2]>),
    /// Three rows.
    Three(Vec<[f32; 3]>),
    /// Four rows.
    Four(Vec<[f32; 4]>),
    /// Up to eight rows.
    Eight(Vec<[f32; 8]>),
}

impl Tile {
    /// Regroups up to [`TILE_ROWS`] rows: `row(r)` is row `r`, all equally long.
    #[inline(always)]
    pub(crate) fn new<'a>(rows: usize, row: impl Fn(usize) -> &'a [f32]) -> Self {
        assert!((1..=TILE_ROWS).contains(&rows), "{rows} rows in a tile");
        match rows {
            1 => Self::One(regroup(rows, row)),
            2 => Self::Two(regroup(rows, row)),
            3 => Self::Three(regroup(rows, row)),
            4 => Self::Four(regroup(rows, row)),
            _ => Self::Eight(regroup(rows, row)),
        }
    }

    /// Adds the product of the tile with `panel` to the rows of `out`.
    ///
    /// The panel ends the sum if it is shorter than the tile, and the tile if it is shorter.
    #[inline(always)]
    pub(crate) fn multiply<'a, const PANEL: usize, const FMA: bool, const WIDE: bool>(
        &self,
        panel: impl Iterator<Item = &'a [f32; PANEL]> + Clone,
        out: &mut [[f32; PANEL]],
    ) {
        // Sums of all rows and lanes must fit the registers: 16 of 8 lanes, or 32 of 16.
        match self {
            Self::One(tile) => multiply_1::<PANEL, PANEL, FMA>(panel, tile, out),
            Self::Two(tile) => multiply_2::<PANEL, PANEL, FMA>(panel, tile, out),
            Self::Three(tile) if WIDE => multiply_3::<PANEL, PANEL, FMA>(panel, tile, out),
            Self::Three(tile) => multiply_3::<PANEL, 16, FMA>(panel, tile, out),
            Self::Four(tile) if WIDE => multiply_4::<PANEL, PANEL, FMA>(panel, tile, out),
            Self::Four(tile) => multiply_4::<PANEL, 16, FMA>(panel, tile, out),
            Self::Eight(tile) if WIDE => multiply_8::<PANEL, PANEL, FMA>(panel, tile, out),
            Self::Eight(tile) => multiply_8::<PANEL, 8, FMA>(panel, tile, out),
        }
    }
}

#[inline(always)]
fn regroup<'a, const ROWS: usize>(
    rows: usize,
    row: impl Fn(usize) -> &'a [f32],
) -> Vec<[f32; ROWS]> {
    let mut values = vec![[0.0; ROWS]; row(0).len()];
    for index in 0..rows {
        for (values, &value) in values.iter_mut().zip(row(index)) {
            values[index] = value;
        }
    }
    values
}

/// Defines the product of a panel with a tile of a fixed number of rows, `LANES` outputs at a time.
///
/// A macro, because the sums must be variables of their own that start from a constant: as an array
/// indexed in a loop, or started from `out`, they live in memory, and the product is 25 times slower.
macro_rules! define_multiply {
    ($name:ident, $rows:literal: $($sum:ident $row:literal),*) => {
        #[inline(always)]
        fn $name<'a, const PANEL: usize, const LANES: usize, const FMA: bool>(
            panel: impl Iterator<Item = &'a [f32; PANEL]> + Clone,
            tile: &[[f32; $rows]],
            out: &mut [[f32; PANEL]],
        ) {
            for part in 0..PANEL / LANES {
                $(let mut $sum = [0.0; LANES];)*
                for (weights, x) in panel.clone().zip(tile) {
                    let weights = &weights.as_chunks::<LANES>().0[part];
                    $(add_product::<LANES, FMA>(&mut $sum, x[$row], weights);)*
                }
                for (out, sums) in out.iter_mut().zip([$($sum),*]) {
                    let out = &mut out.as_chunks_mut::<LANES>().0[part];
                    out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
                }
            }
        }
    };
}

define_multiply!(multiply_1, 1: a 0);
define_multiply!(multiply_2, 2: a 0, b 1);
define_multiply!(multiply_3, 3: a 0, b 1, c 2);
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
    use crate::simd::{Kernel, dispatch};

    struct Product<'a>(&'a Tile, &'a [[f32; 16]], &'a mut [[f32; 16]]);

    impl Kernel for Product<'_> {
        type Output = ();

        #[inline(always)]
        fn run<const FMA: bool, const WIDE: bool>(self) {
            self.0.multiply::<16, FMA, WIDE>(self.1.iter(), self.2);
        }
    }

    #[test]
    fn vector_loops_agree_with_portable_ones_and_with_the_definition() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut values = |count| (0..count).map(|_| random.f32() - 0.5).collect::<Vec<_>>();
        let panel: Vec<[f32; 16]> = values(50 * 16).as_chunks().0.to_vec();
        for rows in 1..=TILE_ROWS {
            let x = values(rows * 50);
            let tile = Tile::new(rows, |row| &x[row * 50..][..50]);
            let (mut wide, mut narrow) = (vec![[1.0; 16]; rows], vec![[1.0; 16]; rows]);
            dispatch(Product(&tile, &panel, &mut wide));
            Product(&tile, &panel, &mut narrow).run::<false, false>();
            for (row, (wide, narrow)) in wide.iter().zip(&narrow).enumerate() {
                for lane in 0..16 {
                    let product = |i: usize| f64::from(x[row * 50 + i]) * f64::from(panel[i][lane]);
                    let expected = 1.0 + (0..50).map(product).sum::<f64>();
                    assert!((f64::from(wide[lane]) - expected).abs() < 1e-5);
                    assert!((f64::from(narrow[lane]) - expected).abs() < 1e-5);
                }
            }
        }
    }
}
