//! Blocks as bytes, to move them to another host.
//!
//! ```text
//! "TWKV" | version u8 | type u8 | kv heads u16 | head size u32 | blocks u32     16 bytes, little endian
//! for each block: keys of all heads, values of all heads; for int8 then the scales of either
//! ```
//!
//! Lines lie as in memory: whoever imports them attends to the same bits.

use std::ops::Range;

use half::f16;

use super::store::{KvType, Lines, Store};
use super::{BLOCK_TOKENS, Cache, LANES};

const MAGIC: [u8; 4] = *b"TWKV";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 16;
/// Types by their number in a header.
const TYPES: [KvType; 3] = [KvType::F32, KvType::F16, KvType::Int8];

/// Bytes that are no blocks of this shard.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KvBlocksError {
    /// Something else, or another version.
    #[error("no KV blocks of version {VERSION}: they begin with {0:?}")]
    Header(Vec<u8>),
    /// Blocks of another shape or type.
    #[error("KV blocks are of {found}, those of this shard of {expected}")]
    Shape {
        /// What the bytes say.
        found: String,
        /// What the shard has.
        expected: String,
    },
    /// Another number of blocks than there are places for.
    #[error("{found} KV blocks come for {expected} places")]
    Count {
        /// What the bytes say.
        found: u32,
        /// Places given.
        expected: usize,
    },
    /// Bytes missing, or too many.
    #[error("{blocks} KV blocks take {expected} bytes, found {found}")]
    Size {
        /// Blocks the bytes say there are.
        blocks: u32,
        /// Bytes these take.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// A place that the shard does not have.
    #[error("there is no KV block {block}, the shard has {blocks}")]
    NoSuchBlock {
        /// The place.
        block: u32,
        /// Blocks there are.
        blocks: u32,
    },
}

impl Cache {
    /// Some blocks as bytes. All must exist.
    pub(crate) fn export(&self, blocks: &[u32]) -> Vec<u8> {
        let mut bytes = self.format().header(blocks.len() as u32).to_vec();
        for &block in blocks {
            let heads = self.heads(block);
            match &self.store {
                Store::F32 { keys, values } => {
                    put([keys, values], &heads, &mut bytes, f32::to_le_bytes);
                }
                Store::F16 { keys, values } => {
                    put([keys, values], &heads, &mut bytes, f16::to_le_bytes);
                }
                Store::Int8 { keys, values, key_scales, value_scales } => {
                    put([keys, values], &heads, &mut bytes, i8::to_le_bytes);
                    put([key_scales, value_scales], &heads, &mut bytes, f32::to_le_bytes);
                }
            }
        }
        bytes
    }

    /// Overwrites `blocks`, which must exist, with those that another shard exported.
    pub(crate) fn import(&mut self, blocks: &[u32], bytes: &[u8]) -> Result<(), KvBlocksError> {
        let mut rest = self.format().open(blocks.len(), bytes)?;
        for &block in blocks {
            let heads = self.heads(block);
            match &mut self.store {
                Store::F32 { keys, values } => {
                    take([keys, values], &heads, &mut rest, f32::from_le_bytes);
                }
                Store::F16 { keys, values } => {
                    take([keys, values], &heads, &mut rest, f16::from_le_bytes);
                }
                Store::Int8 { keys, values, key_scales, value_scales } => {
                    take([keys, values], &heads, &mut rest, i8::from_le_bytes);
                    take([key_scales, value_scales], &heads, &mut rest, f32::from_le_bytes);
                }
            }
        }
        Ok(())
    }

    /// The heads of a block.
    fn heads(&self, block: u32) -> Range<usize> {
        let first = block as usize * self.kv_heads;
        first..first + self.kv_heads
    }

    fn format(&self) -> BlockFormat {
        let (kv_heads, head_size) = (self.kv_heads, self.head_size);
        BlockFormat { kind: self.store.kind(), kv_heads, head_size }
    }
}

/// Type and shape of blocks, as their header names them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockFormat {
    /// How keys and values are kept.
    pub(crate) kind: KvType,
    /// Heads of keys, and of values.
    pub(crate) kv_heads: usize,
    /// Values of one head.
    pub(crate) head_size: usize,
}

impl BlockFormat {
    /// The header of so many blocks.
    pub(crate) fn header(self, blocks: u32) -> [u8; HEADER_BYTES] {
        let number = TYPES.iter().position(|it| *it == self.kind);
        let number = number.expect("every type has a number") as u8;
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&MAGIC);
        (header[4], header[5]) = (VERSION, number);
        header[6..8].copy_from_slice(&(self.kv_heads as u16).to_le_bytes());
        header[8..12].copy_from_slice(&(self.head_size as u32).to_le_bytes());
        header[12..].copy_from_slice(&blocks.to_le_bytes());
        header
    }

    /// What follows the header, if `bytes` are as many blocks of this shape as there are places for.
    pub(crate) fn open(self, places: usize, bytes: &[u8]) -> Result<&[u8], KvBlocksError> {
        let (own, found) = (self.header(0), bytes.first_chunk::<HEADER_BYTES>());
        let Some(found) = found.filter(|it| it[..5] == own[..5]) else {
            return Err(KvBlocksError::Header(bytes[..bytes.len().min(5)].to_vec()));
        };
        if found[5..12] != own[5..12] {
            let [found, expected] = [words(found), words(&own)];
            return Err(KvBlocksError::Shape { found, expected });
        }
        let blocks = u32::from_le_bytes([found[12], found[13], found[14], found[15]]);
        if blocks as usize != places {
            return Err(KvBlocksError::Count { found: blocks, expected: places });
        }
        let expected = HEADER_BYTES + places * self.block_bytes();
        if bytes.len() != expected {
            return Err(KvBlocksError::Size { blocks, expected, found: bytes.len() });
        }
        Ok(&bytes[HEADER_BYTES..])
    }

    /// Lines of keys, and of values, of one head in a block.
    pub(crate) fn lines(self) -> (usize, usize) {
        (self.head_size, self.head_size.div_ceil(LANES) * BLOCK_TOKENS)
    }

    /// Bytes of a block.
    fn block_bytes(self) -> usize {
        let (keys, values) = self.lines();
        let lines = match self.kind {
            KvType::F32 => 4 * (keys + values),
            KvType::F16 => 2 * (keys + values),
            KvType::Int8 => keys + values + 2 * 4,
        };
        self.kv_heads * lines * LANES
    }
}

