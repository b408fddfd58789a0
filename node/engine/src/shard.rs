//! The layers a host holds, with their cache and threads.
//!
//! ```text
//! tokens -> embedding -> layer .. layer -> norm -> head -> sampler -> token
//!           (holder of           |         (holder of the last layer)
//!            layer 0)       rows to the next host
//! ```
//!
//! A step takes the rows of all its items through each layer together, so weights are read once for
//! all of them. Items may run different parts of the shard's layers; a layer then sees the rows of
//! those that run it.

use std::sync::Arc;

use thalweg_wire::LayerRange;

use crate::config::ModelConfig;
use crate::kv::{Cache, KvBlocksError, KvType, Table};
use crate::matrix::Precision;
use crate::model::{Layer, LoadError, Part, Pass, Weights, embed};
use crate::ops::{Linear, RmsNorm, rows, values};
use crate::sampler::{Sampled, sample};
use crate::source::ModelSource;
use crate::step::{Input, Item, Limits, Output, StepError, Want};
use crate::workers::Workers;

/// How to load a shard.
#[derive(Clone, Copy)]
pub struct LoadOptions<'a> {
    /// Whether to hold the embedding; needed to run layer 0.
    pub embed: bool,
    /// Whether to hold final norm and head; needed to sample.
    pub head: bool,
    /// Blocks of the cache, each of 16 tokens of one layer. They cost memory from their first use
    /// on.
    pub kv_blocks: u32,
    /// How to keep keys and values.
    pub kv_type: KvType,
    /// Threads to compute with; with one, a step runs on the thread that calls it.
    pub threads: usize,
    /// How to keep the weights of matrices.
    pub precision: Precision,
    /// Called after each layer, and after embedding and head.
    pub on_progress: &'a dyn Fn(LoadProgress),
}

/// How far loading has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LoadProgress {
    /// Parts loaded: layers, embedding, head.
    pub done: usize,
    /// Parts to load.
    pub total: usize,
}

/// Consecutive layers of a model, ready to compute.
#[derive(Debug)]
pub struct Shard {
    workers: Workers,
    parts: Parts,
}

/// All of a shard but its threads, which run it.
#[derive(Debug)]
struct Parts {
    config: ModelConfig,
    range: LayerRange,
    weight_bytes: u64,
    kv_blocks: u32,
    embedding: Option<Arc<Linear>>,
    layers: Vec<Layer>,
    cache: Cache,
    head: Option<Head>,
}

/// What follows the last layer. The matrix is the embedding's in models that tie them.
#[derive(Debug)]
struct Head {
    norm: RmsNorm,
    matrix: Arc<Linear>,
}

impl Shard {
    /// Loads `range` of the model, one tensor at a time.
    ///
    /// # Errors
    ///
    /// If the model does not have these layers, or a tensor is damaged or not finite.
    pub fn load(
        source: &ModelSource,
        range: LayerRange,
        options: LoadOptions<'_>,
    ) -> Result<Self, LoadError> {
        let config = source.config().clone();
        if range.end() as usize > config.layers {
            return Err(LoadError::NoSuchLayers { asked: range, layers: config.layers });
        }
        let threads = options.threads;
        let workers =
            Workers::new(threads).map_err(|source| LoadError::Threads { threads, source })?;
        let total = range.count() as usize + usize::from(options.embed) + usize::from(options.head);
        let mut done = 0;
        let mut progress = || {
            done += 1;
            (options.on_progress)(LoadProgress { done, total });
        };
        let weights = Weights::new(source, options.precision);
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
        let blocks = options.kv_blocks as usize;
        let cache = Cache::new(options.kv_type, blocks, config.kv_heads, config.head_dim);
        let kv_blocks = options.kv_blocks;
        let layer_bytes = |it| source.layer_bytes(it as usize, options.precision).0;
        let of_layers: u64 = (range.first()..range.end()).map(layer_bytes).sum();
        let of_head = if options.head { source.head_bytes(options.precision).0 } else { 0 };
        let weight_bytes = of_layers + of_head;
        Ok(Self {
            workers,
            parts: Parts { config, range, weight_bytes, kv_blocks, embedding, layers, cache, head },
        })
    }

    /// Computes one step: makes the copies of all items, in order, then computes them. Rows of
    /// different items do not influence each other.
    ///
    /// # Errors
    ///
    /// If an item cannot be computed by this shard; nothing was computed then. Only
    /// [`StepError::NotFinite`] is found after the fact: the cache then holds the item's tokens.
    pub fn step(&mut self, items: &[Item<'_>]) -> Result<Vec<Output>, StepError> {
        let limits = self.parts.limits();
        items.iter().enumerate().try_for_each(|(index, item)| limits.check(index, item))?;
        let (workers, parts) = (&self.workers, &mut self.parts);
        for &(from, to) in items.iter().flat_map(|it| it.copies) {
            parts.cache.copy(from, to);
        }
        workers.enter(|| {
            let rows = parts.run(items, workers);
            parts.answer(items, rows, workers)
        })
    }

    /// Computes the logits that follow rows of activations of the last layer.
    ///
    /// # Panics
    ///
    /// If the shard was loaded without the head, or `activations` are not whole rows.
    pub fn logits(&self, activations: &[f32]) -> Vec<f32> {
        let head = self.parts.head.as_ref().expect("caller loaded the head");
        let hidden = self.parts.config.hidden;
        self.workers.enter(|| head.logits(activations.to_vec(), hidden, &self.workers))
    }

    /// Layers held.
    pub fn layers(&self) -> LayerRange {
        self.parts.range
    }

    /// Dimensions and constants of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.parts.config
    }

