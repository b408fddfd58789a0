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
//!
//! Values are kept as [`KvType`] says, and attended to in F32. A token is written once and read in the
//! same bits by everybody, so that batches and cuts change nothing whatever the type.

mod export;
mod store;

pub(crate) use export::BlockFormat;
pub use export::KvBlocksError;
pub(crate) use store::Floats;
pub use store::{KvType, UnknownKvType};

use store::{Block, Store};
use thalweg_wire::LayerRange;

use crate::workers::Workers;

/// Tokens of one block.
pub const BLOCK_TOKENS: usize = 16;

/// Values side by side: the tokens of a block, or as many dimensions of a head.
pub(crate) const LANES: usize = BLOCK_TOKENS;

/// Storing a value takes as long as so many multiply-adds of a product.
const STORING_WORK: usize = 32;

/// Values side by side, as attention reads them.
pub(crate) type Line = [f32; LANES];

/// Keys and values of a shard's layers.
#[derive(Debug)]
pub(crate) struct Cache {
    kv_heads: usize,
    head_size: usize,
    store: Store,
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

/// Where one token of a layer is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    block: usize,
    /// Number of the token in the block.
    token: usize,
}

impl Slot {
    /// Number of the slot among those of all blocks.
    pub(crate) fn number(self) -> usize {
        self.block * BLOCK_TOKENS + self.token
    }
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

    /// Where the token at `position` is.
    pub(crate) fn slot(self, position: usize) -> Slot {
        let block = self.blocks[position / BLOCK_TOKENS * self.stride] as usize;
        Slot { block, token: position % BLOCK_TOKENS }
    }
}

impl Cache {
    /// Sets aside `blocks` blocks of tokens with `kv_heads` keys and values of `head_size` each.
    pub(crate) fn new(kind: KvType, blocks: usize, kv_heads: usize, head_size: usize) -> Self {
        let heads = blocks * kv_heads;
        let value_lines = head_size.div_ceil(LANES) * BLOCK_TOKENS;
        Self { kv_heads, head_size, store: Store::new(kind, heads, (head_size, value_lines)) }
    }

    /// Stores keys and values of some tokens, all heads of a token side by side, each in its slot;
    /// overwrites what the slots held.
    pub(crate) fn append(
        &mut self,
        slots: &[Slot],
        keys: &[f32],
        values: &[f32],
        workers: &Workers,
    ) {
        let mut rows: Vec<usize> = (0..slots.len()).collect();
        rows.sort_by_key(|&row| slots[row].block);
        let groups: Vec<&[usize]> =
            rows.chunk_by(|&one, &other| slots[one].block == slots[other].block).collect();
        let blocks: Vec<usize> = groups.iter().map(|rows| slots[rows[0]].block).collect();
        let blocks = self.store.blocks(&blocks, self.kv_heads);
        let (width, head_size) = (self.kv_heads * self.head_size, self.head_size);
        let tasks = groups.into_iter().zip(blocks).collect();
        workers.each(
            tasks,
            keys.len() * STORING_WORK,
            |(rows, mut block): (&[usize], Block<'_>)| {
                for &row in rows {
                    let values_of = row * width..(row + 1) * width;
                    let (key, value) = (&keys[values_of.clone()], &values[values_of]);
                    block.write(slots[row].token, head_size, key, value);
                }
            },
        );
    }

    /// Overwrites block `to` with what block `from` holds.
    pub(crate) fn copy(&mut self, from: u32, to: u32) {
        self.store.copy(from as usize, to as usize, self.kv_heads);
    }

