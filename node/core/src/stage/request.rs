//! What one stage knows of one request: its blocks, and what there is to compute.

use std::collections::VecDeque;

use thalweg_wire::{Activations, Attempt, Epoch, Hop, HostId, Open, Phase, Route, Sampling};

use super::{PREFILL_CHUNK_TOKENS, StepInput, TensorId};
use crate::machine::Time;

/// A request that was admitted.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) attempt: Attempt,
    /// Names the layers it is computed by.
    pub(super) shard: Epoch,
    pub(super) route: Route,
    /// Where this host stands in the route.
    index: usize,
    pub(super) sampling: Sampling,
    pub(super) prompt_tokens: u32,
    /// Length of the sequence at most; `blocks` holds that many.
    pub(super) total_tokens: u32,
    pub(super) blocks: Vec<u32>,
    pub(super) state: State,
    /// When the latest frame came.
    pub(super) touched_at: Time,
    /// Known token ids. Grows at the first and the last stage; empty at others.
    tokens: Vec<u32>,
    /// Number of tokens when the request opened: rows from here on are decode steps.
    opened_tokens: u32,
    /// Position of the next row to compute (first stage) or to receive (others).
    next_position: u32,
    /// Rows that wait to be computed; none at the first stage, which starts from `tokens`.
    rows: VecDeque<Rows>,
}

/// Where a request is between its queue and the compute thread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// Waits for a frame.
    Idle,
    /// Waits for a step.
    Queued,
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

impl Request {
    /// Creates the state of a request just opened, as stage `index` of its route.
    pub(super) fn new(open: &Open, index: usize, shard: Epoch, total_tokens: u32) -> Self {
        Self {
            attempt: open.attempt,
            shard,
            route: open.route.clone(),
            index,
            sampling: open.sampling.clone(),
            prompt_tokens: open.prompt_tokens,
            total_tokens,
            blocks: Vec::new(),
            state: State::Idle,
            touched_at: Time::ZERO,
            tokens: Vec::new(),
            opened_tokens: 0,
            next_position: 0,
            rows: VecDeque::new(),
        }
    }

    /// Takes the blocks and the token ids the request starts with.
    pub(super) fn start(&mut self, now: Time, blocks: Vec<u32>, tokens: &[u32]) {
        self.touched_at = now;
        self.blocks = blocks;
        self.opened_tokens = u32::try_from(tokens.len()).expect("checked against the context");
        if self.is_first() || self.is_last() {
            self.tokens = tokens.to_vec();
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
        self.tokens.push(token);
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
        if count == 0 || first_position != self.next_position || !whole {
            return Err(Gap);
        }
        self.next_position = end;
        let work = Work { first_position, count, phase, sample };
        self.rows.push_back(Rows { work, tensor });
        Ok(None)
    }

    /// Takes the next rows out for a step, at most `limit` where rows can be cut.
    pub(super) fn take_work(&mut self, limit: u32) -> Option<(Work, StepInput)> {
        if let Some(Rows { work, tensor }) = self.rows.pop_front() {
            return Some((work, StepInput::Tensor(tensor)));
        }
        let work = self.token_work(limit)?;
        let Work { first_position, count, .. } = work;
        self.next_position += count;
        let tokens = &self.tokens[first_position as usize..][..count as usize];
        Some((work, StepInput::Tokens(tokens.to_vec())))
    }

    /// The rows that [`take_work`](Self::take_work) would take out.
    pub(super) fn work(&self) -> Option<Work> {
        let rows = self.rows.front().map(|it| it.work);
        rows.or_else(|| self.token_work(PREFILL_CHUNK_TOKENS))
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

    /// Gives up the rows that wait.
    pub(super) fn into_rows(self) -> impl Iterator<Item = TensorId> {
        self.rows.into_iter().map(|it| it.tensor)
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

    /// Token ids so far.
    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Number of token ids so far, at the first and the last stage.
    pub(super) fn tokens_known(&self) -> u32 {
        u32::try_from(self.tokens.len()).expect("bounded by the context")
    }
}
