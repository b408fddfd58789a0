//! A model on disk: its configuration and its tensors, the same whatever the format.
//!
//! Tensors carry GGUF's names (`blk.3.attn_q.weight`, `output_norm.weight`) and shapes with the
//! outermost dimension first, so a linear layer is `[out, in]`. Two conventions differ between
//! formats and are settled here, so that the model code knows one of each:
//!
//! - Rows of query and key projections are in the "rotate half" order of Hugging Face. GGUF files
//!   of the Llama family interleave the halves of each head; [`ModelSource::f32`] undoes it.
//! - Norm weights multiply as they are. Gemma's safetensors store `weight - 1`, GGUF does not.

mod expected;
mod names;

pub(crate) use names::canonical;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use thalweg_wire::{Bytes, ModelId, ModelShape};

use crate::config::{Arch, ConfigError, ModelConfig, from_gguf, from_hf};
use crate::device::ComputeDevice;
use crate::gguf::{Gguf, GgufError};
use crate::kv::KvType;
use crate::map::Map;
use crate::matrix::Precision;
use crate::quant::{Stored, StoredSizeError};
use crate::safetensors::{Safetensors, SafetensorsError};

/// A model that could not be opened or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file that could not be read.
    #[error("cannot read `{path}`")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A path that is neither a GGUF file nor a folder with a model.
    #[error("`{path}` is neither a GGUF file nor a folder with `config.json` and safetensors")]
    NoModel {
        /// The path.
        path: PathBuf,
    },
    /// A damaged GGUF file.
    #[error("`{path}` is no GGUF file this program can read")]
    Gguf {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: GgufError,
    },
    /// A damaged safetensors file, or a damaged index of several.
    #[error("`{path}` is no safetensors model this program can read")]
    Safetensors {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: SafetensorsError,
    },
    /// A configuration that cannot be served.
    #[error("`{path}` cannot be served")]
    Config {
        /// Which model.
        path: PathBuf,
        /// Why.
        #[source]
        source: ConfigError,
    },
    /// A tensor every model of this family has.
    #[error("model has no tensor `{name}`")]
    Missing {
        /// Canonical name.
        name: String,
    },
    /// A tensor whose dimensions do not follow from the configuration.
    #[error("tensor `{name}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Canonical name.
        name: String,
        /// From the configuration, outermost first.
        expected: Vec<usize>,
        /// In the file.
        found: Vec<usize>,
    },
    /// A tensor whose bytes do not fit its type and shape.
    #[error("tensor `{name}` is damaged")]
    Size {
        /// Canonical name.
        name: String,
        /// Expected and found bytes.
        #[source]
        source: StoredSizeError,
    },
    /// A tensor the model code would have to use and cannot.
    #[error("model has a tensor `{name}`, which is not supported")]
    Unsupported {
        /// Canonical name.
        name: String,
    },
}

/// A tensor as it lies in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorView<'a> {
    /// Type of the values.
    pub stored: Stored,
    /// Dimensions, outermost first.
    pub shape: &'a [usize],
    /// The stored values, in the order of the file.
    pub bytes: &'a [u8],
}

/// Rows of a matrix as they lie in the file, in the order that this module settles on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredRows<'a> {
    /// Type of the weights.
    pub(crate) stored: Stored,
    /// Weights in a row.
    pub(crate) inputs: usize,
    /// Number of rows.
    pub(crate) outputs: usize,
    bytes: &'a [u8],
    /// Width of heads of which the file interleaves the halves.
    interleaved: Option<usize>,
}

impl<'a> StoredRows<'a> {
    /// Takes rows in the order in which they are stored.
    #[cfg(test)]
    pub(crate) fn new(stored: Stored, inputs: usize, bytes: &'a [u8]) -> Self {
        let outputs = bytes.len() / stored.bytes_of(inputs).expect("short rows");
        Self { stored, inputs, outputs, bytes, interleaved: None }
    }

    /// The bytes of one row.
    pub(crate) fn row(&self, output: usize) -> &'a [u8] {
        let bytes = self.bytes.len() / self.outputs;
        let at = match self.interleaved {
            None => output,
            Some(head) => output / head * head + interleaved(output % head, head),
        };
        &self.bytes[at * bytes..][..bytes]
    }

    /// The weights of one row.
    pub(crate) fn values(&self, output: usize) -> Vec<f32> {
        let mut values = vec![0.0; self.inputs];
        self.stored.expand(self.row(output), &mut values).expect("rows are whole blocks");
        values
    }
}

/// An opened model. Cheap to open: weights are read when they are asked for.
#[derive(Debug)]
pub struct ModelSource {
    path: PathBuf,
    config: ModelConfig,
    format: Format,
    id: OnceLock<ModelId>,
}

/// The two formats.
#[derive(Debug)]
pub(crate) enum Format {
    Gguf { map: Map, header: Gguf },
    Safetensors(Safetensors),
}

