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

mod parts;

use burn::tensor::{DType, Device};
use parts::{Compute, Loaded};
use thalweg_wire::LayerRange;

use crate::config::ModelConfig;
use crate::device::ComputeDevice;
#[cfg(not(feature = "cuda"))]
use crate::device::DeviceError;
use crate::kv::{KvBlocksError, KvType};
use crate::matrix::Precision;
use crate::model::LoadError;
#[cfg(feature = "cuda")]
use crate::ops::Cuda;
use crate::ops::{Cpu, Plain};
use crate::source::ModelSource;
use crate::step::{Item, Limits, Output, StepError};
use crate::workers::Workers;

/// How to load a shard.
#[derive(Clone, Copy)]
pub struct LoadOptions<'a> {
    /// Whether to hold the embedding; needed to run layer 0.
    pub embed: bool,
    /// Whether to hold final norm and head; needed to sample.
    pub head: bool,
    /// What to compute with.
    pub device: ComputeDevice,
    /// Blocks of the cache, each of 16 tokens of one layer. They cost memory from their first use
    /// on; on GPUs all at once.
    pub kv_blocks: u32,
    /// How to keep keys and values; on GPUs not as `int8`.
    pub kv_type: KvType,
    /// Threads to compute with; with one, a step runs on the thread that calls it. On other devices than
    /// the CPU they only sample.
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
    config: ModelConfig,
    range: LayerRange,
    weight_bytes: u64,
    kv_blocks: u32,
    embeds: bool,
    has_head: bool,
    parts: Box<dyn Compute>,
}

impl Shard {
    /// Loads `range` of the model, one tensor at a time.
    ///
    /// # Errors
    ///
    /// If the model does not have these layers, a tensor is damaged or not finite, or the device cannot be
    /// used.
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
        let (device, precision) = (options.device, options.precision);
        device.check(options.kv_type)?;
        let parts = load_parts(workers, source, range, &options)?;
        let layer_bytes = |it| source.layer_bytes(it as usize, precision, device).0;
        let of_layers: u64 = (range.first()..range.end()).map(layer_bytes).sum();
        let of_head = if options.head { source.head_bytes(precision, device).0 } else { 0 };
        Ok(Self {
            config,
            range,
            weight_bytes: of_layers + of_head,
            kv_blocks: options.kv_blocks,
            embeds: options.embed,
            has_head: options.head,
            parts,
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
        let limits = self.limits();
        items.iter().enumerate().try_for_each(|(index, item)| limits.check(index, item))?;
        for &(from, to) in items.iter().flat_map(|it| it.copies) {
            self.parts.cache_mut().copy(from, to);
        }
        self.parts.step(items)
    }

    /// Computes the logits that follow rows of activations of the last layer.
    ///
    /// # Panics
    ///
    /// If the shard was loaded without the head, or `activations` are not whole rows.
    pub fn logits(&self, activations: &[f32]) -> Vec<f32> {
        self.parts.logits(activations)
    }

    /// Layers held.
    pub fn layers(&self) -> LayerRange {
        self.range
    }

    /// Dimensions and constants of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Bytes of weights that a step through all layers reads: those of layers and head.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Blocks of the cache, each of 16 tokens of one layer.
    pub fn kv_blocks(&self) -> u32 {
        self.kv_blocks
    }

    /// Some blocks as bytes: what another shard of the same model, with the same type of keys and values,
    /// [imports](Self::import_blocks).
    ///
    /// # Errors
    ///
    /// If there is no such block.
    pub fn export_blocks(&self, blocks: &[u32]) -> Result<Vec<u8>, KvBlocksError> {
        self.check_blocks(blocks)?;
        Ok(self.parts.cache().export(blocks))
    }

    /// Overwrites blocks with exported ones, in order.
    ///
    /// # Errors
    ///
    /// If there is no such block, or the bytes are not as many blocks of this shape and type; nothing was
    /// changed then.
    pub fn import_blocks(&mut self, blocks: &[u32], bytes: &[u8]) -> Result<(), KvBlocksError> {
        self.check_blocks(blocks)?;
        self.parts.cache_mut().import(blocks, bytes)
    }

    fn check_blocks(&self, blocks: &[u32]) -> Result<(), KvBlocksError> {
        let count = self.kv_blocks;
        match blocks.iter().find(|it| **it >= count) {
            Some(&block) => Err(KvBlocksError::NoSuchBlock { block, blocks: count }),
            None => Ok(()),
        }
    }

    /// Whether tokens can be sampled here.
    pub fn has_head(&self) -> bool {
        self.has_head
    }

    fn limits(&self) -> Limits {
        Limits {
            held: self.range,
            hidden: self.config.hidden,
            vocab: self.config.vocab,
            blocks: self.kv_blocks,
            embeds: self.embeds,
            head_after: self.has_head.then_some(self.config.layers as u32),
        }
    }
}

/// Loads for the device that the options name, which was checked: burn panics where there is none.
fn load_parts(
    workers: Workers,
    source: &ModelSource,
    range: LayerRange,
    options: &LoadOptions<'_>,
) -> Result<Box<dyn Compute>, LoadError> {
    Ok(match options.device {
        ComputeDevice::Cpu => Box::new(Loaded::new(Cpu::new(workers), source, range, options)?),
        ComputeDevice::Burn => {
            let ops = Plain::new(Device::flex(), DType::F32, workers);
            Box::new(Loaded::new(ops, source, range, options)?)
        }
        #[cfg(feature = "cuda")]
        ComputeDevice::Cube => {
            let ops = Cuda::new(Device::cpu(), DType::F32, workers);
            Box::new(Loaded::new(ops, source, range, options)?)
        }
        #[cfg(feature = "cuda")]
        ComputeDevice::Cuda(index) => {
            let ops = Cuda::new(Device::cuda(index), DType::BF16, workers);
            Box::new(Loaded::new(ops, source, range, options)?)
        }
        #[cfg(not(feature = "cuda"))]
        ComputeDevice::Cube | ComputeDevice::Cuda(_) => return Err(DeviceError::NotBuilt.into()),
    })
}