/// Type and shape that a header names.
fn words(header: &[u8; HEADER_BYTES]) -> String {
    let kind = TYPES.get(usize::from(header[5]));
    let kind = kind.map_or_else(|| "an unknown type".to_owned(), KvType::to_string);
    let heads = u16::from_le_bytes([header[6], header[7]]);
    let size = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    format!("{heads} heads of {size} values in {kind}")
}

/// Appends the lines of some heads, of keys first.
fn put<T: Copy, const BYTES: usize>(
    both: [&Lines<T>; 2],
    heads: &Range<usize>,
    bytes: &mut Vec<u8>,
    to: impl Fn(T) -> [u8; BYTES],
) {
    for lines in both {
        let values =
            lines.lines[heads.start * lines.per_head..heads.end * lines.per_head].as_flattened();
        bytes.extend(values.iter().flat_map(|&it| to(it)));
    }
}

/// Reads the lines of some heads from the start of `bytes`, which are long enough.
fn take<T, const BYTES: usize>(
    both: [&mut Lines<T>; 2],
    heads: &Range<usize>,
    bytes: &mut &[u8],
    from: impl Fn([u8; BYTES]) -> T,
) {
    for lines in both {
        let lines = &mut lines.lines[heads.start * lines.per_head..heads.end * lines.per_head];
        let values = lines.as_flattened_mut();
        let (own, rest) = bytes.split_at(values.len() * BYTES);
        for (value, bytes) in values.iter_mut().zip(own.as_chunks::<BYTES>().0) {
            *value = from(*bytes);
        }
        *bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use thalweg_wire::LayerRange;

    use super::super::Table;
    use super::*;

    fn filled(kind: KvType) -> Cache {
        let mut random = fastrand::Rng::with_seed(1);
        let mut cache = Cache::new(kind, 3, 2, 20);
        let table = Table { blocks: &[0, 1, 2], layers: LayerRange::new(0, 1).expect("not empty") };
        for position in 0..48 {
            let mut row = || (0..40).map(|_| random.f32() - 0.5).collect::<Vec<f32>>();
            cache.write(table.layer(0), position, &row(), &row());
        }
        cache
    }

    #[test]
    fn blocks_arrive_bit_for_bit_in_other_places() {
        for kind in [KvType::F32, KvType::F16, KvType::Int8] {
            let from = filled(kind);
            let bytes = from.export(&[2, 0]);
            let mut to = Cache::new(kind, 5, 2, 20);
            to.import(&[4, 1], &bytes).expect("the same shape");
            assert_eq!(to.export(&[4, 1]), bytes);
            let keys = |it: &Cache, block| it.keys(block, 1, &mut vec![]).to_vec();
            let values = |it: &Cache, block| it.values(block, 1, &mut vec![]).to_vec();
            assert_eq!((keys(&to, 4), values(&to, 4)), (keys(&from, 2), values(&from, 2)));
            assert_eq!(keys(&to, 1), keys(&from, 0));
            assert!(keys(&to, 0).iter().flatten().all(|&it| it == 0.0));
        }
    }

    #[test]
    fn bytes_that_are_no_blocks_of_this_shape_change_nothing() {
        let mut cache = filled(KvType::F16);
        let before = cache.export(&[0, 1, 2]);
        let one = cache.export(&[0]);
        let mut refuses = |blocks: &[u32], bytes: &[u8], message: &str| {
            let error = cache.import(blocks, bytes).expect_err("not these");
            assert_eq!(error.to_string(), message);
        };
        refuses(&[1], b"TW", "no KV blocks of version 1: they begin with [84, 87]");
        let other = filled(KvType::Int8).export(&[0]);
        let message = "KV blocks are of 2 heads of 20 values in int8, those of this shard of 2 heads \
                       of 20 values in f16";
        refuses(&[1], &other, message);
        refuses(&[1, 2], &one, "1 KV blocks come for 2 places");
        let bytes = 16 + 2 * 2 * (20 + 32) * 16;
        let message = format!("1 KV blocks take {bytes} bytes, found {}", bytes - 1);
        refuses(&[1], &one[..one.len() - 1], &message);
        assert_eq!(cache.export(&[0, 1, 2]), before);
    }
}
