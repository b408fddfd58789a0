//! One model in both formats, and files that do not fit their configuration.

use std::collections::BTreeMap;
use std::fs;

use ::safetensors::Dtype;
use ::safetensors::tensor::{TensorView as Written, serialize_to_file};

use super::*;
use crate::config::SlidingWindow;
use crate::gguf::tests::Writer;
use crate::pull::pull;

/// Bytes of an F32 value.
const F32_BYTES: u64 = 4;

/// Tensors by Hugging Face's names: shape and values.
type Weights = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

const LLAMA: &str = r#"{"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 8,
    "intermediate_size": 12, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 10,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true}"#;
const GEMMA: &str = r#"{"model_type": "gemma3_text", "num_hidden_layers": 1, "hidden_size": 8,
    "intermediate_size": 12, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
    "vocab_size": 10, "max_position_embeddings": 64, "sliding_window": 16}"#;

/// A one-layer model whose values are all different.
fn weights(gemma: bool) -> Weights {
    let mut shapes: Vec<(&str, &[usize])> = vec![
        ("model.embed_tokens.weight", &[10, 8]),
        ("model.norm.weight", &[8]),
        ("model.layers.0.input_layernorm.weight", &[8]),
        ("model.layers.0.self_attn.q_proj.weight", &[8, 8]),
        ("model.layers.0.self_attn.k_proj.weight", &[4, 8]),
        ("model.layers.0.self_attn.v_proj.weight", &[4, 8]),
        ("model.layers.0.self_attn.o_proj.weight", &[8, 8]),
        ("model.layers.0.post_attention_layernorm.weight", &[8]),
        ("model.layers.0.mlp.gate_proj.weight", &[12, 8]),
        ("model.layers.0.mlp.up_proj.weight", &[12, 8]),
        ("model.layers.0.mlp.down_proj.weight", &[8, 12]),
    ];
    if gemma {
        shapes.extend([
            ("model.layers.0.pre_feedforward_layernorm.weight", &[8][..]),
            ("model.layers.0.post_feedforward_layernorm.weight", &[8]),
            ("model.layers.0.self_attn.q_norm.weight", &[4]),
            ("model.layers.0.self_attn.k_norm.weight", &[4]),
        ]);
    }
    let mut next = 0.0;
    let mut values = |count: usize| {
        let first = next;
        next += count as f32;
        (0..count).map(|i| first + i as f32).collect()
    };
    let tensor = |(name, shape): (&str, &[usize])| {
        (name.to_owned(), (shape.to_vec(), values(shape.iter().product())))
    };
    shapes.into_iter().map(tensor).collect()
}

/// Writes weights with the format's reference implementation.
fn write_safetensors(path: &Path, weights: &Weights) {
    let bytes: BTreeMap<&String, Vec<u8>> = weights
        .iter()
        .map(|(name, (_, values))| (name, values.iter().flat_map(|it| it.to_le_bytes()).collect()))
        .collect();
    let views = weights.iter().map(|(name, (shape, _))| {
        (name, Written::new(Dtype::F32, shape.clone(), &bytes[name]).expect("sizes agree"))
    });
    serialize_to_file(views, None, path).expect("written");
}

fn folder(config: &str, weights: &Weights) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("config.json"), config).expect("written");
    write_safetensors(&folder.path().join("model.safetensors"), weights);
    folder
}

/// The Llama of [`weights`] as a GGUF file, query and key rows interleaved as converters do.
fn llama_gguf(weights: &Weights) -> Writer {
    let writer = Writer::default()
        .text("general.architecture", "llama")
        .u32("llama.block_count", 1)
        .u32("llama.embedding_length", 8)
        .u32("llama.feed_forward_length", 12)
        .u32("llama.attention.head_count", 2)
        .u32("llama.attention.head_count_kv", 1)
        .u32("llama.context_length", 64)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
    weights.iter().fold(writer, |writer, (name, (shape, values))| {
        let name = canonical(name, Arch::Llama).expect("all are used");
        let interleaved = name.ends_with("attn_q.weight") || name.ends_with("attn_k.weight");
        let values = if interleaved { interleave(values, 8, 4) } else { values.clone() };
        writer.tensor(&name, shape, &values)
    })
}

