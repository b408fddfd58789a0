//! What one stage knows of one request: its blocks, and what there is to compute.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;

use thalweg_wire::{
    Activations, Attempt, Epoch, Hop, HostId, Open, Phase, RequestId, Route, Sampling,
};

use super::{StepInput, TensorId};
use crate::fair::Place;
use crate::kv::Table;
use crate::machine::Time;

/// Hops of a route at most on which every stage knows every token: the first and the last do.
const KNOWING_HOPS_MAX: usize = 2;

/// A request that was admitted.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: RequestId,
    pub(super) attempt: Attempt,
    /// Names the layers it is computed by.
    pub(super) shard: Epoch,
    pub(super) route: Route,
    /// Where this host stands in the route.
    index: usize,
    pub(super) sampling: Arc<Sampling>,
    pub(super) prompt_tokens: u32,
    /// Length of the sequence at most.
    pub(super) total_tokens: u32,
    pub(super) rank: Rank,
    pub(super) tenant: u64,
    pub(super) table: Table,
    pub(super) state: State,
    /// When the latest frame came.
    pub(super) touched_at: Time,
    /// Whether it was queued for a decode step already.
    pub(super) decodes: bool,
    /// Known token ids. Grows at the first and the last stage; those of the open at others.
    tokens: Arc<Vec<u32>>,
    /// Number of tokens when the request opened: rows from here on are decode steps.
    opened_tokens: u32,
    /// Position of the next row to compute (first stage) or to receive (others).
    next_position: u32,
    /// Rows that wait to be computed; none at the first stage, which starts from `tokens`.
    rows: VecDeque<Rows>,
}

/// Who gives way to whom: the last first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Rank {
    priority: Reverse<u8>,
    arrived_us: u64,
    id: RequestId,
}

/// Where a request is between its queue and the compute thread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// Waits for a frame.
    Idle,
    /// Waits for a step.
    Queued {
        phase: Phase,
        /// Rows that wait.
        rows: u32,
        place: Place,
    },
    /// Part of the step that runs.
    Running,
}

/// Rows to compute next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Work {
    pub(super) first_position: u32,
    pub(super) count: u32,
    pub(super) phase: Phase,
    /// Whether a token is sampled after the last row.
    pub(super) sample: bool,
}

/// A frame that does not follow the ones before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Gap;

#[derive(Debug)]
struct Rows {
    work: Work,
    tensor: TensorId,
}

impl Rank {
    /// The rank of a request.
    pub(super) const fn of(open: &Open) -> Self {
        let priority = Reverse(open.priority);
        Self { priority, arrived_us: open.arrived_us, id: open.request }
    }

    /// Larger goes first.
    pub(super) const fn priority(&self) -> u8 {
        self.priority.0
    }

    /// When the client asked, in microseconds since 1970.
    pub(super) const fn arrived_us(&self) -> u64 {
        self.arrived_us
    }
}

impl State {
    /// Whether the request waits for a step.
    pub(super) const fn is_queued(self) -> bool {
        matches!(self, Self::Queued { .. })
    }
}

impl Work {
    /// One past the position of the last row.
    pub(super) const fn end(self) -> u32 {
        self.first_position + self.count
    }
}

impl Request {
    /// Creates the state of a request just opened, as stage `index` of its route. `table` holds
    /// the prefix it claims, and has room for `tokens`.
    pub(super) fn new(
        open: &Open,
        index: usize,
        shard: Epoch,
        total_tokens: u32,
        tokens: &[u32],
        table: Table,
    ) -> Self {
        Self {
            id: open.request,
            attempt: open.attempt,
            shard,
            route: open.route.clone(),
            index,
            sampling: Arc::new(open.sampling.clone()),
            prompt_tokens: open.prompt_tokens,
            total_tokens,
            rank: Rank::of(open),
            tenant: open.tenant,
            table,
            state: State::Idle,
            touched_at: Time::ZERO,
            decodes: false,
            tokens: Arc::new(tokens.to_vec()),
            opened_tokens: u32::try_from(tokens.len()).expect("checked against the context"),
            next_position: open.cached_tokens,
            rows: VecDeque::new(),
        }
    }

    /// Takes in a sampled token; one already known is ignored.
    pub(super) fn push_token(&mut self, position: u32, token: u32) -> Result<(), Gap> {
        let known = self.tokens_known();
        if position < known {
            return Ok(());
        }
        if position > known || known >= self.total_tokens {
            return Err(Gap);
        }
        Arc::make_mut(&mut self.tokens).push(token);
        Ok(())
    }

