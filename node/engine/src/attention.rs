//! Grouped-query attention over block tables.
//!
//! ```text
//! out[row, head] = sum over p of softmax_p(scale * q[row, head] . k[p, head / group]) * v[p, head / group]
//! ```
//!
//! `p` runs over the positions the row may see, in order. Up to six pairs of row and head that
//! share a key head form a tile, so that keys and values are read once for all of them; but each
//! pair's sums are its own. Neither its neighbours in the batch nor the cut of a prompt into chunks
//! changes a bit of its result.

use std::ops::Range;

use half::f16;

use crate::exp::exp;
use crate::kv::{BLOCK_TOKENS, Cache, Floats, LANES, LayerTable, Slot};
use crate::simd::{Float, Kernel, dispatch, tree_sum};
use crate::tile::{TILE_ROWS, Tile};
use crate::workers::Workers;

/// How many query heads there are, and what they see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// Query heads; a multiple of the key heads.
    pub(crate) heads: usize,
    /// Multiplies the products of queries and keys.
    pub(crate) scale: f32,
    /// Positions seen, the row's own included; `None` sees all.
    pub(crate) window: Option<usize>,
}

/// Consecutive rows of a batch that belong to one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'a> {
    /// Blocks of the request in the layer that attends.
    pub(crate) table: LayerTable<'a>,
    /// Position of the first row.
    pub(crate) first_position: usize,
    /// Number of rows.
    pub(crate) count: usize,
}

impl<'a> Span<'a> {
    /// Where the tokens of its rows are.
    pub(crate) fn slots(self) -> impl Iterator<Item = Slot> + 'a {
        let positions = self.first_position..self.first_position + self.count;
        positions.map(move |it| self.table.slot(it))
    }
}

/// Attends from each row of `queries` (all heads of a row side by side) to the cached tokens up to
/// and including the row's own. Returns one row of all heads per row.
pub(crate) fn attend(
    queries: &[f32],
    spans: &[Span<'_>],
    cache: &Cache,
    view: View,
    workers: &Workers,
) -> Vec<f32> {
    let head_size = cache.head_size();
    let rows: usize = spans.iter().map(|it| it.count).sum();
    assert_eq!(queries.len(), rows * view.heads * head_size, "one row of queries per row");
    let tasks = tasks(spans, cache, view);
    let task_lines = TILE_ROWS * head_size.div_ceil(LANES);
    let mut attended = vec![0.0; tasks.len() * task_lines * LANES];
    if tasks.is_empty() {
        return attended;
    }
    let seen: usize = tasks.iter().map(|it| it.seen(0, view, cache).len()).sum();
    let multiply_adds = 2 * seen * task_lines * LANES;
    workers.split(&mut attended, task_lines * LANES, multiply_adds, |first, out| {
        let out = out.as_chunks_mut().0;
        dispatch(Attention { queries, tasks: &tasks[first..], cache, view, task_lines, out });
    });
    let mut out = vec![0.0; queries.len()];
    for (task, attended) in tasks.iter().zip(attended.chunks_exact(task_lines * LANES)) {
        for pair in 0..task.pairs {
            let out = &mut out[task.query(pair, view, cache)];
            for (part, out) in out.chunks_mut(LANES).enumerate() {
                let line = &attended[(part * TILE_ROWS + pair) * LANES..];
                out.copy_from_slice(&line[..out.len()]);
            }
        }
    }
    out
}

/// A tile of pairs of one request that share a key head. Pairs count the heads of the first row,
/// then those of the second.
#[derive(Clone, Copy, Debug)]
struct Task<'a> {
    span: Span<'a>,
    /// Row of the batch at which the span starts.
    first_row: usize,
    kv_head: usize,
    first_pair: usize,
    pairs: usize,
}

