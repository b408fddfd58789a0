//! Loads tensors one by one, so that no more than one is held twice at any time.

use thalweg_wire::LayerRange;

use crate::config::ModelConfig;
use crate::device::DeviceError;
use crate::matrix::{NotFinite, Precision};
use crate::ops::Ops;
use crate::source::{ModelSource, SourceError};

/// A shard that could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A tensor that is missing or damaged.
    #[error("cannot load a tensor")]
    Source(#[from] SourceError),
    /// A weight that would turn every result into NaN.
    #[error("tensor `{name}` holds {value} at index {index}")]
    NotFinite {
        /// Canonical name of the tensor.
        name: String,
        /// Where, counting values from zero in row-major order.
        index: usize,
        /// The value.
        value: f32,
    },
    /// Layers the model does not have.
    #[error("model has {layers} layers, cannot load {asked}")]
    NoSuchLayers {
        /// Layers asked for.
        asked: LayerRange,
        /// Layers there are.
        layers: usize,
    },
    /// A device that is not there, or not for this program.
    #[error("cannot compute on the device that is asked for")]
    Device(#[from] DeviceError),
    /// Threads that do not start.
    #[error("cannot start {threads} threads")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Where a shard's tensors come from, and what they are loaded for.
pub(crate) struct Weights<'a, O> {
    source: &'a ModelSource,
    ops: &'a O,
    precision: Precision,
}

impl<'a, O: Ops> Weights<'a, O> {
    /// Loads from `source`, with matrices in `precision`.
    pub(crate) fn new(source: &'a ModelSource, ops: &'a O, precision: Precision) -> Self {
        Self { source, ops, precision }
    }

    /// Dimensions and constants.
    pub(crate) fn config(&self) -> &ModelConfig {
        self.source.config()
    }

    /// Loads the weight of a norm.
    pub(crate) fn norm(&self, name: &str) -> Result<O::Norm, LoadError> {
        let (values, _) = self.source.f32(name)?;
        if let Some(index) = values.iter().position(|it| !it.is_finite()) {
            return Err(damaged(name, NotFinite { index, value: values[index] }));
        }
        Ok(self.ops.load_norm(values, self.config().norm_eps))
    }

    /// Loads the weights of a linear layer.
    pub(crate) fn linear(&self, name: &str) -> Result<O::Linear, LoadError> {
        let rows = self.source.rows(name)?;
        let matrix = self.ops.load_linear(&rows, self.precision);
        self.source.release_pages();
        matrix.map_err(|it| damaged(name, it))
    }
}

fn damaged(name: &str, NotFinite { index, value }: NotFinite) -> LoadError {
    LoadError::NotFinite { name: name.to_owned(), index, value }
}
