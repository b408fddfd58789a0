//! The configuration in the entries of a GGUF file.

use super::{Arch, ConfigError, ModelConfig, Rope, SlidingWindow, range};
use crate::gguf::{Gguf, Value};

/// Base of the rotary frequencies if the file names none.
const THETA_DEFAULT: f32 = 10_000.0;
/// Gemma 3 uses this base in windowed layers; older files do not say so.
const GEMMA_LOCAL_THETA: f32 = 10_000.0;
/// In Gemma 3, every sixth layer has no window; older files do not say so.
const GEMMA_PATTERN: usize = 6;
/// Layers of Gemma 3 27B, the one size that scales queries by `hidden / heads`.
const GEMMA_27B_LAYERS: usize = 62;
/// Tokens besides the declared one that end a turn, by their text.
const END_OF_TURN: [&str; 5] =
    ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>"];

/// Reads the configuration of the GGUF file `file`, whose header is `gguf`.
///
/// # Errors
///
/// Names the first key that is missing, of the wrong type or out of range.
pub(crate) fn from_gguf(gguf: &Gguf, file: &[u8]) -> Result<ModelConfig, ConfigError> {
    let keys = Keys::new(gguf)?;
    let (layers, hidden) = (keys.required("block_count")?, keys.required("embedding_length")?);
    let heads = keys.required("attention.head_count")?;
    if heads == 0 {
        return Err(range("attention.head_count", heads, "at least 1"));
    }
    let head_dim = keys.optional("attention.key_length")?.unwrap_or(hidden / heads);
    keys.refuse_other_layouts(head_dim)?;
    let sliding_window = keys.sliding_window()?;
    let config = ModelConfig {
        arch: keys.arch,
        name: keys.text("general.name").unwrap_or("model").to_owned(),
        layers,
        hidden,
        intermediate: keys.required("feed_forward_length")?,
        heads,
        kv_heads: keys.optional("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        vocab: keys.vocab()?,
        context: keys.required("context_length")?,
        rope: keys.rope(file, sliding_window.is_some())?,
        norm_eps: keys.float("attention.layer_norm_rms_epsilon")?.ok_or_else(|| {
            ConfigError::Missing { key: keys.full("attention.layer_norm_rms_epsilon") }
        })?,
        tied_head: !gguf.tensors().contains_key("output.weight"),
        sliding_window,
        query_scale: query_scale(keys.arch, layers, hidden, heads, head_dim),
        embedding_scale: embedding_scale(keys.arch, hidden),
        bos: keys.bos()?,
        eos: keys.eos(file)?,
    };
    config.check()?;
    Ok(config)
}

fn query_scale(arch: Arch, layers: usize, hidden: usize, heads: usize, head_dim: usize) -> f32 {
    let width = match arch {
        Arch::Gemma3 if layers == GEMMA_27B_LAYERS => hidden / heads,
        Arch::Llama | Arch::Gemma3 => head_dim,
    };
    1.0 / (width as f32).sqrt()
}

/// Gemma scales its embedding by the root of its width.
pub(super) fn embedding_scale(arch: Arch, hidden: usize) -> f32 {
    match arch {
        Arch::Llama => 1.0,
        Arch::Gemma3 => (hidden as f32).sqrt(),
    }
}

/// The entries of a file, seen through its architecture's prefix.
struct Keys<'a> {
    gguf: &'a Gguf,
    arch: Arch,
    prefix: &'static str,
}

impl<'a> Keys<'a> {
    fn new(gguf: &'a Gguf) -> Result<Self, ConfigError> {
        let key = "general.architecture";
        let name = gguf.entry(key).and_then(Value::as_str);
        let name = name.ok_or_else(|| ConfigError::Missing { key: key.to_owned() })?;
        let (arch, prefix) = match name {
            "llama" => (Arch::Llama, "llama"),
            "gemma3" => (Arch::Gemma3, "gemma3"),
            found => return Err(ConfigError::Arch { found: found.to_owned() }),
        };
        Ok(Self { gguf, arch, prefix })
    }

    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn required(&self, key: &str) -> Result<usize, ConfigError> {
        self.optional(key)?.ok_or_else(|| ConfigError::Missing { key: self.full(key) })
    }

    fn optional(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        let full = self.full(key);
        let Some(value) = self.gguf.entry(&full) else { return Ok(None) };
        let number = value.as_u64().and_then(|n| usize::try_from(n).ok());
        let expected = "a number that is the same for all layers";
        number.map(Some).ok_or(ConfigError::Type { key: full, expected })
    }