fn tasks<'a>(spans: &[Span<'a>], cache: &Cache, view: View) -> Vec<Task<'a>> {
    let mut tasks = Vec::new();
    let mut first_row = 0;
    for &span in spans {
        let all = span.count * view.heads / cache.kv_heads();
        for kv_head in 0..cache.kv_heads() {
            for first_pair in (0..all).step_by(TILE_ROWS) {
                let pairs = TILE_ROWS.min(all - first_pair);
                tasks.push(Task { span, first_row, kv_head, first_pair, pairs });
            }
        }
        first_row += span.count;
    }
    tasks
}

impl Task<'_> {
    /// Where the query of a pair is in the batch.
    fn query(&self, pair: usize, view: View, cache: &Cache) -> Range<usize> {
        let group = view.heads / cache.kv_heads();
        let (row, head) = ((self.first_pair + pair) / group, (self.first_pair + pair) % group);
        let index = (self.first_row + row) * view.heads + self.kv_head * group + head;
        index * cache.head_size()..(index + 1) * cache.head_size()
    }

    /// The positions a pair sees.
    fn seen(&self, pair: usize, view: View, cache: &Cache) -> Range<usize> {
        let group = view.heads / cache.kv_heads();
        let end = self.span.first_position + (self.first_pair + pair) / group + 1;
        view.window.map_or(0, |it| end.saturating_sub(it))..end
    }
}

/// Some tasks, and where their results go.
struct Attention<'a> {
    queries: &'a [f32],
    tasks: &'a [Task<'a>],
    cache: &'a Cache,
    view: View,
    task_lines: usize,
    out: &'a mut [[f32; LANES]],
}

impl Kernel for Attention<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool, const WIDE: bool>(self) {
        let (mut scores, mut room) = (Scores::default(), Vec::new());
        for (task, out) in self.tasks.iter().zip(self.out.chunks_exact_mut(self.task_lines)) {
            let seen = |pair| task.seen(pair, self.view, self.cache);
            scores.reset(seen(0).start, seen(task.pairs - 1).end, task.pairs);
            let query = |pair| &self.queries[task.query(pair, self.view, self.cache)];
            let queries = Tile::new(task.pairs, query);
            for (block, out) in scores.blocks(task.span.table) {
                match self.cache.keys(block, task.kv_head, &mut room) {
                    Floats::F32(keys) => {
                        queries.multiply::<f32, LANES, FMA, WIDE>(0, keys.iter(), out);
                    }
                    Floats::F16(keys) => {
                        queries.multiply::<f16, LANES, FMA, WIDE>(0, keys.iter(), out);
                    }
                }
            }
            for pair in 0..task.pairs {
                scores.weigh::<FMA>(pair, seen(pair), self.view.scale);
            }
            for (block, lines, tokens) in scores.weights(task.span.table) {
                let weights = Tile::new(task.pairs, |pair| &lines[pair][..tokens]);
                match self.cache.values(block, task.kv_head, &mut room) {
                    Floats::F32(values) => add_values::<f32, FMA, WIDE>(&weights, values, out),
                    Floats::F16(values) => add_values::<f16, FMA, WIDE>(&weights, values, out),
                }
            }
        }
    }
}

/// Adds values of the tokens of a block, each times its weights, to the lines of all pairs.
#[inline(always)]
fn add_values<T: Float, const FMA: bool, const WIDE: bool>(
    weights: &Tile,
    values: &[[T; LANES]],
    out: &mut [[f32; LANES]],
) {
    let parts = out.chunks_exact_mut(TILE_ROWS).zip(values.chunks_exact(BLOCK_TOKENS));
    for (out, values) in parts {
        weights.multiply::<T, LANES, FMA, WIDE>(0, values.iter(), out);
    }
}

/// Scores of a tile, then weights: a line of tokens per block and pair.
#[derive(Default)]
struct Scores {
    first_block: usize,
    end: usize,
    pairs: usize,
    lines: Vec<[f32; LANES]>,
}

impl Scores {
    /// Makes room for `pairs` pairs that together see the positions `start..end`.
    #[inline(always)]
    fn reset(&mut self, start: usize, end: usize, pairs: usize) {
        let first_block = start / BLOCK_TOKENS;
        let blocks = end.div_ceil(BLOCK_TOKENS) - first_block;
        (self.first_block, self.end, self.pairs) = (first_block, end, pairs);
        self.lines.clear();
        self.lines.resize(blocks * pairs, [0.0; LANES]);
    }

