//! The columns of a shard: who uses them, and which are cached for nobody.

use std::collections::BTreeMap;

use thalweg_wire::LayerRange;

use super::BLOCK_TOKENS;

/// Names a column among those of its shard.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct ColumnId(u32);

/// What a published column holds.
#[derive(Clone, Debug)]
pub(super) struct Published {
    /// Of all tokens up to its end.
    pub(super) hash: u64,
    /// Of all tokens up to its start.
    pub(super) before: u64,
    pub(super) layers: LayerRange,
    pub(super) tokens: [u32; BLOCK_TOKENS as usize],
}

/// All columns of a shard.
#[derive(Debug)]
pub(super) struct Columns {
    slots: Vec<Column>,
    /// Slots without a column.
    vacant: Vec<ColumnId>,
    /// Ends of the list of idle columns: published, but without a user.
    oldest: Option<ColumnId>,
    newest: Option<ColumnId>,
    idle_blocks: u32,
}

#[derive(Debug, Default)]
struct Column {
    /// One per layer; none in a vacant slot.
    blocks: Box<[u32]>,
    users: u32,
    published: Option<Box<Published>>,
    /// Neighbours in the list of idle columns.
    older: Option<ColumnId>,
    newer: Option<ColumnId>,
}

impl Default for Columns {
    fn default() -> Self {
        let (slots, vacant) = (Vec::new(), Vec::new());
        Self { slots, vacant, oldest: None, newest: None, idle_blocks: 0 }
    }
}

impl Columns {
    /// Adds a column of `blocks` with one user.
    pub(super) fn add(&mut self, blocks: Box<[u32]>) -> ColumnId {
        let column = Column { blocks, users: 1, ..Column::default() };
        if let Some(id) = self.vacant.pop() {
            *self.at(id) = column;
            return id;
        }
        let id = u32::try_from(self.slots.len()).expect("a column has a block");
        self.slots.push(column);
        ColumnId(id)
    }

    /// Adds a user.
    pub(super) fn join(&mut self, id: ColumnId) {
        if self.at(id).users == 0 {
            self.unlink(id);
        }
        self.at(id).users += 1;
    }

    /// Removes a user. Returns whether the column is of no use to anybody; if it is published it
    /// becomes the newest idle one.
    pub(super) fn leave(&mut self, id: ColumnId) -> bool {
        let column = self.at(id);
        column.users = column.users.checked_sub(1).expect("users leave once");
        if column.users > 0 {
            return false;
        }
        if column.published.is_none() {
            return true;
        }
        self.link(id);
        false
    }

    /// Removes a column without users. Returns its blocks and what it held.
    pub(super) fn remove(&mut self, id: ColumnId) -> (Box<[u32]>, Option<Box<Published>>) {
        let column = std::mem::take(self.at(id));
        assert_eq!(column.users, 0, "a column in use stays");
        self.vacant.push(id);
        (column.blocks, column.published)
    }

    /// Takes the oldest column out of the list of idle ones.
    pub(super) fn take_oldest_idle(&mut self) -> Option<ColumnId> {
        let oldest = self.oldest?;
        self.unlink(oldest);
        Some(oldest)
    }

    /// Notes what a column holds.
    pub(super) fn publish(&mut self, id: ColumnId, published: Published) {
        self.at(id).published = Some(Box::new(published));
    }

    /// Blocks of all idle columns.
    pub(super) const fn idle_blocks(&self) -> u32 {
        self.idle_blocks
    }

    /// Blocks of a column, one per layer.
    pub(super) fn blocks(&self, id: ColumnId) -> &[u32] {
        &self.slots[id.0 as usize].blocks
    }

    /// Number of tables that name a column.
    pub(super) fn users(&self, id: ColumnId) -> u32 {
        self.slots[id.0 as usize].users
    }

    /// What a column holds, if it is published.
    pub(super) fn published(&self, id: ColumnId) -> Option<&Published> {
        self.slots[id.0 as usize].published.as_deref()
    }

    /// Asserts that counts and lists agree with `users` and `published`. Returns every block.
    pub(super) fn check(
        &self,
        users: &BTreeMap<ColumnId, u32>,
        published: &BTreeMap<(u64, LayerRange), ColumnId>,
    ) -> impl Iterator<Item = u32> {
        let mut idle_blocks = 0;
        let mut shown = 0;
        for (id, column) in (0..).map(ColumnId).zip(&self.slots) {
            let expected = users.get(&id).copied().unwrap_or(0);
            assert_eq!(column.users, expected, "users of {id:?}");
            let Some(it) = &column.published else {
                assert!(expected > 0 || column.blocks.is_empty(), "{id:?} is of no use");
                continue;
            };
            shown += 1;
            assert_eq!(published.get(&(it.hash, it.layers)), Some(&id), "{id:?} cannot be found");
            idle_blocks += if expected == 0 { column.blocks.len() } else { 0 };
        }
        assert_eq!(published.len(), shown, "a name without a column");
        assert_eq!(self.idle_blocks as usize, idle_blocks, "idle blocks were miscounted");
        let mut next = self.oldest;
        while let Some(id) = next {
            let column = &self.slots[id.0 as usize];
            assert!(column.users == 0 && column.published.is_some(), "{id:?} is not idle");
            idle_blocks -= column.blocks.len();
            next = column.newer;
        }
        assert_eq!(idle_blocks, 0, "an idle column cannot be evicted");
        self.slots.iter().flat_map(|it| it.blocks.iter().copied())
    }

    /// Puts a column at the newest end of the idle ones.
    fn link(&mut self, id: ColumnId) {
        let older = self.newest.replace(id);
        match older {
            Some(older) => self.at(older).newer = Some(id),
            None => self.oldest = Some(id),
        }
        let column = self.at(id);
        (column.older, column.newer) = (older, None);
        self.idle_blocks += self.layers(id);
    }

    /// Takes a column out of the idle ones.
    fn unlink(&mut self, id: ColumnId) {
        let column = self.at(id);
        let (older, newer) = (column.older.take(), column.newer.take());
        match older {
            Some(older) => self.at(older).newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.at(newer).older = older,
            None => self.newest = older,
        }
        self.idle_blocks -= self.layers(id);
    }

    fn layers(&self, id: ColumnId) -> u32 {
        u32::try_from(self.blocks(id).len()).expect("one block per layer")
    }

    fn at(&mut self, id: ColumnId) -> &mut Column {
        &mut self.slots[id.0 as usize]
    }
}
