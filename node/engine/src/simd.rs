//! Runs a kernel with the widest vector instructions the machine has.
//!
//! Kernels are plain safe loops that the compiler vectorises; this module only compiles them once
//! per instruction set and picks one at run time. All sets with fused multiply-add give the same
//! bits, because a kernel fixes the order of its sums and lanes never share one.

/// Loops to run with one of several instruction sets.
pub(crate) trait Kernel {
    /// What the loops produce.
    type Output;

    /// Runs the loops. Must be `#[inline(always)]`, as must be all it calls, or the loops are
    /// compiled for the oldest processor instead.
    ///
    /// `FMA`: there is a fused multiply-add. `WIDE`: there are 32 registers of 16 lanes.
    fn run<const FMA: bool, const WIDE: bool>(self) -> Self::Output;
}

/// `a * b + c`: rounded once where the processor has the instruction, twice where it has not.
#[inline(always)]
pub(crate) fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Adds lane `i` and lane `i + half` until one is left; lanes are a power of two.
#[inline(always)]
pub(crate) fn tree_sum<const LANES: usize>(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Widens as many halves as there are values. What is infinite or no number is neither finite after.
pub(crate) fn widen_halves(bits: &[u16], values: &mut [f32]) {
    assert_eq!(bits.len(), values.len(), "one value per half");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("f16c") {
        // SAFETY: every feature `widen_f16c` enables is detected (f16c implies avx).
        #[expect(unsafe_code)]
        return unsafe { widen_f16c(bits, values) };
    }
    for (value, &bits) in values.iter_mut().zip(bits) {
        *value = half::f16::from_bits(bits).to_f32();
    }
}

/// With the one instruction that widens eight at once: half of attention is spent here otherwise.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx,f16c")]
fn widen_f16c(bits: &[u16], values: &mut [f32]) {
    use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};
    let ((bits, last_bits), (values, last_values)) =
        (bits.as_chunks::<8>(), values.as_chunks_mut::<8>());
    for (bits, values) in bits.iter().zip(values) {
        // SAFETY: eight readable halves and eight writable floats; any alignment will do.
        #[expect(unsafe_code)]
        unsafe {
            let halves = _mm_loadu_si128(bits.as_ptr().cast());
            _mm256_storeu_ps(values.as_mut_ptr(), _mm256_cvtph_ps(halves));
        }
    }
    for (value, &bits) in last_values.iter_mut().zip(last_bits) {
        *value = half::f16::from_bits(bits).to_f32();
    }
}

/// Runs `kernel` with the widest instructions of this machine.
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        // JUSTIFICATION: a tile of eight rows reaches 248 GFLOP/s with AVX-512, 107 with AVX2 and 38
        // with the instructions every x86-64 has; compiling for one processor would lose the others.
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: every feature `with_avx512` enables is detected (avx512f implies the others).
            #[expect(unsafe_code)]
            return unsafe { with_avx512(kernel) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: both features `with_avx2` enables are detected.
            #[expect(unsafe_code)]
            return unsafe { with_avx2(kernel) };
        }
        kernel.run::<false, false>()
    }
    #[cfg(not(target_arch = "x86_64"))]
    kernel.run::<{ cfg!(target_arch = "aarch64") }, false>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
fn with_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true, true>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true, false>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_halves_are_widened_bit_for_bit() {
        let bits: Vec<u16> = (0..=u16::MAX).chain(0..5).collect();
        let mut values = vec![0.0; bits.len()];
        widen_halves(&bits, &mut values);
        for (bits, value) in bits.into_iter().zip(values) {
            let expected = half::f16::from_bits(bits).to_f32();
            assert!(value.to_bits() == expected.to_bits() || value.is_nan() && expected.is_nan());
        }
    }
}
