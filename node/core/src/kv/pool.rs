//! Hands out the KV blocks of one shard.
//!
//! A block holds [`BLOCK_TOKENS`] consecutive tokens of one request in every layer of the shard.
//! Freed blocks are handed out last-in first-out: their memory is most likely still in a cache,
//! and memory never touched stays untouched.

/// The blocks of one shard.
#[derive(Debug)]
pub struct BlockPool {
    /// Blocks given back, latest last.
    free: Vec<u32>,
    /// Blocks from here on were never handed out.
    untouched: u32,
    total: u32,
    in_use: Vec<bool>,
}

impl BlockPool {
    /// Creates a pool of `total` free blocks.
    pub fn new(total: u32) -> Self {
        Self { free: Vec::new(), untouched: 0, total, in_use: vec![false; total as usize] }
    }

    /// Takes `count` blocks, or none and `None` if fewer are free.
    pub fn alloc(&mut self, count: u32) -> Option<Vec<u32>> {
        if count > self.free_count() {
            return None;
        }
        let blocks: Vec<u32> = (0..count).map(|_| self.take()).collect();
        for &block in &blocks {
            let in_use = &mut self.in_use[block as usize];
            assert!(!*in_use, "block {block} was handed out twice");
            *in_use = true;
        }
        Some(blocks)
    }

    /// Gives blocks back.
    ///
    /// # Panics
    ///
    /// If a block is not in use: two requests would write to it.
    pub fn free(&mut self, blocks: Vec<u32>) {
        for &block in &blocks {
            let in_use = &mut self.in_use[block as usize];
            assert!(*in_use, "block {block} was freed twice");
            *in_use = false;
        }
        self.free.extend(blocks.into_iter().rev());
    }

    /// Number of free blocks.
    pub fn free_count(&self) -> u32 {
        let returned = u32::try_from(self.free.len()).expect("at most `total` blocks");
        self.total - self.untouched + returned
    }

    /// Number of blocks.
    pub const fn total(&self) -> u32 {
        self.total
    }

    /// Asserts that every block is either free or in use.
    ///
    /// # Panics
    ///
    /// If one is both, or neither.
    pub fn check(&self) {
        let in_use = self.in_use.iter().filter(|&&it| it).count();
        assert_eq!(in_use + self.free_count() as usize, self.total as usize, "a block leaked");
        assert!(self.free.iter().all(|&block| !self.in_use[block as usize]));
    }

    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.untouched += 1;
            self.untouched - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_or_nothing() {
        let mut pool = BlockPool::new(3);
        let two = pool.alloc(2).expect("three are free");
        assert_eq!(pool.alloc(2), None);
        assert_eq!(pool.free_count(), 1);
        pool.free(two);
        assert_eq!(pool.alloc(3), Some(vec![0, 1, 2]), "warm blocks first, in order");
    }

    #[test]
    #[should_panic(expected = "block 0 was freed twice")]
    fn freeing_twice_is_caught() {
        let mut pool = BlockPool::new(1);
        pool.alloc(1).expect("one is free");
        pool.free(vec![0]);
        pool.free(vec![0]);
    }

    proptest! {
        #[test]
        fn no_block_is_shared_or_lost(steps in prop::collection::vec((0_u32..9, any::<bool>()), 0..200)) {
            let mut pool = BlockPool::new(32);
            let mut held: Vec<Vec<u32>> = Vec::new();
            for (count, give_back) in steps {
                if give_back && !held.is_empty() {
                    pool.free(held.swap_remove(count as usize % held.len()));
                } else if let Some(blocks) = pool.alloc(count) {
                    held.push(blocks);
                } else {
                    prop_assert!(pool.free_count() < count);
                }
                pool.check();
                let mut all: Vec<u32> = held.concat();
                let taken = all.len();
                all.sort_unstable();
                all.dedup();
                prop_assert_eq!(all.len(), taken);
                prop_assert_eq!(pool.free_count() as usize, 32 - taken);
            }
        }
    }
}
