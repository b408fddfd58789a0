//! Attention over gathered blocks, for groups of requests with as many new rows each.
//!
//! ```text
//! a batch:   request  a  b  c  d            groups:  {a, c, d}, one row each: decodes
//!            rows     1  7  1  1                     {b}, seven rows: a prompt
//! ```
//!
//! burn has no operation that follows a block table, so the blocks of a group are gathered first. A group
//! costs as much as if every request in it had the longest context of them: decodes with 100 and with
//! 4000 tokens behind them read 8000. What a layer with a window cannot see is not gathered. A prompt
//! never shares a group with a decode, so neither pads the other.
//!
//! All that depends on positions alone is computed once per pass and used by all layers of a kind.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::cache::Cache;
use super::indices;
use crate::attention::{Span, View};
use crate::kv::BLOCK_TOKENS;
use crate::ops::Rows;
use crate::rope::Turns;

/// Rows of a group at most: scores take `4 * heads * rows * context` bytes at a time.
const GROUP_ROWS_MAX: usize = 256;

/// What the rows of a pass see in all layers of a kind.
#[derive(Debug)]
pub(crate) struct Sight {
    view: View,
    /// Sines and cosines, `[rows, 1, pairs]`.
    turns: [Tensor<3>; 2],
    groups: Vec<Group>,
    /// Where each row is among those of all groups, unless they are in order.
    order: Option<Tensor<1, Int>>,
}

/// Requests, or parts of prompts, with as many rows each.
#[derive(Debug)]
struct Group {
    members: Vec<Member>,
    /// Which rows these are, unless they are all.
    rows: Option<Tensor<1, Int>>,
    /// Rows of each.
    count: usize,
    /// Blocks gathered for each.
    blocks: usize,
    /// What a row must not see, `[members, 1, count, tokens]`.
    hidden: Tensor<4, Bool>,
    /// What no row of a member sees: it may be anything, even no number. `[members, tokens, 1, 1]`
    unseen: Tensor<4, Bool>,
}

/// Consecutive rows of one request.
#[derive(Clone, Debug)]
struct Member {
    /// Number of the request.
    span: usize,
    first_row: usize,
    positions: Range<usize>,
    /// Blocks that they see.
    blocks: Range<usize>,
}

impl Sight {
    /// Prepares for rows at some positions, a range for each request.
    pub(super) fn new(
        view: View,
        turns: &Turns,
        positions: &[Range<usize>],
        device: &Device,
    ) -> Self {
        let members = groups(positions, view.window);
        let rows = positions.iter().map(ExactSizeIterator::len).sum();
        let mut places = vec![0; rows];
        for (place, row) in members.iter().flatten().flat_map(Member::rows).enumerate() {
            places[row] = place;
        }
        let in_order = places.iter().enumerate().all(|(row, place)| row == *place);
        let alone = in_order && members.len() == 1;
        let group = |members| Group::new(members, alone, view.window, device);
        let pairs = turns.pairs();
        let part = |of: fn(&(f32, f32)) -> f32| {
            let values: Vec<f32> = turns.sines_and_cosines().iter().map(of).collect();
            Tensor::from_data(TensorData::new(values, [rows, 1, pairs]), device)
        };
        Self {
            view,
            turns: [part(|it| it.0), part(|it| it.1)],
            groups: members.into_iter().map(group).collect(),
            order: (!in_order).then(|| indices(places, device)),
        }
    }

    /// Turns every head of every row.
    pub(super) fn turn(&self, x: Rows) -> Rows {
        let ([rows, width], [.., pairs]) = (x.dims(), self.turns[0].dims());
        let x = x.reshape([rows, width / (2 * pairs), 2 * pairs]);
        let [sin, cos] = self.turns.clone();
        let (left, right) = (x.clone().narrow(2, 0, pairs), x.narrow(2, pairs, pairs));
        let turned =
            [left.clone() * cos.clone() - right.clone() * sin.clone(), right * cos + left * sin];
        Tensor::cat(turned.into(), 2).reshape([rows, width])
    }

