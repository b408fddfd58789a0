//! The configuration in a folder's `config.json`.

use serde::Deserialize;

use super::from_gguf::embedding_scale;
use super::{Arch, ConfigError, ModelConfig, Rope, SlidingWindow, range};

/// Base of the rotary frequencies if the file names none.
const THETA_DEFAULT: f32 = 10_000.0;
/// Base in Gemma 3's windowed layers if the file names none.
const GEMMA_LOCAL_THETA: f32 = 10_000.0;
/// In Gemma 3, every sixth layer has no window if the file does not say.
const GEMMA_PATTERN: usize = 6;

/// `config.json`, as far as it matters here. Multimodal models nest it in `text_config`.
#[derive(Debug, Deserialize)]
struct File {
    model_type: Option<String>,
    text_config: Option<Box<Self>>,
    #[serde(rename = "_name_or_path")]
    name: Option<String>,
    num_hidden_layers: Option<usize>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f32>,
    rope_theta: Option<f32>,
    rope_local_base_freq: Option<f32>,
    rope_scaling: Option<Scaling>,
    rope_parameters: Option<serde_json::Value>,
    tie_word_embeddings: Option<bool>,
    sliding_window: Option<usize>,
    sliding_window_pattern: Option<usize>,
    layer_types: Option<Vec<String>>,
    query_pre_attn_scalar: Option<f32>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    bos_token_id: Option<u32>,
    eos_token_id: Option<Ids>,
}

/// How positions beyond the original training length are squeezed in.
#[derive(Clone, Debug, Deserialize)]
struct Scaling {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    factor: Option<f32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    original_max_position_embeddings: Option<f32>,
}

/// One id or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Many(Vec<u32>),
}

/// Reads `config.json`, and `generation_config.json` if there is one (it may add stop tokens).
///
/// # Errors
///
/// Names the first key that is missing or out of range, or what is not supported.
pub(crate) fn from_hf(text: &[u8], generation: Option<&[u8]>) -> Result<ModelConfig, ConfigError> {
    let outer: File = serde_json::from_slice(text).map_err(ConfigError::Json)?;
    let arch = arch(&outer)?;
    let outer_eos = outer.eos_token_id.clone();
    let file = match outer.text_config {
        Some(inner) => File { name: outer.name, ..*inner },
        None => outer,
    };
    file.refuse_unsupported(arch)?;
    let hidden = required("hidden_size", file.hidden_size)?;
    let heads = required("num_attention_heads", file.num_attention_heads)?;
    if heads == 0 {
        return Err(range("num_attention_heads", heads, "at least 1"));
    }
    let head_dim = file.head_dim.unwrap_or(hidden / heads);
    let sliding_window = file.window(arch);
    let mut config = ModelConfig {
        arch,
        name: file.name.clone().unwrap_or_else(|| "model".to_owned()),
        layers: required("num_hidden_layers", file.num_hidden_layers)?,
        hidden,
        intermediate: required("intermediate_size", file.intermediate_size)?,
        heads,
        kv_heads: file.num_key_value_heads.unwrap_or(heads),
        head_dim,
        vocab: required("vocab_size", file.vocab_size)?,
        context: required("max_position_embeddings", file.max_position_embeddings)?,
        rope: file.rope(arch, head_dim)?,
        norm_eps: file.rms_norm_eps.unwrap_or(1e-6),
        tied_head: file.tie_word_embeddings.unwrap_or(arch == Arch::Gemma3),
        sliding_window,
        query_scale: 1.0 / file.query_pre_attn_scalar.unwrap_or(head_dim as f32).sqrt(),
        embedding_scale: embedding_scale(arch, hidden),
        bos: file.bos_token_id,
        eos: Vec::new(),
    };
    config.eos = stop_tokens(&[file.eos_token_id, outer_eos], generation, config.vocab)?;
    config.check()?;
    Ok(config)
}

fn arch(file: &File) -> Result<Arch, ConfigError> {
    let key = || ConfigError::Missing { key: "model_type".to_owned() };
    match file.model_type.as_deref().ok_or_else(key)? {
        "llama" | "mistral" => Ok(Arch::Llama),
        "gemma3" | "gemma3_text" => Ok(Arch::Gemma3),
        found => Err(ConfigError::Arch { found: found.to_owned() }),
    }
}

