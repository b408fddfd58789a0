//! Attention of all rows of a pass over the blocks of their requests, without a copy of these.
//!
//! A layer takes two or three launches: queries and keys are turned, and keys and values put into their
//! blocks; rows attend to parts of what they see; parts are joined, unless there is one of each.
//!
//! Rows of a prompt attend as those of decodes do, each on its own. They read the same keys and values one
//! after the other, which caches of a GPU make cheaper than it is on paper; nothing shows by how much.

use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData, f16};
use burn_cubecl::CubeDevice;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::bridge::{self, Team, addresses, buffer, close, empty, open, upload};
use super::kernels::append::{Heads, turn_and_append};
use super::kernels::attend::{Cut, PART_TOKENS, ROW_FIELDS, attend_to_part, join_parts};
use crate::attention::{Span, View};
use crate::kv::{BLOCK_TOKENS, KvType};
use crate::ops::Rows;
use crate::ops::plain::{Cache, slots};
use crate::rope::Turns;

/// Bytes that parts of rows take at most; with more, rows go in groups.
const PARTS_BYTES_MAX: usize = 64 << 20;
/// Query heads of a cube at most: what it keeps in registers grows with them.
const SHARE_MAX: usize = 8;
/// Bytes that a unit loads at once.
const LOAD_BYTES: usize = 16;

/// What the rows of a pass see in all layers of a kind.
#[derive(Debug)]
pub(crate) struct Sight {
    view: View,
    /// Sines and cosines, `[rows, pairs]`.
    turns: [Tensor<2>; 2],
    rows: Vec<Row>,
    /// First block that a row of each request sees.
    first_blocks: Vec<usize>,
    /// Parts of the row that sees most.
    parts_max: usize,
}

/// A row, and the positions that it sees.
#[derive(Debug)]
struct Row {
    span: usize,
    seen: Range<usize>,
}

/// What a layer does to which rows, as numbers on the device: the slot of each row, [`ROW_FIELDS`] numbers
/// for each row, and the blocks of each request.
struct Plan {
    numbers: CubeTensor,
    rows: usize,
}

impl Sight {
    /// Prepares for rows at some positions, a range for each request.
    pub(super) fn new(
        view: View,
        turns: &Turns,
        positions: &[Range<usize>],
        device: &Device,
    ) -> Self {
        let first = |position: usize| view.window.map_or(0, |it| (position + 1).saturating_sub(it));
        let of_span = |(span, positions): (usize, &Range<usize>)| {
            let row = move |it| Row { span, seen: first(it)..it + 1 };
            positions.clone().map(row).collect::<Vec<_>>()
        };
        let rows: Vec<Row> = positions.iter().enumerate().flat_map(of_span).collect();
        let parts = rows.iter().map(|it| it.seen.len().div_ceil(PART_TOKENS));
        let part = |of: fn(&(f32, f32)) -> f32| {
            let values: Vec<f32> = turns.sines_and_cosines().iter().map(of).collect();
            Tensor::from_data(TensorData::new(values, [rows.len(), turns.pairs()]), device)
        };
        Self {
            view,
            turns: [part(|it| it.0), part(|it| it.1)],
            first_blocks: positions.iter().map(|it| first(it.start) / BLOCK_TOKENS).collect(),
            parts_max: parts.max().unwrap_or(0),
            rows,
        }
    }

