//! Activations as 8-bit codes, 32 to a scale, in the order in which products read them.

use super::layout::BLOCK;
use crate::simd::{Kernel, dispatch};
use crate::workers::Workers;

/// Rows of a tile: with eight registers of weights their sums fit the registers of AVX2.
pub(crate) const TILE_ROWS: usize = 4;
/// Rounding a value takes as long as so many multiply-adds of a product.
const ROUNDING_WORK: usize = 8;
/// The largest code: -128 is not used, so that every code can be negated.
const CODE_MAX: f32 = 127.0;
/// 1.5 * 2^23: adding and subtracting it rounds to an integer, without an instruction for it.
const ROUNDER: f32 = 12_582_912.0;
/// Bits of an infinite float; those of NaN are above.
const INFINITE: u32 = 0x7F80_0000;

/// 32 activations of one row: `value = scale * code`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Block {
    /// Codes in -127 ..= 127.
    pub(crate) codes: [i8; BLOCK],
    /// Value of a code of one. NaN if a value of the block was no finite number.
    pub(crate) scale: f32,
    /// Sum of all codes times the scale.
    pub(crate) scaled_sum: f32,
    /// Sum of all codes.
    pub(crate) sum: i32,
    /// Sums of the codes of each half.
    pub(crate) half_sums: [i16; 2],
}

/// Rows of activations, in tiles: up to [`TILE_ROWS`] rows, block by block.
#[derive(Debug)]
pub(crate) struct Activations {
    /// Blocks in a row.
    pub(crate) row_blocks: usize,
    blocks: Vec<Block>,
}

impl Activations {
    /// Rounds rows of `inputs` values, a whole number of blocks.
    pub(crate) fn new(x: &[f32], inputs: usize, workers: &Workers) -> Self {
        assert!(inputs > 0 && inputs.is_multiple_of(BLOCK), "a row is whole blocks");
        assert!(x.len().is_multiple_of(inputs), "activations are whole rows");
        let row_blocks = inputs / BLOCK;
        let mut blocks = vec![Block::default(); x.len() / BLOCK];
        let tile = TILE_ROWS * row_blocks;
        workers.split(&mut blocks, tile, x.len() * ROUNDING_WORK, |first, blocks| {
            dispatch(Rounding { x: &x[first * tile * BLOCK..], row_blocks, blocks });
        });
        Self { row_blocks, blocks }
    }

    /// The tiles that begin with row `first`, a whole number of tiles, with their numbers of rows.
    pub(crate) fn tiles(
        &self,
        first: usize,
        rows: usize,
    ) -> impl Iterator<Item = (&[Block], usize)> {
        let blocks = &self.blocks[first * self.row_blocks..][..rows * self.row_blocks];
        let tiles = blocks.chunks(TILE_ROWS * self.row_blocks);
        tiles.map(|it| (it, it.len() / self.row_blocks))
    }
}

struct Rounding<'a> {
    x: &'a [f32],
    row_blocks: usize,
    blocks: &'a mut [Block],
}

impl Kernel for Rounding<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool, const WIDE: bool>(self) {
        let tiles = self.blocks.chunks_mut(TILE_ROWS * self.row_blocks);
        let values = self.x.chunks(TILE_ROWS * self.row_blocks * BLOCK);
        for (tile, values) in tiles.zip(values) {
            let rows = tile.len() / self.row_blocks;
            for (at, values) in values.as_chunks::<BLOCK>().0.iter().enumerate() {
                let (row, block) = (at / self.row_blocks, at % self.row_blocks);
                tile[block * rows + row] = round(values);
            }
        }
    }
}

/// Rounds a block to the nearest codes, ties to even.
#[inline(always)]
fn round(values: &[f32; BLOCK]) -> Block {
    // Without their signs, floats are in the order of their bits.
    let largest = values.iter().fold(0, |largest, it| largest.max(it.abs().to_bits()));
    let scale = f32::from_bits(largest) / CODE_MAX;
    let inverse = CODE_MAX / f32::from_bits(largest);
    if largest >= INFINITE {
        return Block { scale: f32::NAN, scaled_sum: f32::NAN, ..Block::default() };
    }
    if !inverse.is_finite() {
        // All zero, or too small to matter beside anything else.
        return Block::default();
    }
    let codes =
        values.map(|it| (it * inverse + ROUNDER).to_bits().wrapping_sub(ROUNDER.to_bits()) as i8);
    let (first, second) = codes.split_at(BLOCK / 2);
    let half_sums = [first, second].map(|it| it.iter().map(|&it| i16::from(it)).sum::<i16>());
    let sum = i32::from(half_sums[0]) + i32::from(half_sums[1]);
    Block { codes, scale, scaled_sum: sum as f32 * scale, sum, half_sums }
}
