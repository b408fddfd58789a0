//! The exponential function, in a form that compiles to vector instructions.

use crate::simd::multiply_add;

/// Below this the result would be subnormal; it is clamped, an error of less than 2e-38.
pub(crate) const LOWEST: f32 = -87.0;
/// Above this the result would be infinite; it is clamped.
pub(crate) const HIGHEST: f32 = 88.0;
/// 1.5 * 2^23: adding and subtracting it rounds to an integer, without an instruction for it.
pub(crate) const ROUNDER: f32 = 12_582_912.0;
/// ln 2 in two parts; products of the first with small integers are exact.
pub(crate) const LN_2_HIGH: f32 = 0.693_359_4;
pub(crate) const LN_2_LOW: f32 = -2.121_944_4e-4;
/// Coefficients of `(e^r - 1 - r) / r^2`, the highest power first.
pub(crate) const POLYNOMIAL: [f32; 6] =
    [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5];

/// `e^x` within two units in the last place, the same on every processor with fused multiply-add.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; `e^r` by a polynomial, `2^n` by building a float.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    let x = x.clamp(LOWEST, HIGHEST);
    let shifted = multiply_add::<FMA>(x, std::f32::consts::LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    let r = multiply_add::<FMA>(-LN_2_HIGH, n, x);
    let r = multiply_add::<FMA>(-LN_2_LOW, n, r);
    let mut power = POLYNOMIAL[0];
    for coefficient in POLYNOMIAL.into_iter().skip(1) {
        power = multiply_add::<FMA>(power, r, coefficient);
    }
    let power = multiply_add::<FMA>(power, r * r, r) + 1.0;
    // The integer sits in the low bits of `shifted`; n is in -126..=127, so the sum is in range.
    let exponent = shifted.to_bits().wrapping_sub(ROUNDER.to_bits()).wrapping_add(127);
    power * f32::from_bits(exponent << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_is_right_over_its_range() {
        for step in -8700..8800 {
            let x = step as f32 * 0.01;
            let expected = f64::from(x).exp();
            for found in [exp::<true>(x), exp::<false>(x)] {
                let error = (f64::from(found) - expected).abs() / expected;
                assert!(error < 3e-7, "exp({x}) is {found}, expected {expected}");
            }
        }
        assert!(exp::<true>(-1000.0) < 2e-38);
        assert!(exp::<true>(f32::NEG_INFINITY) < 2e-38);
    }
}
