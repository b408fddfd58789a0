//! Products of packed panels with AVX2, and with the 8-bit dot products of newer processors.

use std::arch::x86_64::*;

use super::activations::{Block, TILE_ROWS};
use super::layout::{Format, GROUPS, PANEL};
use super::product::{Ahead, Product};

/// A function that runs a product.
pub(super) type Run = fn(Product<'_>);

/// The fastest product that this machine can run.
pub(super) fn fastest<F: Format>() -> Option<Run> {
    all::<F>().into_iter().find_map(|(_, run)| run)
}

/// All products, fastest first, with their names; `None` where the machine lacks instructions.
pub(crate) fn all<F: Format>() -> [(&'static str, Option<Run>); 3] {
    // JUSTIFICATION: only these instructions multiply 32 pairs of 8-bit numbers at once; compiled for
    // every x86-64, the loops reach a tenth of their speed, and compiled for one processor, no other.
    let base = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    let avx512 = base
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni");
    let avx_vnni = base && is_x86_feature_detected!("avxvnni");
    // SAFETY: each function is only handed out where every feature it enables is detected.
    #[expect(unsafe_code)]
    let runs: [Run; 3] = [
        |it| unsafe { avx512_vnni::run::<F>(it) },
        |it| unsafe { avx_vnni::run::<F>(it) },
        |it| unsafe { avx2::run::<F>(it) },
    ];
    let names = ["avx512vnni", "avxvnni", "avx2"];
    let there = [avx512, avx_vnni, base];
    std::array::from_fn(|at| (names[at], there[at].then_some(runs[at])))
}

/// The integer sums of a block of four-bit codes for each row of a tile, with AVX2. Each register of codes
/// meets all rows as soon as it is loaded: the sums of all rows in 16 bits fit the registers, all codes of
/// a block beside them would not.
///
/// A macro, because the compiler leaves a function of this size out of the loops: a fifth slower.
macro_rules! sums_of_nibbles {
    ($packed:expr, $rows:expr, $small:expr) => {{
        let nibble = _mm256_set1_epi8(15);
        let mut pairs = [_mm256_setzero_si256(); ROWS];
        for pair in 0..GROUPS / 2 {
            let both = load($packed, pair * 32);
            let first = _mm256_and_si256(both, nibble);
            let second = _mm256_and_si256(_mm256_srli_epi16::<4>(both), nibble);
            for (pairs, x) in pairs.iter_mut().zip($rows) {
                let first = _mm256_maddubs_epi16(first, four(x, pair));
                let second = _mm256_maddubs_epi16(second, four(x, pair + GROUPS / 2));
                // The largest sum: 8 * 2 * 15 * 127, below 2^15.
                *pairs = _mm256_add_epi16(*pairs, _mm256_add_epi16(first, second));
            }
        }
        let small = in_both_halves($small[0]);
        for pairs in &mut pairs {
            *pairs = _mm256_madd_epi16(*pairs, small);
        }
        pairs
    }};
}

/// Defines the product for one set of instructions. `$dot(codes, tile row, multipliers)` returns the
/// integer sums of a block; it is compiled into the loops.
macro_rules! define_product {
    ($name:ident, $features:literal, $dot:path, nibbles $nibbles:literal) => {
        mod $name {
            use super::*;

            #[target_feature(enable = $features)]
            pub(crate) fn run<F: Format>(product: Product<'_>) {
                product.each_tile::<F>(|panel, tile, rows, ahead| match rows {
                    1 => multiply::<F, 1>(panel, tile, ahead),
                    2 => multiply::<F, 2>(panel, tile, ahead),
                    3 => multiply::<F, 3>(panel, tile, ahead),
                    _ => multiply::<F, 4>(panel, tile, ahead),
                });
            }

            /// Multiplies a panel with a tile of `ROWS` rows.
            #[target_feature(enable = $features)]
            fn multiply<F: Format, const ROWS: usize>(
                panel: &[u8],
                tile: &[Block],
                mut ahead: Ahead<'_>,
            ) -> [[f32; PANEL]; TILE_ROWS] {
                let layout = F::LAYOUT;
                let mut sums = [_mm256_setzero_ps(); ROWS];
                let units = panel.chunks_exact(layout.unit_bytes());
                let tiles = tile.as_chunks::<ROWS>().0.chunks_exact(layout.blocks);
                for (unit, tile) in units.zip(tiles) {
                    let (head, blocks) = unit.split_at(layout.head_bytes());
                    let scale = halves(head, 0);
                    for (block, rows) in blocks.chunks_exact(layout.block_bytes()).zip(tile) {
                        ahead.step();
                        let (small, codes) = block.split_at(layout.small_bytes());
                        let minimum = minimum::<F>(head, small);
                        let small = multipliers::<F>(small);
                        let found: [__m256i; ROWS] = if $nibbles && layout.bits == 4 {
                            sums_of_nibbles!(codes, rows, small)
                        } else {
                            let codes = unpack::<F>(codes);
                            let mut found = [_mm256_setzero_si256(); ROWS];
                            for (found, x) in found.iter_mut().zip(rows) {
                                *found = $dot(&codes, x, small);
                            }
                            found
                        };
                        for ((sums, x), found) in sums.iter_mut().zip(rows).zip(found) {
                            let sum = _mm256_cvtepi32_ps(found);
                            let scale = _mm256_mul_ps(scale, _mm256_set1_ps(x.scale));
                            *sums = _mm256_fmadd_ps(sum, scale, *sums);
                            if layout.adds_minimum() {
                                let x = _mm256_set1_ps(x.scaled_sum);
                                *sums = _mm256_fmadd_ps(minimum, x, *sums);
                            }
                        }
                    }
                }
                let mut out = [[0.0; PANEL]; TILE_ROWS];
                for (out, sums) in out.iter_mut().zip(sums) {
                    store(out, sums);
                }
                out
            }
        }
    };
}

define_product!(avx2, "avx2,fma,f16c", dot_avx2::<F>, nibbles true);
define_product!(avx_vnni, "avx2,fma,f16c,avxvnni", dot_avx_vnni::<F>, nibbles false);
define_product!(
    avx512_vnni,
    "avx2,fma,f16c,avx512f,avx512vl,avx512vnni",
    dot_avx512_vnni::<F>,
    nibbles false
);

/// The codes of a packed block, one group to a register.
#[inline]
#[target_feature(enable = "avx2")]
fn unpack<F: Format>(packed: &[u8]) -> [__m256i; GROUPS] {
    let bits = F::LAYOUT.bits;
    let mut codes = [_mm256_setzero_si256(); GROUPS];
    if bits == 8 {
        for (group, codes) in codes.iter_mut().enumerate() {
            *codes = load(packed, group * 32);
        }
        return codes;
    }
    let nibble = _mm256_set1_epi8(15);
    for pair in 0..GROUPS / 2 {
        let both = load(packed, pair * 32);
        codes[pair] = _mm256_and_si256(both, nibble);
        codes[pair + GROUPS / 2] = _mm256_and_si256(_mm256_srli_epi16::<4>(both), nibble);
    }
    let high = match bits {
        5 => high_bits(load(packed, 128)),
        6 => high_pairs(load(packed, 128), load(packed, 160)),
        _ => return codes,
    };
    for (codes, high) in codes.iter_mut().zip(high) {
        *codes = _mm256_or_si256(*codes, high);
    }
    codes
}

/// Bit g of each byte, moved to bit 4, for each group g.
#[inline]
#[target_feature(enable = "avx2")]
fn high_bits(plane: __m256i) -> [__m256i; GROUPS] {
    let moved = [
        _mm256_slli_epi16::<4>(plane),
        _mm256_slli_epi16::<3>(plane),
        _mm256_slli_epi16::<2>(plane),
        _mm256_slli_epi16::<1>(plane),
        plane,
        _mm256_srli_epi16::<1>(plane),
        _mm256_srli_epi16::<2>(plane),
        _mm256_srli_epi16::<3>(plane),
    ];
    let bit = _mm256_set1_epi8(16);
    moved.map(|it| _mm256_and_si256(it, bit))
}

/// The pair of bits of each group, moved to bits 4 and 5.
#[inline]
#[target_feature(enable = "avx2")]
fn high_pairs(first: __m256i, second: __m256i) -> [__m256i; GROUPS] {
    let moved = [
        _mm256_slli_epi16::<4>(first),
        _mm256_slli_epi16::<2>(first),
        first,
        _mm256_srli_epi16::<2>(first),
        _mm256_slli_epi16::<4>(second),
        _mm256_slli_epi16::<2>(second),
        second,
        _mm256_srli_epi16::<2>(second),
    ];
    let bits = _mm256_set1_epi8(0x30);
    moved.map(|it| _mm256_and_si256(it, bits))
}

/// The minimums of a block, one per output.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn minimum<F: Format>(head: &[u8], small: &[u8]) -> __m256 {
    let layout = F::LAYOUT;
    if !layout.minimum {
        return _mm256_mul_ps(halves(head, 0), _mm256_set1_ps(-(layout.offset() as f32)));
    }
    let minimum = halves(head, 2 * PANEL);
    if !layout.has_small() {
        return minimum;
    }
    let small = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_small(small, PANEL)));
    let product = _mm256_mul_ps(minimum, small);
    _mm256_xor_ps(product, _mm256_set1_ps(-0.0))
}