fn required<T>(key: &str, value: Option<T>) -> Result<T, ConfigError> {
    value.ok_or_else(|| ConfigError::Missing { key: key.to_owned() })
}

fn unsupported<T>(feature: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::Unsupported { feature: feature.into() })
}

/// All ids that end a generation, sorted, each once.
fn stop_tokens(
    declared: &[Option<Ids>],
    generation: Option<&[u8]>,
    vocab: usize,
) -> Result<Vec<u32>, ConfigError> {
    #[derive(Deserialize)]
    struct Generation {
        eos_token_id: Option<Ids>,
    }
    let generation = generation.map(serde_json::from_slice::<Generation>).transpose();
    let generation = generation.map_err(ConfigError::Json)?.and_then(|it| it.eos_token_id);
    let mut ids = Vec::new();
    for declared in declared.iter().chain([&generation]).flatten() {
        match declared {
            Ids::One(id) => ids.push(*id),
            Ids::Many(many) => ids.extend(many),
        }
    }
    if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
        return Err(range("eos_token_id", id, "a token id"));
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

impl File {
    fn refuse_unsupported(&self, arch: Arch) -> Result<(), ConfigError> {
        if self.attention_bias == Some(true) || self.mlp_bias == Some(true) {
            return unsupported("biases in linear layers");
        }
        let context = self.max_position_embeddings.unwrap_or(0);
        if arch == Arch::Llama && self.sliding_window.is_some_and(|window| window < context) {
            return unsupported("windowed attention in every layer");
        }
        Ok(())
    }

    fn window(&self, arch: Arch) -> Option<SlidingWindow> {
        let window = self.sliding_window.filter(|_| arch == Arch::Gemma3)?;
        let full = |it: &String| it == "full_attention";
        let listed = self.layer_types.as_ref().and_then(|it| it.iter().position(full));
        let pattern = listed.map(|at| at + 1).or(self.sliding_window_pattern);
        Some(SlidingWindow { window, pattern: pattern.unwrap_or(GEMMA_PATTERN) })
    }

    fn rope(&self, arch: Arch, head_dim: usize) -> Result<Rope, ConfigError> {
        if self.rope_theta.is_none() && self.rope_parameters.is_some() {
            return self.rope_by_layer_type(arch, head_dim);
        }
        let theta = self.rope_theta.unwrap_or(THETA_DEFAULT);
        let local_theta = match arch {
            Arch::Llama => theta,
            Arch::Gemma3 => self.rope_local_base_freq.unwrap_or(GEMMA_LOCAL_THETA),
        };
        scaled(theta, local_theta, self.rope_scaling.as_ref(), head_dim)
    }

    /// Newer files keep base and scaling together, one set for each kind of layer.
    fn rope_by_layer_type(&self, arch: Arch, head_dim: usize) -> Result<Rope, ConfigError> {
        #[derive(Deserialize)]
        struct Parameters {
            rope_theta: f32,
            #[serde(flatten)]
            scaling: Scaling,
        }
        let value = self.rope_parameters.clone().unwrap_or_default();
        let parse = |value| serde_json::from_value::<Parameters>(value).map_err(ConfigError::Json);
        match arch {
            Arch::Llama => {
                let it = parse(value)?;
                scaled(it.rope_theta, it.rope_theta, Some(&it.scaling), head_dim)
            }
            Arch::Gemma3 => {
                let full = parse(value["full_attention"].clone())?;
                let local = parse(value["sliding_attention"].clone())?;
                scaled(full.rope_theta, local.rope_theta, Some(&full.scaling), head_dim)
            }
        }
    }
}

fn scaled(
    theta: f32,
    local_theta: f32,
    scaling: Option<&Scaling>,
    head_dim: usize,
) -> Result<Rope, ConfigError> {
    let plain = Rope { theta, local_theta, linear_factor: 1.0, freq_factors: None };
    let Some(scaling) = scaling else { return Ok(plain) };
    match scaling.rope_type.as_deref().unwrap_or("default") {
        "default" => Ok(plain),
        "linear" => Ok(Rope { linear_factor: required("factor", scaling.factor)?, ..plain }),
        "llama3" => {
            let factors = llama3_factors(scaling, theta, head_dim)?;
            Ok(Rope { freq_factors: Some(factors), ..plain })
        }
        other => unsupported(format!("rope scaling `{other}`")),
    }
}

/// Divisors of the frequencies as Llama 3.1 defines them.
///
/// Waves shorter than `original / high` tokens stay, waves longer than `original / low` are divided
/// by `factor`, and between the two the divisor blends from one to the other.
fn llama3_factors(scaling: &Scaling, theta: f32, head_dim: usize) -> Result<Vec<f32>, ConfigError> {
    let factor = required("factor", scaling.factor)?;
    let low = required("low_freq_factor", scaling.low_freq_factor)?;
    let high = required("high_freq_factor", scaling.high_freq_factor)?;
    let original =
        required("original_max_position_embeddings", scaling.original_max_position_embeddings)?;
    if !(low > 0.0 && high > low) {
        return Err(range("low_freq_factor", low, "above 0 and below high_freq_factor"));
    }
    let divisor = |i: usize| {
        let wave = std::f32::consts::TAU * theta.powf(2.0 * i as f32 / head_dim as f32);
        let smooth = ((original / wave - low) / (high - low)).clamp(0.0, 1.0);
        1.0 / ((1.0 - smooth) / factor + smooth)
    };
    Ok((0..head_dim / 2).map(divisor).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts every model needs, as SmolLM2 has them.
    const SMOL: &str = r#""num_hidden_layers": 30, "hidden_size": 576, "intermediate_size": 1536,
        "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-5"#;

    fn read(more: &str) -> Result<ModelConfig, ConfigError> {
        from_hf(format!("{{{SMOL}, {more}}}").as_bytes(), None)
    }

    #[test]
    fn stop_tokens_come_from_both_files() {
        let text = format!(r#"{{{SMOL}, "model_type": "llama", "eos_token_id": 2}}"#);
        let generation = br#"{"eos_token_id": [2, 0]}"#;
        let config = from_hf(text.as_bytes(), Some(generation)).expect("complete");
        assert_eq!(config.eos, [0, 2]);
        assert_eq!((config.head_dim, config.tied_head), (64, false));
    }

    #[test]
    fn llama3_blends_between_short_and_long_waves() {
        let config = read(
            r#""model_type": "llama", "head_dim": 128, "rope_theta": 500000.0,
            "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}"#,
        );
        let factors = config.expect("complete").rope.freq_factors.expect("scaled");
        // As the reference converter writes them for Llama 3.1 8B.
        assert_eq!((&factors[..29], &factors[35..]), (&[1.0; 29][..], &[8.0; 29][..]));
        let between = [1.207_484, 1.553_415, 2.026_313, 2.694_53, 3.684_253, 5.257_326];
        for (found, expected) in factors[29..35].iter().zip(between) {
            assert!((found - expected).abs() < 1e-4 * expected, "{found} is not {expected}");
        }
    }

    #[test]
    fn gemma_windows_five_layers_of_six() {
        let config = read(
            r#""model_type": "gemma3_text", "head_dim": 256, "sliding_window": 512,
            "query_pre_attn_scalar": 256, "rope_theta": 1e6, "rope_local_base_freq": 1e4"#,
        );
        let config = config.expect("complete");
        let windowed: Vec<_> = (0..7).map(|layer| config.is_windowed(layer)).collect();
        assert_eq!(windowed, [true, true, true, true, true, false, true]);
        assert_eq!((config.rope.theta, config.rope.local_theta), (1e6, 1e4));
        assert_eq!((config.query_scale, config.embedding_scale), (1.0 / 16.0, 24.0));
        assert!(config.tied_head);
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let error = read(r#""model_type": "qwen2""#).expect_err("another family");
        assert_eq!(
            error.to_string(),
            "architecture `qwen2` is not supported (supported: llama, gemma3)"
        );
        let error = read(r#""model_type": "llama", "rope_scaling": {"type": "yarn"}"#)
            .expect_err("another scaling");
        assert_eq!(
            error.to_string(),
            "configuration asks for rope scaling `yarn`, which is not supported"
        );
        let error =
            read(r#""model_type": "llama", "eos_token_id": 49152"#).expect_err("no such id");
        assert_eq!(
            error.to_string(),
            "configuration has `eos_token_id` = 49152, expected a token id"
        );
    }
}
