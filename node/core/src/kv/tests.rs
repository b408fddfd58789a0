use proptest::prelude::*;

use super::*;

fn layers(first: u32, end: u32) -> LayerRange {
    LayerRange::new(first, end).expect("not empty")
}

/// Opens a table without a prefix.
fn opened(kv: &mut Kv, count: u32) -> Table {
    kv.open(layers(0, count), 0, &[]).expect("nothing is asked for")
}

/// Computes `tokens` into a table and publishes them.
fn computed(kv: &mut Kv, table: &mut Table, tokens: &[u32]) {
    let count = u32::try_from(tokens.len()).expect("short");
    assert_eq!(kv.prepare(table, 0, count), Ok(Vec::new()));
    kv.publish(table, tokens, count);
}

#[test]
fn a_column_takes_a_block_of_each_layer() {
    let mut kv = Kv::new(8, true);
    let mut table = opened(&mut kv, 3);
    assert_eq!(kv.grow(&mut table, 17), Ok(()));
    assert_eq!(**table.blocks(), [0, 1, 2, 3, 4, 5]);
    assert_eq!((kv.room(), table.tokens()), (2, 32));
    assert_eq!(kv.grow(&mut table, 33), Err(Short { blocks: 1 }));
    assert_eq!(table.tokens(), 32, "all or nothing");
    kv.release(table);
    assert_eq!(kv.room(), 8);
    kv.check([].into_iter());
}

#[test]
fn a_prefix_is_found_by_content_tenant_and_layers() {
    let mut kv = Kv::new(8, true);
    let tokens: Vec<u32> = (0..40).collect();
    let mut table = opened(&mut kv, 2);
    computed(&mut kv, &mut table, &tokens);
    let blocks = table.blocks()[..4].to_vec();
    kv.release(table);
    assert_eq!(kv.room(), 8);

    let again = kv.open(layers(0, 2), 0, &tokens[..32]).expect("cached");
    assert_eq!(**again.blocks(), blocks);
    assert_eq!(kv.room(), 4, "what is in use is not room");
    assert!(kv.open(layers(0, 2), 1, &tokens[..32]).is_none(), "another tenant");
    assert!(kv.open(layers(1, 3), 0, &tokens[..32]).is_none(), "other layers");
    assert!(kv.open(layers(0, 2), 0, &tokens[1..33]).is_none(), "other tokens");
    kv.check([&again].into_iter());
    kv.release(again);
}

#[test]
fn the_end_of_the_least_recently_used_prefix_goes_first() {
    let mut kv = Kv::new(6, true);
    let (old, new): (Vec<u32>, Vec<u32>) = ((0..32).collect(), (100..132).collect());
    for tokens in [&old, &new] {
        let mut table = opened(&mut kv, 1);
        computed(&mut kv, &mut table, tokens);
        kv.release(table);
    }
    let mut table = opened(&mut kv, 1);
    assert_eq!(kv.grow(&mut table, 48), Ok(()), "two are free, one is evicted");
    assert!(kv.open(layers(0, 1), 0, &old).is_none(), "its end is gone");
    let start = kv.open(layers(0, 1), 0, &old[..16]).expect("its start is not");
    let whole = kv.open(layers(0, 1), 0, &new).expect("used later");
    kv.check([&table, &start, &whole].into_iter());
    assert_eq!(kv.grow(&mut table, 64), Err(Short { blocks: 1 }), "all others are in use");
    [table, start, whole].into_iter().for_each(|it| kv.release(it));
}

#[test]
fn what_others_use_is_copied_before_it_is_written() {
    let mut kv = Kv::new(8, true);
    let tokens: Vec<u32> = (0..20).collect();
    let mut table = opened(&mut kv, 2);
    computed(&mut kv, &mut table, &tokens);
    let mut fork = kv.fork(&table);
    let copies = kv.prepare(&mut fork, 20, 21).expect("there is room");
    assert_eq!(copies, [BlockCopy { from: 2, to: 4 }, BlockCopy { from: 3, to: 5 }]);
    assert_eq!(**fork.blocks(), [0, 1, 4, 5]);
    assert_eq!(kv.prepare(&mut fork, 21, 22), Ok(Vec::new()), "its own by now");
    assert_eq!(kv.prepare(&mut table, 20, 21), Ok(Vec::new()), "and so is the other");
    kv.check([&table, &fork].into_iter());
    kv.release(fork);

    let mut second = kv.open(layers(0, 2), 0, &tokens[..16]).expect("published");
    let copies = kv.prepare(&mut second, 15, 16).expect("there is room");
    assert_eq!(copies.len(), 2, "a prefix that ends inside a column");
    kv.release(second);
    kv.release(table);
    let mut alone = kv.open(layers(0, 2), 0, &tokens[..16]).expect("cached");
    assert_eq!(kv.prepare(&mut alone, 15, 16), Ok(Vec::new()), "nobody else reads it");
    kv.release(alone);
    kv.check([].into_iter());
}

#[test]
fn nothing_is_cached_where_nothing_is_shared() {
    let mut kv = Kv::new(4, false);
    let tokens: Vec<u32> = (0..32).collect();
    let mut table = opened(&mut kv, 2);
    computed(&mut kv, &mut table, &tokens);
    kv.release(table);
    assert!(kv.open(layers(0, 2), 0, &tokens).is_none());
}

/// Something that may be asked of a shard's blocks.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Open a table with as much of a sequence as is cached.
    Open {
        sequence: u32,
        first: u32,
        count: u32,
    },
    /// Compute more tokens of a table.
    Compute {
        table: usize,
        tokens: u32,
    },
    Fork {
        table: usize,
    },
    Release {
        table: usize,
    },
    Forget,
}

