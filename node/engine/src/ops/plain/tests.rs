//! Our own loops against burn's operations, one by one, on the CPU.

use thalweg_wire::LayerRange;

use super::*;
use crate::config::{ModelConfig, from_hf};
use crate::kv::{KvType, Table};
use crate::ops::{Cache as _, Cpu};
use crate::quant::Stored;
use crate::rope::Frequencies;

/// Grouped heads of a size that is no multiple of a vector.
const CONFIG: &str = r#"{"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 40,
    "intermediate_size": 72, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 20,
    "vocab_size": 61, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
    "tie_word_embeddings": false, "eos_token_id": 0}"#;
pub(in crate::ops) const HEADS: usize = 6;
pub(in crate::ops) const KV_HEADS: usize = 2;
pub(in crate::ops) const SIZE: usize = 20;

pub(in crate::ops) fn plain() -> Plain {
    Plain::new(Device::flex(), DType::F32, Workers::new(1).expect("no thread"))
}

pub(in crate::ops) fn cpu() -> Cpu {
    Cpu::new(Workers::new(2).expect("threads start"))
}

pub(in crate::ops) fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| random.f32() * 2.0 - 1.0).collect()
}

/// What two sets of operations computed must agree in shape, and in values to within `error`.
#[track_caller]
pub(in crate::ops) fn agree<A: Ops, B: Ops>(
    error: f32,
    (ours, found): (A, Vec<Rows>),
    (theirs, expected): (B, Vec<Rows>),
) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.into_iter().zip(expected) {
        assert_eq!(found.dims(), expected.dims());
        for (found, expected) in ours.values(found).iter().zip(theirs.values(expected)) {
            let allowed = error * (1.0 + expected.abs());
            assert!((found - expected).abs() <= allowed, "{found} against {expected}");
        }
    }
}

fn stored(weights: &[f32], inputs: usize, run: impl FnOnce(&StoredRows<'_>)) {
    let bytes: Vec<u8> = weights.iter().flat_map(|it| it.to_le_bytes()).collect();
    run(&StoredRows::new(Stored::F32, inputs, &bytes));
}

pub(in crate::ops) fn products<O: Ops>(
    ops: O,
    weights: [&StoredRows<'_>; 2],
    x: Vec<f32>,
) -> (O, Vec<Rows>) {
    let [first, second] =
        weights.map(|it| ops.load_linear(it, Precision::F32).expect("weights are finite"));
    let mut rows = ops.linear(ops.rows(x, weights[0].inputs), [&first, &second]).to_vec();
    rows.push(ops.embed(&first, &[3, 0, 3], 1.5));
    (ops, rows)
}

#[test]
fn products_and_embeddings_agree() {
    for (rows, inputs, outputs) in [(1, 48, 70), (5, 33, 4), (130, 64, 96)] {
        let x = random(rows * inputs, 1);
        stored(&random(outputs * inputs, 2), inputs, |first| {
            stored(&random(7 * inputs, 3), inputs, |second| {
                let weights = [first, second];
                let ours = products(cpu(), weights, x.clone());
                agree(1e-5, ours, products(plain(), weights, x));
            });
        });
    }
}

#[test]
fn quantised_weights_are_expanded_exactly() {
    let mut random = fastrand::Rng::with_seed(4);
    let mut bytes: Vec<u8> = (0..12 * 2 * 34).map(|_| random.u8(..)).collect();
    for block in bytes.chunks_mut(34) {
        block[..2].copy_from_slice(&f16_bytes(0.01));
    }
    let weights = StoredRows::new(Stored::Q8_0, 64, &bytes);
    let ours = products(cpu(), [&weights; 2], self::random(3 * 64, 5));
    agree(1e-5, ours, products(plain(), [&weights; 2], self::random(3 * 64, 5)));
}

pub(in crate::ops) fn f16_bytes(value: f32) -> [u8; 2] {
    burn::tensor::f16::from_f32(value).to_le_bytes()
}

#[test]
fn a_weight_that_is_not_finite_is_found_at_the_same_place() {
    let mut weights = random(4 * 32, 6);
    weights[70] = f32::INFINITY;
    stored(&weights, 32, |weights| {
        let expected = NotFinite { index: 70, value: f32::INFINITY };
        let ours = cpu().load_linear(weights, Precision::F32);
        assert_eq!(ours.expect_err("infinite"), expected);
        for precision in [Precision::F32, Precision::Stored] {
            let burns = plain().load_linear(weights, precision);
            assert_eq!(burns.expect_err("infinite"), expected);
        }
    });
}

pub(in crate::ops) fn by_value<O: Ops>(ops: O, rows: usize) -> (O, Vec<Rows>) {
    let [x, y] = [1, 2].map(|seed| ops.rows(random(rows * 120, seed), 120));
    let [row, head] = [120, 20].map(|width| ops.load_norm(random(width, 3), 1e-5));
    let gated = [Activation::Silu, Activation::Gelu].map(|it| ops.gated(it, x.clone(), y.clone()));
    let [silu, gelu] = gated;
    let norms = [ops.norm(&row, x.clone()), ops.norm(&head, y.clone())];
    let [of_rows, of_heads] = norms;
    let sum = ops.add(x, y);
    (ops, vec![silu, gelu, of_rows, of_heads, sum])
}

#[test]
fn norms_gates_and_sums_agree() {
    for rows in [1, 2, 33] {
        agree(1e-5, by_value(cpu(), rows), by_value(plain(), rows));
    }
}

pub(in crate::ops) fn config() -> ModelConfig {
    from_hf(CONFIG.as_bytes(), None).expect("a configuration")
}

/// A request: its blocks, and the positions of its new rows.
pub(in crate::ops) type Request<'a> = (&'a [u32], Range<usize>);

pub(in crate::ops) fn span<'a>((blocks, positions): &Request<'a>) -> Span<'a> {
    let layers = LayerRange::new(0, 1).expect("not empty");
    let table = Table { blocks, layers }.layer(0);
    Span { table, first_position: positions.start, count: positions.len() }
}