/// Small scales of both halves of a block, one 32-bit number per output; ones for types without.
#[inline]
#[target_feature(enable = "avx2")]
fn multipliers<F: Format>(small: &[u8]) -> [__m256i; 2] {
    match (F::LAYOUT.has_small(), F::LAYOUT.minimum) {
        (false, _) => [_mm256_set1_epi32(1); 2],
        (true, true) => [_mm256_cvtepu8_epi32(load_small(small, 0)); 2],
        (true, false) => [0, PANEL].map(|at| _mm256_cvtepi8_epi32(load_small(small, at))),
    }
}

/// Four neighbouring activations, eight times.
#[inline]
#[target_feature(enable = "avx2")]
fn four(x: &Block, group: usize) -> __m256i {
    let [a, b, c, d] = x.codes.as_chunks::<4>().0[group].map(i8::cast_unsigned);
    _mm256_set1_epi32(i32::from_le_bytes([a, b, c, d]))
}

/// A small number of 32 bits, in both 16-bit halves of its lane.
#[inline]
#[target_feature(enable = "avx2")]
fn in_both_halves(small: __m256i) -> __m256i {
    let low = _mm256_and_si256(small, _mm256_set1_epi32(0xFFFF));
    _mm256_or_si256(_mm256_slli_epi32::<16>(small), low)
}

