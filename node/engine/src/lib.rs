//! Tensors: weights, tokenizer, models, sampler and the physical KV cache. Knows no network beyond
//! fetching models.

mod config;
mod gguf;
mod identity;
mod map;
mod quant;
mod safetensors;
mod source;

pub use config::{Arch, ConfigError, ModelConfig, Rope, SlidingWindow};
pub use gguf::GgufError;
pub use quant::{Stored, StoredSizeError};
pub use safetensors::SafetensorsError;
pub use source::{ModelSource, SourceError, TensorView};
