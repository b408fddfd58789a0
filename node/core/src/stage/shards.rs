//! The layers a host holds, the plans that use them, and who waits for them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use thalweg_wire::{Epoch, LayerRange, Phase};

use super::admission::TurnedAway;
use super::budget::Curves;
use super::request::{Rank, Request, State};
use super::requests::{Requests, Slot};
use super::{Loaded, Pace, TensorId};
use crate::fair::FairQueue;
use crate::kv::{BLOCK_TOKENS, Kv};
use crate::machine::Time;
use crate::policy::StagePolicy;

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
    pub(super) pace: Pace,
    pub(super) curves: Curves,
    pub(super) kv: Kv,
    /// Requests whose next row is a decode step. Their age is that of the row: by that of the
    /// request, the oldest would decode twice before others do once.
    pub(super) decode: FairQueue<Slot>,
    /// Requests whose next rows are a part of the prompt.
    pub(super) prefill: FairQueue<Slot>,
    /// Rows of the prompts that wait.
    pub(super) prefill_rows: u64,
    rows_queued: u64,
    /// Everybody who holds blocks; the last gives way first.
    pub(super) ranks: BTreeSet<(Rank, Slot)>,
    /// What the requests that decode have of their time here, see [`share_of_time`].
    pub(super) decode_share: u64,
    /// How many these are.
    pub(super) decoding: u32,
    /// Since when there is work for a step.
    pub(super) ready_since: Option<Time>,
    pub(super) turned_away: Option<TurnedAway>,
    /// Mean time of a step of late, in microseconds.
    pub(super) step_us: u64,
}

impl Shards {
    /// Takes in layers that were loaded.
    pub(super) fn load(&mut self, loaded: Loaded, policy: StagePolicy) {
        let Loaded { epoch, layers, kv_blocks, pace, profile, first, last } = loaded;
        let shard = Shard {
            layers,
            first,
            last,
            pace,
            curves: Curves::new(&profile, layers, last),
            kv: Kv::new(kv_blocks, policy.prefix_cache),
            decode: FairQueue::default(),
            prefill: FairQueue::default(),
            prefill_rows: 0,
            rows_queued: 0,
            ranks: BTreeSet::new(),
            decode_share: 0,
            decoding: 0,
            ready_since: None,
            turned_away: None,
            step_us: 0,
        };
        let before = self.held.insert(epoch, shard);
        assert!(before.is_none(), "layers of epoch {epoch} were loaded twice");
        self.open.insert(epoch, epoch);
    }

    /// Lets `epoch` use the layers that `from` uses. Without such layers `epoch` stays unknown,
    /// and its requests are refused.
    pub(super) fn keep(&mut self, epoch: Epoch, from: Epoch, pace: Pace) {
        if let Some(&shard) = self.open.get(&from) {
            self.open.insert(epoch, shard);
            self.held_mut(shard).pace = pace;
        }
    }

    /// Takes no new requests for `epoch`.
    pub(super) fn retire(&mut self, epoch: Epoch) {
        self.open.remove(&epoch);
    }

    /// Removes layers that neither a plan nor a request uses, except those that are `busy`.
    /// Returns their names.
    pub(super) fn remove_unneeded(&mut self, busy: Option<Epoch>) -> Vec<Epoch> {
        let open = &self.open;
        let unneeded = |epoch: Epoch, shard: &Shard| {
            shard.ranks.is_empty() && busy != Some(epoch) && !open.values().any(|&it| it == epoch)
        };
        if !self.held.iter().any(|(&epoch, shard)| unneeded(epoch, shard)) {
            return Vec::new();
        }
        self.held.extract_if(.., |&epoch, shard| unneeded(epoch, shard)).map(|it| it.0).collect()
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

    /// Asserts that blocks, queues and counts agree with what the requests say of each shard.
    pub(super) fn check(&self, requests: &Requests) {
        for (&epoch, shard) in &self.held {
            let here = || requests.iter().filter(move |(_, it)| it.shard == epoch);
            shard.kv.check(here().map(|(_, it)| &it.table));
            let ranks: BTreeSet<_> = here().map(|(slot, it)| (it.rank, slot)).collect();
            assert_eq!(shard.ranks, ranks, "requests of epoch {epoch}");
            let queued = here().filter(|(_, it)| it.state.is_queued()).count();
            assert_eq!(shard.queued(), queued, "queues of epoch {epoch} disagree");
            let share: u64 =
                here().filter(|(_, it)| it.decodes).map(|(_, it)| share_of_time(it)).sum();
            assert_eq!(shard.decode_share, share, "who decodes in epoch {epoch}");
            let decoding = here().filter(|(_, it)| it.decodes).count();
            assert_eq!(shard.decoding as usize, decoding, "how many decode in epoch {epoch}");
            let rows = here().map(|(_, it)| waiting_prompt_rows(it.state)).sum::<u64>();
            assert_eq!(shard.prefill_rows, rows, "prompt rows of epoch {epoch}");
        }
        assert!(self.open.values().all(|shard| self.held.contains_key(shard)));
    }
}

impl Shard {
    /// Counts a request that was admitted.
    pub(super) fn admitted(&mut self, rank: Rank, slot: Slot) {
        self.ranks.insert((rank, slot));
    }