/// What converters do: `reshape(heads, 2, half, row).swap(1, 2)`.
fn interleave(values: &[f32], row: usize, head_dim: usize) -> Vec<f32> {
    let rows: Vec<&[f32]> = values.chunks(row).collect();
    let half = head_dim / 2;
    let mut out = Vec::new();
    for head in rows.chunks(head_dim) {
        for i in 0..half {
            out.extend(head[i]);
            out.extend(head[half + i]);
        }
    }
    out
}

fn open_bytes(bytes: &[u8]) -> Result<ModelSource, SourceError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).expect("written");
    ModelSource::open(&path)
}

#[test]
fn both_formats_give_the_same_values() {
    let weights = weights(false);
    let folder = folder(LLAMA, &weights);
    let tensors = ModelSource::open(folder.path()).expect("a good folder");
    let gguf = open_bytes(&llama_gguf(&weights).finish()).expect("a good file");
    assert_eq!(tensors.names(), gguf.names());
    for (name, (shape, values)) in &weights {
        let name = canonical(name, Arch::Llama).expect("all are used");
        let expected = (values.clone(), shape.clone());
        assert_eq!(tensors.f32(&name).expect("there"), expected, "{name}");
        assert_eq!(gguf.f32(&name).expect("there"), expected, "{name}");
    }
    let (one, other) = (tensors.config(), gguf.config());
    assert_eq!((one.layers, one.head_dim, one.kv_width()), (1, 4, 4));
    assert_eq!((one.tied_head, other.tied_head), (true, true));
    assert_eq!((one.norm_eps, one.query_scale), (other.norm_eps, other.query_scale));
    assert_ne!(tensors.id(), gguf.id());
}

#[test]
fn pages_can_be_given_back_at_any_time() {
    let source = open_bytes(&llama_gguf(&weights(false)).finish()).expect("a good file");
    let before = source.f32("token_embd.weight").expect("there");
    let view = source.tensor("token_embd.weight").expect("there");
    source.release_pages();
    assert_eq!(view.bytes[4..8], 1.0_f32.to_le_bytes());
    assert_eq!(source.f32("token_embd.weight").expect("there"), before);
}

#[test]
fn gemma_norms_are_stored_without_their_one() {
    let weights = weights(true);
    let folder = folder(GEMMA, &weights);
    let source = ModelSource::open(folder.path()).expect("a good folder");
    for (name, ours) in [
        ("model.norm.weight", "output_norm.weight"),
        ("model.layers.0.post_attention_layernorm.weight", "blk.0.post_attention_norm.weight"),
        ("model.layers.0.self_attn.q_norm.weight", "blk.0.attn_q_norm.weight"),
    ] {
        let expected: Vec<f32> = weights[name].1.iter().map(|it| it + 1.0).collect();
        assert_eq!(source.f32(ours).expect("there").0, expected, "{ours}");
    }
    let (query, _) = source.f32("blk.0.attn_q.weight").expect("there");
    assert_eq!(query, weights["model.layers.0.self_attn.q_proj.weight"].1);
}

