//! Hands out the KV blocks of one shard, and keeps what other requests may use again.
//!
//! ```text
//!                  layer 0   layer 1   layer 2
//! tokens  0..16  [  b7    |   b2    |   b9   ]  column, shared: the prompt of two requests
//! tokens 16..32  [  b0    |   b4    |   b5   ]  column, cached: nobody uses it now
//! tokens 32..48  [  b1    |   b8    |   b3   ]  column, owned: its request writes here
//! ```
//!
//! A block holds [`BLOCK_TOKENS`] consecutive tokens in one layer, so a request that computes a part
//! of a shard's layers takes blocks for that part only. Requests grow by *columns*: one block for
//! each of their layers. Columns are counted by their users. A column that is whole and computed is
//! *published* under the chained hash of all tokens up to its end, salted by tenant; it stays cached
//! when its last user leaves, until its blocks are needed: least recently used first. A column that
//! others use is copied before it is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_wire::LayerRange;

use self::blocks::Blocks;
use self::columns::{ColumnId, Columns, Published};
pub use self::prefix::Chain;

mod blocks;
mod columns;
mod prefix;
#[cfg(test)]
mod tests;

/// Tokens per block. A request wastes half a column on average; tables stay short.
pub const BLOCK_TOKENS: u32 = 16;

/// Returns how many columns hold `tokens` tokens.
pub const fn columns_for(tokens: u32) -> u32 {
    tokens.div_ceil(BLOCK_TOKENS)
}

/// The blocks of one shard.
#[derive(Debug)]
pub struct Kv {
    blocks: Blocks,
    columns: Columns,
    /// Published columns. The hash alone may collide, so what it stands for is compared as well.
    published: BTreeMap<(u64, LayerRange), ColumnId>,
    /// Whether columns are published at all.
    shares: bool,
}

/// The columns of one request. It is given back by [`Kv::release`] and in no other way, so that no
/// block is given back twice.
#[derive(Debug)]
#[must_use = "a table that is dropped leaks its blocks"]
pub struct Table {
    layers: LayerRange,
    columns: Vec<ColumnId>,
    /// Block-major: those of the first column, one per layer, then those of the next. Shared with
    /// steps, which read it while the next ones are prepared.
    blocks: Arc<Vec<u32>>,
    /// Hashes of the columns published so far, which are the first ones.
    chain: Chain,
}

/// Too few blocks are free or can be freed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Short {
    /// How many more are needed.
    pub blocks: u32,
}

/// Contents of one block to copy to another before a step writes there.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BlockCopy {
    /// Read.
    pub from: u32,
    /// Overwritten.
    pub to: u32,
}

impl Table {
    /// Blocks in order of position: one for each layer of the request, then those of the next 16
    /// tokens.
    pub const fn blocks(&self) -> &Arc<Vec<u32>> {
        &self.blocks
    }

    /// Tokens there is room for.
    pub fn tokens(&self) -> u32 {
        self.columns_len() * BLOCK_TOKENS
    }

    fn columns_len(&self) -> u32 {
        u32::try_from(self.columns.len()).expect("bounded by the blocks of a shard")
    }

    fn push(&mut self, column: ColumnId, blocks: &[u32]) {
        self.columns.push(column);
        Arc::make_mut(&mut self.blocks).extend_from_slice(blocks);
    }
}

impl Kv {
    /// Creates `blocks` free blocks. Without `shares` nothing outlives its request.
    pub fn new(blocks: u32, shares: bool) -> Self {
        Self {
            blocks: Blocks::new(blocks),
            columns: Columns::default(),
            published: BTreeMap::new(),
            shares,
        }
    }

    /// Number of blocks.
    pub const fn total(&self) -> u32 {
        self.blocks.total()
    }

    /// Blocks that are free, or cached for nobody in particular.
    pub fn room(&self) -> u32 {
        self.blocks.free() + self.columns.idle_blocks()
    }

    /// Opens a table of `layers` that starts with the columns of `prefix`, which is whole columns
    /// of tokens of `tenant`. `None` if some of them are not there.
    pub fn open(&mut self, layers: LayerRange, tenant: u64, prefix: &[u32]) -> Option<Table> {
        let mut chain = Chain::new(tenant);
        let mut columns = Vec::new();
        for tokens in prefix.as_chunks().0 {
            columns.push(self.find(layers, &mut chain, tokens)?);
        }
        let mut table = Table { layers, columns: Vec::new(), blocks: Arc::default(), chain };
        for column in columns {
            self.columns.join(column);
            table.push(column, self.columns.blocks(column));
        }
        Some(table)
    }

    /// Opens a second table with the same content. Both copy before they write what they share.
    pub fn fork(&mut self, table: &Table) -> Table {
        table.columns.iter().for_each(|&it| self.columns.join(it));
        Table {
            layers: table.layers,
            columns: table.columns.clone(),
            blocks: Arc::clone(&table.blocks),
            chain: table.chain,
        }
    }

    /// Makes room for the positions below `tokens`, of which nothing may be written yet.
    ///
    /// # Errors
    ///
    /// If there are too few blocks; nothing has changed then.
    pub fn grow(&mut self, table: &mut Table, tokens: u32) -> Result<(), Short> {
        let more = columns_for(tokens).saturating_sub(table.columns_len());
        let needed = more.saturating_mul(table.layers.count());
        let short = needed.saturating_sub(self.room());
        if short > 0 {
            return Err(Short { blocks: short });
        }
        for _ in 0..more {
            let column = self.add(table.layers);
            table.push(column, self.columns.blocks(column));
        }
        Ok(())
    }

