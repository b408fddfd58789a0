//! Keys and values of past tokens, in blocks of tokens that requests own by table.
//!
//! All memory is set aside at once, zeroed lazily by the operating system: a block costs memory from
//! its first use on. A block number is valid in every layer of the shard.

/// Tokens of one block.
pub const BLOCK_TOKENS: usize = 16;

/// Keys and values of one layer.
#[derive(Debug)]
pub(crate) struct LayerCache {
    width: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl LayerCache {
    /// Sets aside `blocks` blocks of tokens with `width` key values and as many value values.
    pub(crate) fn new(blocks: usize, width: usize) -> Self {
        let len = blocks * BLOCK_TOKENS * width;
        Self { width, keys: vec![0.0; len], values: vec![0.0; len] }
    }

    /// Stores the key and value of one token; overwrites what its slot held.
    pub(crate) fn write(&mut self, slot: usize, key: &[f32], value: &[f32]) {
        let at = slot * self.width..(slot + 1) * self.width;
        self.keys[at.clone()].copy_from_slice(key);
        self.values[at].copy_from_slice(value);
    }

    /// Values of one token's key over all heads.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Keys of the tokens in a block, one row of all heads per token.
    #[inline(always)]
    pub(crate) fn block_keys(&self, block: u32) -> &[f32] {
        &self.keys[block as usize * BLOCK_TOKENS * self.width..][..BLOCK_TOKENS * self.width]
    }

    /// Values of the tokens in a block, laid out like the keys.
    #[inline(always)]
    pub(crate) fn block_values(&self, block: u32) -> &[f32] {
        &self.values[block as usize * BLOCK_TOKENS * self.width..][..BLOCK_TOKENS * self.width]
    }
}

/// The slot of the token at `position` of a request that owns `blocks`.
pub(crate) fn slot(blocks: &[u32], position: usize) -> usize {
    blocks[position / BLOCK_TOKENS] as usize * BLOCK_TOKENS + position % BLOCK_TOKENS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_its_block() {
        let mut cache = LayerCache::new(4, 2);
        let blocks = [3, 1];
        cache.write(slot(&blocks, 17), &[1.0, 2.0], &[3.0, 4.0]);
        assert_eq!(cache.block_keys(1)[2..4], [1.0, 2.0]);
        assert_eq!(cache.block_values(1)[2..4], [3.0, 4.0]);
        assert!(cache.block_keys(3).iter().all(|&it| it == 0.0));
    }
}