#[test]
fn sharded_folders_are_one_model() {
    let weights = weights(false);
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("config.json"), LLAMA).expect("written");
    let (mut first, mut second) = (Weights::new(), Weights::new());
    let mut map = serde_json::Map::new();
    for (at, (name, tensor)) in weights.iter().enumerate() {
        let (part, file) = if at % 2 == 0 {
            (&mut first, "a.safetensors")
        } else {
            (&mut second, "b.safetensors")
        };
        part.insert(name.clone(), tensor.clone());
        map.insert(name.clone(), file.into());
    }
    write_safetensors(&folder.path().join("a.safetensors"), &first);
    write_safetensors(&folder.path().join("b.safetensors"), &second);
    let index = serde_json::json!({ "weight_map": map });
    let index_path = folder.path().join("model.safetensors.index.json");
    fs::write(&index_path, index.to_string()).expect("written");
    let source = ModelSource::open(folder.path()).expect("a good folder");
    let down = "blk.0.ffn_down.weight";
    assert_eq!(
        source.f32(down).expect("there").0,
        weights["model.layers.0.mlp.down_proj.weight"].1
    );

    for (file, message) in [
        (
            "../b.safetensors",
            "index names `../b.safetensors`, expected at most 4096 files beside it",
        ),
        ("a.safetensors", "index promises tensor `extra` in `a.safetensors`, which lacks it"),
    ] {
        let mut hostile = map.clone();
        hostile.insert("extra".to_owned(), file.into());
        let index = serde_json::json!({ "weight_map": hostile });
        fs::write(&index_path, index.to_string()).expect("written");
        let error = ModelSource::open(folder.path()).expect_err("a hostile index");
        let cause = std::error::Error::source(&error).expect("there is one");
        assert_eq!(cause.to_string(), message);
    }
}

#[test]
fn a_tensor_of_another_shape_is_named() {
    let mut weights = weights(false);
    let name = "model.layers.0.mlp.up_proj.weight";
    weights.insert(name.to_owned(), (vec![8, 12], vec![0.0; 96]));
    let error = open_bytes(&llama_gguf(&weights).finish()).expect_err("transposed");
    let message = "tensor `blk.0.ffn_up.weight` has shape [8, 12], expected [12, 8]";
    assert_eq!(error.to_string(), message);
    weights.remove(name);
    let error = open_bytes(&llama_gguf(&weights).finish()).expect_err("incomplete");
    assert_eq!(error.to_string(), "model has no tensor `blk.0.ffn_up.weight`");
}

#[test]
fn what_would_be_computed_wrongly_is_refused() {
    let biased = llama_gguf(&weights(false)).tensor("blk.0.attn_q.bias", &[8], &[0.0; 8]).finish();
    let error = open_bytes(&biased).expect_err("a bias");
    assert_eq!(error.to_string(), "model has a tensor `blk.0.attn_q.bias`, which is not supported");
    for (key, value, message) in [
        (
            "llama.expert_count",
            8,
            "configuration asks for mixture of experts, which is not supported",
        ),
        (
            "llama.rope.dimension_count",
            2,
            "configuration has `llama.rope.dimension_count` = 2, expected the head size",
        ),
        (
            "tokenizer.ggml.bos_token_id",
            10,
            "configuration has `tokenizer.ggml.bos_token_id` = 10, expected a token id",
        ),
    ] {
        let file = llama_gguf(&weights(false)).u32(key, value).finish();
        let error = open_bytes(&file).expect_err(key);
        let cause = std::error::Error::source(&error).expect("there is one");
        assert_eq!(cause.to_string(), message);
    }
}

#[test]
fn models_are_called_as_their_files() {
    let weights = weights(false);
    let temporary = tempfile::tempdir().expect("a folder");
    let named = |relative: &str| {
        let path = temporary.path().join(relative);
        fs::create_dir_all(&path).expect("created");
        fs::write(path.join("config.json"), LLAMA).expect("written");
        write_safetensors(&path.join("model.safetensors"), &weights);
        ModelSource::open(&path).expect("a good folder").name()
    };
    assert_eq!(named("plain"), "plain");
    assert_eq!(named("models--owner--a-model/snapshots/c0ffee"), "owner/a-model");
    assert_eq!(open_bytes(&llama_gguf(&weights).finish()).expect("a good file").name(), "model");
}

