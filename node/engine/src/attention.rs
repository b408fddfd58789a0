//! Grouped-query attention over block tables.
//!
//! ```text
//! out[row, head] = sum over p of softmax_p(scale * q[row, head] . k[p, head / group]) * v[p, head / group]
//! ```
//!
//! `p` runs over the positions the row may see, in order. Each row is computed by itself from the
//! blocks of its request, so neither its neighbours in the batch nor the cut of a prompt into
//! chunks changes a bit of its result.

use std::ops::Range;

use crate::exp::exp;
use crate::kv::{BLOCK_TOKENS, LayerCache};
use crate::simd::{Kernel, dispatch, multiply_add};
use crate::workers::Workers;

/// Partial sums of a dot product: one of the widest vectors. Fixed, so that every processor with
/// fused multiply-add adds in the same order.
const LANES: usize = 16;

/// Which heads there are, and what one of them sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// Query heads.
    pub(crate) query: usize,
    /// Key and value heads; divides `query`.
    pub(crate) kv: usize,
    /// Values of one head.
    pub(crate) size: usize,
    /// Multiplies the products of queries and keys.
    pub(crate) scale: f32,
    /// Positions seen, the row's own included; `None` sees all.
    pub(crate) window: Option<usize>,
}

/// A row of the batch: where it stands in its request, and the blocks of that request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Blocks of the request, in order of position.
    pub(crate) blocks: &'a [u32],
    /// Position of the row's token.
    pub(crate) position: usize,
}

/// Attends from each row of `queries` (all heads of a row are neighbours) to the cached tokens up
/// to and including the row's own. Returns one row of all heads per row.
pub(crate) fn attend(
    queries: &[f32],
    places: &[Place<'_>],
    cache: &LayerCache,
    heads: Heads,
    workers: &Workers,
) -> Vec<f32> {
    let width = heads.query * heads.size;
    assert_eq!(queries.len(), places.len() * width, "one row of queries per place");
    assert_eq!(cache.width(), heads.kv * heads.size, "cache holds the same heads");
    let group_width = width / heads.kv;
    let mut out = vec![0.0; queries.len()];
    if out.is_empty() {
        return out;
    }
    workers.split(&mut out, group_width, |first, out| {
        let queries = &queries[first * group_width..][..out.len()];
        dispatch(Groups { queries, places, cache, heads, first, out });
    });
    out
}

/// Some groups of query heads that share a key head, numbered row by row.
struct Groups<'a> {
    queries: &'a [f32],
    places: &'a [Place<'a>],
    cache: &'a LayerCache,
    heads: Heads,
    first: usize,
    out: &'a mut [f32],
}

impl Kernel for Groups<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool, const WIDE: bool>(self) {
        let Heads { query, kv, size, .. } = self.heads;
        let group_width = query / kv * size;
        let mut scores = Vec::new();
        let queries = self.queries.chunks_exact(group_width);
        for (index, (query, out)) in queries.zip(self.out.chunks_exact_mut(group_width)).enumerate()
        {
            let group = self.first + index;
            let seen = Seen::new(self.places[group / kv], self.heads.window);
            let column = group % kv * size..(group % kv + 1) * size;
            let heads = query.chunks_exact(size).zip(out.chunks_exact_mut(size));
            for (query, out) in heads {
                scores.clear();
                seen.for_each(self.cache.width(), |block, token| {
                    let key = &self.cache.block_keys(block)[token..][column.clone()];
                    scores.push(dot::<FMA>(query, key) * self.heads.scale);
                });
                softmax::<FMA>(&mut scores);
                let mut weights = scores.iter();
                seen.for_each(self.cache.width(), |block, token| {
                    let value = &self.cache.block_values(block)[token..][column.clone()];
                    let weight = weights.next().copied().unwrap_or(0.0);
                    for (out, &value) in out.iter_mut().zip(value) {
                        *out = multiply_add::<FMA>(weight, value, *out);
                    }
                });
            }
        }
    }
}

/// The positions a row sees.
struct Seen<'a> {
    blocks: &'a [u32],
    positions: Range<usize>,
}

impl<'a> Seen<'a> {
    #[inline(always)]
    fn new(place: Place<'a>, window: Option<usize>) -> Self {
        let end = place.position + 1;
        let first = window.map_or(0, |it| end.saturating_sub(it));
        Self { blocks: place.blocks, positions: first..end }
    }

    /// Calls `visit(block, offset)` for each position in order, with the offset of the token's row
    /// in its block if rows are `width` values.
    #[inline(always)]
    fn for_each(&self, width: usize, mut visit: impl FnMut(u32, usize)) {
        let Range { start, end } = self.positions;
        for (index, &block) in self
            .blocks
            .iter()
            .enumerate()
            .take(end.div_ceil(BLOCK_TOKENS))
            .skip(start / BLOCK_TOKENS)
        {
            let base = index * BLOCK_TOKENS;
            for token in start.saturating_sub(base)..BLOCK_TOKENS.min(end - base) {
                visit(block, token * width);
            }
        }
    }
}

