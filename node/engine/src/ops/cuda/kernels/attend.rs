//! Attention of single rows, which reads keys and values where they lie.
//!
//! ```text
//! cube        one row, a few query heads that share a key head, a part of the tokens that the row sees
//!   scores    a team of units for each token: `scale * q . k`
//!   weights   a plane for each head: the largest score, `exp(score - largest)` and their sum
//!   values    a unit for each vector of a head, and for each of several runs of tokens: `weight * v`
//! join        parts of one head, by their largest scores and sums
//! ```
//!
//! Without parts a single long request would keep a few cubes busy and the rest of the GPU idle (Dao et
//! al., "Flash-Decoding", 2023).

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::{exponential, plane_largest, plane_total, team_total};
use crate::kv::BLOCK_TOKENS;

/// Tokens of a part.
pub(in crate::ops::cuda) const PART_TOKENS: usize = 128;
/// Numbers with which a plan tells about a row: where it is, the first and the end of the tokens that it
/// sees, and where the block of the first of these stands in the plan.
pub(in crate::ops::cuda) const ROW_FIELDS: usize = 4;

/// How the work is cut.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(in crate::ops::cuda) struct Cut {
    /// Query heads.
    pub(in crate::ops::cuda) heads: usize,
    /// Key heads.
    pub(in crate::ops::cuda) kv_heads: usize,
    /// Vectors of a head.
    pub(in crate::ops::cuda) vectors: usize,
    /// Values of a vector.
    pub(in crate::ops::cuda) vector: usize,
    /// Query heads of a cube, which share a key head.
    pub(in crate::ops::cuda) share: usize,
    /// Units of a plane.
    pub(in crate::ops::cuda) lanes: usize,
    /// Planes of a cube.
    pub(in crate::ops::cuda) planes: usize,
    /// Units of a plane that score a token together: a power of two that divides `vectors`.
    pub(in crate::ops::cuda) team: usize,
}

impl Cut {
    /// Units of a cube.
    const fn units(self) -> usize {
        self.lanes * self.planes
    }

    /// Units that add up one run of tokens.
    const fn width(self) -> usize {
        if self.units() < self.vectors { self.units() } else { self.vectors }
    }

    /// Runs of tokens that are added up side by side.
    const fn runs(self) -> usize {
        self.units() / self.width()
    }
}

/// Where a cube finds what it needs.
#[derive(CubeType)]
struct Place {
    /// First query head.
    head: usize,
    /// First token.
    first: usize,
    /// Tokens.
    count: usize,
    /// Number of the first block that the row sees, among those of its request.
    first_block: usize,
    /// Where the plan has that block.
    table: usize,
}

/// Attends from one row to the tokens of a part, with some heads.
///
/// `plan` holds [`ROW_FIELDS`] numbers for each row from `fields` on, and their blocks. Vectors of keys and
/// values are `[block][token][key head]`; a block begins so many vectors after the one before it. `parts`
/// are `[row][head][part]` vectors, `sums` the largest score and the sum of weights of each.
#[cube(launch, address_type = "dynamic")]
#[expect(clippy::too_many_arguments, reason = "the buffers of a kernel are its arguments")]
pub(in crate::ops::cuda) fn attend_to_part<E: Float, N: Size>(
    queries: &[Vector<f32, N>],
    keys: &[Vector<E, N>],
    values: &[Vector<E, N>],
    plan: &[u32],
    parts: &mut [Vector<f32, N>],
    sums: &mut [f32],
    fields: usize,
    key_stride: usize,
    value_stride: usize,
    scale: f32,
    #[comptime] cut: Cut,
) {
    let row = CUBE_POS_Y as usize;
    let part = CUBE_POS_Z as usize;
    let at = fields + row * ROW_FIELDS;
    let seen = plan[at + 1] as usize;
    let end = plan[at + 2] as usize;
    let first = seen + part * PART_TOKENS;
    if first >= end {
        terminate!();
    }
    let place = Place {
        head: CUBE_POS_X as usize * cut.share,
        first,
        count: min(end - first, PART_TOKENS),
        first_block: seen / BLOCK_TOKENS,
        table: plan[at + 3] as usize,
    };
    let query = (plan[at] as usize * cut.heads + place.head) * cut.vectors;
    let mut weights = Shared::<[f32]>::new_slice(comptime!(cut.share * PART_TOKENS));
    let mut totals = Shared::<[f32]>::new_slice(cut.share);
    score::<E, N>(queries, keys, plan, &mut weights, &place, query, key_stride, scale, cut);
    sync_cube();
    let out = (row * cut.heads + place.head) * CUBE_COUNT_Z as usize + part;
    weigh(&mut weights, &mut totals, sums, place.count, out, cut);
    sync_cube();
    add_values::<E, N>(values, plan, &weights, &totals, parts, &place, out, value_stride, cut);
}

