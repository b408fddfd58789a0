//! The layers of the supported families, each written as its paper writes it.

mod gemma3;
mod llama;
mod pass;
mod weights;

pub(crate) use pass::{Part, Pass};
pub use weights::LoadError;
pub(crate) use weights::Weights;

use crate::config::{Arch, ModelConfig};
use crate::ops::{Linear, Rows};

/// One layer of a model.
#[derive(Debug)]
pub(crate) enum Layer {
    Llama(Box<llama::Layer>),
    Gemma3(Box<gemma3::Layer>),
}

impl Layer {
    /// Loads layer `index`.
    pub(crate) fn load(weights: &Weights<'_>, index: usize) -> Result<Self, LoadError> {
        Ok(match weights.config().arch {
            Arch::Llama => Self::Llama(Box::new(llama::Layer::load(weights, index)?)),
            Arch::Gemma3 => Self::Gemma3(Box::new(gemma3::Layer::load(weights, index)?)),
        })
    }

    /// Runs the layer over the rows of a pass.
    pub(crate) fn forward(&self, x: Rows, pass: &mut Pass<'_>) -> Rows {
        match self {
            Self::Llama(layer) => layer.forward(x, pass),
            Self::Gemma3(layer) => layer.forward(x, pass),
        }
    }
}

/// The table that turns tokens into rows. It may be the head's matrix too.
pub(crate) fn embed(table: &Linear, tokens: &[u32], config: &ModelConfig) -> Vec<f32> {
    let rows = tokens.iter().flat_map(|&token| table.matrix().row(token as usize));
    rows.map(|it| it * config.embedding_scale).collect()
}