/// Appends and attends, one batch after the other.
pub(in crate::ops) fn attended<O: Ops>(
    ops: &O,
    cache: &mut O::Cache,
    view: View,
    batches: &[&[Request<'_>]],
) -> Vec<Rows> {
    let frequencies = || Frequencies::global(&config());
    let mut all = Vec::new();
    for (seed, batch) in batches.iter().enumerate() {
        let positions: Vec<Range<usize>> = batch.iter().map(|it| it.1.clone()).collect();
        let spans: Vec<Span<'_>> = batch.iter().map(span).collect();
        let rows: usize = positions.iter().map(ExactSizeIterator::len).sum();
        let turns = frequencies().turns(positions.iter().cloned().flatten());
        let sight = ops.sight(view, turns, &positions);
        let seeds = [0, 1, 2].map(|it| (3 * seed + it) as u64);
        let widths = [HEADS, KV_HEADS, KV_HEADS].map(|it| it * SIZE);
        let rows =
            std::array::from_fn(|it| ops.rows(random(rows * widths[it], seeds[it]), widths[it]));
        all.push(ops.attend(cache, &sight, &spans, rows));
    }
    all
}

/// Prompts, chunks and decodes beside each other, over blocks out of order.
pub(in crate::ops) const BATCHES: [&[Request<'static>]; 4] = [
    &[(&[5, 0, 7], 0..33), (&[2], 0..1), (&[3, 9], 0..17)],
    &[(&[2], 1..2), (&[5, 0, 7], 33..34), (&[4, 8, 10], 0..40), (&[3, 9], 17..18)],
    &[(&[5, 0, 7], 34..48), (&[2], 2..16)],
    &[(&[5, 0, 7], 47..48), (&[2], 15..16)],
];

/// The same batches through two sets of operations, which must agree.
#[track_caller]
pub(in crate::ops) fn both_attend<A: Ops, B: Ops>(
    (ours, theirs): (A, B),
    kind: KvType,
    window: Option<usize>,
    batches: &[&[Request<'_>]],
    error: f32,
) {
    let view = View { heads: HEADS, scale: 0.3, window };
    let mut cache = ours.cache(kind, 40, KV_HEADS, SIZE);
    let found = attended(&ours, &mut cache, view, batches);
    let mut cache = theirs.cache(kind, 40, KV_HEADS, SIZE);
    let expected = attended(&theirs, &mut cache, view, batches);
    agree(error, (ours, found), (theirs, expected));
}

#[test]
fn attention_of_mixed_batches_agrees_with_and_without_windows() {
    for window in [None, Some(1), Some(7), Some(20), Some(usize::MAX)] {
        both_attend((cpu(), plain()), KvType::F32, window, &BATCHES, 1e-5);
        // The turned keys may differ in the last bit of F32, and then in one of F16.
        both_attend((cpu(), plain()), KvType::F16, window, &BATCHES, 2e-3);
    }
}

#[test]
fn prompts_longer_than_a_group_agree() {
    let blocks: Vec<u32> = (0..33).rev().collect();
    for window in [None, Some(50)] {
        let batches: [&[Request<'_>]; 1] = [&[(&blocks, 0..520), (&[34], 0..3), (&[35], 0..3)]];
        both_attend((cpu(), plain()), KvType::F32, window, &batches, 1e-5);
    }
}

#[test]
fn what_others_left_in_a_block_is_not_seen() {
    let (plain, view) = (plain(), View { heads: HEADS, scale: 0.3, window: None });
    let mut cache = plain.cache(KvType::F32, 12, KV_HEADS, SIZE);
    let expected = attended(&plain, &mut cache, view, &BATCHES[..1]);
    let nan = || plain.rows(vec![f32::NAN; 12 * 16 * KV_HEADS * SIZE], KV_HEADS * SIZE);
    let blocks: Vec<u32> = (0..12).collect();
    cache.append(&[span(&(&blocks, 0..12 * 16))], nan(), nan());
    let found = attended(&plain, &mut cache, view, &BATCHES[..1]);
    assert_eq!(plain.values(found[0].clone()), plain.values(expected[0].clone()));
}

#[test]
fn blocks_move_between_the_two_and_are_attended_to_alike() {
    let view = View { heads: HEADS, scale: 0.3, window: None };
    for (kind, error) in [(KvType::F32, 1e-5), (KvType::F16, 2e-3)] {
        let (cpu, plain) = (cpu(), plain());
        let mut ours = cpu.cache(kind, 12, KV_HEADS, SIZE);
        let mut burns = plain.cache(kind, 14, KV_HEADS, SIZE);
        attended(&cpu, &mut ours, view, &BATCHES[..2]);
        let bytes = ours.export(&[5, 0, 7]);
        burns.import(&[13, 1, 12], &bytes).expect("the same shape");
        assert_eq!(burns.export(&[13, 1, 12]), bytes);
        burns.copy(12, 3);
        let (here, there) = ([5, 0, 7], [13, 1, 3]);
        let found = attended(&cpu, &mut ours, view, &[&[(&here, 34..40)]]);
        let expected = attended(&plain, &mut burns, view, &[&[(&there, 34..40)]]);
        let back = burns.export(&[3]);
        agree(error, (cpu, found), (plain, expected));
        ours.import(&[7], &back).expect("the same shape");
        assert_eq!(ours.export(&[7]), back);
    }
}

#[test]
fn blocks_of_another_shape_or_type_change_nothing() {
    let plain = plain();
    let mut cache = plain.cache(KvType::F32, 2, KV_HEADS, SIZE);
    let before = cache.export(&[0, 1]);
    let other = plain.cache(KvType::F16, 2, KV_HEADS, SIZE).export(&[0]);
    let error = cache.import(&[1], &other).expect_err("another type").to_string();
    let message = "KV blocks are of 2 heads of 20 values in f16, those of this shard of 2 heads of 20 \
                   values in f32";
    assert_eq!(error, message);
    let error = cache.import(&[1], &before[..before.len() - 1]).expect_err("two for one");
    assert_eq!(error.to_string(), "2 KV blocks come for 1 places");
    assert_eq!(cache.export(&[0, 1]), before);
    assert_eq!(cache.export(&[]).len(), 16);
}
