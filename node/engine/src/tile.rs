//! Products of a panel of weights with a few rows of values, the one inner loop of the engine.
//!
//! ```text
//! out[row, lane] += sum over i, in order, of tile[i, row] * panel[i, lane]
//! ```
//!
//! Weights of linear layers, keys of a block and values of a block are all panels. Every sum is one
//! chain of multiply-adds, from what `out` holds, in the order of `i`: its bits do not depend on the other
//! rows, on the size of the tile, on the width of the registers or on how a panel is cut.

use crate::simd::{Float, multiply_add};

/// Rows of the largest tile: its sums of 16 outputs take 12 of the 16 registers of 8 lanes, enough of
/// them to start two multiply-adds in every cycle while others of them are still under way.
pub(crate) const TILE_ROWS: usize = 6;

/// Up to six rows of values, regrouped so that the values for one input are neighbours.
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
    /// Five rows.
    Five(Vec<[f32; 5]>),
    /// Six rows.
    Six(Vec<[f32; 6]>),
}

impl Tile {
    /// Regroups up to [`TILE_ROWS`] rows: `row(r)` is row `r`, all equally long.
    #[inline(always)]
    pub(crate) fn new<'a>(rows: usize, row: impl Fn(usize) -> &'a [f32]) -> Self {
        match rows {
            1 => Self::One(regroup(row)),
            2 => Self::Two(regroup(row)),
            3 => Self::Three(regroup(row)),
            4 => Self::Four(regroup(row)),
            5 => Self::Five(regroup(row)),
            6 => Self::Six(regroup(row)),
            _ => unreachable!("{rows} rows in a tile"),
        }
    }

    /// Number of its rows.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Two(_) => 2,
            Self::Three(_) => 3,
            Self::Four(_) => 4,
            Self::Five(_) => 5,
            Self::Six(_) => 6,
        }
    }

    /// Adds the product of the tile, from input `first` on, with `panel` to the rows of `out`.
    ///
    /// The panel ends the sum if it is shorter than the tile, and the tile if it is shorter.
    ///
    /// # Panics
    ///
    /// If `out` has fewer rows than the tile.
    #[inline(always)]
    pub(crate) fn multiply<
        'a,
        T: Float + 'a,
        const PANEL: usize,
        const FMA: bool,
        const WIDE: bool,
    >(
        &self,
        first: usize,
        panel: impl Iterator<Item = &'a [T; PANEL]> + Clone,
        out: &mut [[f32; PANEL]],
    ) {
        match self {
            Self::One(tile) => multiply::<T, 1, PANEL, FMA, WIDE>(&tile[first..], panel, out),
            Self::Two(tile) => multiply::<T, 2, PANEL, FMA, WIDE>(&tile[first..], panel, out),
            Self::Three(tile) => multiply::<T, 3, PANEL, FMA, WIDE>(&tile[first..], panel, out),
            Self::Four(tile) => multiply::<T, 4, PANEL, FMA, WIDE>(&tile[first..], panel, out),
            Self::Five(tile) => multiply::<T, 5, PANEL, FMA, WIDE>(&tile[first..], panel, out),
            Self::Six(tile) => multiply::<T, 6, PANEL, FMA, WIDE>(&tile[first..], panel, out),
        }
    }
}

#[inline(always)]
fn regroup<'a, const ROWS: usize>(row: impl Fn(usize) -> &'a [f32]) -> Vec<[f32; ROWS]> {
    let mut values = vec![[0.0; ROWS]; row(0).len()];
    for index in 0..ROWS {
        for (values, &value) in values.iter_mut().zip(row(index)) {
            values[index] = value;
        }
    }
    values
}

/// The product, of as many outputs at a time as there are registers for: 16 of 8 lanes, or 32 of 16 hold the
/// sums of all rows.
#[inline(always)]
fn multiply<
    'a,
    T: Float + 'a,
    const ROWS: usize,
    const PANEL: usize,
    const FMA: bool,
    const WIDE: bool,
>(
    tile: &[[f32; ROWS]],
    panel: impl Iterator<Item = &'a [T; PANEL]> + Clone,
    out: &mut [[f32; PANEL]],
) {
    if WIDE || ROWS <= 2 {
        multiply_lanes::<T, ROWS, PANEL, PANEL, FMA>(tile, panel, out);
    } else {
        multiply_lanes::<T, ROWS, PANEL, 16, FMA>(tile, panel, out);
    }
}

/// The product, `LANES` outputs at a time.
#[inline(always)]
fn multiply_lanes<
    'a,
    T: Float + 'a,
    const ROWS: usize,
    const PANEL: usize,
    const LANES: usize,
    const FMA: bool,
>(
    tile: &[[f32; ROWS]],
    panel: impl Iterator<Item = &'a [T; PANEL]> + Clone,
    out: &mut [[f32; PANEL]],
) {
    let out: &mut [_; ROWS] = out.first_chunk_mut().expect("a row of sums per row of the tile");
    for part in 0..PANEL / LANES {
        // Of their own, or they live in memory.
        let mut sums = [[0.0; LANES]; ROWS];
        for (sums, out) in sums.iter_mut().zip(&*out) {
            *sums = out.as_chunks().0[part];
        }
        for (weights, x) in panel.clone().zip(tile) {
            let weights = T::widen::<LANES, FMA>(&weights.as_chunks().0[part]);
            for (sums, &x) in sums.iter_mut().zip(x) {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum = multiply_add::<FMA>(x, weight, *sum);
                }
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            out.as_chunks_mut().0[part] = sums;
        }
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
            let (first, last) = self.1.split_at(17);
            self.0.multiply::<f32, 16, FMA, WIDE>(0, first.iter(), self.2);
            self.0.multiply::<f32, 16, FMA, WIDE>(17, last.iter(), self.2);
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
