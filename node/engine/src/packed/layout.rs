//! How packed panels of quantised weights lie in memory.
//!
//! ```text
//! panel = 8 outputs of all inputs:   unit | unit | unit ...
//! unit  = 32 inputs (256 for K types): head | block | block ...
//! head  = 8 scales f16 [ 8 minimums f16 ]
//! block = 32 inputs: [ 8 + 8 small scales or minimums, K types ] nibbles [ planes of high bits ]
//!
//! group = codes of 4 neighbouring inputs of 8 outputs: 32 bytes, one register
//!         output 0: i i+1 i+2 i+3 | output 1: i i+1 i+2 i+3 | ...
//! nibbles: 32 bytes hold group g (low) and group g + 4 (high), g = 0 .. 3
//! plane of bits (5-bit codes):   bit g of each byte belongs to group g
//! planes of pairs (6-bit codes): bits 2 (g mod 4) of plane g / 4 belong to group g
//! ```
//!
//! Four neighbouring activations of one row, repeated eight times, meet a group as it is, and each
//! output keeps a lane of its own: no sum ever crosses lanes.

use half::f16 as Half;

/// Outputs that share a panel: the lanes of a register.
pub(crate) const PANEL: usize = 8;
/// Inputs that share a scale of the activations.
pub(crate) const BLOCK: usize = 32;
/// Groups in a block.
pub(crate) const GROUPS: usize = 8;
/// The low half of each of four bytes.
const NIBBLES: u32 = 0x0F0F_0F0F;
/// Blocks in the largest unit.
const BLOCKS_MAX: usize = 8;
/// Bytes of one f16 per output.
const HALVES: usize = 2 * PANEL;

/// How the weights of one type are packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Bits of a code. Codes of 8 bits are signed.
    pub(crate) bits: usize,
    /// Blocks that share a head.
    pub(crate) blocks: usize,
    /// Whether a weight is `scale * code + minimum`; otherwise it is `scale * (code - offset)`.
    pub(crate) minimum: bool,
}

/// A type that products are compiled for.
pub(crate) trait Format {
    /// Its layout.
    const LAYOUT: Layout;
}

/// Defines the types that are packed.
macro_rules! define_formats {
    ($($name:ident: $bits:literal bits, $blocks:literal blocks, minimum $minimum:literal;)*) => {
        $(
            /// The type of that name.
            pub(crate) struct $name;
            impl Format for $name {
                const LAYOUT: Layout =
                    Layout { bits: $bits, blocks: $blocks, minimum: $minimum };
            }
        )*
    };
}

define_formats! {
    Q4_0: 4 bits, 1 blocks, minimum false;
    Q4_1: 4 bits, 1 blocks, minimum true;
    Q5_0: 5 bits, 1 blocks, minimum false;
    Q5_1: 5 bits, 1 blocks, minimum true;
    Q8_0: 8 bits, 1 blocks, minimum false;
    Q4K: 4 bits, 8 blocks, minimum true;
    Q5K: 5 bits, 8 blocks, minimum true;
    Q6K: 6 bits, 8 blocks, minimum false;
}

/// The weights of one output in one unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Unit {
    /// f16.
    pub(crate) scale: u16,
    /// f16; zero for types without.
    pub(crate) minimum: u16,
    /// Of each block, K types only: scale and minimum, or the scales of both halves.
    pub(crate) small: [[u8; 2]; BLOCKS_MAX],
    /// Codes of each block, in the order of the inputs.
    pub(crate) codes: [[u8; BLOCK]; BLOCKS_MAX],
}

impl Layout {
    /// Whether blocks have small integer scales.
    pub(crate) const fn has_small(self) -> bool {
        self.blocks > 1
    }

    /// What is subtracted from every code.
    pub(crate) const fn offset(self) -> i32 {
        if self.minimum || self.bits == 8 { 0 } else { 1 << (self.bits - 1) }
    }

    /// What products subtract from codes as integers. Where one scale belongs to all codes of a block,
    /// the offset is a minimum of `-offset * scale` instead: one operation less.
    pub(crate) const fn integer_offset(self) -> i32 {
        if self.has_small() { self.offset() } else { 0 }
    }

    /// Whether products add a minimum.
    pub(crate) const fn adds_minimum(self) -> bool {
        self.minimum || self.offset() != self.integer_offset()
    }

    /// Bytes of the head of a unit.
    pub(crate) const fn head_bytes(self) -> usize {
        if self.minimum { 2 * HALVES } else { HALVES }
    }

    /// Bytes of the small scales of a block.
    pub(crate) const fn small_bytes(self) -> usize {
        if self.has_small() { 2 * PANEL } else { 0 }
    }

    /// Bytes of a block.
    pub(crate) const fn block_bytes(self) -> usize {
        self.small_bytes() + self.bits * BLOCK * PANEL / 8
    }

    /// Bytes of a unit.
    pub(crate) const fn unit_bytes(self) -> usize {
        self.head_bytes() + self.blocks * self.block_bytes()
    }

