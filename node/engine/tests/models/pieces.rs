//! However a model is cut, whatever runs beside a request: the same bits come out.

use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tempfile::TempDir;
use thalweg_engine::{
    ComputeDevice, Item, KvType, LoadError, LoadOptions, ModelSource, Output, Precision, Shard,
    Want,
};

use crate::rig::{Part, activations, expect_rows, item, load, load_cut, load_cut_as, logits, open};
use crate::rig::{columns, range, table};

/// Layers of the small models.
const LAYERS: usize = 7;
/// Token ids of the small models.
const VOCAB: u32 = 61;

/// Grouped heads, scaled frequencies, a head of its own.
pub const LLAMA: &str = r#"{"model_type": "llama", "num_hidden_layers": 7, "hidden_size": 40,
    "intermediate_size": 72, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 20,
    "vocab_size": 61, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
    "tie_word_embeddings": false, "eos_token_id": 0}"#;

/// Windows shorter than the prompts in five layers of six, one key head, the embedding as head.
pub const GEMMA: &str = r#"{"model_type": "gemma3_text", "num_hidden_layers": 7, "hidden_size": 40,
    "intermediate_size": 72, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 20,
    "vocab_size": 61, "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0, "sliding_window": 11, "sliding_window_pattern": 6,
    "query_pre_attn_scalar": 20, "tie_word_embeddings": true, "eos_token_id": 0}"#;

/// The tensors of a small model, with shapes from outside in.
fn tensors(config: &str) -> Vec<(String, Vec<usize>)> {
    let (heads, kv_heads, gemma) = if config == GEMMA { (4, 1, true) } else { (6, 2, false) };
    let vocab = VOCAB as usize;
    let mut all = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocab, 40]),
        ("model.norm.weight".to_owned(), vec![40]),
    ];
    if !gemma {
        all.push(("lm_head.weight".to_owned(), vec![vocab, 40]));
    }
    let mut layer = vec![
        ("input_layernorm", vec![40]),
        ("self_attn.q_proj", vec![heads * 20, 40]),
        ("self_attn.k_proj", vec![kv_heads * 20, 40]),
        ("self_attn.v_proj", vec![kv_heads * 20, 40]),
        ("self_attn.o_proj", vec![40, heads * 20]),
        ("post_attention_layernorm", vec![40]),
        ("mlp.gate_proj", vec![72, 40]),
        ("mlp.up_proj", vec![72, 40]),
        ("mlp.down_proj", vec![40, 72]),
    ];
    if gemma {
        layer.extend([
            ("self_attn.q_norm", vec![20]),
            ("self_attn.k_norm", vec![20]),
            ("pre_feedforward_layernorm", vec![40]),
            ("post_feedforward_layernorm", vec![40]),
        ]);
    }
    let name = |index, part| format!("model.layers.{index}.{part}.weight");
    let layers = (0..LAYERS).flat_map(|index| {
        layer.iter().map(move |(part, shape)| (name(index, part), shape.clone()))
    });
    all.extend(layers);
    all
}

/// Writes a small model with random weights; `damaged` gets a weight that is not a number.
fn write(folder: &Path, config: &str, damaged: &str) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut stored = Vec::new();
    for (name, shape) in tensors(config) {
        let count: usize = shape.iter().product();
        let mut values: Vec<f32> = (0..count).map(|_| random.f32() - 0.5).collect();
        if name == damaged {
            values[1] = f32::NAN;
        }
        let bytes: Vec<u8> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
        stored.push((name, shape, bytes));
    }
    let views = stored.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("sizes agree"))
    });
    let file = folder.join("model.safetensors");
    safetensors::serialize_to_file(views, None, &file).expect("the folder is writable");
    std::fs::write(folder.join("config.json"), config).expect("the folder is writable");
}

pub fn small(config: &str) -> (TempDir, ModelSource) {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), config, "");
    let source = ModelSource::open(folder.path()).expect("the model can be read");
    (folder, source)
}

pub fn prompt(length: usize, seed: u64) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u32(0..VOCAB)).collect()
}

pub fn part(first_column: u32, tokens: Vec<u32>) -> Part {
    Part { columns: columns(first_column, tokens.len()), first_position: 0, tokens }
}

/// Requests of different lengths, in columns that do not overlap.
fn parts() -> Vec<Part> {
    let lengths = [1, 5, 16, 17, 40, 3, 2, 9, 33, 1];
    let parts = lengths.iter().zip((0u32..).step_by(3));
    parts.map(|(&length, column)| part(column, prompt(length, u64::from(column)))).collect()
}