/// Where the vectors of a token's key head begin.
#[cube]
fn token_at(
    plan: &[u32],
    place: &Place,
    token: usize,
    stride: usize,
    #[comptime] cut: Cut,
) -> usize {
    let block = plan[place.table + token / BLOCK_TOKENS - place.first_block] as usize;
    let kv_head = place.head / comptime!(cut.heads / cut.kv_heads);
    block * stride + (token % BLOCK_TOKENS * cut.kv_heads + kv_head) * cut.vectors
}

/// Scores all tokens with all heads.
#[cube]
#[expect(clippy::too_many_arguments, reason = "the buffers of a kernel are its arguments")]
fn score<E: Float, N: Size>(
    queries: &[Vector<f32, N>],
    keys: &[Vector<E, N>],
    plan: &[u32],
    scores: &mut Shared<[f32]>,
    place: &Place,
    query: usize,
    stride: usize,
    scale: f32,
    #[comptime] cut: Cut,
) {
    let of_lane = comptime!(cut.vectors / cut.team);
    let teams = comptime!(cut.units() / cut.team);
    let in_team = UNIT_POS as usize % cut.team;
    let mut own = Array::<Vector<f32, N>>::new(comptime!(cut.share * of_lane));
    #[unroll]
    for head in 0..cut.share {
        #[unroll]
        for it in 0..of_lane {
            own[head * of_lane + it] =
                queries[query + head * cut.vectors + it * cut.team + in_team];
        }
    }
    // All units take as many rounds and no branch, so that those of a team are together when they add up:
    // past the end they do the last token again, and all of a team write the same.
    for round in 0..place.count.div_ceil(teams) {
        let number = min(round * teams + UNIT_POS as usize / cut.team, place.count - 1);
        let key = token_at(plan, place, place.first + number, stride, cut) + in_team;
        let mut dots = Array::<Vector<f32, N>>::new(cut.share);
        #[unroll]
        for it in 0..of_lane {
            let key = Vector::<f32, N>::cast_from(keys[key + it * cut.team]);
            #[unroll]
            for head in 0..cut.share {
                dots[head] += own[head * of_lane + it] * key;
            }
        }
        #[unroll]
        for head in 0..cut.share {
            let mut sum = 0.0f32;
            #[unroll]
            for it in 0..cut.vector {
                sum += dots[head].extract(it);
            }
            scores[head * PART_TOKENS + number] = team_total(sum, cut.team) * scale;
        }
    }
}

/// Turns the scores of each head into weights; a plane has a head to itself.
#[cube]
fn weigh(
    scores: &mut Shared<[f32]>,
    totals: &mut Shared<[f32]>,
    sums: &mut [f32],
    count: usize,
    out: usize,
    #[comptime] cut: Cut,
) {
    let lane = UNIT_POS as usize % cut.lanes;
    let plane = UNIT_POS as usize / cut.lanes;
    let rounds = count.div_ceil(cut.lanes);
    #[unroll]
    for turn in 0..comptime!(cut.share.div_ceil(cut.planes)) {
        let head = turn * cut.planes + plane;
        if head < cut.share {
            let line = head * PART_TOKENS;
            let mut largest = f32::min_value();
            for round in 0..rounds {
                let token = min(round * cut.lanes + lane, count - 1);
                largest = max(largest, scores[line + token]);
            }
            let largest = plane_largest(largest, cut.lanes);
            let mut sum = 0.0f32;
            for round in 0..rounds {
                let token = round * cut.lanes + lane;
                let weight = exponential(scores[line + token] - largest);
                // A line has room for whole rounds; what it holds past the end may be anything.
                let weight = select(token < count, weight, 0.0f32);
                scores[line + token] = weight;
                sum += weight;
            }
            let sum = plane_total(sum, cut.lanes);
            let at = out + head * CUBE_COUNT_Z as usize;
            sums[2 * at] = largest;
            sums[2 * at + 1] = sum;
            totals[head] = sum;
        }
    }
}