    /// Each block that is seen, with its lines.
    #[inline(always)]
    fn blocks(
        &mut self,
        table: LayerTable<'_>,
    ) -> impl Iterator<Item = (u32, &mut [[f32; LANES]])> {
        table.from(self.first_block).zip(self.lines.chunks_exact_mut(self.pairs))
    }

    /// Turns the scores of a pair into weights that add up to one, and to zero where it sees nothing.
    #[inline(always)]
    fn weigh<const FMA: bool>(&mut self, pair: usize, seen: Range<usize>, scale: f32) {
        let mut max = [f32::NEG_INFINITY; LANES];
        for (line, seen) in self.lines_of(pair, &seen) {
            line.iter_mut().for_each(|it| *it *= scale);
            mask(line, seen, f32::NEG_INFINITY);
            for (max, &score) in max.iter_mut().zip(&*line) {
                *max = max.max(score);
            }
        }
        let max = max.into_iter().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = [0.0; LANES];
        for (line, seen) in self.lines_of(pair, &seen) {
            line.iter_mut().for_each(|it| *it = exp::<FMA>(*it - max));
            mask(line, seen, 0.0);
            for (sum, &weight) in sum.iter_mut().zip(&*line) {
                *sum += weight;
            }
        }
        let factor = 1.0 / tree_sum(sum);
        for (line, _) in self.lines_of(pair, &seen) {
            line.iter_mut().for_each(|it| *it *= factor);
        }
    }

    /// The lines of a pair, each with the tokens of its block that are in `seen`.
    #[inline(always)]
    fn lines_of(
        &mut self,
        pair: usize,
        seen: &Range<usize>,
    ) -> impl Iterator<Item = (&mut [f32; LANES], Range<usize>)> {
        let bases = (self.first_block * BLOCK_TOKENS..).step_by(BLOCK_TOKENS);
        let inside = |position: usize, base| position.saturating_sub(base).min(BLOCK_TOKENS);
        let lines = self.lines.iter_mut().skip(pair).step_by(self.pairs).zip(bases);
        lines.map(move |(line, base)| (line, inside(seen.start, base)..inside(seen.end, base)))
    }

    /// Each block that is seen, with the weights of its tokens and how many they are. Slots past the last
    /// token seen are left out: what another request left there may not be a number.
    #[inline(always)]
    fn weights(
        &self,
        table: LayerTable<'_>,
    ) -> impl Iterator<Item = (u32, &[[f32; LANES]], usize)> {
        let lines = self.lines.chunks_exact(self.pairs);
        let bases = (self.first_block * BLOCK_TOKENS..).step_by(BLOCK_TOKENS);
        let tokens = bases.map(|base| BLOCK_TOKENS.min(self.end - base));
        table
            .from(self.first_block)
            .zip(lines)
            .zip(tokens)
            .map(|((block, lines), tokens)| (block, lines, tokens))
    }
}

/// Overwrites what is outside `seen`.
#[inline(always)]
fn mask(line: &mut [f32; LANES], seen: Range<usize>, value: f32) {
    if seen.len() < LANES {
        line[..seen.start].fill(value);
        line[seen.end..].fill(value);
    }
}

#[cfg(test)]
mod tests {
    use thalweg_wire::LayerRange;

    use super::*;
    use crate::kv::{KvType, Table};

    const KV_HEADS: usize = 2;
    const SIZE: usize = 24;
    const VIEW: View = View { heads: 6, scale: 0.2, window: None };