    fn float(&self, key: &str) -> Result<Option<f32>, ConfigError> {
        let full = self.full(key);
        let Some(value) = self.gguf.entry(&full) else { return Ok(None) };
        let number = value.as_f64().map(|x| x as f32);
        number.map(Some).ok_or(ConfigError::Type { key: full, expected: "a number" })
    }

    fn text(&self, full: &str) -> Option<&'a str> {
        self.gguf.entry(full).and_then(Value::as_str)
    }

    /// Rows of the embedding: the one count every other part must agree with.
    fn vocab(&self) -> Result<usize, ConfigError> {
        let name = "token_embd.weight";
        let tensor = self.gguf.tensors().get(name);
        let rows = tensor.and_then(|it| it.shape.first().copied());
        rows.ok_or_else(|| ConfigError::Missing { key: name.to_owned() })
    }

    /// Refuses what the model code would compute wrongly without noticing.
    fn refuse_other_layouts(&self, head_dim: usize) -> Result<(), ConfigError> {
        if self.optional("expert_count")?.is_some_and(|n| n > 0) {
            return Err(ConfigError::Unsupported { feature: "mixture of experts".to_owned() });
        }
        for key in ["attention.value_length", "rope.dimension_count"] {
            if let Some(found) = self.optional(key)?.filter(|&n| n != head_dim) {
                return Err(range(&self.full(key), found, "the head size"));
            }
        }
        Ok(())
    }

    fn sliding_window(&self) -> Result<Option<SlidingWindow>, ConfigError> {
        // Llama files may carry the key too; the reference implementation ignores it there.
        if self.arch != Arch::Gemma3 {
            return Ok(None);
        }
        let pattern = self.optional("attention.sliding_window_pattern")?.unwrap_or(GEMMA_PATTERN);
        let window = self.optional("attention.sliding_window")?;
        Ok(window.map(|window| SlidingWindow { window, pattern }))
    }

    fn rope(&self, file: &[u8], windowed: bool) -> Result<Rope, ConfigError> {
        let theta = self.float("rope.freq_base")?.unwrap_or(THETA_DEFAULT);
        let local = self.float("rope.freq_base_swa")?.unwrap_or(GEMMA_LOCAL_THETA);
        let local_theta = if windowed { local } else { theta };
        let kind = self.text(&self.full("rope.scaling.type")).unwrap_or("none");
        let linear_factor = match kind {
            "none" => self.float("rope.scale_linear")?.unwrap_or(1.0),
            "linear" => self.float("rope.scaling.factor")?.unwrap_or(1.0),
            other => {
                let feature = format!("rope scaling `{other}`");
                return Err(ConfigError::Unsupported { feature });
            }
        };
        let freq_factors = self.freq_factors(file)?;
        Ok(Rope { theta, local_theta, linear_factor, freq_factors })
    }

    /// Llama 3 files store the divisors of the frequencies as a tensor.
    fn freq_factors(&self, file: &[u8]) -> Result<Option<Vec<f32>>, ConfigError> {
        let name = "rope_freqs.weight";
        let Some(tensor) = self.gguf.tensors().get(name) else { return Ok(None) };
        let mut factors = vec![0.0; tensor.shape.iter().product()];
        let expanded = tensor.stored.expand(&file[tensor.range.clone()], &mut factors);
        expanded
            .map_err(|_| ConfigError::Type { key: name.to_owned(), expected: "a row of F32" })?;
        Ok(Some(factors))
    }

    fn token(&self, key: &str) -> Result<Option<u32>, ConfigError> {
        let Some(value) = self.gguf.entry(key) else { return Ok(None) };
        let id = value.as_u64().and_then(|n| u32::try_from(n).ok());
        match id {
            Some(id) if (id as usize) < self.vocab()? => Ok(Some(id)),
            _ => Err(range(key, value, "a token id")),
        }
    }

    fn bos(&self) -> Result<Option<u32>, ConfigError> {
        self.token("tokenizer.ggml.bos_token_id")
    }

    /// The declared end of sequence, and every token that ends a turn in a known chat format.
    fn eos(&self, file: &[u8]) -> Result<Vec<u32>, ConfigError> {
        let mut ids = Vec::new();
        for key in ["eos", "eot", "eom"] {
            ids.extend(self.token(&format!("tokenizer.ggml.{key}_token_id"))?);
        }
        let tokens = self.gguf.entry("tokenizer.ggml.tokens").and_then(Value::as_array);
        for (id, text) in (0..).zip(tokens.and_then(|it| it.texts(file)).into_iter().flatten()) {
            if END_OF_TURN.contains(&text) {
                ids.push(id);
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}