#[test]
fn any_cut_into_shards_gives_the_same_bits() {
    for config in [LLAMA, GEMMA] {
        let (_folder, source) = small(config);
        let whole = logits(&mut load_cut(&source, &[]), &parts());
        let cuts: [&[u32]; 5] = [&[1], &[6], &[3, 4], &[2, 5], &[1, 2, 3, 4, 5, 6]];
        for cuts in cuts {
            assert_eq!(logits(&mut load_cut(&source, cuts), &parts()), whole, "cut at {cuts:?}");
        }
    }
}

#[test]
fn a_batch_gives_the_bits_of_each_request_alone() {
    for config in [LLAMA, GEMMA] {
        let (_folder, source) = small(config);
        let mut shards = load_cut(&source, &[]);
        let together = logits(&mut shards, &parts());
        for (part, together) in parts().into_iter().zip(together) {
            assert_eq!(logits(&mut shards, &[part])[0], together);
        }
    }
}

#[test]
fn a_prompt_in_chunks_gives_the_bits_of_a_prompt_at_once() {
    for config in [LLAMA, GEMMA] {
        let (_folder, source) = small(config);
        let mut shards = load_cut(&source, &[4]);
        let whole = part(0, prompt(50, 9));
        let expected = activations(&mut shards, std::slice::from_ref(&whole)).remove(0);
        for chunk in [1, 7, 16, 33] {
            let mut found = Vec::new();
            for (index, tokens) in whole.tokens.chunks(chunk).enumerate() {
                let first_position = u32::try_from(index * chunk).expect("short");
                let columns = columns(20, whole.tokens.len());
                let part = Part { columns, first_position, tokens: tokens.to_vec() };
                found.extend(activations(&mut shards, &[part]).remove(0));
            }
            assert_eq!(found, expected, "chunks of {chunk}");
        }
    }
}

#[test]
fn items_may_run_different_layers_of_a_shard_in_one_step() {
    let (_folder, source) = small(LLAMA);
    let mut whole = load(&source, range(0, 7), 1, Precision::F32);
    let mut pieces = load_cut(&source, &[2, 5]);
    let [all, front, middle] =
        [part(0, prompt(20, 1)), part(2, prompt(9, 2)), part(3, prompt(6, 3))];
    let entering = activations(&mut pieces[..1], std::slice::from_ref(&middle)).remove(0);
    let held = range(0, 7);
    let tables = [
        table(&all.columns, held, held),
        table(&front.columns, range(0, 3), held),
        table(&middle.columns, range(2, 5), held),
    ];
    let items = [
        item(&all, &tables[0], &[], held, Want::Rows),
        item(&front, &tables[1], &[], range(0, 3), Want::Rows),
        item(&middle, &tables[2], &entering, range(2, 5), Want::Rows),
    ];
    let found: Vec<Vec<f32>> =
        whole.step(&items).expect("the step runs").into_iter().map(expect_rows).collect();

    assert_eq!(found[0], activations(&mut pieces, std::slice::from_ref(&all)).remove(0));
    let mut first = load(&source, range(0, 3), 1, Precision::F32);
    assert_eq!(found[1], activations(std::slice::from_mut(&mut first), &[front]).remove(0));
    let blocks = table(&middle.columns, range(2, 5), range(2, 5));
    let alone = [item(&middle, &blocks, &entering, range(2, 5), Want::Rows)];
    assert_eq!(found[2], expect_rows(pieces[1].step(&alone).expect("the step runs").remove(0)));
}

#[test]
fn a_copied_block_is_the_fork_s_own() {
    let (_folder, source) = small(GEMMA);
    let held = range(0, 7);
    let mut shard = [load(&source, held, 1, Precision::F32)];
    let prompt = prompt(20, 1);
    let ask = |columns: &[u32], tokens: &[u32], first_position| Part {
        columns: columns.to_vec(),
        first_position,
        tokens: tokens.to_vec(),
    };
    let alone: Vec<_> = [3, 4]
        .map(|token| {
            activations(&mut shard, &[ask(&[8, 9], &prompt, 0)]);
            activations(&mut shard, &[ask(&[8, 9], &[token], 20)]).remove(0)
        })
        .into();
    activations(&mut shard, &[ask(&[0, 1], &prompt, 0)]);
    // The fork shares the first column and writes to a copy of the second.
    let (kept, own) = (table(&[1], held, held), table(&[2], held, held));
    let copies: Vec<_> = kept.into_iter().zip(own).collect();
    let parts = [ask(&[0, 1], &[3], 20), ask(&[0, 2], &[4], 20)];
    let tables = parts.each_ref().map(|it| table(&it.columns, held, held));
    let mut items = [0, 1].map(|it| item(&parts[it], &tables[it], &[], held, Want::Rows));
    items[1].copies = &copies;
    let outputs = shard[0].step(&items).expect("the step runs");
    assert_eq!(outputs.into_iter().map(expect_rows).collect::<Vec<_>>(), alone);
}

