//! Rotary position embedding, in the "rotate half" layout: value `i` of a head turns with value
//! `i + size / 2`, by the angle `position * frequency(i)`.

use crate::config::ModelConfig;
use crate::simd::{Kernel, dispatch};
use crate::workers::Workers;

/// Turning a value takes as long as so many multiply-adds of a product.
const TURN_WORK: usize = 8;

/// The frequencies of one kind of layer, in radians per position.
#[derive(Clone, Debug)]
pub(crate) struct Frequencies(Vec<f32>);

impl Frequencies {
    /// Frequencies of layers that see everything: scaled, if the model extends its context so.
    pub(crate) fn global(config: &ModelConfig) -> Self {
        let mut all = Self::unscaled(config.rope.theta, config.head_dim);
        for (index, frequency) in all.0.iter_mut().enumerate() {
            let factor = config.rope.freq_factors.as_ref().map_or(1.0, |it| it[index]);
            *frequency /= factor * config.rope.linear_factor;
        }
        all
    }

    /// Frequencies of layers that look back through a window.
    pub(crate) fn local(config: &ModelConfig) -> Self {
        Self::unscaled(config.rope.local_theta, config.head_dim)
    }

    /// `theta^(-2 i / size)` for each `i < size / 2`.
    fn unscaled(theta: f32, size: usize) -> Self {
        let exponent = |index: usize| -2.0 * index as f64 / size as f64;
        let frequency = |index| f64::from(theta).powf(exponent(index)) as f32;
        Self((0..size / 2).map(frequency).collect())
    }

    /// Computes the turns of rows at `positions`, once for all layers of a kind.
    pub(crate) fn turns(&self, positions: impl Iterator<Item = usize>) -> Turns {
        let angles = positions.flat_map(|it| self.0.iter().map(move |f| it as f32 * f));
        Turns { pairs: self.0.len(), turns: angles.map(f32::sin_cos).collect() }
    }
}

/// Sine and cosine per row and pair of values.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    pairs: usize,
    turns: Vec<(f32, f32)>,
}

impl Turns {
    /// Pairs of values of a head.
    pub(crate) fn pairs(&self) -> usize {
        self.pairs
    }

    /// Sine and cosine of each pair, row after row.
    pub(crate) fn sines_and_cosines(&self) -> &[(f32, f32)] {
        &self.turns
    }

    /// Turns every head of every row.
    pub(crate) fn apply(&self, rows: &mut [f32], workers: &Workers) {
        let count = self.turns.len() / self.pairs;
        if count == 0 {
            return;
        }
        let (width, work) = (rows.len() / count, rows.len() * TURN_WORK);
        workers.split(rows, width, work, |first, rows| {
            dispatch(Turning {
                turns: &self.turns[first * self.pairs..],
                pairs: self.pairs,
                rows,
                width,
            });
        });
    }
}

struct Turning<'a> {
    turns: &'a [(f32, f32)],
    pairs: usize,
    rows: &'a mut [f32],
    width: usize,
}

impl Kernel for Turning<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool, const WIDE: bool>(self) {
        let turns = self.turns.chunks_exact(self.pairs);
        for (row, turns) in self.rows.chunks_exact_mut(self.width).zip(turns) {
            for head in row.chunks_exact_mut(2 * self.pairs) {
                let (left, right) = head.split_at_mut(self.pairs);
                for ((left, right), &(sin, cos)) in left.iter_mut().zip(right).zip(turns) {
                    (*left, *right) = (*left * cos - *right * sin, *right * cos + *left * sin);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_turn_swaps_the_halves() {
        let quarter = Frequencies(vec![std::f32::consts::FRAC_PI_2, 0.0]);
        let mut row = vec![1.0, 2.0, 3.0, 4.0];
        quarter.turns([1].into_iter()).apply(&mut row, &Workers::new(1).expect("no thread"));
        let expected = [-3.0, 2.0, 1.0, 4.0];
        assert!(row.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{row:?}");
    }

    #[test]
    fn products_depend_on_the_distance_only() {
        let frequencies = Frequencies::unscaled(10_000.0, 8);
        let query = [0.3, -0.1, 0.7, 0.2, 0.9, -0.4, 0.5, 0.6];
        let product = |at: usize, to: usize| -> f32 {
            let turned = |position| {
                let mut row = query.to_vec();
                frequencies
                    .turns([position].into_iter())
                    .apply(&mut row, &Workers::new(1).expect("no thread"));
                row
            };
            turned(at).iter().zip(turned(to)).map(|(a, b)| a * b).sum()
        };
        assert!((product(3, 10) - product(43, 50)).abs() < 1e-4);
        assert!((product(3, 10) - product(3, 11)).abs() > 1e-3);
    }
}