/// The integer sums of a block: pairs of products in 16 bits, as many as fit, then in 32.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_avx2<F: Format>(codes: &[__m256i; GROUPS], x: &Block, small: [__m256i; 2]) -> __m256i {
    let layout = F::LAYOUT;
    let mut sum = _mm256_setzero_si256();
    if layout.bits == 8 {
        let one = _mm256_set1_epi16(1);
        for (group, &codes) in codes.iter().enumerate() {
            let x = _mm256_sign_epi8(four(x, group), codes);
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(codes), x);
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, one));
        }
        return sum;
    }
    // The largest sums: 4 * 2 * 31 * 127, 2 * 2 * 63 * 127, all below 2^15.
    let groups = if layout.bits == 5 { GROUPS / 2 } else { GROUPS / 4 };
    for (first, codes) in (0..GROUPS).step_by(groups).zip(codes.chunks_exact(groups)) {
        let mut pairs = _mm256_setzero_si256();
        for (group, &codes) in (first..).zip(codes) {
            pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(codes, four(x, group)));
        }
        let small = in_both_halves(small[first * 2 / GROUPS]);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, small));
    }
    match layout.integer_offset() {
        0 => sum,
        offset => _mm256_sub_epi32(sum, offsets(offset, x, small)),
    }
}

/// What the offset of the codes adds to the sums of a block.
#[inline]
#[target_feature(enable = "avx2")]
fn offsets(offset: i32, x: &Block, small: [__m256i; 2]) -> __m256i {
    let [first, second] = x.half_sums.map(|it| _mm256_set1_epi32(offset * i32::from(it)));
    let first = _mm256_mullo_epi32(small[0], first);
    _mm256_add_epi32(first, _mm256_mullo_epi32(small[1], second))
}

/// Defines the integer sums of a block with an 8-bit dot product.
macro_rules! define_dot_vnni {
    ($name:ident, $features:literal, $dot:ident) => {
        #[inline]
        #[target_feature(enable = $features)]
        fn $name<F: Format>(codes: &[__m256i; GROUPS], x: &Block, small: [__m256i; 2]) -> __m256i {
            let layout = F::LAYOUT;
            // Signed codes become unsigned ones with an offset of 128.
            let (sign, offset) = match layout.bits {
                8 => (_mm256_set1_epi8(-128), 128),
                _ => (_mm256_setzero_si256(), layout.integer_offset()),
            };
            let half = |half: usize, start: i32| {
                let mut sum = _mm256_set1_epi32(start);
                for group in half * GROUPS / 2..(half + 1) * GROUPS / 2 {
                    sum = $dot(sum, _mm256_xor_si256(codes[group], sign), four(x, group));
                }
                sum
            };
            if layout.has_small() {
                let [first, second] = x.half_sums.map(|it| -offset * i32::from(it));
                let (first, second) = (half(0, first), half(1, second));
                let first = _mm256_mullo_epi32(first, small[0]);
                return _mm256_add_epi32(first, _mm256_mullo_epi32(second, small[1]));
            }
            _mm256_add_epi32(half(0, -offset * x.sum), half(1, 0))
        }
    };
}

define_dot_vnni!(dot_avx_vnni, "avx2,avxvnni", _mm256_dpbusd_avx_epi32);
define_dot_vnni!(dot_avx512_vnni, "avx2,avx512vl,avx512vnni", _mm256_dpbusd_epi32);

/// Eight f16 at `at`, as floats.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn halves(bytes: &[u8], at: usize) -> __m256 {
    let [first, second] = [at, at + 8].map(|at| long(bytes, at));
    _mm256_cvtph_ps(_mm_set_epi64x(second, first))
}

/// Eight bytes at `at`, in the low half of a register.
#[inline]
#[target_feature(enable = "avx2")]
fn load_small(bytes: &[u8], at: usize) -> __m128i {
    _mm_set_epi64x(0, long(bytes, at))
}

#[inline]
fn long(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(*bytes[at..].first_chunk().expect("a block is whole"))
}

/// 32 bytes at `at`.
#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8], at: usize) -> __m256i {
    let bytes: &[u8; 32] = bytes[at..].first_chunk().expect("a block is whole");
    // SAFETY: the pointer is to 32 readable bytes, and the instruction takes any alignment.
    #[expect(unsafe_code)]
    unsafe {
        _mm256_loadu_si256(bytes.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(out: &mut [f32; PANEL], sums: __m256) {
    // SAFETY: the pointer is to eight writable floats, and the instruction takes any alignment.
    #[expect(unsafe_code)]
    unsafe {
        _mm256_storeu_ps(out.as_mut_ptr(), sums);
    }
}