fn any_act() -> impl Strategy<Value = Act> {
    let table = || 0_usize..8;
    prop_oneof![
        3 => (0_u32..3, 0_u32..2, 1_u32..4)
            .prop_map(|(sequence, first, count)| Act::Open { sequence, first, count }),
        6 => (table(), 1_u32..40).prop_map(|(table, tokens)| Act::Compute { table, tokens }),
        1 => table().prop_map(|table| Act::Fork { table }),
        3 => table().prop_map(|table| Act::Release { table }),
        1 => Just(Act::Forget),
    ]
}

/// Length of every sequence of the random test.
const TOKENS: u32 = 160;

/// A request of the random test.
struct User {
    table: Table,
    /// What it computes, up to `TOKENS`.
    tokens: Vec<u32>,
    computed: u32,
}

/// Token at a position of a sequence. Sequences share their first 24 tokens.
fn token(sequence: u32, at: u32) -> u32 {
    if at < 24 { at } else { at + sequence * 1000 }
}

struct World {
    kv: Kv,
    users: Vec<User>,
    forks: u32,
    /// What every block holds, by writes and copies: token, position and layer of every slot.
    slots: BTreeMap<(u32, u32), (u32, u32, u32)>,
}

impl World {
    fn play(&mut self, act: Act) {
        match act {
            Act::Open { sequence, first, count } => {
                self.open(sequence, layers(first, first + count))
            }
            Act::Compute { table, tokens } => self.compute(table, tokens),
            Act::Fork { table } if table < self.users.len() && self.users.len() < 8 => {
                self.fork(table);
            }
            Act::Release { table } if table < self.users.len() => {
                let user = self.users.swap_remove(table);
                self.kv.release(user.table);
            }
            Act::Forget => self.kv.forget_idle(),
            Act::Fork { .. } | Act::Release { .. } => {}
        }
    }

    /// Forks a request; the fork goes on with other tokens.
    fn fork(&mut self, index: usize) {
        self.forks += 1;
        let User { table, tokens, computed } = &self.users[index];
        let (computed, mut tokens) = (*computed, tokens.clone());
        let table = self.kv.fork(table);
        for at in computed.max(table.chain.columns() * 16)..TOKENS {
            tokens[at as usize] = token(100 + self.forks, at);
        }
        self.users.push(User { table, tokens, computed });
    }

    fn open(&mut self, sequence: u32, layers: LayerRange) {
        if self.users.len() == 8 {
            return;
        }
        let prefix: Vec<u32> = (0..TOKENS).map(|at| token(sequence, at)).collect();
        let found = (0..=TOKENS / 16).rev().find_map(|columns| {
            let claim = &prefix[..columns as usize * 16];
            self.kv.open(layers, 0, claim).map(|table| (table, columns * 16))
        });
        let (table, cached) = found.expect("an empty prefix is always there");
        // At least one token is always computed, as the last one's row is what a step is for.
        let user = User { table, tokens: prefix, computed: cached.saturating_sub(1) };
        self.assert_content(&user);
        self.users.push(user);
    }

    fn compute(&mut self, index: usize, count: u32) {
        let Some(user) = self.users.get_mut(index) else { return };
        let end = (user.computed + count).min(TOKENS);
        let Ok(copies) = self.kv.prepare(&mut user.table, user.computed, end) else { return };
        for BlockCopy { from, to } in copies {
            for slot in 0..16 {
                match self.slots.get(&(from, slot)).copied() {
                    Some(content) => self.slots.insert((to, slot), content),
                    None => self.slots.remove(&(to, slot)),
                };
            }
        }
        let known = &user.tokens[..end as usize];
        let count = user.table.layers.count();
        for position in user.computed..end {
            for layer in 0..count {
                let block = user.table.blocks()[(position / 16 * count + layer) as usize];
                let content =
                    (known[position as usize], position, user.table.layers.first() + layer);
                self.slots.insert((block, position % 16), content);
            }
        }
        user.computed = end;
        self.kv.publish(&mut user.table, known, end);
    }

    /// Every position that a user computed holds what it computed there, whoever wrote since.
    fn assert_content(&self, user: &User) {
        let count = user.table.layers.count();
        for (position, &token) in (0..user.computed).zip(&user.tokens) {
            for layer in 0..count {
                let block = user.table.blocks()[(position / 16 * count + layer) as usize];
                let content = (token, position, user.table.layers.first() + layer);
                assert_eq!(self.slots.get(&(block, position % 16)), Some(&content));
            }
        }
    }

    fn check(&self) {
        self.kv.check(self.users.iter().map(|it| &it.table));
        self.users.iter().for_each(|it| self.assert_content(it));
    }
}

proptest! {
    /// Whatever is asked for in whatever order: no block leaks, is lost or is written by one
    /// request while another reads it.
    #[test]
    fn requests_find_what_they_computed(
        blocks in 1_u32..40,
        acts in prop::collection::vec(any_act(), 0..150),
    ) {
        let kv = Kv::new(blocks, true);
        let mut world = World { kv, users: Vec::new(), forks: 0, slots: BTreeMap::new() };
        for act in acts {
            world.play(act);
            world.check();
        }
        for user in std::mem::take(&mut world.users) {
            world.kv.release(user.table);
        }
        world.check();
        prop_assert_eq!(world.kv.room(), blocks);
        world.kv.forget_idle();
        prop_assert_eq!(world.kv.room(), blocks);
    }
}
