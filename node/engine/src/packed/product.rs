//! Products of packed panels with rows of activations, as plain loops and with vector instructions.
//!
//! ```text
//! per output and block of 32 inputs, in order:
//!     sum = sum over i of code[i] * activation[i]             integers
//!     out = fma(sum, scale_w * scale_a, out)                  F32
//!     out = fma(minimum_w, sum_a * scale_a, out)              types with a minimum or an offset
//! ```
//!
//! K types multiply the integers with their small integer scales before they become floats. Integers
//! are exact and the order of the floats is fixed, so all paths give the same bits.

use half::f16 as Half;

use super::activations::{Activations, Block, TILE_ROWS};
use super::layout::{BLOCK, Format, PANEL};
use crate::area::Area;
use crate::simd::{Kernel, dispatch, fetch, multiply_add};

/// Rows that meet a panel before the next panel: their activations stay in the second-level cache.
const ROWS_TOGETHER: usize = 64;

/// Panels to multiply with rows of activations.
pub(crate) struct Product<'a> {
    /// Consecutive panels, and whatever follows them.
    pub(crate) panels: &'a [u8],
    /// Activations of all rows.
    pub(crate) activations: &'a Activations,
    /// The first row to multiply.
    pub(crate) first_row: usize,
    /// Where the products go.
    pub(crate) out: Area<'a>,
}

impl Product<'_> {
    /// Multiplies, with the widest instructions of this machine.
    pub(crate) fn run<F: Format>(self) {
        #[cfg(target_arch = "x86_64")]
        if let Some(run) = super::x86::fastest::<F>() {
            return run(self);
        }
        dispatch(Portable(self, std::marker::PhantomData::<F>));
    }

    /// Calls `multiply(panel, tile, rows, ahead)` for every panel and tile of rows, and stores the products
    /// of each row it returns. While tiles meet a panel, they fetch the next one, each a part of it.
    #[inline(always)]
    pub(crate) fn each_tile<F: Format>(
        mut self,
        multiply: impl Fn(&[u8], &[Block], usize, Ahead<'_>) -> [[f32; PANEL]; TILE_ROWS],
    ) {
        let panel_bytes = self.activations.row_blocks / F::LAYOUT.blocks * F::LAYOUT.unit_bytes();
        for together in (0..self.out.rows()).step_by(ROWS_TOGETHER) {
            let rows = ROWS_TOGETHER.min(self.out.rows() - together);
            let fetched = panel_bytes.div_ceil(rows.div_ceil(TILE_ROWS));
            let panels = self.panels.chunks_exact(panel_bytes).enumerate();
            for (index, panel) in panels.take(self.out.columns().div_ceil(PANEL)) {
                let next = self.panels.get((index + 1) * panel_bytes..).unwrap_or_default();
                let mut parts = next.chunks(fetched);
                let mut row = together;
                for (tile, rows) in self.activations.tiles(self.first_row + together, rows) {
                    let part = parts.next().unwrap_or_default();
                    let ahead = Ahead::new(part, self.activations.row_blocks);
                    for products in &multiply(panel, tile, rows, ahead)[..rows] {
                        store(products, &mut self.out.row(row)[index * PANEL..]);
                        row += 1;
                    }
                }
            }
        }
    }
}

/// What is fetched while a tile is multiplied: a little with each block. All at once would keep the
/// block's own codes waiting.
pub(crate) struct Ahead<'a>(std::slice::Chunks<'a, u8>);

impl<'a> Ahead<'a> {
    #[inline(always)]
    fn new(bytes: &'a [u8], blocks: usize) -> Self {
        Self(bytes.chunks(bytes.len().div_ceil(blocks).max(1)))
    }

    /// Fetches the next part.
    #[inline(always)]
    pub(crate) fn step(&mut self) {
        if let Some(bytes) = self.0.next() {
            fetch(bytes);
        }
    }
}

/// Puts products where they go; the last outputs of a matrix may be fewer.
#[inline(always)]
fn store(products: &[f32; PANEL], out: &mut [f32]) {
    match out.first_chunk_mut() {
        Some(out) => *out = *products,
        None => out.copy_from_slice(&products[..out.len()]),
    }
}

/// The product in plain loops.
pub(crate) struct Portable<'a, F>(pub(crate) Product<'a>, pub(crate) std::marker::PhantomData<F>);

impl<F: Format> Kernel for Portable<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool, const WIDE: bool>(self) {
        self.0.each_tile::<F>(|panel, tile, rows, _| {
            let mut sums = [[0.0; PANEL]; TILE_ROWS];
            for (row, sums) in sums[..rows].iter_mut().enumerate() {
                let activations = tile.iter().skip(row).step_by(rows);
                multiply_row::<F, FMA>(panel, activations, sums);
            }
            sums
        });
    }
}

#[inline(always)]
fn multiply_row<'a, F: Format, const FMA: bool>(
    panel: &[u8],
    mut activations: impl Iterator<Item = &'a Block>,
    sums: &mut [f32; PANEL],
) {
    let layout = F::LAYOUT;
    for unit in panel.chunks_exact(layout.unit_bytes()) {
        let (head, blocks) = unit.split_at(layout.head_bytes());
        let half = |at: usize| Half::from_le_bytes([head[2 * at], head[2 * at + 1]]).to_f32();
        for (packed, x) in blocks.chunks_exact(layout.block_bytes()).zip(&mut activations) {
            let (small, codes) = packed.split_at(layout.small_bytes());
            for (lane, out) in sums.iter_mut().enumerate() {
                let [first, second] = half_sums::<F>(codes, lane, x);
                let sum = match (layout.has_small(), layout.minimum) {
                    (false, _) => first + second,
                    (true, true) => (first + second) * i32::from(small[lane]),
                    (true, false) => {
                        let [one, two] = [small[lane], small[PANEL + lane]].map(u8::cast_signed);
                        first * i32::from(one) + second * i32::from(two)
                    }
                };
                *out = multiply_add::<FMA>(sum as f32, half(lane) * x.scale, *out);
                if layout.adds_minimum() {
                    let minimum = match (layout.minimum, layout.has_small()) {
                        (true, true) => -(half(PANEL + lane) * f32::from(small[PANEL + lane])),
                        (true, false) => half(PANEL + lane),
                        (false, _) => half(lane) * -(layout.offset() as f32),
                    };
                    *out = multiply_add::<FMA>(minimum, x.scaled_sum, *out);
                }
            }
        }
    }
}

/// The integer products of both halves of a block.
#[inline(always)]
fn half_sums<F: Format>(codes: &[u8], lane: usize, x: &Block) -> [i32; 2] {
    let mut sums = [0; 2];
    for input in 0..BLOCK {
        let code = F::LAYOUT.integer(F::LAYOUT.code(codes, lane, input));
        sums[input * 2 / BLOCK] += code * i32::from(x.codes[input]);
    }
    sums
}