impl ModelSource {
    /// Opens a GGUF file, or a folder with `config.json` and safetensors.
    ///
    /// Every tensor the configuration calls for is there and has the right shape afterwards.
    ///
    /// # Errors
    ///
    /// Says which file is damaged, incomplete or of an unsupported kind, and where.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let (format, config) = if path.is_dir() { open_folder(path)? } else { open_gguf(path)? };
        let source = Self { path: path.to_owned(), config, format, id: OnceLock::new() };
        expected::check(&source)?;
        Ok(source)
    }

    /// Where the model is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What to call the model: the name of its file or folder, `owner/name` in the hub's cache.
    pub fn name(&self) -> String {
        let path = &self.path;
        if !path.is_dir() {
            return path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        }
        let folder =
            |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // models--owner--name/snapshots/commit
        let repo = path.ancestors().nth(2).map(folder).unwrap_or_default();
        match repo.strip_prefix("models--") {
            Some(repo) => repo.replacen("--", "/", 1),
            None => folder(path),
        }
    }

    /// Dimensions and constants.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensor(name).is_ok()
    }

    /// Returns a tensor as it is stored.
    ///
    /// # Errors
    ///
    /// If there is none of this name.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, SourceError> {
        let view = match &self.format {
            Format::Gguf { map, header } => header.tensors().get(name).map(|it| TensorView {
                stored: it.stored,
                shape: &it.shape,
                bytes: &map[it.range.clone()],
            }),
            Format::Safetensors(files) => files.tensor(name),
        };
        view.ok_or_else(|| SourceError::Missing { name: name.to_owned() })
    }

    /// Returns a tensor's values and its shape, in the conventions of this module.
    ///
    /// The result is the only memory that stays: see also [`release_pages`](Self::release_pages).
    ///
    /// # Errors
    ///
    /// If there is no tensor of this name.
    pub fn f32(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>), SourceError> {
        let rows = self.rows(name)?;
        let mut values: Vec<f32> = (0..rows.outputs).flat_map(|it| rows.values(it)).collect();
        if self.stores_less_one(name) {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        Ok((values, self.tensor(name)?.shape.to_vec()))
    }

    /// Returns the rows of a matrix as they are stored.
    ///
    /// # Errors
    ///
    /// If there is no tensor of this name, or its rows are not whole blocks.
    pub(crate) fn rows(&self, name: &str) -> Result<StoredRows<'_>, SourceError> {
        let TensorView { stored, shape, bytes } = self.tensor(name)?;
        let inputs = shape.last().copied().unwrap_or(1);
        let outputs = shape.iter().rev().skip(1).product();
        let row = stored.bytes_of(inputs).filter(|_| inputs.is_multiple_of(stored.block_values()));
        let expected = row.and_then(|it| it.checked_mul(outputs));
        if expected != Some(bytes.len()) {
            let (count, expected) = (shape.iter().product(), expected.unwrap_or(usize::MAX));
            let source = StoredSizeError { stored, count, expected, found: bytes.len() };
            return Err(SourceError::Size { name: name.to_owned(), source });
        }
        let head_dim = self.config.head_dim;
        let whole_heads = self.interleaves(name) && outputs.is_multiple_of(head_dim);
        let interleaved = whole_heads.then_some(head_dim);
        Ok(StoredRows { stored, inputs, outputs, bytes, interleaved })
    }

    /// Gives back the memory of file pages read so far. Call it after each tensor or layer.
    pub fn release_pages(&self) {
        match &self.format {
            Format::Gguf { map, .. } => map.release(),
            Format::Safetensors(files) => files.release_pages(),
        }
    }

    /// Canonical names of all tensors, sorted.
    pub fn names(&self) -> Vec<&str> {
        match &self.format {
            Format::Gguf { header, .. } => header.tensors().keys().map(String::as_str).collect(),
            Format::Safetensors(files) => files.names(),
        }
    }

    /// Size of a tensor in the file.
    ///
    /// # Errors
    ///
    /// If there is no tensor of this name.
    pub fn stored_bytes(&self, name: &str) -> Result<Bytes, SourceError> {
        self.tensor(name).map(|it| Bytes(it.bytes.len() as u64))
    }

    /// Size of a tensor in the memory of a device. Norms are always F32.
    pub(crate) fn held_bytes(
        &self,
        name: &str,
        precision: Precision,
        device: ComputeDevice,
    ) -> Bytes {
        let size = self.tensor(name).map_or(0, |it| match *it.shape {
            [outputs, inputs] => device.matrix_bytes(it.stored, inputs, outputs, precision),
            _ => it.shape.iter().product::<usize>() * size_of::<f32>(),
        });
        Bytes(size as u64)
    }

    /// Size of one layer's weights in the memory of a device.
    ///
    /// # Panics
    ///
    /// If the model has no such layer.
    pub fn layer_bytes(&self, layer: usize, precision: Precision, device: ComputeDevice) -> Bytes {
        assert!(layer < self.config.layers, "layer {layer} of {}", self.config.layers);
        let tensors = expected::layer(&self.config, layer);
        Bytes(tensors.map(|(name, _)| self.held_bytes(&name, precision, device).0).sum())
    }

    /// Size of final norm and head in the memory of a device.
    pub fn head_bytes(&self, precision: Precision, device: ComputeDevice) -> Bytes {
        let head = if self.config.tied_head { "token_embd.weight" } else { "output.weight" };
        let held = |name| self.held_bytes(name, precision, device).0;
        Bytes(held(head) + held("output_norm.weight"))
    }

    /// How many times as large weights are on `device` as [`shape`](Self::shape) says, at most: 1 or more.
    ///
    /// The shape is the same for all hosts of a cluster and tells what CPUs hold.
    pub fn growth(&self, precision: Precision, device: ComputeDevice) -> f64 {
        let of = |bytes: &dyn Fn(ComputeDevice) -> Bytes| {
            bytes(device).0 as f64 / bytes(ComputeDevice::Cpu).0.max(1) as f64
        };
        let layers = 0..self.config.layers;
        let layers = layers.map(|it| of(&|device| self.layer_bytes(it, precision, device)));
        let embedding = of(&|device| self.held_bytes("token_embd.weight", precision, device));
        let head = of(&|device| self.head_bytes(precision, device));
        layers.chain([embedding, head]).fold(1.0, f64::max)
    }

    /// What planners must know, for contexts of at most `context` tokens, weights in `precision` and
    /// keys and values in `kv_type`.
    pub fn shape(&self, context: u32, precision: Precision, kv_type: KvType) -> ModelShape {
        let (config, cpu) = (&self.config, ComputeDevice::Cpu);
        // Both are checked to fit by `ModelConfig::check`.
        let (layers, hidden) = (config.layers as u32, config.hidden as u32);
        ModelShape {
            model: self.id(),
            name: self.name(),
            layers,
            hidden,
            layer_bytes: (0..config.layers)
                .map(|it| self.layer_bytes(it, precision, cpu))
                .collect(),
            embedding_bytes: self.held_bytes("token_embd.weight", precision, cpu),
            head_bytes: self.head_bytes(precision, cpu),
            kv_bytes_per_token_layer: Bytes(
                kv_type.token_bytes(config.kv_heads, config.head_dim) as u64
            ),
            context_tokens: context.min(config.context as u32),
        }
    }

    /// Identifies the model by its content.
    ///
    /// The first call reads every weight once (about a second per gigabyte), later calls are free.
    pub fn id(&self) -> ModelId {
        *self.id.get_or_init(|| crate::identity::model_id(self))
    }

    /// The file behind the tensors.
    pub(crate) fn format(&self) -> &Format {
        &self.format
    }

    /// Whether the values of this tensor are less by one in the file.
    fn stores_less_one(&self, name: &str) -> bool {
        matches!((&self.format, self.config.arch), (Format::Safetensors(_), Arch::Gemma3))
            && name.ends_with("norm.weight")
    }

    /// Whether the file interleaves the halves of each head in the rows of this tensor.
    fn interleaves(&self, name: &str) -> bool {
        matches!((&self.format, self.config.arch), (Format::Gguf { .. }, Arch::Llama))
            && (name.ends_with(".attn_q.weight") || name.ends_with(".attn_k.weight"))
    }
}

