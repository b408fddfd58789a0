//! The lines of all blocks, in one of several types.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use half::f16;
use half::slice::HalfFloatSliceExt;
use serde::Deserialize;

use super::{BLOCK_TOKENS, LANES, Line};

/// How to keep keys and values.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum KvType {
    /// 4 bytes a value, exact.
    F32,
    /// 2 bytes a value, 11 bits of precision.
    #[default]
    F16,
    /// 1 byte a value, and a scale for each token and head.
    Int8,
}

/// A word that names no type of keys and values.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is no type of keys and values; there are `f32`, `f16` and `int8`")]
pub struct UnknownKvType(String);

impl KvType {
    /// Bytes of key and value of one token in one layer, for heads of `head_size` values.
    pub fn token_bytes(self, kv_heads: usize, head_size: usize) -> usize {
        let per_head = match self {
            Self::F32 => head_size * size_of::<f32>(),
            Self::F16 => head_size * size_of::<f16>(),
            Self::Int8 => head_size + size_of::<f32>(),
        };
        2 * kv_heads * per_head
    }
}

impl FromStr for KvType {
    type Err = UnknownKvType;

    fn from_str(word: &str) -> Result<Self, UnknownKvType> {
        match word {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "int8" => Ok(Self::Int8),
            _ => Err(UnknownKvType(word.to_owned())),
        }
    }
}

impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        })
    }
}

/// Lines of one kind, keys or values, of all heads of all blocks.
#[derive(Clone, Debug)]
pub(super) struct Lines<T> {
    pub(super) per_head: usize,
    pub(super) lines: Vec<[T; LANES]>,
}

impl<T: Copy + Default> Lines<T> {
    fn new(heads: usize, per_head: usize) -> Self {
        Self { per_head, lines: vec![[T::default(); LANES]; heads * per_head] }
    }

    fn of(&self, head: usize) -> &[[T; LANES]] {
        &self.lines[head * self.per_head..][..self.per_head]
    }

    /// The lines of some blocks of `heads` heads; the blocks are in order.
    fn blocks(&mut self, blocks: &[usize], heads: usize) -> Vec<&mut [[T; LANES]]> {
        let mut all = self.lines.chunks_exact_mut(heads * self.per_head);
        let mut next = 0;
        let block = |&block: &usize| {
            let lines = all.nth(block - next).expect("blocks are those of the cache");
            next = block + 1;
            lines
        };
        blocks.iter().map(block).collect()
    }

    fn copy(&mut self, from: Range<usize>, to: usize) {
        let per_head = self.per_head;
        self.lines.copy_within(from.start * per_head..from.end * per_head, to * per_head);
    }
}

/// Keys and values of all heads of all blocks; scales have one line of tokens for each head.
#[derive(Clone, Debug)]
pub(super) enum Store {
    F32 { keys: Lines<f32>, values: Lines<f32> },
    F16 { keys: Lines<f16>, values: Lines<f16> },
    Int8 { keys: Lines<i8>, values: Lines<i8>, key_scales: Lines<f32>, value_scales: Lines<f32> },
}

