//! Which blocks are free.

/// The blocks of one shard.
///
/// Freed blocks are handed out last-in first-out: their memory is most likely still in a cache,
/// and memory never touched stays untouched.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Blocks given back, latest last.
    returned: Vec<u32>,
    /// Blocks from here on were never handed out.
    untouched: u32,
    total: u32,
    in_use: Vec<bool>,
}

impl Blocks {
    /// Creates a pool of `total` free blocks.
    pub(super) fn new(total: u32) -> Self {
        Self { returned: Vec::new(), untouched: 0, total, in_use: vec![false; total as usize] }
    }

    /// Takes `count` blocks, which must be free.
    pub(super) fn take(&mut self, count: u32) -> Box<[u32]> {
        (0..count).map(|_| self.take_one()).collect()
    }

    /// Gives blocks back.
    ///
    /// # Panics
    ///
    /// If a block is not in use: two columns would write to it.
    pub(super) fn give_back(&mut self, blocks: &[u32]) {
        for &block in blocks.iter().rev() {
            let in_use = &mut self.in_use[block as usize];
            assert!(*in_use, "block {block} was freed twice");
            *in_use = false;
            self.returned.push(block);
        }
    }

    /// Number of free blocks.
    pub(super) fn free(&self) -> u32 {
        let returned = u32::try_from(self.returned.len()).expect("at most `total` blocks");
        self.total - self.untouched + returned
    }

    /// Number of blocks.
    pub(super) const fn total(&self) -> u32 {
        self.total
    }

    /// Asserts that the blocks in use are those of `columns`, each of which is in one column.
    pub(super) fn check(&self, columns: impl Iterator<Item = u32>) {
        let mut owned = vec![false; self.total as usize];
        for block in columns {
            assert!(!owned[block as usize], "block {block} is in two columns");
            owned[block as usize] = true;
        }
        assert_eq!(owned, self.in_use, "a block leaked");
        let taken = self.in_use.iter().filter(|&&it| it).count();
        assert_eq!(taken + self.free() as usize, self.total as usize, "a block was lost");
        assert!(self.returned.iter().all(|&block| !self.in_use[block as usize]));
    }

    fn take_one(&mut self) -> u32 {
        let block = self.returned.pop().unwrap_or_else(|| {
            self.untouched += 1;
            self.untouched - 1
        });
        let in_use = &mut self.in_use[block as usize];
        assert!(!*in_use, "block {block} was handed out twice");
        *in_use = true;
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_blocks_go_first_in_order() {
        let mut blocks = Blocks::new(3);
        let two = blocks.take(2);
        assert_eq!(blocks.free(), 1);
        blocks.give_back(&two);
        assert_eq!(*blocks.take(3), [0, 1, 2]);
        assert_eq!(blocks.free(), 0);
    }

    #[test]
    #[should_panic(expected = "block 0 was freed twice")]
    fn freeing_twice_is_caught() {
        let mut blocks = Blocks::new(1);
        let one = blocks.take(1);
        blocks.give_back(&one);
        blocks.give_back(&one);
    }
}
