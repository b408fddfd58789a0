//! Weights and cache of a shard, and the operations that compute with them.

use std::fmt;
use std::sync::Arc;

use thalweg_wire::LayerRange;

use super::{LoadOptions, LoadProgress};
use crate::config::ModelConfig;
use crate::kv::Table;
use crate::model::{Layer, LoadError, Part, Pass, Weights};
use crate::ops::{Cache, Ops, Rows};
use crate::sampler::{Sampled, sample};
use crate::source::ModelSource;
use crate::step::{Input, Item, Output, StepError, Want};

/// Choosing from a logit takes as long as so many multiply-adds of a product.
const SAMPLE_WORK: usize = 4;

/// A shard, whatever it computes with.
pub(super) trait Compute: fmt::Debug + Send + Sync {
    /// Computes items that were checked, after their copies were made.
    fn step(&mut self, items: &[Item<'_>]) -> Result<Vec<Output>, StepError>;

    /// Computes the logits that follow rows of activations of the last layer.
    fn logits(&self, activations: &[f32]) -> Vec<f32>;

    /// Keys and values.
    fn cache(&self) -> &dyn Cache;

    /// Keys and values.
    fn cache_mut(&mut self) -> &mut dyn Cache;
}

/// Operations, and a shard that was loaded for them.
#[derive(Debug)]
pub(super) struct Loaded<O: Ops> {
    ops: O,
    parts: Parts<O>,
}

/// All of a shard but what it computes with.
#[derive(Debug)]
struct Parts<O: Ops> {
    config: ModelConfig,
    range: LayerRange,
    embedding: Option<Arc<O::Linear>>,
    layers: Vec<Layer<O>>,
    cache: O::Cache,
    head: Option<Head<O>>,
}

/// What follows the last layer. The matrix is the embedding's in models that tie them.
#[derive(Debug)]
struct Head<O: Ops> {
    norm: O::Norm,
    matrix: Arc<O::Linear>,
}

impl<O: Ops> Loaded<O> {
    /// Loads layers, and the ends that are asked for.
    pub(super) fn new(
        ops: O,
        source: &ModelSource,
        range: LayerRange,
        options: &LoadOptions<'_>,
    ) -> Result<Self, LoadError> {
        let total = range.count() as usize + usize::from(options.embed) + usize::from(options.head);
        let mut done = 0;
        let mut progress = || {
            done += 1;
            (options.on_progress)(LoadProgress { done, total });
        };
        let weights = Weights::new(source, &ops, options.precision);
        let mut layers = Vec::with_capacity(range.count() as usize);
        for index in range.first()..range.end() {
            layers.push(Layer::load(&weights, index as usize)?);
            progress();
        }
        let embedding = if options.embed { Some(load_table(&weights)?) } else { None };
        embedding.iter().for_each(|_| progress());
        let head =
            if options.head { Some(Head::load(&weights, embedding.as_ref())?) } else { None };
        head.iter().for_each(|_| progress());
        let config = source.config().clone();
        let blocks = options.kv_blocks as usize;
        let cache = ops.cache(options.kv_type, blocks, config.kv_heads, config.head_dim);
        Ok(Self { ops, parts: Parts { config, range, embedding, layers, cache, head } })
    }
}

impl<O: Ops> Compute for Loaded<O> {
    fn step(&mut self, items: &[Item<'_>]) -> Result<Vec<Output>, StepError> {
        let Self { ops, parts } = self;
        let rows = parts.run(items, ops);
        parts.answer(items, rows, ops)
    }

    fn logits(&self, activations: &[f32]) -> Vec<f32> {
        let head = self.parts.head.as_ref().expect("caller loaded the head");
        let hidden = self.parts.config.hidden;
        head.logits(activations.to_vec(), hidden, &self.ops)
    }

    fn cache(&self) -> &dyn Cache {
        &self.parts.cache
    }

    fn cache_mut(&mut self) -> &mut dyn Cache {
        &mut self.parts.cache
    }
}

impl<O: Ops> Parts<O> {
    /// Takes the rows of all items through their layers.
    fn run(&mut self, items: &[Item<'_>], ops: &O) -> Vec<Vec<f32>> {
        let mut all: Vec<Vec<f32>> = items.iter().map(|item| self.enter(item, ops)).collect();
        for segment in segments(items) {
            let active = |index: &usize| items[*index].layers.covers(segment);
            let active: Vec<usize> = (0..items.len()).filter(active).collect();
            if active.is_empty() {
                continue;
            }
            let taken: Vec<_> =
                active.iter().map(|&index| std::mem::take(&mut all[index])).collect();
            let sizes: Vec<_> = taken.iter().map(Vec::len).collect();
            let parts: Vec<_> = active.iter().map(|&it| self.part(&items[it])).collect();
            let rows = ops.rows(taken.concat(), self.config.hidden);
            let done = ops.values(self.run_segment(segment, rows, &parts, ops));
            let mut left = &done[..];
            for (&index, size) in active.iter().zip(sizes) {
                let (own, rest) = left.split_at(size);
                all[index] = own.to_vec();
                left = rest;
            }
        }
        all
    }

    /// Takes rows through the layers of `segment`.
    fn run_segment(
        &mut self,
        segment: LayerRange,
        mut x: Rows,
        parts: &[Part<'_>],
        ops: &O,
    ) -> Rows {
        let first = self.range.first() as usize;
        let mut pass = Pass::new(ops, &self.config, &mut self.cache, parts);
        for layer in segment.first() as usize..segment.end() as usize {
            x = self.layers[layer - first].forward(x, &mut pass);
        }
        x
    }

    /// Makes the answers, sampling for all items that want a token together.
    fn answer(
        &self,
        items: &[Item<'_>],
        all: Vec<Vec<f32>>,
        ops: &O,
    ) -> Result<Vec<Output>, StepError> {
        let (hidden, vocab) = (self.config.hidden, self.config.vocab);
        let samples = |item: &Item<'_>| matches!(item.want, Want::Sample { .. });
        let sampled = items.iter().zip(&all).filter(|(item, _)| samples(item));
        let last: Vec<f32> =
            sampled.flat_map(|(_, rows)| &rows[rows.len() - hidden..]).copied().collect();
        let logits = match &self.head {
            Some(head) if !last.is_empty() => head.logits(last, hidden, ops),
            _ => Vec::new(),
        };
        let work = logits.len() * SAMPLE_WORK;
        let mut rows = logits.chunks_exact(vocab);
        let logits = items.iter().map(|it| if samples(it) { rows.next() } else { None });
        let tasks = items.iter().zip(all).zip(logits).enumerate().collect();
        let answer = |(index, ((item, rows), logits)): (_, ((&Item<'_>, _), Option<&[f32]>))| {
            Ok(match item.want {
                Want::Rows => Output::Rows(rows),
                Want::Nothing => Output::Nothing,
                Want::Sample { sampling, history, prompt_tokens } => {
                    let logits = logits.expect("one row of logits per sampling item");
                    let Sampled { sampled, top } = sample(logits, sampling, history, prompt_tokens)
                        .ok_or(StepError::NotFinite { item: index })?;
                    Output::Sampled { sampled, top }
                }
            })
        };
        let answers = ops.workers().each(tasks, work, answer);
        answers.into_iter().collect()
    }

    /// The rows with which an item enters its first layer.
    fn enter(&self, item: &Item<'_>, ops: &O) -> Vec<f32> {
        match item.input {
            Input::Rows(rows) => rows.to_vec(),
            Input::Tokens(tokens) => {
                let table = self.embedding.as_ref().expect("items with tokens were checked");
                ops.values(ops.embed(table, tokens, self.config.embedding_scale))
            }
        }
    }

    fn part<'a>(&self, item: &Item<'a>) -> Part<'a> {
        Part {
            table: Table { blocks: item.blocks, layers: item.layers },
            first_position: item.first_position as usize,
            count: item.count(self.config.hidden),
        }
    }
}

impl<O: Ops> Head<O> {
    fn load(
        weights: &Weights<'_, O>,
        embedding: Option<&Arc<O::Linear>>,
    ) -> Result<Self, LoadError> {
        let norm = weights.norm("output_norm.weight")?;
        let matrix = match embedding {
            _ if !weights.config().tied_head => Arc::new(weights.linear("output.weight")?),
            Some(shared) => Arc::clone(shared),
            None => load_table(weights)?,
        };
        Ok(Self { norm, matrix })
    }

    fn logits(&self, activations: Vec<f32>, hidden: usize, ops: &O) -> Vec<f32> {
        let normed = ops.norm(&self.norm, ops.rows(activations, hidden));
        let [logits] = ops.linear(normed, [&*self.matrix]);
        ops.values(logits)
    }
}

fn load_table<O: Ops>(weights: &Weights<'_, O>) -> Result<Arc<O::Linear>, LoadError> {
    weights.linear("token_embd.weight").map(Arc::new)
}

/// Cuts the layers of all items so that every item runs all of a segment or nothing of it.
fn segments(items: &[Item<'_>]) -> Vec<LayerRange> {
    let mut cuts: Vec<u32> =
        items.iter().flat_map(|it| [it.layers.first(), it.layers.end()]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let pairs = cuts.windows(2);
    pairs.map(|it| LayerRange::new(it[0], it[1]).expect("cuts rise")).collect()
}