    /// Takes in rows. Gives the tensor back if its rows are already known.
    pub(super) fn push_rows(
        &mut self,
        header: &Activations,
        tensor: TensorId,
    ) -> Result<Option<TensorId>, Gap> {
        let &Activations { first_position, count, phase, sample, .. } = header;
        let end = first_position.checked_add(count).filter(|&it| it <= self.total_tokens);
        let end = end.ok_or(Gap)?;
        if end <= self.next_position {
            return Ok(Some(tensor));
        }
        let whole = !sample || !self.is_last() || end == self.tokens_known();
        let one_by_one = phase == Phase::Prefill || count == 1;
        let follows = count > 0 && first_position == self.next_position && !self.is_first();
        if !(whole && one_by_one && follows) {
            return Err(Gap);
        }
        self.next_position = end;
        let work = Work { first_position, count, phase, sample };
        self.rows.push_back(Rows { work, tensor });
        Ok(None)
    }

    /// The rows to compute next, at most `limit` where rows can be cut.
    pub(super) fn work(&self, limit: u32) -> Option<Work> {
        let rows = self.rows.front().map(|it| it.work);
        rows.or_else(|| self.token_work(limit))
    }

    /// Whether there is anything to compute.
    pub(super) fn has_work(&self) -> bool {
        !self.rows.is_empty() || self.token_work(1).is_some()
    }

    /// Takes rows out for a step: what [`work`](Self::work) said.
    pub(super) fn take(&mut self, work: Work) -> StepInput {
        if let Some(Rows { tensor, .. }) = self.rows.pop_front() {
            return StepInput::Tensor(tensor);
        }
        self.next_position = work.end();
        let tokens = &self.tokens[work.first_position as usize..work.end() as usize];
        StepInput::Tokens(tokens.to_vec())
    }

    /// Rows to compute from token ids.
    fn token_work(&self, limit: u32) -> Option<Work> {
        let first_position = self.next_position;
        let left = self.tokens_known().saturating_sub(first_position);
        let count = left.min(limit);
        if !self.is_first() || count == 0 {
            return None;
        }
        let decode = first_position >= self.opened_tokens;
        let phase = if decode { Phase::Decode } else { Phase::Prefill };
        Some(Work { first_position, count, phase, sample: count == left })
    }

    /// The table, and the tensors of the rows that wait.
    pub(super) fn into_held(self) -> (Table, impl Iterator<Item = TensorId>) {
        (self.table, self.rows.into_iter().map(|it| it.tensor))
    }

    /// The table, and the tokens that every stage of the route knows: others must be able to use
    /// them on all stages or on none.
    pub(super) fn shared(&mut self) -> (&mut Table, &[u32]) {
        let all = self.route.hops().len() <= KNOWING_HOPS_MAX;
        let known = if all { self.tokens.len() } else { self.opened_tokens as usize };
        (&mut self.table, &self.tokens[..known])
    }

    /// This stage's part of the route.
    pub(super) fn hop(&self) -> Hop {
        self.route.hops()[self.index]
    }

    /// The stage before, unless this is the first.
    pub(super) fn previous(&self) -> Option<HostId> {
        let index = self.index.checked_sub(1)?;
        Some(self.route.hops()[index].host)
    }

    /// The stage behind, unless this is the last.
    pub(super) fn next(&self) -> Option<HostId> {
        self.route.hops().get(self.index + 1).map(|hop| hop.host)
    }

    /// Whether this stage embeds token ids.
    pub(super) const fn is_first(&self) -> bool {
        self.index == 0
    }

    /// Whether this stage samples.
    pub(super) fn is_last(&self) -> bool {
        self.next().is_none()
    }

    /// Whether sampled tokens come in by frames: the first of several stages.
    pub(super) fn takes_tokens(&self) -> bool {
        self.is_first() && !self.is_last()
    }

    /// Token ids so far, at the first and the last stage.
    pub(super) const fn tokens(&self) -> &Arc<Vec<u32>> {
        &self.tokens
    }

    /// Number of token ids so far, at the first and the last stage.
    pub(super) fn tokens_known(&self) -> u32 {
        u32::try_from(self.tokens.len()).expect("bounded by the context")
    }
}