    fn values(count: usize, seed: u64) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..count).map(|_| random.f32() * 4.0 - 2.0).collect()
    }

    /// The table of a request that runs one layer.
    fn table(blocks: &[u32]) -> LayerTable<'_> {
        Table { blocks, layers: LayerRange::new(0, 1).expect("not empty") }.layer(0)
    }

    /// Keys and values of 60 tokens, and a cache that holds them in `blocks`. Other slots hold NaN.
    fn cached(blocks: &[u32]) -> (Vec<Vec<f32>>, Vec<Vec<f32>>, Cache) {
        let width = KV_HEADS * SIZE;
        let rows = |seed| values(60 * width, seed).chunks(width).map(<[f32]>::to_vec).collect();
        let (keys, values): (Vec<Vec<f32>>, Vec<Vec<f32>>) = (rows(1), rows(2));
        let mut cache = Cache::new(KvType::F32, 8, KV_HEADS, SIZE);
        for position in 0..8 * BLOCK_TOKENS {
            let nan = vec![f32::NAN; width];
            cache.write(table(&[0, 1, 2, 3, 4, 5, 6, 7]), position, &nan, &nan);
        }
        for (position, (key, value)) in keys.iter().zip(&values).enumerate() {
            cache.write(table(blocks), position, key, value);
        }
        (keys, values, cache)
    }

    /// The definition, in double precision, for one head of the row at `position`.
    fn defined(
        query: &[f32],
        (keys, values): (&[Vec<f32>], &[Vec<f32>]),
        head: usize,
        seen: Range<usize>,
    ) -> Vec<f64> {
        let column = head / (VIEW.heads / KV_HEADS) * SIZE;
        let weight = |key: &Vec<f32>| {
            let pairs = key[column..column + SIZE].iter().zip(query);
            let product: f64 = pairs.map(|(&k, &q)| f64::from(k) * f64::from(q)).sum();
            (product * f64::from(VIEW.scale)).exp()
        };
        let weights: Vec<f64> = keys[seen.clone()].iter().map(weight).collect();
        let total: f64 = weights.iter().sum();
        let mut out = vec![0.0; SIZE];
        for (weight, value) in weights.iter().zip(&values[seen]) {
            for (out, &value) in out.iter_mut().zip(&value[column..]) {
                *out += weight / total * f64::from(value);
            }
        }
        out
    }

    #[test]
    fn attention_matches_its_definition_with_and_without_a_window() {
        let workers = Workers::new(2).expect("threads start");
        let blocks = [5, 0, 7, 2];
        let (keys, values_, cache) = cached(&blocks);
        for (first_position, count) in [(0, 1), (0, 60), (15, 2), (40, 11), (59, 1)] {
            let queries = values(count * VIEW.heads * SIZE, 3);
            let span = Span { table: table(&blocks), first_position, count };
            for window in [None, Some(1), Some(10), Some(100)] {
                let view = View { window, ..VIEW };
                let found = attend(&queries, &[span], &cache, view, &workers);
                let heads = queries.chunks(SIZE).zip(found.chunks(SIZE));
                for (index, (query, found)) in heads.enumerate() {
                    let end = first_position + index / VIEW.heads + 1;
                    let seen = window.map_or(0, |it| end.saturating_sub(it))..end;
                    let expected = defined(query, (&keys, &values_), index % VIEW.heads, seen);
                    for (found, expected) in found.iter().zip(expected) {
                        assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn block_numbers_neighbours_and_cuts_change_no_bit() {
        let workers = Workers::new(1).expect("no thread");
        let (here, there) = ([5, 0, 7, 2], [1, 2, 3, 6]);
        let ((.., cache), (.., moved)) = (cached(&here), cached(&there));
        let width = VIEW.heads * SIZE;
        let queries = values(13 * width, 4);
        let span =
            |blocks, first_position, count| Span { table: table(blocks), first_position, count };
        let view = View { window: Some(20), ..VIEW };
        let both = [span(&here, 3, 1), span(&here, 30, 12)];
        let together = attend(&queries, &both, &cache, view, &workers);
        for (row, expected) in together[width..].chunks(width).enumerate() {
            let query = &queries[(1 + row) * width..][..width];
            let alone = attend(query, &[span(&there, 30 + row, 1)], &moved, view, &workers);
            assert_eq!(alone, expected);
        }
    }
}