#[test]
fn a_path_without_a_model_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = ModelSource::open(folder.path()).expect_err("an empty folder");
    assert!(matches!(error, SourceError::NoModel { .. }), "{error}");
    let error = open_bytes(b"").expect_err("an empty file");
    assert!(matches!(error, SourceError::NoModel { .. }), "{error}");
    let error = ModelSource::open(&folder.path().join("none.gguf")).expect_err("no file");
    assert!(matches!(error, SourceError::Io { .. }), "{error}");
}

#[test]
fn smollm2_has_the_published_dimensions() {
    let path = pull("smollm2-135m", &|_, _| ()).expect("the tests' models can be fetched");
    let source = ModelSource::open(&path).expect("a good file");
    let config = source.config();
    assert_eq!((config.arch, config.layers, config.hidden), (Arch::Llama, 30, 576));
    assert_eq!((config.heads, config.kv_heads, config.head_dim), (9, 3, 64));
    assert_eq!((config.vocab, config.context, config.intermediate), (49_152, 8192, 1536));
    assert_eq!((config.rope.theta, config.tied_head), (1e5, true));
    assert_eq!((config.bos, &config.eos[..]), (Some(1), &[0, 2][..]));
    let shape = source.shape(2048, Precision::F32, KvType::F32);
    let layers: u64 = shape.layer_bytes.iter().map(|it| it.0).sum();
    // 134,515,008 parameters; the head is the embedding, held twice where it is used twice.
    assert_eq!(layers + shape.head_bytes.0, 134_515_008 * F32_BYTES);
    assert_eq!(shape.embedding_bytes.0, 49_152 * 576 * F32_BYTES);
    assert_eq!(shape.kv_bytes_per_token_layer, Bytes(2 * 3 * 64 * F32_BYTES));
    let stored = source.shape(2048, Precision::Stored, KvType::F16);
    // Q4_1 has 5 bits a weight, norms have 32.
    let layers: u64 = stored.layer_bytes.iter().map(|it| it.0).sum();
    assert_eq!(
        layers,
        30 * ((134_515_008 - 49_152 * 576 - 576) / 30 - 2 * 576) * 5 / 8 + 30 * 2 * 576 * 4
    );
    // GPUs keep Q4_1 in as many bits, and Q8_0 too.
    let growth = source.growth(Precision::Stored, ComputeDevice::Cuda(0));
    assert!((1.0..1.001).contains(&growth), "{growth}");
    for device in [ComputeDevice::Cpu, ComputeDevice::Burn] {
        let growth = source.growth(Precision::F32, device);
        assert!((1.0..1.001).contains(&growth), "{growth}");
    }
    assert_eq!(stored.kv_bytes_per_token_layer, Bytes(2 * 3 * 64 * 2));
    assert_eq!((shape.context_tokens, shape.model), (2048, source.id()));
    assert_eq!(shape.name, "smollm2-135m");
}

#[test]
fn gemma3_has_the_published_dimensions() {
    let path = pull("gemma3-270m", &|_, _| ()).expect("the tests' models can be fetched");
    let source = ModelSource::open(&path).expect("a good file");
    let config = source.config();
    assert_eq!((config.arch, config.layers, config.hidden), (Arch::Gemma3, 18, 640));
    assert_eq!((config.heads, config.kv_heads, config.head_dim), (4, 1, 256));
    assert_eq!((config.vocab, config.context, config.intermediate), (262_144, 32_768, 2048));
    assert_eq!((config.rope.theta, config.rope.local_theta), (1e6, 1e4));
    assert_eq!(config.sliding_window, Some(SlidingWindow { window: 512, pattern: 6 }));
    assert_eq!((config.query_scale, config.embedding_scale), (1.0 / 16.0, 640_f32.sqrt()));
    assert_eq!(config.eos, [1, 106]);
    let layers: u64 =
        (0..18).map(|layer| source.layer_bytes(layer, Precision::F32, ComputeDevice::Cpu).0).sum();
    // 100,326,016 parameters in the layers, as published.
    assert_eq!(layers / F32_BYTES + 640, 100_326_016);
}