/// Lines that can be computed with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Floats<'a> {
    F32(&'a [[f32; LANES]]),
    F16(&'a [[f16; LANES]]),
}

impl Store {
    /// Lines for so many heads, each with so many of keys and of values.
    pub(super) fn new(kind: KvType, heads: usize, (keys, values): (usize, usize)) -> Self {
        match kind {
            KvType::F32 => {
                Self::F32 { keys: Lines::new(heads, keys), values: Lines::new(heads, values) }
            }
            KvType::F16 => {
                Self::F16 { keys: Lines::new(heads, keys), values: Lines::new(heads, values) }
            }
            KvType::Int8 => Self::Int8 {
                keys: Lines::new(heads, keys),
                values: Lines::new(heads, values),
                key_scales: Lines::new(heads, 1),
                value_scales: Lines::new(heads, 1),
            },
        }
    }

    pub(super) fn kind(&self) -> KvType {
        match self {
            Self::F32 { .. } => KvType::F32,
            Self::F16 { .. } => KvType::F16,
            Self::Int8 { .. } => KvType::Int8,
        }
    }

    /// Some blocks of `heads` heads, to be written to; they are in order, each once.
    pub(super) fn blocks(&mut self, blocks: &[usize], heads: usize) -> Vec<Block<'_>> {
        match self {
            Self::F32 { keys, values } => {
                let both = keys.blocks(blocks, heads).into_iter().zip(values.blocks(blocks, heads));
                both.map(|(keys, values)| Block::F32 { keys, values }).collect()
            }
            Self::F16 { keys, values } => {
                let both = keys.blocks(blocks, heads).into_iter().zip(values.blocks(blocks, heads));
                both.map(|(keys, values)| Block::F16 { keys, values }).collect()
            }
            Self::Int8 { keys, values, key_scales, value_scales } => {
                let both = keys.blocks(blocks, heads).into_iter().zip(values.blocks(blocks, heads));
                let scales = [key_scales, value_scales].map(|it| it.blocks(blocks, heads));
                let [key_scales, value_scales] = scales.map(Vec::into_iter);
                let all = both.zip(key_scales.zip(value_scales));
                all.map(|(codes, scales)| Block::Int8 { codes, scales }).collect()
            }
        }
    }

    /// Overwrites block `to` with what block `from` holds; blocks have `heads` heads.
    pub(super) fn copy(&mut self, from: usize, to: usize, heads: usize) {
        let (from, to) = (from * heads..(from + 1) * heads, to * heads);
        match self {
            Self::F32 { keys, values } => {
                keys.copy(from.clone(), to);
                values.copy(from, to);
            }
            Self::F16 { keys, values } => {
                keys.copy(from.clone(), to);
                values.copy(from, to);
            }
            Self::Int8 { keys, values, key_scales, value_scales } => {
                [keys, values].into_iter().for_each(|it| it.copy(from.clone(), to));
                [key_scales, value_scales].into_iter().for_each(|it| it.copy(from.clone(), to));
            }
        }
    }

    /// Lines of keys of a head.
    #[inline(always)]
    pub(super) fn keys<'a>(&'a self, head: usize, room: &'a mut Vec<Line>) -> Floats<'a> {
        match self {
            Self::F32 { keys, .. } => Floats::F32(keys.of(head)),
            Self::F16 { keys, .. } => Floats::F16(keys.of(head)),
            Self::Int8 { keys, key_scales, .. } => {
                let scales = &key_scales.of(head)[0];
                Floats::F32(decode(keys.of(head), room, |_, token| scales[token]))
            }
        }
    }

    /// Lines of values of a head.
    #[inline(always)]
    pub(super) fn values<'a>(&'a self, head: usize, room: &'a mut Vec<Line>) -> Floats<'a> {
        match self {
            Self::F32 { values, .. } => Floats::F32(values.of(head)),
            Self::F16 { values, .. } => Floats::F16(values.of(head)),
            Self::Int8 { values, value_scales, .. } => {
                let scales = &value_scales.of(head)[0];
                Floats::F32(decode(values.of(head), room, |line, _| scales[line % BLOCK_TOKENS]))
            }
        }
    }
}

/// Multiplies codes with their scales: `scale` gets number of the line and lane.
#[inline(always)]
fn decode<'a>(
    lines: &[[i8; LANES]],
    room: &'a mut Vec<Line>,
    scale: impl Fn(usize, usize) -> f32,
) -> &'a [Line] {
    room.resize(lines.len(), [0.0; LANES]);
    // Not by `map`, which is compiled for the oldest processor.
    for (index, (room, line)) in room.iter_mut().zip(lines).enumerate() {
        for (lane, (room, &code)) in room.iter_mut().zip(line).enumerate() {
            *room = f32::from(code) * scale(index, lane);
        }
    }
    room
}

