//! Runs a kernel with the widest vector instructions the machine has.
//!
//! Kernels are plain safe loops that the compiler vectorises; this module only compiles them once
//! per instruction set and picks one at run time. All sets with fused multiply-add give the same
//! bits, because a kernel fixes the order of its sums and lanes never share one.

/// 2^112: what the exponents of f16 and f32 differ by.
const F16_TO_F32: f32 = f32::from_bits((127 + 112) << 23);

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

/// The value of a finite f16; what is infinite or no number comes out as 2^16 or more. Without branches,
/// so that it compiles to vector instructions.
#[inline(always)]
pub(crate) fn from_f16(bits: u16) -> f32 {
    let magnitude = f32::from_bits(u32::from(bits & 0x7FFF) << 13) * F16_TO_F32;
    f32::from_bits(magnitude.to_bits() | u32::from(bits & 0x8000) << 16)
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
    fn every_finite_half_has_its_value() {
        for bits in (0..=u16::MAX).filter(|it| it & 0x7C00 != 0x7C00) {
            assert_eq!(from_f16(bits).to_bits(), half::f16::from_bits(bits).to_f32().to_bits());
        }
    }
}