    /// Turns queries and keys, appends keys and values, and attends.
    pub(super) fn attend(
        &self,
        cache: &Cache,
        spans: &[Span<'_>],
        [queries, keys, values]: [Rows; 3],
    ) -> Rows {
        let [_, width] = queries.dims();
        let queries = open(queries);
        let plan = self.plan(spans, &queries.device);
        let queries = self.append(cache, &plan, queries, [keys, values]);
        let out = empty(&queries.device, [plan.rows, width], DType::F32);
        let cut = self.cut(cache, Team::of(&queries.client));
        let row_bytes = self.parts_max * width * size_of::<f32>();
        let group = match self.parts_max {
            1 => plan.rows,
            _ => (PARTS_BYTES_MAX / row_bytes).clamp(1, plan.rows),
        };
        for first in (0..plan.rows).step_by(group) {
            let rows = first..plan.rows.min(first + group);
            self.attend_rows(cache, &plan, &queries, rows, &out, cut);
        }
        close(out)
    }

    fn plan(&self, spans: &[Span<'_>], device: &CubeDevice) -> Plan {
        let rows = self.rows.len();
        let mut numbers: Vec<u32> = spans.iter().flat_map(slots).map(|it| it as u32).collect();
        let mut tables = Vec::new();
        let starts = spans.iter().zip(&self.first_blocks).map(|(span, &first)| {
            let start = rows * (1 + ROW_FIELDS) + tables.len();
            let end = (span.first_position + span.count).div_ceil(BLOCK_TOKENS);
            tables.extend(span.table.from(first).take(end - first));
            start
        });
        let starts: Vec<usize> = starts.collect();
        for (index, Row { span, seen }) in self.rows.iter().enumerate() {
            let table = starts[*span] + seen.start / BLOCK_TOKENS - self.first_blocks[*span];
            numbers.extend([index, seen.start, seen.end, table].map(|it| it as u32));
        }
        numbers.extend(tables);
        Plan { numbers: upload(device, &numbers, DType::U32), rows }
    }

    /// Returns turned queries.
    fn append(
        &self,
        cache: &Cache,
        plan: &Plan,
        queries: CubeTensor,
        [keys, values]: [Rows; 2],
    ) -> CubeTensor {
        let (kv_heads, size) = cache.heads();
        let heads = Heads { queries: self.view.heads, keys: kv_heads, size };
        let turned = empty(&queries.device, [plan.rows, heads.queries * size], DType::F32);
        let [cached_keys, cached_values] = cache.tensors().map(|it| buffer(it.clone()));
        let units = plan.rows * (heads.queries + heads.keys) * size / 2;
        let client = queries.client.clone();
        let (count, dim) = bridge::units(&client, units);
        let [sines, cosines] = self.turns.clone().map(open);
        let launch = match cache.kind() {
            KvType::F32 => turn_and_append::launch::<f32>,
            _ => turn_and_append::launch::<f16>,
        };
        let strides = [&cached_keys, &cached_values].map(|it| it.meta.strides()[0]);
        launch(
            &client,
            count,
            dim,
            addresses([&queries, &cached_keys, &cached_values]),
            queries.into_buffer_arg(),
            open(keys).into_buffer_arg(),
            open(values).into_buffer_arg(),
            sines.into_buffer_arg(),
            cosines.into_buffer_arg(),
            plan.numbers.clone().into_buffer_arg(),
            turned.clone().into_buffer_arg(),
            cached_keys.into_buffer_arg(),
            cached_values.into_buffer_arg(),
            units,
            strides[0],
            strides[1],
            heads,
        );
        turned
    }

    fn cut(&self, cache: &Cache, Team { lanes, planes }: Team) -> Cut {
        let (kv_heads, size) = cache.heads();
        let heads = self.view.heads;
        let value_bytes = match cache.kind() {
            KvType::F32 => size_of::<f32>(),
            _ => size_of::<f16>(),
        };
        let vector = divisor(size, LOAD_BYTES / value_bytes);
        let vectors = size / vector;
        let group = heads / kv_heads;
        let share = (1..=SHARE_MAX.min(group)).rev().find(|it| group.is_multiple_of(*it));
        let (share, team) = (share.unwrap_or(1), divisor(vectors, lanes));
        Cut { heads, kv_heads, vectors, vector, share, lanes, planes, team }
    }

    /// Attends from some rows, and writes what comes out where they are in `out`.
    fn attend_rows(
        &self,
        cache: &Cache,
        plan: &Plan,
        queries: &CubeTensor,
        rows: Range<usize>,
        out: &CubeTensor,
        cut: Cut,
    ) {
        let (client, device) = (&queries.client, &queries.device);
        let parts = rows.len() * cut.heads * self.parts_max;
        let sums = empty(device, [parts, 2], DType::F32);
        let attended = match self.parts_max {
            1 => out.clone(),
            _ => empty(device, [parts, cut.vectors * cut.vector], DType::F32),
        };
        let [keys, values] = cache.tensors().map(|it| buffer(it.clone()));
        let [key_stride, value_stride] =
            [&keys, &values].map(|it| it.meta.strides()[0] / cut.vector);
        let fields = plan.rows + rows.start * ROW_FIELDS;
        let counts = [cut.heads / cut.share, rows.len(), self.parts_max].map(|it| it as u32);
        let launch = match cache.kind() {
            KvType::F32 => attend_to_part::launch::<f32>,
            _ => attend_to_part::launch::<f16>,
        };
        launch(
            client,
            CubeCount::Static(counts[0], counts[1], counts[2]),
            CubeDim::new_2d(cut.lanes as u32, cut.planes as u32),
            addresses([queries, &keys, &values, &attended]),
            cut.vector,
            queries.clone().into_buffer_arg(),
            keys.into_buffer_arg(),
            values.into_buffer_arg(),
            plan.numbers.clone().into_buffer_arg(),
            attended.clone().into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            fields,
            key_stride,
            value_stride,
            self.view.scale,
            cut,
        );
        if self.parts_max > 1 {
            self.join(plan, (attended, sums), rows, out, cut);
        }
    }

    /// Joins parts of some rows.
    fn join(
        &self,
        plan: &Plan,
        (parts, sums): (CubeTensor, CubeTensor),
        rows: Range<usize>,
        out: &CubeTensor,
        cut: Cut,
    ) {
        let units = rows.len() * cut.heads * cut.vectors;
        let (count, dim) = bridge::units(&out.client, units);
        join_parts::launch(
            &out.client,
            count,
            dim,
            addresses([&parts, out]),
            cut.vector,
            parts.into_buffer_arg(),
            sums.into_buffer_arg(),
            plan.numbers.clone().into_buffer_arg(),
            out.clone().into_buffer_arg(),
            plan.rows,
            rows.start,
            units,
            self.parts_max,
            cut.heads,
            cut.vectors,
        );
    }
}

/// The largest power of two up to `most` that divides `count`.
fn divisor(count: usize, most: usize) -> usize {
    (1 << count.trailing_zeros()).min(1 << most.ilog2())
}