#[test]
fn threads_change_no_bit() {
    let (_folder, source) = small(GEMMA);
    let one = logits(&mut [load(&source, range(0, 7), 1, Precision::F32)], &parts());
    assert_eq!(logits(&mut [load(&source, range(0, 7), 3, Precision::F32)], &parts()), one);
}

/// Models of which the layers between them hold Q4_1, Q4_K, Q5_0, Q6_K and Q8_0.
const QUANTISED: [&str; 2] = ["smollm2-135m", "gemma3-270m"];

#[test]
fn quantised_models_in_pieces_and_batches_give_the_same_bits() {
    for name in QUANTISED {
        let source = open(name);
        let parts = [part(0, prompt(70, 1)), part(5, prompt(3, 2)), part(6, prompt(1, 3))];
        for precision in [Precision::Stored, Precision::F32] {
            let mut whole = load_cut_as(precision, &source, &[]);
            let expected = logits(&mut whole, &parts);
            let mut cut = load_cut_as(precision, &source, &[1, 11, 17]);
            assert_eq!(logits(&mut cut, &parts), expected, "{name} in pieces");
            for (part, expected) in parts.iter().zip(expected) {
                let alone = logits(&mut whole, std::slice::from_ref(part)).remove(0);
                assert_eq!(alone, expected, "{name} alone");
            }
        }
    }
}

#[test]
fn quantised_models_give_the_same_bits_with_any_number_of_threads() {
    for name in QUANTISED {
        let source = open(name);
        let layers = range(0, u32::try_from(source.config().layers).expect("few layers"));
        let parts = [part(0, prompt(140, 1)), part(9, prompt(2, 2))];
        let one = logits(&mut [load(&source, layers, 1, Precision::Stored)], &parts);
        assert_eq!(
            logits(&mut [load(&source, layers, 2, Precision::Stored)], &parts),
            one,
            "{name}"
        );
    }
}

#[test]
fn a_weight_that_is_not_a_number_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), LLAMA, "model.layers.2.mlp.up_proj.weight");
    let source = ModelSource::open(folder.path()).expect("the model can be read");
    let options = LoadOptions {
        embed: false,
        head: false,
        device: ComputeDevice::Cpu,
        kv_blocks: 1,
        threads: 1,
        precision: Precision::F32,
        kv_type: KvType::F32,
        on_progress: &|_| {},
    };
    let good = Shard::load(&source, range(3, 5), options);
    assert_eq!(good.expect("other layers load").layers(), range(3, 5));
    let error = Shard::load(&source, range(1, 5), options).expect_err("a weight is NaN");
    assert!(matches!(error, LoadError::NotFinite { .. }));
    assert_eq!(error.to_string(), "tensor `blk.2.ffn_up.weight` holds NaN at index 1");
    let error = Shard::load(&source, range(5, 8), options).expect_err("there are seven layers");
    assert_eq!(error.to_string(), "model has 7 layers, cannot load 5..8");
}

#[test]
fn damaged_activations_harm_only_their_own_request() {
    let (_folder, source) = small(LLAMA);
    let mut last = load(&source, range(5, 7), 1, Precision::F32);
    let (good, bad) = (part(0, prompt(4, 1)), part(1, prompt(4, 2)));
    let layers = range(5, 7);
    let [here, there] = [&good, &bad].map(|it| table(&it.columns, layers, layers));
    let (rows, damaged) = (vec![0.3; 160], vec![f32::NAN; 160]);
    let step = |shard: &mut Shard, items: &[Item<'_>]| shard.step(items).expect("the step runs");
    let expected = step(&mut last, &[item(&good, &here, &rows, layers, Want::Rows)]).remove(0);
    let items = [
        item(&bad, &there, &damaged, layers, Want::Rows),
        item(&good, &here, &rows, layers, Want::Rows),
    ];
    assert_eq!(step(&mut last, &items)[1], expected);
    // The blocks go to another request, which must not see what was left in them.
    let reused = step(&mut last, &[item(&good, &there, &rows, layers, Want::Rows)]).remove(0);
    assert_eq!(reused, expected);
    let sampling = thalweg_wire::Sampling::default();
    let want = Want::Sample { sampling: &sampling, history: &[], prompt_tokens: 0 };
    let error =
        last.step(&[item(&bad, &there, &damaged, layers, want)]).expect_err("NaN has no token");
    assert_eq!(error.to_string(), "item 0 has logits that are not numbers");
    assert!(matches!(expected, Output::Rows(_)));
}
