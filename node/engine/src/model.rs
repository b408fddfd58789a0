//! The layers of the supported families, each written as its paper writes it.

mod gemma3;
mod llama;
mod pass;
mod weights;

pub(crate) use pass::{Part, Pass};
pub use weights::LoadError;
pub(crate) use weights::Weights;

use crate::config::Arch;
use crate::ops::{Ops, Rows};

/// One layer of a model.
#[derive(Debug)]
pub(crate) enum Layer<O: Ops> {
    Llama(Box<llama::Layer<O>>),
    Gemma3(Box<gemma3::Layer<O>>),
}

impl<O: Ops> Layer<O> {
    /// Loads layer `index`.
    pub(crate) fn load(weights: &Weights<'_, O>, index: usize) -> Result<Self, LoadError> {
        Ok(match weights.config().arch {
            Arch::Llama => Self::Llama(Box::new(llama::Layer::load(weights, index)?)),
            Arch::Gemma3 => Self::Gemma3(Box::new(gemma3::Layer::load(weights, index)?)),
        })
    }

    /// Runs the layer over the rows of a pass.
    pub(crate) fn forward(&self, x: Rows, pass: &mut Pass<'_, O>) -> Rows {
        match self {
            Self::Llama(layer) => layer.forward(x, pass),
            Self::Gemma3(layer) => layer.forward(x, pass),
        }
    }
}