    /// Puts a request with work into its queue. Returns its state there.
    pub(super) fn enqueue(&mut self, slot: Slot, request: &mut Request) -> State {
        let work = request.work(u32::MAX).expect("the caller saw work");
        let (priority, age) = (request.rank.priority(), request.rank.arrived_us());
        let place = match work.phase {
            Phase::Prefill => {
                self.prefill_rows += u64::from(work.count);
                self.prefill.put(priority, request.tenant, age, slot)
            }
            Phase::Decode => {
                self.rows_queued += 1;
                if !request.decodes {
                    request.decodes = true;
                    self.decode_share += share_of_time(request);
                    self.decoding += 1;
                }
                self.decode.put(priority, request.tenant, self.rows_queued, slot)
            }
        };
        State::Queued { phase: work.phase, rows: work.count, place }
    }

    /// Notes that a request left its queue, being in `state` there.
    pub(super) fn dequeued(&mut self, state: State) {
        self.prefill_rows -= waiting_prompt_rows(state);
    }

    /// Frees the blocks of a request. Returns the tensors it did not use.
    pub(super) fn take_back(
        &mut self,
        slot: Slot,
        request: Request,
    ) -> impl Iterator<Item = TensorId> + use<> {
        if let State::Queued { phase, place, .. } = request.state {
            let queue = match phase {
                Phase::Prefill => &mut self.prefill,
                Phase::Decode => &mut self.decode,
            };
            assert_eq!(queue.remove(place), Some(slot), "queued requests are in their queue");
            self.dequeued(request.state);
        }
        if request.decodes {
            self.decode_share -= share_of_time(&request);
            self.decoding -= 1;
        }
        self.ranks.remove(&(request.rank, slot));
        let (table, tensors) = request.into_held();
        self.kv.release(table);
        tensors
    }

    /// Tokens of which the free blocks have room, in all layers.
    pub(super) fn kv_free_tokens(&self) -> u64 {
        u64::from(self.kv.room() / self.layers.count()) * u64::from(BLOCK_TOKENS)
    }

    /// Takes in how long a step took.
    pub(super) fn stepped(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        // One eighth of the way: steady over the mix of some steps, quick to follow a change.
        self.step_us =
            if self.step_us == 0 { us } else { self.step_us - self.step_us / 8 + us / 8 };
    }

    /// Time until a row that arrives now would be computed, with `running` steps before any other.
    pub(super) fn queue_us(&self, running: u64, policy: StagePolicy) -> u64 {
        let decode = (self.decode.len() as u64).div_ceil(u64::from(self.decode_max(policy.pacing)));
        let prefill = self.prefill_rows.div_ceil(u64::from(self.pace.chunk_tokens));
        (running + decode.max(prefill)).saturating_mul(self.step_us)
    }

    fn queued(&self) -> usize {
        self.prefill.len() + self.decode.len()
    }
}

/// Prompt rows that wait for a request in `state`.
fn waiting_prompt_rows(state: State) -> u64 {
    match state {
        State::Queued { phase: Phase::Prefill, rows, .. } => u64::from(rows),
        _ => 0,
    }
}

/// One part in 2^32 for each that a request spends on this of its stages, if it spends the same on
/// all: an integer, so that what is added is subtracted exactly.
fn share_of_time(request: &Request) -> u64 {
    (1 << 32) / request.route.hops().len() as u64
}
