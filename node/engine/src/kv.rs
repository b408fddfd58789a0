//! Keys and values of past tokens, in blocks of tokens that requests own by table.
//!
//! ```text
//! block of one layer:  keys    [kv head][dimension][token]            16 tokens side by side
//!                      values  [kv head][part][token][dimension]      16 dimensions side by side
//! ```
//!
//! Either way attention reads vectors of 16 and never has to add up the lanes of one. All layers of a
//! shard share one pool of blocks, so that a request takes blocks only for the layers it runs. All
//! memory is set aside at once and zeroed lazily by the operating system: a block costs memory from
//! its first use on.

use thalweg_wire::LayerRange;

/// Tokens of one block.
pub const BLOCK_TOKENS: usize = 16;

/// Values side by side: the tokens of a block, or as many dimensions of a head.
pub(crate) const LANES: usize = BLOCK_TOKENS;

/// Keys and values of a shard's layers.
#[derive(Debug)]
pub(crate) struct Cache {
    kv_heads: usize,
    head_size: usize,
    keys: Vec<[f32; LANES]>,
    values: Vec<[f32; LANES]>,
}

/// The blocks of a request: one for each of its layers, then those of the next 16 tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table<'a> {
    pub(crate) blocks: &'a [u32],
    pub(crate) layers: LayerRange,
}

/// The blocks of a request in one layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerTable<'a> {
    /// From the first block of the layer on, every `stride`th is the layer's.
    blocks: &'a [u32],
    stride: usize,
}

impl<'a> Table<'a> {
    /// The part of one of its layers.
    pub(crate) fn layer(self, layer: usize) -> LayerTable<'a> {
        let from = (layer - self.layers.first() as usize).min(self.blocks.len());
        LayerTable { blocks: &self.blocks[from..], stride: self.layers.count() as usize }
    }
}

impl<'a> LayerTable<'a> {
    /// The blocks from number `first` on, in order of position.
    #[inline(always)]
    pub(crate) fn from(self, first: usize) -> impl Iterator<Item = u32> + 'a {
        self.blocks[first * self.stride..].iter().step_by(self.stride).copied()
    }

    fn at(self, index: usize) -> usize {
        self.blocks[index * self.stride] as usize
    }
}

impl Cache {
    /// Sets aside `blocks` blocks of tokens with `kv_heads` keys and values of `head_size` each.
    pub(crate) fn new(blocks: usize, kv_heads: usize, head_size: usize) -> Self {
        let keys = vec![[0.0; LANES]; blocks * kv_heads * head_size];
        let lines = blocks * kv_heads * head_size.div_ceil(LANES) * BLOCK_TOKENS;
        Self { kv_heads, head_size, keys, values: vec![[0.0; LANES]; lines] }
    }

    /// Stores key and value of the token at `position`, all heads side by side; overwrites what the
    /// slot held.
    pub(crate) fn write(
        &mut self,
        table: LayerTable<'_>,
        position: usize,
        key: &[f32],
        value: &[f32],
    ) {
        let (block, token) = (table.at(position / BLOCK_TOKENS), position % BLOCK_TOKENS);
        let keys = &mut self.keys[block * self.kv_heads * self.head_size..];
        for (line, &key) in keys.iter_mut().zip(key) {
            line[token] = key;
        }
        let head_lines = self.head_lines();
        let values = self.values[block * self.kv_heads * head_lines..].chunks_exact_mut(head_lines);
        for (head, value) in values.zip(value.chunks_exact(self.head_size)) {
            for (part, value) in head.chunks_exact_mut(BLOCK_TOKENS).zip(value.chunks(LANES)) {
                part[token][..value.len()].copy_from_slice(value);
            }
        }
    }

    /// Overwrites block `to` with what block `from` holds.
    pub(crate) fn copy(&mut self, from: u32, to: u32) {
        let copy = |lines: &mut Vec<[f32; LANES]>, per_block: usize| {
            let from = from as usize * per_block;
            lines.copy_within(from..from + per_block, to as usize * per_block);
        };
        copy(&mut self.keys, self.kv_heads * self.head_size);
        let per_block = self.kv_heads * self.head_lines();
        copy(&mut self.values, per_block);
    }

    /// Keys of one head in a block: for each dimension the values of all tokens.
    #[inline(always)]
    pub(crate) fn keys(&self, block: u32, head: usize) -> &[[f32; LANES]] {
        let index = block as usize * self.kv_heads + head;
        &self.keys[index * self.head_size..][..self.head_size]
    }

    /// Values of one head in a block: for each run of dimensions those of all tokens in turn.
    #[inline(always)]
    pub(crate) fn values(&self, block: u32, head: usize) -> &[[f32; LANES]] {
        let index = block as usize * self.kv_heads + head;
        &self.values[index * self.head_lines()..][..self.head_lines()]
    }

    /// Key and value heads.
    pub(crate) fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// Values of one head.
    pub(crate) fn head_size(&self) -> usize {
        self.head_size
    }

    fn head_lines(&self) -> usize {
        self.head_size.div_ceil(LANES) * BLOCK_TOKENS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_its_block() {
        let mut cache = Cache::new(4, 2, 20);
        let row: Vec<f32> = (0..40u8).map(f32::from).collect();
        let negated: Vec<f32> = row.iter().map(|it| -it).collect();
        let layers = LayerRange::new(5, 7).expect("not empty");
        let table = Table { blocks: &[0, 3, 2, 1], layers };
        cache.write(table.layer(6), 17, &row, &negated);
        assert_eq!(table.layer(5).from(1).collect::<Vec<_>>(), [2]);
        for dimension in 0..20 {
            assert_eq!(cache.keys(1, 1)[dimension][1], row[20 + dimension]);
            let line = dimension / LANES * BLOCK_TOKENS + 1;
            assert_eq!(cache.values(1, 1)[line][dimension % LANES], negated[20 + dimension]);
        }
        assert!(cache.keys(3, 1).iter().flatten().all(|&it| it == 0.0));
        cache.copy(1, 3);
        assert_eq!((cache.keys(3, 1), cache.values(3, 1)), (cache.keys(1, 1), cache.values(1, 1)));
        assert!(cache.keys(2, 0).iter().flatten().all(|&it| it == 0.0));
    }
}