    /// Makes the positions `first..end` writable, `first` being at most the end of the table.
    /// Returns the copies that must come before the writes: one per layer of a column that others
    /// use.
    ///
    /// # Errors
    ///
    /// If there are too few blocks. The table may have grown, but names no other blocks then.
    pub fn prepare(
        &mut self,
        table: &mut Table,
        first: u32,
        end: u32,
    ) -> Result<Vec<BlockCopy>, Short> {
        self.grow(table, end)?;
        let written = (first / BLOCK_TOKENS) as usize..columns_for(end) as usize;
        // A column of one user is written in place even while it is published: only tokens that
        // the hash stands for are computed again there, to the same values.
        let shared = |kv: &Self, table: &Table, at| kv.columns.users(table.columns[at]) > 1;
        let copied = written.clone().filter(|&at| shared(self, table, at)).count();
        let needed = u32::try_from(copied).expect("columns are few") * table.layers.count();
        let short = needed.saturating_sub(self.room());
        if short > 0 {
            return Err(Short { blocks: short });
        }
        let mut copies = Vec::new();
        for at in written {
            if shared(self, table, at) {
                self.copy(table, at, &mut copies);
            }
        }
        Ok(copies)
    }

    /// Publishes the columns whose tokens are known and computed. `tokens` are those of the
    /// request from the start, of which `computed` are computed.
    pub fn publish(&mut self, table: &mut Table, tokens: &[u32], computed: u32) {
        let whole = computed.min(u32::try_from(tokens.len()).unwrap_or(u32::MAX)) / BLOCK_TOKENS;
        if !self.shares || table.chain.columns() >= whole {
            return;
        }
        for at in table.chain.columns()..whole {
            let from = (at * BLOCK_TOKENS) as usize;
            let tokens = tokens[from..].first_chunk().expect("counted as whole");
            let before = table.chain.hash();
            let hash = table.chain.push(tokens);
            // The first to compute a column publishes it; another's is as good.
            let column = table.columns[at as usize];
            self.published.entry((hash, table.layers)).or_insert_with(|| {
                let published = Published { hash, before, layers: table.layers, tokens: *tokens };
                self.columns.publish(column, published);
                column
            });
        }
    }

    /// Takes a table back. Published columns that nobody uses stay cached.
    pub fn release(&mut self, table: Table) {
        // The end goes first, so that it is also evicted first: a prefix is of use without it, but
        // not the other way round.
        for &column in table.columns.iter().rev() {
            if self.columns.leave(column) {
                self.drop_column(column);
            }
        }
    }

    /// Forgets every cached column that nobody uses.
    pub fn forget_idle(&mut self) {
        while self.evict() {}
    }

    /// Asserts that every block is free or in exactly one column, and that columns are counted by
    /// the tables that name them.
    ///
    /// # Panics
    ///
    /// If a block leaked, was lost, or is shared by mistake.
    pub fn check<'a>(&self, tables: impl Iterator<Item = &'a Table>) {
        let mut users = BTreeMap::new();
        for table in tables {
            for (at, &column) in table.columns.iter().enumerate() {
                *users.entry(column).or_insert(0) += 1;
                let layers = table.layers.count() as usize;
                let blocks = &table.blocks[at * layers..][..layers];
                assert_eq!(blocks, self.columns.blocks(column), "a table names other blocks");
            }
        }
        self.blocks.check(self.columns.check(&users, &self.published));
    }

    /// Finds the next column of a prefix, comparing what its hash stands for.
    fn find(
        &self,
        layers: LayerRange,
        chain: &mut Chain,
        tokens: &[u32; BLOCK_TOKENS as usize],
    ) -> Option<ColumnId> {
        let before = chain.hash();
        let hash = chain.push(tokens);
        let column = *self.published.get(&(hash, layers))?;
        let same = |it: &Published| it.before == before && it.tokens == *tokens;
        self.columns.published(column).is_some_and(same).then_some(column)
    }

    /// Replaces a column of a table by a copy of its own, for which there must be room.
    fn copy(&mut self, table: &mut Table, at: usize, copies: &mut Vec<BlockCopy>) {
        let layers = table.layers.count() as usize;
        let (old, new) = (table.columns[at], self.add(table.layers));
        let blocks = &mut Arc::make_mut(&mut table.blocks)[at * layers..][..layers];
        let pairs = blocks.iter_mut().zip(self.columns.blocks(new));
        copies
            .extend(pairs.map(|(block, &to)| BlockCopy { from: std::mem::replace(block, to), to }));
        table.columns[at] = new;
        assert!(!self.columns.leave(old), "a column that was copied has other users");
    }

    /// Adds a column of fresh blocks, for which there must be room, with one user.
    fn add(&mut self, layers: LayerRange) -> ColumnId {
        while self.blocks.free() < layers.count() {
            assert!(self.evict(), "the caller made sure of the room");
        }
        self.columns.add(self.blocks.take(layers.count()))
    }

    /// Frees the cached column that was not used for longest, if there is one.
    fn evict(&mut self) -> bool {
        let oldest = self.columns.take_oldest_idle();
        oldest.inspect(|&column| self.drop_column(column)).is_some()
    }

    fn drop_column(&mut self, column: ColumnId) {
        let (blocks, published) = self.columns.remove(column);
        if let Some(it) = published {
            self.published.remove(&(it.hash, it.layers));
        }
        self.blocks.give_back(&blocks);
    }
}
