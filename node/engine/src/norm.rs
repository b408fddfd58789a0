//! Root mean square norms (Zhang and Sennrich, 2019): `x / sqrt(mean(x^2) + eps) * weight`.

use crate::simd::{Kernel, dispatch, multiply_add, tree_sum};
use crate::workers::Workers;

/// Sums that run side by side through the squares of a run.
const LANES: usize = 16;
/// A value of a norm takes as long as so many multiply-adds of a product.
const NORM_WORK: usize = 8;

/// The weights of a norm.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    weights: Vec<f32>,
    eps: f32,
}

impl RmsNorm {
    /// Creates the norm of runs as long as `weights`.
    pub(crate) fn new(weights: Vec<f32>, eps: f32) -> Self {
        Self { weights, eps }
    }

    /// Normalises each run of values.
    pub(crate) fn apply(&self, x: &mut [f32], workers: &Workers) {
        let work = x.len() * NORM_WORK;
        workers.split(x, self.weights.len(), work, |_, x| dispatch(Norm { norm: self, x }));
    }
}

struct Norm<'a> {
    norm: &'a RmsNorm,
    x: &'a mut [f32],
}

impl Kernel for Norm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool, const WIDE: bool>(self) {
        let RmsNorm { weights, eps } = self.norm;
        for x in self.x.chunks_exact_mut(weights.len()) {
            let mut sums = [0.0; LANES];
            let (lines, rest) = x.as_chunks::<LANES>();
            for line in lines {
                for (sum, &x) in sums.iter_mut().zip(line) {
                    *sum = multiply_add::<FMA>(x, x, *sum);
                }
            }
            for (sum, &x) in sums.iter_mut().zip(rest) {
                *sum = multiply_add::<FMA>(x, x, *sum);
            }
            let factor = 1.0 / (tree_sum(sums) / weights.len() as f32 + eps).sqrt();
            x.iter_mut().zip(weights).for_each(|(x, weight)| *x = *x * factor * weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norm_divides_each_run_by_its_root_mean_square() {
        let workers = Workers::new(1).expect("no thread");
        let norm = RmsNorm::new(vec![1.0, 2.0], 0.0);
        let mut x = [3.0, 4.0, 1.0, 1.0];
        norm.apply(&mut x, &workers);
        let expected = [0.848_528, 2.262_742, 1.0, 2.0];
        assert!(x.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{x:?}");
    }

    #[test]
    fn threads_and_neighbours_change_no_bit() {
        let mut random = fastrand::Rng::with_seed(1);
        let x: Vec<f32> = (0..100 * 700).map(|_| random.f32() * 2.0 - 1.0).collect();
        let norm = RmsNorm::new(vec![0.5; 100], 1e-5);
        let (one, three) = (Workers::new(1), Workers::new(3));
        let (one, three) = (one.expect("no thread"), three.expect("threads start"));
        let (mut together, mut alone) = (x.clone(), x);
        norm.apply(&mut together, &three);
        alone.chunks_mut(100).for_each(|it| norm.apply(it, &one));
        assert_eq!(together, alone);
    }
}
