//! What the model code must know of a model, whatever file it came from.

mod from_gguf;
mod from_hf;

pub(crate) use from_gguf::from_gguf;
pub(crate) use from_hf::from_hf;

/// Values a dimension may take at most. Above it a file is damaged, and products would overflow.
const DIMENSION_MAX: usize = 1 << 24;
/// Layers a model may have at most. The largest published models have fewer than 200.
const LAYERS_MAX: usize = 4096;

/// A family of models that share their layer structure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arch {
    /// Llama 2 and 3, SmolLM2, Mistral: pre-norm, grouped-query attention, SiLU-gated feed-forward.
    Llama,
    /// Gemma 3 (text): additionally norms after each half and on queries and keys, GELU (tanh),
    /// and windowed attention in most layers.
    Gemma3,
}

/// Rotary position embedding, in the "rotate half" layout: value `i` pairs with `i + head_dim / 2`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Base of the frequencies: frequency `i` is `theta^(-2 i / head_dim)`.
    pub theta: f32,
    /// Base used by layers with windowed attention; equals `theta` where the model has only one.
    pub local_theta: f32,
    /// Positions are divided by this in layers without a window; 1 changes nothing.
    pub linear_factor: f32,
    /// Frequency `i` is divided by entry `i` (`head_dim / 2` entries), in layers without a window.
    pub freq_factors: Option<Vec<f32>>,
}

/// Attention that looks back a fixed number of tokens in some layers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SlidingWindow {
    /// A token sees itself and the `window - 1` tokens before it.
    pub window: usize,
    /// Every `pattern`-th layer (counting from one) sees everything; one windows no layer.
    pub pattern: usize,
}

/// Dimensions and constants of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Layer structure.
    pub arch: Arch,
    /// Name the file gives itself, for people.
    pub name: String,
    /// Number of layers.
    pub layers: usize,
    /// Width of the activations between layers, in values.
    pub hidden: usize,
    /// Width of the feed-forward block, in values.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head, in values. `heads * head_dim` need not equal `hidden`.
    pub head_dim: usize,
    /// Number of token ids.
    pub vocab: usize,
    /// Longest context the model was trained for, in tokens.
    pub context: usize,
    /// Position embedding.
    pub rope: Rope,
    /// Added to the mean square under the root of every norm.
    pub norm_eps: f32,
    /// Whether the head is the embedding, so that there is no `output.weight`.
    pub tied_head: bool,
    /// Windowed attention, if the model has it.
    pub sliding_window: Option<SlidingWindow>,
    /// Multiplies the products of queries and keys.
    pub query_scale: f32,
    /// Multiplies the rows of the embedding as they enter layer 0; 1 changes nothing.
    pub embedding_scale: f32,
    /// Token that starts a text, if the model uses one.
    pub bos: Option<u32>,
    /// Tokens that end a generation.
    pub eos: Vec<u32>,
}

/// A configuration this program cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A family of models without code here.
    #[error("architecture `{found}` is not supported (supported: llama, gemma3)")]
    Arch {
        /// As the file names it.
        found: String,
    },
    /// A value every model must have.
    #[error("configuration lacks `{key}`")]
    Missing {
        /// Key in the file.
        key: String,
    },
    /// A value of the wrong type.
    #[error("configuration has `{key}` of the wrong type, expected {expected}")]
    Type {
        /// Key in the file.
        key: String,
        /// What it should be, in words.
        expected: &'static str,
    },
    /// A value outside what can be true.
    #[error("configuration has `{key}` = {found}, expected {expected}")]
    Range {
        /// Key in the file, or the quantity it stands for.
        key: String,
        /// The value.
        found: String,
        /// What it should be, in words.
        expected: &'static str,
    },
    /// Something the model code does not do.
    #[error("configuration asks for {feature}, which is not supported")]
    Unsupported {
        /// What, in words.
        feature: String,
    },
    /// `config.json` is no JSON object of the expected form.
    #[error("`config.json` does not parse")]
    Json(#[source] serde_json::Error),
}

impl ModelConfig {
    /// Whether `layer` (from zero) looks back only [`SlidingWindow::window`] tokens.
    pub fn is_windowed(&self, layer: usize) -> bool {
        self.sliding_window.is_some_and(|it| !(layer + 1).is_multiple_of(it.pattern))
    }

    /// Width of all query heads together, in values.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key heads together, and of all value heads together, in values.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Checks every dimension against limits and against the others.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let dimensions = [
            ("layers", self.layers, LAYERS_MAX),
            ("hidden size", self.hidden, DIMENSION_MAX),
            ("feed-forward size", self.intermediate, DIMENSION_MAX),
            ("attention heads", self.heads, DIMENSION_MAX),
            ("key-value heads", self.kv_heads, DIMENSION_MAX),
            ("head size", self.head_dim, DIMENSION_MAX),
            ("vocabulary size", self.vocab, DIMENSION_MAX),
            ("context length", self.context, u32::MAX as usize),
        ];
        for (key, found, max) in dimensions {
            if found == 0 || found > max {
                return Err(range(key, found, "a positive number of plausible size"));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(range("key-value heads", self.kv_heads, "a divisor of attention heads"));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(range("head size", self.head_dim, "an even number"));
        }
        if self.query_width() > DIMENSION_MAX {
            return Err(range("attention width", self.query_width(), "at most 2^24"));
        }
        if let Some(it) = self.sliding_window.filter(|it| it.window == 0 || it.pattern == 0) {
            return Err(range("sliding window", it.window, "a positive window and pattern"));
        }
        self.check_numbers()
    }

    fn check_numbers(&self) -> Result<(), ConfigError> {
        let numbers = [
            ("norm epsilon", self.norm_eps),
            ("rope theta", self.rope.theta),
            ("local rope theta", self.rope.local_theta),
            ("rope scaling factor", self.rope.linear_factor),
            ("query scale", self.query_scale),
            ("embedding scale", self.embedding_scale),
        ];
        for (key, found) in numbers {
            if !(found.is_finite() && found > 0.0) {
                return Err(range(key, found, "a positive number"));
            }
        }
        let Some(factors) = &self.rope.freq_factors else { return Ok(()) };
        if factors.len() != self.head_dim / 2 {
            return Err(range("rope factors", factors.len(), "half the head size"));
        }
        match factors.iter().find(|it| !(it.is_finite() && **it > 0.0)) {
            Some(found) => Err(range("rope factor", found, "a positive number")),
            None => Ok(()),
        }
    }
}

fn range(key: &str, found: impl ToString, expected: &'static str) -> ConfigError {
    ConfigError::Range { key: key.to_owned(), found: found.to_string(), expected }
}