/// Lines of all heads of a block.
pub(super) enum Block<'a> {
    F32 { keys: &'a mut [[f32; LANES]], values: &'a mut [[f32; LANES]] },
    F16 { keys: &'a mut [[f16; LANES]], values: &'a mut [[f16; LANES]] },
    Int8 { codes: Pair<'a, i8>, scales: Pair<'a, f32> },
}

/// What belongs to keys, and what belongs to values.
type Pair<'a, T> = (&'a mut [[T; LANES]], &'a mut [[T; LANES]]);

impl Block<'_> {
    /// Stores key and value of a token, all heads of `head_size` values side by side.
    pub(super) fn write(&mut self, token: usize, head_size: usize, key: &[f32], value: &[f32]) {
        match self {
            Self::F32 { keys, values } => {
                put_key(keys, token, key);
                put_value(values, token, head_size, value);
            }
            Self::F16 { keys, values } => {
                put_key(keys, token, &halves(key));
                put_value(values, token, head_size, &halves(value));
            }
            Self::Int8 { codes, scales } => {
                let (key, value) = (quantise(key, head_size), quantise(value, head_size));
                put_key(codes.0, token, &key.codes);
                put_value(codes.1, token, head_size, &value.codes);
                // A head has one line of scales.
                put_key(scales.0, token, &key.scales);
                put_key(scales.1, token, &value.scales);
            }
        }
    }
}

/// Puts the values of a token where keys of it belong: one lane of each line.
fn put_key<T: Copy>(lines: &mut [[T; LANES]], token: usize, key: &[T]) {
    lines.iter_mut().zip(key).for_each(|(line, key)| line[token] = *key);
}

/// Puts the values of a token where values of it belong: one line of each part of a head.
fn put_value<T: Copy>(lines: &mut [[T; LANES]], token: usize, head_size: usize, value: &[T]) {
    let parts = value.chunks(head_size).flat_map(|head| head.chunks(LANES));
    for (lines, part) in lines.chunks_exact_mut(BLOCK_TOKENS).zip(parts) {
        lines[token][..part.len()].copy_from_slice(part);
    }
}

/// Values as half-precision numbers, rounded many at once: one by one, it takes longer than attending.
fn halves(values: &[f32]) -> Vec<f16> {
    let mut halves = vec![f16::ZERO; values.len()];
    halves.convert_from_f32_slice(values);
    halves
}

/// Values as codes, and a scale for each head.
struct Quantised {
    codes: Vec<i8>,
    scales: Vec<f32>,
}

/// Rounds values. If one of a head is no number, neither is the scale.
fn quantise(values: &[f32], head_size: usize) -> Quantised {
    let mut quantised = Quantised { codes: Vec::new(), scales: Vec::new() };
    for values in values.chunks_exact(head_size) {
        let larger = |max: f32, it: &f32| if it.abs() <= max { max } else { it.abs() };
        let largest = match values.iter().find(|it| it.is_nan()) {
            Some(nan) => *nan,
            None => values.iter().fold(0.0, larger),
        };
        let scale = largest / f32::from(i8::MAX);
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        quantised.scales.push(scale);
        quantised.codes.extend(values.iter().map(|it| (it * inverse).round_ties_even() as i8));
    }
    quantised
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Floats<'_> {
        pub(crate) fn to_vec(self) -> Vec<Line> {
            match self {
                Self::F32(lines) => lines.to_vec(),
                Self::F16(lines) => lines.iter().map(|line| line.map(f16::to_f32)).collect(),
            }
        }
    }

    #[test]
    fn words_are_types_or_refused() {
        for kind in [KvType::F32, KvType::F16, KvType::Int8] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let error = "f8".parse::<KvType>().expect_err("there is no such type");
        let message = "`f8` is no type of keys and values; there are `f32`, `f16` and `int8`";
        assert_eq!(error.to_string(), message);
        let bytes = [KvType::F32, KvType::F16, KvType::Int8].map(|it| it.token_bytes(3, 64));
        assert_eq!(bytes, [1536, 768, 408]);
    }
}