    /// Inputs of a unit.
    pub(crate) const fn unit_inputs(self) -> usize {
        self.blocks * BLOCK
    }

    /// Puts the weights of output `lane` into a packed unit.
    pub(crate) fn write(self, unit: &Unit, lane: usize, packed: &mut [u8]) {
        let (head, blocks) = packed.split_at_mut(self.head_bytes());
        head[2 * lane..][..2].copy_from_slice(&unit.scale.to_le_bytes());
        if self.minimum {
            head[HALVES + 2 * lane..][..2].copy_from_slice(&unit.minimum.to_le_bytes());
        }
        for (index, block) in blocks.chunks_exact_mut(self.block_bytes()).enumerate() {
            let (small, codes) = block.split_at_mut(self.small_bytes());
            if self.has_small() {
                [small[lane], small[PANEL + lane]] = unit.small[index];
            }
            self.write_codes(&unit.codes[index], lane, codes);
        }
    }

    fn write_codes(self, codes: &[u8; BLOCK], lane: usize, packed: &mut [u8]) {
        let fours = codes.as_chunks().0;
        let groups: [u32; GROUPS] = std::array::from_fn(|it| u32::from_le_bytes(fours[it]));
        let mut put = |plane: usize, four: u32| {
            packed[plane * 32 + 4 * lane..][..4].copy_from_slice(&four.to_le_bytes());
        };
        if self.bits == 8 {
            return groups.into_iter().enumerate().for_each(|(group, four)| put(group, four));
        }
        let (first, second) = groups.split_at(GROUPS / 2);
        for (pair, (low, high)) in first.iter().zip(second).enumerate() {
            put(pair, low & NIBBLES | (high & NIBBLES) << 4);
        }
        let plane = |groups: &[u32], bits: usize| {
            let high = groups.iter().map(|four| (four & !NIBBLES) >> 4).enumerate();
            high.fold(0, |plane, (group, high)| plane | high << (bits * group))
        };
        match self.bits {
            5 => put(4, plane(&groups, 1)),
            6 => [first, second].iter().zip(4..).for_each(|(it, at)| put(at, plane(it, 2))),
            _ => {}
        }
    }

    /// Takes the weights of output `lane` out of a packed unit.
    pub(crate) fn read(self, packed: &[u8], lane: usize) -> Unit {
        let (head, blocks) = packed.split_at(self.head_bytes());
        let half = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let mut unit = Unit { scale: half(2 * lane), ..Unit::default() };
        if self.minimum {
            unit.minimum = half(HALVES + 2 * lane);
        }
        for (index, block) in blocks.chunks_exact(self.block_bytes()).enumerate() {
            let (small, codes) = block.split_at(self.small_bytes());
            if self.has_small() {
                unit.small[index] = [small[lane], small[PANEL + lane]];
            }
            unit.codes[index] = std::array::from_fn(|input| self.code(codes, lane, input));
        }
        unit
    }

    /// The code of one input of output `lane` in the codes of a packed block.
    #[inline(always)]
    pub(crate) fn code(self, packed: &[u8], lane: usize, input: usize) -> u8 {
        let (group, at) = (input / 4, 4 * lane + input % 4);
        let (pair, plane) = (group % 4, group / 4);
        if self.bits == 8 {
            return packed[group * 32 + at];
        }
        let nibble = packed[pair * 32 + at] >> (plane * 4) & 15;
        match self.bits {
            5 => nibble | (packed[128 + at] >> group & 1) << 4,
            6 => nibble | (packed[128 + plane * 32 + at] >> (2 * pair) & 3) << 4,
            _ => nibble,
        }
    }

    /// Computes the weights of a unit, in the order of the inputs.
    pub(crate) fn values(self, unit: &Unit) -> impl Iterator<Item = f32> {
        (0..self.unit_inputs()).map(move |input| {
            let (block, at) = (input / BLOCK, input % BLOCK);
            let code = self.signed(unit.codes[block][at]) as f32;
            let (scale, minimum) = self.factors(unit, block, at / 16);
            if self.minimum { scale * code + minimum } else { scale * code }
        })
    }

    /// Scale and minimum of one half of a block.
    fn factors(self, unit: &Unit, block: usize, half: usize) -> (f32, f32) {
        let [scale, minimum] = [unit.scale, unit.minimum].map(|it| Half::from_bits(it).to_f32());
        let small = unit.small[block];
        match (self.has_small(), self.minimum) {
            (false, _) => (scale, minimum),
            (true, true) => (scale * f32::from(small[0]), -(minimum * f32::from(small[1]))),
            (true, false) => (scale * f32::from(small[half].cast_signed()), 0.0),
        }
    }

    /// A code as the number that a scale multiplies.
    fn signed(self, code: u8) -> i32 {
        self.integer(code) + self.integer_offset() - self.offset()
    }

    /// A code as products multiply it.
    #[inline(always)]
    pub(crate) fn integer(self, code: u8) -> i32 {
        match self.bits {
            8 => i32::from(code.cast_signed()),
            _ => i32::from(code) - self.integer_offset(),
        }
    }
}