fn open_gguf(path: &Path) -> Result<(Format, ModelConfig), SourceError> {
    let io = |source| SourceError::Io { path: path.to_owned(), source };
    if path.metadata().map_err(io)?.len() == 0 {
        return Err(SourceError::NoModel { path: path.to_owned() });
    }
    let map = Map::open(path).map_err(io)?;
    let header =
        Gguf::parse(&map).map_err(|source| SourceError::Gguf { path: path.to_owned(), source })?;
    let config = from_gguf(&header, &map)
        .map_err(|source| SourceError::Config { path: path.to_owned(), source })?;
    Ok((Format::Gguf { map, header }, config))
}

fn open_folder(path: &Path) -> Result<(Format, ModelConfig), SourceError> {
    let config_path = path.join("config.json");
    if !config_path.is_file() {
        return Err(SourceError::NoModel { path: path.to_owned() });
    }
    let text = std::fs::read(&config_path)
        .map_err(|source| SourceError::Io { path: config_path.clone(), source })?;
    // Many folders have none.
    let generation = std::fs::read(path.join("generation_config.json")).ok();
    let mut config = from_hf(&text, generation.as_deref())
        .map_err(|source| SourceError::Config { path: config_path, source })?;
    let files = Safetensors::open(path, config.arch)?;
    config.tied_head |= files.tensor("output.weight").is_none();
    Ok((Format::Safetensors(files), config))
}

/// Where Llama GGUF files have row `h * head_dim / 2 + i` of a head: in row `2 i + h`.
fn interleaved(row: usize, head_dim: usize) -> usize {
    let half = head_dim / 2;
    row % half * 2 + row / half
}

#[cfg(test)]
mod tests;
