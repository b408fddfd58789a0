//! The gated units of feed-forward blocks: `activation(gate) * up`, value by value.

use crate::exp::exp;
use crate::simd::{Kernel, dispatch};
use crate::workers::Workers;

/// Values that are computed at once, at most.
const LANES: usize = 16;
/// sqrt(2 / pi), from the tanh approximation of GELU (Hendrycks and Gimpel, 2016).
pub(crate) const SQRT_2_OVER_PI: f32 = 0.797_884_6;
/// Weight of the cubic term in the same approximation.
pub(crate) const CUBIC: f32 = 0.044_715;

/// The activation of a gate.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Activation {
    /// `x / (1 + e^-x)`, in Llama.
    Silu,
    /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`, in Gemma.
    Gelu,
}

/// The activation of a value takes as long as so many multiply-adds of a product.
const GATE_WORK: usize = 32;

/// Turns `gate` into `activation(gate) * up`.
pub(crate) fn gated(activation: Activation, gate: &mut [f32], up: &[f32], workers: &Workers) {
    assert_eq!(gate.len(), up.len(), "one gate per value");
    workers.split(gate, LANES, up.len() * GATE_WORK, |first, gate| {
        dispatch(Gate { activation, gate, up: &up[first * LANES..] });
    });
}

struct Gate<'a> {
    activation: Activation,
    gate: &'a mut [f32],
    up: &'a [f32],
}

impl Kernel for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool, const WIDE: bool>(self) {
        let pairs = self.gate.iter_mut().zip(self.up);
        match self.activation {
            Activation::Silu => pairs.for_each(|(x, up)| *x = *x * logistic::<FMA>(*x) * up),
            // (1 + tanh(y)) / 2 is the logistic function of 2 y.
            Activation::Gelu => pairs.for_each(|(x, up)| {
                let y = SQRT_2_OVER_PI * (*x + CUBIC * *x * *x * *x);
                *x = *x * logistic::<FMA>(2.0 * y) * up;
            }),
        }
    }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
fn logistic<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gated(activation: Activation, mut gate: Vec<f32>, up: &[f32]) -> Vec<f32> {
        let workers = Workers::new(2).expect("threads start");
        super::gated(activation, &mut gate, up, &workers);
        gate
    }

    #[track_caller]
    fn check(activation: Activation, defined: fn(f64) -> f64) {
        let gate: Vec<f32> = (-20_000..20_000).map(|it| it as f32 * 0.001).collect();
        let up = vec![3.0; gate.len()];
        let found = gated(activation, gate.clone(), &up);
        for (x, found) in gate.iter().zip(found) {
            let expected = 3.0 * defined(f64::from(*x));
            let error = (f64::from(found) - expected).abs() / (1.0 + expected.abs());
            assert!(error < 1e-6, "{activation:?} of {x} is {found}, expected {expected}");
        }
    }

    #[test]
    fn activations_match_their_definitions() {
        check(Activation::Silu, |x| x / (1.0 + (-x).exp()));
        check(Activation::Gelu, |x| {
            let y = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + y.tanh())
        });
    }

    #[test]
    fn what_is_no_number_stays_no_number() {
        assert!(gated(Activation::Silu, vec![f32::NAN], &[1.0])[0].is_nan());
    }
}