    /// Attends from each row to the tokens in the cache that it sees.
    pub(super) fn attend(&self, queries: Rows, spans: &[Span<'_>], cache: &Cache) -> Rows {
        let tables: Vec<usize> = self.groups.iter().flat_map(|it| it.table(spans)).collect();
        let tables = indices(tables, &queries.device());
        let (mut attended, mut first) = (Vec::new(), 0);
        for group in &self.groups {
            let blocks = group.members.len() * group.blocks;
            let table = tables.clone().narrow(0, first, blocks);
            first += blocks;
            let queries = match &group.rows {
                None => queries.clone(),
                Some(rows) => queries.clone().select(0, rows.clone()),
            };
            attended.push(group.attend(
                queries,
                cache.gather(&table, group.members.len()),
                self.view,
            ));
        }
        let attended = Tensor::cat(attended, 0);
        match &self.order {
            None => attended,
            Some(order) => attended.select(0, order.clone()),
        }
    }
}

impl Group {
    fn new(members: Vec<Member>, alone: bool, window: Option<usize>, device: &Device) -> Self {
        let (requests, count) = (members.len(), members[0].positions.len());
        let blocks = members.iter().map(|it| it.blocks.len()).max().unwrap_or(0);
        let column = |of: &dyn Fn(&Member) -> usize| {
            indices(members.iter().map(of), device).reshape([requests, 1])
        };
        let run = |length: usize| Tensor::<1, Int>::arange(0..length as i64, device).unsqueeze();
        let keys = column(&|it| it.blocks.start * BLOCK_TOKENS) + run(blocks * BLOCK_TOKENS);
        let [_, tokens] = keys.dims();
        let first = column(&|it| it.positions.start);
        let rows = (first.clone() + run(count)).reshape([requests, 1, count, 1]);
        let keys_of_rows = keys.clone().reshape([requests, 1, 1, tokens]);
        let mut hidden = keys_of_rows.clone().greater(rows.clone());
        let mut unseen = keys.clone().greater_equal(column(&|it| it.positions.end));
        if let Some(window) = window {
            let window = window.min(i32::MAX as usize) as i32;
            hidden = hidden.bool_or(keys_of_rows.lower_equal(rows - window));
            unseen = unseen.bool_or(keys.lower_equal(first - window));
        }
        let rows = (!alone).then(|| indices(members.iter().flat_map(Member::rows), device));
        let unseen = unseen.reshape([requests, tokens, 1, 1]);
        Self { members, rows, count, blocks, hidden, unseen }
    }

    /// The blocks of all members, one after the other; a shorter table ends in repetitions of its last
    /// block, which nobody sees.
    fn table(&self, spans: &[Span<'_>]) -> impl Iterator<Item = usize> {
        self.members.iter().flat_map(|member| {
            let seen = member.blocks.clone();
            let mut blocks: Vec<usize> = spans[member.span]
                .table
                .from(seen.start)
                .take(seen.len())
                .map(|it| it as usize)
                .collect();
            let last = blocks.last().copied().unwrap_or(0);
            blocks.resize(self.blocks, last);
            blocks
        })
    }

    /// Attends from the rows of all members, one after the other.
    fn attend(&self, queries: Rows, [keys, values]: [Tensor<4>; 2], view: View) -> Rows {
        let [requests, tokens, kv_heads, size] = keys.dims();
        let (heads, count) = (view.heads, self.count);
        let group = heads / kv_heads;
        let queries = queries.reshape([requests, count, kv_heads, group, size]);
        let queries = queries.permute([0, 2, 3, 1, 4]);
        let queries = queries.reshape([requests, kv_heads, group * count, size]);
        let scores = queries.matmul(keys.permute([0, 2, 3, 1])) * view.scale;
        let scores = scores.reshape([requests, heads, count, tokens]);
        let hidden = self.hidden.clone().expand([requests, heads, count, tokens]);
        let weights = softmax(scores.mask_fill(hidden, f32::NEG_INFINITY), 3);
        let weights = weights.reshape([requests, kv_heads, group * count, tokens]);
        let unseen = self.unseen.clone().expand([requests, tokens, kv_heads, size]);
        let values = values.mask_fill(unseen, 0.0).permute([0, 2, 1, 3]);
        let attended = weights.matmul(values);
        let attended = attended.reshape([requests, kv_heads, group, count, size]);
        attended.permute([0, 3, 1, 2, 4]).reshape([requests * count, heads * size])
    }
}

impl Member {
    /// Numbers of its rows.
    fn rows(&self) -> Range<usize> {
        self.first_row..self.first_row + self.positions.len()
    }
}

/// Requests with as many rows each, together; those with more than fit into a group in pieces.
fn groups(positions: &[Range<usize>], window: Option<usize>) -> Vec<Vec<Member>> {
    let mut by_count: BTreeMap<usize, Vec<Member>> = BTreeMap::new();
    let mut first_row = 0;
    for (span, positions) in positions.iter().enumerate() {
        for start in positions.clone().step_by(GROUP_ROWS_MAX) {
            let positions = start..positions.end.min(start + GROUP_ROWS_MAX);
            let seen = window.map_or(0, |it| (start + 1).saturating_sub(it));
            let blocks = seen / BLOCK_TOKENS..positions.end.div_ceil(BLOCK_TOKENS);
            let rows = positions.len();
            by_count.entry(rows).or_default().push(Member { span, first_row, positions, blocks });
            first_row += rows;
        }
    }
    let full = |(count, members): (usize, Vec<Member>)| {
        let groups = members.chunks(GROUP_ROWS_MAX / count).map(<[Member]>::to_vec);
        groups.collect::<Vec<_>>()
    };
    by_count.into_iter().flat_map(full).collect()
}