/// Adds up values by their weights, in runs, and divides by the sum of weights.
#[cube]
#[expect(clippy::too_many_arguments, reason = "the buffers of a kernel are its arguments")]
fn add_values<E: Float, N: Size>(
    values: &[Vector<E, N>],
    plan: &[u32],
    weights: &Shared<[f32]>,
    totals: &Shared<[f32]>,
    parts: &mut [Vector<f32, N>],
    place: &Place,
    out: usize,
    stride: usize,
    #[comptime] cut: Cut,
) {
    let run = UNIT_POS as usize / comptime!(cut.width());
    let lane = UNIT_POS as usize % comptime!(cut.width());
    let line = comptime!(cut.share * cut.vectors);
    let mut runs = Shared::<[Vector<f32, N>]>::new_slice(comptime!(cut.runs() * line));
    #[unroll]
    for turn in 0..comptime!(cut.vectors.div_ceil(cut.width())) {
        let column = turn * comptime!(cut.width()) + lane;
        if run < comptime!(cut.runs()) && column < cut.vectors {
            let mut own = Array::<Vector<f32, N>>::new(cut.share);
            for round in 0..(place.count - min(run, place.count)).div_ceil(comptime!(cut.runs())) {
                let number = round * comptime!(cut.runs()) + run;
                let at = token_at(plan, place, place.first + number, stride, cut) + column;
                let value = Vector::<f32, N>::cast_from(values[at]);
                #[unroll]
                for head in 0..cut.share {
                    let weight = weights[head * PART_TOKENS + number];
                    own[head] += value * Vector::<f32, N>::new(weight);
                }
            }
            #[unroll]
            for head in 0..cut.share {
                runs[run * line + head * cut.vectors + column] = own[head];
            }
        }
    }
    sync_cube();
    for turn in 0..comptime!(line.div_ceil(cut.units())) {
        let at = turn * comptime!(cut.units()) + UNIT_POS as usize;
        if at < line {
            let mut total = Vector::<f32, N>::new(0.0);
            for run in 0..comptime!(cut.runs()) {
                total += runs[run * line + at];
            }
            let head = at / cut.vectors;
            let part = out + head * CUBE_COUNT_Z as usize;
            let sum = Vector::<f32, N>::new(totals[head]);
            parts[part * cut.vectors + at % cut.vectors] = total / sum;
        }
    }
}

/// Joins the parts of each head of rows from `first_row` on: a unit for each vector of `out`, `[row][head]`.
#[cube(launch, address_type = "dynamic")]
#[expect(clippy::too_many_arguments, reason = "the buffers of a kernel are its arguments")]
pub(in crate::ops::cuda) fn join_parts<N: Size>(
    parts: &[Vector<f32, N>],
    sums: &[f32],
    plan: &[u32],
    out: &mut [Vector<f32, N>],
    fields: usize,
    first_row: usize,
    units: usize,
    parts_max: usize,
    #[comptime] heads: usize,
    #[comptime] vectors: usize,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let head = ABSOLUTE_POS / vectors;
    let at = fields + (first_row + head / heads) * ROW_FIELDS;
    let seen = plan[at + 2] as usize - plan[at + 1] as usize;
    let first = head * parts_max;
    let end = first + seen.div_ceil(PART_TOKENS);
    let mut largest = f32::min_value();
    for part in first..end {
        largest = max(largest, sums[2 * part]);
    }
    let mut sum = 0.0f32;
    let mut total = Vector::<f32, N>::new(0.0);
    for part in first..end {
        let weight = sums[2 * part + 1] * exponential(sums[2 * part] - largest);
        sum += weight;
        total += parts[part * vectors + ABSOLUTE_POS % vectors] * Vector::<f32, N>::new(weight);
    }
    out[first_row * heads * vectors + ABSOLUTE_POS] = total / Vector::<f32, N>::new(sum);
}