    /// Bytes of weights that a step through all layers reads: those of layers and head.
    pub fn weight_bytes(&self) -> u64 {
        self.parts.weight_bytes
    }

    /// Blocks of the cache, each of 16 tokens of one layer.
    pub fn kv_blocks(&self) -> u32 {
        self.parts.kv_blocks
    }

    /// Some blocks as bytes: what another shard of the same model, with the same type of keys and values,
    /// [imports](Self::import_blocks).
    ///
    /// # Errors
    ///
    /// If there is no such block.
    pub fn export_blocks(&self, blocks: &[u32]) -> Result<Vec<u8>, KvBlocksError> {
        self.check_blocks(blocks)?;
        Ok(self.parts.cache.export(blocks))
    }

    /// Overwrites blocks with exported ones, in order.
    ///
    /// # Errors
    ///
    /// If there is no such block, or the bytes are not as many blocks of this shape and type; nothing was
    /// changed then.
    pub fn import_blocks(&mut self, blocks: &[u32], bytes: &[u8]) -> Result<(), KvBlocksError> {
        self.check_blocks(blocks)?;
        self.parts.cache.import(blocks, bytes)
    }

    fn check_blocks(&self, blocks: &[u32]) -> Result<(), KvBlocksError> {
        let count = self.parts.kv_blocks;
        match blocks.iter().find(|it| **it >= count) {
            Some(&block) => Err(KvBlocksError::NoSuchBlock { block, blocks: count }),
            None => Ok(()),
        }
    }

    /// Whether tokens can be sampled here.
    pub fn has_head(&self) -> bool {
        self.parts.head.is_some()
    }
}

impl Parts {
    /// Takes the rows of all items through their layers.
    fn run(&mut self, items: &[Item<'_>], workers: &Workers) -> Vec<Vec<f32>> {
        let mut all: Vec<Vec<f32>> = items.iter().map(|item| self.enter(item)).collect();
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
            let mut left = &self.run_segment(segment, taken.concat(), &parts, workers)[..];
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
        activations: Vec<f32>,
        parts: &[Part<'_>],
        workers: &Workers,
    ) -> Vec<f32> {
        let first = self.range.first() as usize;
        let mut pass = Pass::new(&self.config, workers, &mut self.cache, parts);
        let mut x = rows(activations, self.config.hidden);
        for layer in segment.first() as usize..segment.end() as usize {
            x = self.layers[layer - first].forward(x, &mut pass);
        }
        values(x)
    }

    /// Makes the answers, sampling for all items that want a token together.
    fn answer(
        &self,
        items: &[Item<'_>],
        all: Vec<Vec<f32>>,
        workers: &Workers,
    ) -> Result<Vec<Output>, StepError> {
        let hidden = self.config.hidden;
        let samples = |item: &Item<'_>| matches!(item.want, Want::Sample { .. });
        let sampled = items.iter().zip(&all).filter(|(item, _)| samples(item));
        let last: Vec<f32> =
            sampled.flat_map(|(_, rows)| &rows[rows.len() - hidden..]).copied().collect();
        let logits = match &self.head {
            Some(head) if !last.is_empty() => head.logits(last, hidden, workers),
            _ => Vec::new(),
        };
        let mut logits = logits.chunks_exact(self.config.vocab);
        let answers = items.iter().zip(all).enumerate().map(|(index, (item, rows))| {
            Ok(match item.want {
                Want::Rows => Output::Rows(rows),
                Want::Nothing => Output::Nothing,
                Want::Sample { sampling, history, prompt_tokens } => {
                    let logits = logits.next().expect("one row of logits per sampling item");
                    let Sampled { sampled, top } = sample(logits, sampling, history, prompt_tokens)
                        .ok_or(StepError::NotFinite { item: index })?;
                    Output::Sampled { sampled, top }
                }
            })
        });
        answers.collect()
    }

    /// The rows with which an item enters its first layer.
    fn enter(&self, item: &Item<'_>) -> Vec<f32> {
        match item.input {
            Input::Rows(rows) => rows.to_vec(),
            Input::Tokens(tokens) => {
                let table = self.embedding.as_ref().expect("items with tokens were checked");
                embed(table, tokens, &self.config)
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

    fn limits(&self) -> Limits {
        let layers = self.config.layers as u32;
        Limits {
            held: self.range,
            hidden: self.config.hidden,
            vocab: self.config.vocab,
            blocks: self.kv_blocks,
            embeds: self.embedding.is_some(),
            head_after: self.head.as_ref().map(|_| layers),
        }
    }
}

impl Head {
    fn load(weights: &Weights<'_>, embedding: Option<&Arc<Linear>>) -> Result<Self, LoadError> {
        let norm = weights.norm("output_norm.weight")?;
        let matrix = match embedding {
            _ if !weights.config().tied_head => Arc::new(weights.linear("output.weight")?),
            Some(shared) => Arc::clone(shared),
            None => load_table(weights)?,
        };
        Ok(Self { norm, matrix })
    }

    fn logits(&self, activations: Vec<f32>, hidden: usize, workers: &Workers) -> Vec<f32> {
        let normed = self.norm.forward(rows(activations, hidden));
        values(self.matrix.forward(normed, workers))
    }
}

fn load_table(weights: &Weights<'_>) -> Result<Arc<Linear>, LoadError> {
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
