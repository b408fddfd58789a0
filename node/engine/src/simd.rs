//! Runs a kernel with the widest vector instructions the machine has.
//!
//! Kernels are plain safe loops that the compiler vectorises; this module only compiles them once
//! per instruction set and picks one at run time. All sets with fused multiply-add give the same
//! bits, because a kernel fixes the order of its sums and lanes never share one.

use half::{bf16, f16};

/// Loops to run with one of several instruction sets.
pub(crate) trait Kernel {
    /// What the loops produce.
    type Output;

    /// Runs the loops. Must be `#[inline(always)]`, as must be all it calls, or the loops are
    /// compiled for the oldest processor instead.
    ///
    /// `FMA`: there is a fused multiply-add and, on x86-64, F16C; only [`dispatch`] says so. `WIDE`: there
    /// are 32 registers of 16 lanes.
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

/// A type in which values are kept that are computed with as `f32`.
pub(crate) trait Float: Copy + Default + Send + Sync {
    /// The values of a line. `FMA` as in [`Kernel::run`].
    fn widen<const LANES: usize, const FMA: bool>(line: &[Self; LANES]) -> [f32; LANES];
}

impl Float for f32 {
    #[inline(always)]
    fn widen<const LANES: usize, const FMA: bool>(line: &[Self; LANES]) -> [f32; LANES] {
        *line
    }
}

impl Float for bf16 {
    #[inline(always)]
    fn widen<const LANES: usize, const FMA: bool>(line: &[Self; LANES]) -> [f32; LANES] {
        // Not by `map`, which is compiled for the oldest processor.
        let mut wide = [0.0; LANES];
        for (wide, it) in wide.iter_mut().zip(line) {
            *wide = f32::from_bits(u32::from(it.to_bits()) << 16);
        }
        wide
    }
}

impl Float for f16 {
    #[inline(always)]
    fn widen<const LANES: usize, const FMA: bool>(line: &[Self; LANES]) -> [f32; LANES] {
        let mut wide = [0.0; LANES];
        #[cfg(target_arch = "x86_64")]
        if FMA && LANES.is_multiple_of(8) {
            use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};
            for (wide, line) in wide.as_chunks_mut::<8>().0.iter_mut().zip(line.as_chunks::<8>().0)
            {
                // JUSTIFICATION: eight at once; one by one, products with halves take ten times as long.
                // SAFETY: eight halves are read and eight floats written, at any alignment; kernels run
                // with `FMA` only where F16C is detected.
                #[expect(unsafe_code)]
                unsafe {
                    let halves = _mm_loadu_si128(line.as_ptr().cast());
                    _mm256_storeu_ps(wide.as_mut_ptr(), _mm256_cvtph_ps(halves));
                }
            }
            return wide;
        }
        for (wide, it) in wide.iter_mut().zip(line) {
            *wide = it.to_f32();
        }
        wide
    }
}

/// Brings values into the caches, without waiting for them.
#[inline(always)]
pub(crate) fn fetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let mut at = 0;
        while at < size_of_val(values) {
            // JUSTIFICATION: with four rows and more, half of a product's time is waiting for memory without
            // it.
            // SAFETY: the instruction is in every x86-64, reads nothing and never faults.
            #[expect(unsafe_code)]
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().cast::<i8>().wrapping_add(at));
            }
            at += 64;
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
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
        let fma = is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        if fma && is_x86_feature_detected!("avx2") {
            // SAFETY: every feature `with_avx2` enables is detected.
            #[expect(unsafe_code)]
            return unsafe { with_avx2(kernel) };
        }
        kernel.run::<false, false>()
    }
    #[cfg(not(target_arch = "x86_64"))]
    kernel.run::<{ cfg!(target_arch = "aarch64") }, false>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma,f16c")]
fn with_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true, true>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn with_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true, false>()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Widen<'a, T>(&'a [[T; 16]]);

    impl<T: Float> Kernel for Widen<'_, T> {
        type Output = Vec<f32>;

        #[inline(always)]
        fn run<const FMA: bool, const WIDE: bool>(self) -> Vec<f32> {
            self.0.iter().flat_map(|line| T::widen::<16, FMA>(line)).collect()
        }
    }

    fn all_are_widened<T: Float>(of: impl Fn(u16) -> T, exact: impl Fn(T) -> f32) {
        let lines = |line: u16| std::array::from_fn(|lane| of(line * 16 + lane as u16));
        let lines: Vec<[T; 16]> = (0..1 << 12).map(lines).collect();
        let (fast, portable) = (dispatch(Widen(&lines)), Widen(&lines).run::<false, false>());
        for ((it, fast), portable) in lines.as_flattened().iter().zip(fast).zip(portable) {
            let expected = exact(*it);
            for found in [fast, portable] {
                let bits = found.to_bits() == expected.to_bits();
                assert!(bits || found.is_nan() && expected.is_nan(), "{found} for {expected}");
            }
        }
    }

    #[test]
    fn all_halves_are_widened_bit_for_bit() {
        all_are_widened(f16::from_bits, f16::to_f32);
        all_are_widened(bf16::from_bits, bf16::to_f32);
    }
}