    /// Keys of one head in a block: for each dimension the values of all tokens. `room` is for those
    /// that are kept as codes.
    #[inline(always)]
    pub(crate) fn keys<'a>(
        &'a self,
        block: u32,
        head: usize,
        room: &'a mut Vec<Line>,
    ) -> Floats<'a> {
        self.store.keys(block as usize * self.kv_heads + head, room)
    }

    /// Values of one head in a block: for each run of dimensions those of all tokens in turn.
    #[inline(always)]
    pub(crate) fn values<'a>(
        &'a self,
        block: u32,
        head: usize,
        room: &'a mut Vec<Line>,
    ) -> Floats<'a> {
        self.store.values(block as usize * self.kv_heads + head, room)
    }

    /// Key and value heads.
    pub(crate) fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// Values of one head.
    pub(crate) fn head_size(&self) -> usize {
        self.head_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Cache {
        /// Stores key and value of the token at `position`.
        pub(crate) fn write(
            &mut self,
            table: LayerTable<'_>,
            position: usize,
            key: &[f32],
            value: &[f32],
        ) {
            let workers = Workers::new(1).expect("no thread");
            self.append(&[table.slot(position)], key, value, &workers);
        }
    }

    #[test]
    fn a_token_is_found_in_its_block() {
        // Small whole numbers, which all types keep to within a part of 127.
        let row: Vec<f32> = (0..40u8).map(f32::from).collect();
        let negated: Vec<f32> = row.iter().map(|it| -it).collect();
        let layers = LayerRange::new(5, 7).expect("not empty");
        let table = Table { blocks: &[0, 3, 2, 1], layers };
        assert_eq!(table.layer(5).from(1).collect::<Vec<_>>(), [2]);
        for (kind, error) in [(KvType::F32, 0.0), (KvType::F16, 0.0), (KvType::Int8, 0.16)] {
            let mut cache = Cache::new(kind, 4, 2, 20);
            cache.write(table.layer(6), 17, &row, &negated);
            let keys = |cache: &Cache, block, head| cache.keys(block, head, &mut vec![]).to_vec();
            let values =
                |cache: &Cache, block, head| cache.values(block, head, &mut vec![]).to_vec();
            for dimension in 0..20 {
                let key = keys(&cache, 1, 1)[dimension][1];
                assert!((key - row[20 + dimension]).abs() <= error, "{kind:?} {key}");
                let line = dimension / LANES * BLOCK_TOKENS + 1;
                let value = values(&cache, 1, 1)[line][dimension % LANES];
                assert!((value - negated[20 + dimension]).abs() <= error, "{kind:?} {value}");
            }
            assert!(keys(&cache, 3, 1).iter().flatten().all(|&it| it == 0.0));
            cache.copy(1, 3);
            assert_eq!(keys(&cache, 3, 1), keys(&cache, 1, 1));
            assert_eq!(values(&cache, 3, 1), values(&cache, 1, 1));
            assert!(keys(&cache, 2, 0).iter().flatten().all(|&it| it == 0.0));
        }
    }

    #[test]
    fn tokens_of_a_batch_are_stored_as_one_by_one() {
        let mut random = fastrand::Rng::with_seed(1);
        let layers = LayerRange::new(0, 1).expect("not empty");
        let tables = [Table { blocks: &[5, 0, 9], layers }, Table { blocks: &[3, 7, 2], layers }];
        // A prompt over three blocks, the next token of another request, and a slot that is written twice.
        let mut slots: Vec<Slot> = (7..40).map(|it| tables[0].layer(0).slot(it)).collect();
        slots.extend([20, 7, 20].map(|it| tables[1].layer(0).slot(it)));
        let mut rows = || (0..slots.len() * 40).map(|_| random.f32() - 0.5).collect::<Vec<f32>>();
        let (keys, values) = (rows(), rows());
        let workers = [1, 3].map(|it| Workers::new(it).expect("threads start"));
        for kind in [KvType::F32, KvType::F16, KvType::Int8] {
            let [mut together, mut alone] = [(); 2].map(|()| Cache::new(kind, 10, 2, 20));
            together.append(&slots, &keys, &values, &workers[1]);
            let rows = keys.chunks_exact(40).zip(values.chunks_exact(40));
            for (slot, (key, value)) in slots.iter().zip(rows) {
                alone.append(&[*slot], key, value, &workers[0]);
            }
            let blocks: Vec<u32> = (0..10).collect();
            assert_eq!(together.export(&blocks), alone.export(&blocks), "{kind:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_still_none_when_it_is_read() {
        let table = Table { blocks: &[0], layers: LayerRange::new(0, 1).expect("not empty") };
        for kind in [KvType::F32, KvType::F16, KvType::Int8] {
            for wrong in [f32::NAN, f32::INFINITY] {
                let mut cache = Cache::new(kind, 1, 1, 4);
                cache.write(table.layer(0), 2, &[1.0, wrong, 2.0, 3.0], &[0.0, 1.0, wrong, 2.0]);
                assert!(!cache.keys(0, 0, &mut vec![]).to_vec()[1][2].is_finite(), "{kind:?}");
                assert!(!cache.values(0, 0, &mut vec![]).to_vec()[2][2].is_finite(), "{kind:?}");
            }
        }
    }
}