/// `a . b`, summed in [`LANES`] lanes that are then added in a fixed tree.
#[inline(always)]
fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane = multiply_add::<FMA>(a, b, *lane);
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane = multiply_add::<FMA>(a, b, *lane);
    }
    tree_sum(lanes)
}

/// Adds lane `i` and lane `i + half` until one is left.
#[inline(always)]
fn tree_sum(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Turns scores into weights that add up to one.
#[inline(always)]
fn softmax<const FMA: bool>(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = scores.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for (lane, score) in lanes.iter_mut().zip(chunk) {
            *score = exp::<FMA>(*score - max);
            *lane += *score;
        }
    }
    for (lane, score) in lanes.iter_mut().zip(rest) {
        *score = exp::<FMA>(*score - max);
        *lane += *score;
    }
    let factor = 1.0 / tree_sum(lanes);
    scores.iter_mut().for_each(|it| *it *= factor);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: Heads = Heads { query: 4, kv: 2, size: 24, scale: 0.2, window: None };

    fn cache_with(tokens: usize, blocks: &[u32]) -> LayerCache {
        let mut random = fastrand::Rng::with_seed(1);
        let width = HEADS.kv * HEADS.size;
        let mut cache = LayerCache::new(8, width);
        for position in 0..tokens {
            let mut row = || (0..width).map(|_| random.f32() - 0.5).collect::<Vec<_>>();
            cache.write(crate::kv::slot(blocks, position), &row(), &row());
        }
        cache
    }

    fn queries(rows: usize) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(2);
        (0..rows * HEADS.query * HEADS.size).map(|_| random.f32() * 4.0 - 2.0).collect()
    }

    /// The definition, in double precision, for one head of one row.
    fn defined(
        query: &[f32],
        cache: &LayerCache,
        place: Place<'_>,
        head: usize,
        window: Option<usize>,
    ) -> Vec<f64> {
        let column = head / (HEADS.query / HEADS.kv) * HEADS.size;
        let first = window.map_or(0, |it| (place.position + 1).saturating_sub(it));
        let at = |rows: &[f32], position: usize| {
            let start = position % BLOCK_TOKENS * cache.width() + column;
            rows[start..start + HEADS.size].iter().map(|&it| f64::from(it)).collect::<Vec<_>>()
        };
        let block = |position: usize| place.blocks[position / BLOCK_TOKENS];
        let positions = first..=place.position;
        let weights: Vec<f64> = positions
            .clone()
            .map(|p| {
                let key = at(cache.block_keys(block(p)), p);
                let product: f64 = key.iter().zip(query).map(|(k, &q)| k * f64::from(q)).sum();
                (product * f64::from(HEADS.scale)).exp()
            })
            .collect();
        let total: f64 = weights.iter().sum();
        let mut out = vec![0.0; HEADS.size];
        for (weight, p) in weights.iter().zip(positions) {
            let value = at(cache.block_values(block(p)), p);
            out.iter_mut().zip(value).for_each(|(out, value)| *out += weight / total * value);
        }
        out
    }

    #[test]
    fn attention_matches_its_definition_with_and_without_a_window() {
        let workers = Workers::new(2).expect("threads start");
        let blocks = [5, 0, 7];
        let cache = cache_with(40, &blocks);
        let places: Vec<Place> =
            [0, 15, 16, 39].map(|position| Place { blocks: &blocks, position }).to_vec();
        let queries = queries(places.len());
        for window in [None, Some(1), Some(10), Some(100)] {
            let found = attend(&queries, &places, &cache, Heads { window, ..HEADS }, &workers);
            let heads = queries.chunks(HEADS.size).zip(found.chunks(HEADS.size));
            for (index, (query, found)) in heads.enumerate() {
                let (place, head) = (places[index / HEADS.query], index % HEADS.query);
                let expected = defined(query, &cache, place, head, window);
                for (found, expected) in found.iter().zip(expected) {
                    assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
                }
            }
        }
    }

    #[test]
    fn block_numbers_and_neighbours_change_no_bit() {
        let workers = Workers::new(1).expect("no thread");
        let (here, there) = ([5, 0, 7], [1, 2, 3]);
        let (cache, moved) = (cache_with(40, &here), cache_with(40, &there));
        let queries = queries(2);
        let place = |position, blocks| Place { blocks, position };
        let both = attend(&queries, &[place(20, &here), place(39, &here)], &cache, HEADS, &workers);
        let second = &queries[queries.len() / 2..];
        let alone = attend(second, &[place(39, &there)], &moved, HEADS, &workers);
        assert_eq!(both[queries.len() / 2..], alone);
    }
}
