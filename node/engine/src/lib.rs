//! Tensors: weights, tokenizer, models, sampler and the physical KV cache. Knows no network beyond
//! fetching models.

mod area;
mod attention;
mod config;
mod device;
mod exp;
mod gate;
mod gguf;
mod identity;
mod kv;
mod map;
mod matrix;
mod model;
mod norm;
mod ops;
mod packed;
mod profile;
pub mod pull;
mod quant;
mod rope;
mod safetensors;
mod sampler;
mod shard;
mod simd;
mod source;
mod step;
mod team;
mod template;
mod tile;
mod tokenizer;
mod workers;

pub use config::{Arch, ConfigError, ModelConfig, Rope, SlidingWindow};
pub use device::{ComputeDevice, DeviceError, UnknownDevice};
pub use gguf::GgufError;
pub use kv::{BLOCK_TOKENS, KvBlocksError, KvType, UnknownKvType};
pub use matrix::{Precision, UnknownPrecision};
pub use model::LoadError;
pub use profile::{ProfileError, profile};
pub use quant::{Stored, StoredSizeError};
pub use safetensors::SafetensorsError;
pub use sampler::{Sampled, sample};
pub use shard::{LoadOptions, LoadProgress, Shard};
pub use source::{ModelSource, SourceError, TensorView};
pub use step::{Input, Item, Output, StepError, Want};
pub use template::{ChatMessage, ChatTemplate, TemplateError};
pub use tokenizer::{TokenStreamDecoder, Tokenizer, TokenizerError};
