//! The layers a host holds, the plans that use them, and who waits for them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use thalweg_wire::{Epoch, LayerRange, Phase, RequestId};

use super::request::Request;
use super::{Loaded, TensorId};
use crate::kv::{BLOCK_TOKENS, BlockPool};

/// All layers a host holds. Several plans overlap while one replaces the other.
#[derive(Debug, Default)]
pub(super) struct Shards {
    /// By the epoch they were loaded for.
    held: BTreeMap<Epoch, Shard>,
    /// Plans that take new requests, with the layers they use.
    open: BTreeMap<Epoch, Epoch>,
}

/// Layers loaded together, with their KV blocks and their queues.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) layers: LayerRange,
    pub(super) first: bool,
    pub(super) last: bool,
    pub(super) batch_max: u32,
    pool: BlockPool,
    /// Requests whose next row is a decode step, in order of arrival.
    pub(super) decode: VecDeque<RequestId>,
    /// Requests whose next rows are a part of the prompt, in order of arrival.
    pub(super) prefill: VecDeque<RequestId>,
}

impl Shards {
    /// Takes in layers that were loaded.
    pub(super) fn load(&mut self, loaded: Loaded) {
        let Loaded { epoch, layers, kv_blocks, batch_max, first, last } = loaded;
        let shard = Shard {
            layers,
            first,
            last,
            batch_max: batch_max.max(1),
            pool: BlockPool::new(kv_blocks),
            decode: VecDeque::new(),
            prefill: VecDeque::new(),
        };
        let before = self.held.insert(epoch, shard);
        assert!(before.is_none(), "layers of epoch {epoch} were loaded twice");
        self.open.insert(epoch, epoch);
    }

    /// Lets `epoch` use the layers that `from` uses. Without such layers `epoch` stays unknown,
    /// and its requests are refused.
    pub(super) fn keep(&mut self, epoch: Epoch, from: Epoch, batch_max: u32) {
        if let Some(&shard) = self.open.get(&from) {
            self.open.insert(epoch, shard);
            self.held_mut(shard).batch_max = batch_max.max(1);
        }
    }

    /// Takes no new requests for `epoch`.
    pub(super) fn retire(&mut self, epoch: Epoch) {
        self.open.remove(&epoch);
    }

    /// Removes layers that no plan uses and that are not `needed` any more. Returns their names.
    pub(super) fn remove_unneeded(&mut self, needed: impl Fn(Epoch) -> bool) -> Vec<Epoch> {
        let open = &self.open;
        let unneeded = |epoch: &Epoch| !open.values().any(|it| it == epoch) && !needed(*epoch);
        self.held.extract_if(.., |epoch, _| unneeded(epoch)).map(|(epoch, _)| epoch).collect()
    }

    /// The layers with work that come next after those of `last`: all layers take turns.
    pub(super) fn next_queued(&self, last: Epoch) -> Option<Epoch> {
        let after = self.held.range((Bound::Excluded(last), Bound::Unbounded));
        let mut turns = after.chain(self.held.range(..=last));
        turns.find(|(_, shard)| shard.queued() > 0).map(|(&epoch, _)| epoch)
    }

    /// The layers that a plan uses, if it takes new requests.
    pub(super) fn of_plan(&mut self, epoch: Epoch) -> Option<(Epoch, &mut Shard)> {
        let shard = *self.open.get(&epoch)?;
        Some((shard, self.held_mut(shard)))
    }

    /// The layers loaded for `epoch`.
    ///
    /// # Panics
    ///
    /// If they are gone, which cannot be while a request uses them.
    pub(super) fn held_mut(&mut self, epoch: Epoch) -> &mut Shard {
        self.held.get_mut(&epoch).expect("layers outlive their requests")
    }

    /// The layers of the latest plan.
    pub(super) fn latest(&self) -> Option<&Shard> {
        self.open.last_key_value().and_then(|(_, shard)| self.held.get(shard))
    }

    /// Whether any request waits for a step.
    pub(super) fn any_queued(&self) -> bool {
        self.held.values().any(|it| it.queued() > 0)
    }

    /// Asserts that blocks and queues agree with what the requests say of each shard.
    pub(super) fn check(&self, blocks: impl Fn(Epoch) -> usize, queued: impl Fn(Epoch) -> usize) {
        for (&epoch, shard) in &self.held {
            shard.pool.check();
            let taken = shard.pool.total() - shard.pool.free_count();
            assert_eq!(taken as usize, blocks(epoch), "blocks of epoch {epoch} leaked");
            assert_eq!(shard.queued(), queued(epoch), "queues of epoch {epoch} disagree");
        }
        assert!(self.open.values().all(|shard| self.held.contains_key(shard)));
    }
}

impl Shard {
    /// Takes `count` blocks, or none and `None` if there is no room now.
    pub(super) fn alloc(&mut self, count: u32) -> Option<Vec<u32>> {
        self.pool.alloc(count)
    }

    /// Frees the blocks of a request. Returns the tensors it did not use.
    pub(super) fn take_back(&mut self, mut request: Request) -> Vec<TensorId> {
        self.pool.free(std::mem::take(&mut request.blocks));
        request.into_rows().collect()
    }

    /// Puts a request at the end of its queue.
    pub(super) fn queue(&mut self, id: RequestId, phase: Phase) {
        match phase {
            Phase::Prefill => self.prefill.push_back(id),
            Phase::Decode => self.decode.push_back(id),
        }
    }

    /// Takes a request out of its queue.
    pub(super) fn unqueue(&mut self, id: RequestId) {
        self.prefill.retain(|&it| it != id);
        self.decode.retain(|&it| it != id);
    }

    /// Tokens of which the free blocks have room.
    pub(super) fn kv_free_tokens(&self) -> u64 {
        u64::from(self.pool.free_count()) * u64::from(BLOCK_TOKENS)
    }

    fn queued(&self) -> usize {
        self.prefill.len() + self.decode.len()
    }
}
