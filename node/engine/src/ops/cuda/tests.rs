//! Our kernels against our loops and burn's operations, on processors.

use burn::tensor::bf16;
use thalweg_wire::LayerRange;

use super::*;
use crate::device::Layout;
use crate::kv::Table;
use crate::ops::plain::tests::{
    BATCHES, HEADS, KV_HEADS, Request, SIZE, agree, attended, both_attend, by_value, cpu, plain,
    products, random,
};
use crate::ops::{Cache as _, Cpu};
use crate::quant::Stored;

fn cube() -> Cuda {
    Cuda::new(Device::cpu(), DType::F32, Workers::new(2).expect("threads start"))
}

/// Random blocks, whose weights are below one.
fn blocks(stored: Stored, count: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes: Vec<u8> = (0..count * stored.block_bytes()).map(|_| random.u8(..)).collect();
    // Small scales of K types are up to 63 or 127.
    let (halves, largest): (&[usize], f32) = match stored {
        Stored::Q4_1 | Stored::Q5_1 => (&[0, 2], 0.01),
        Stored::Q4K | Stored::Q5K => (&[0, 2], 0.01 / 63.0),
        Stored::Q6K => (&[208], 0.01 / 127.0),
        _ => (&[0], 0.01),
    };
    for block in bytes.chunks_exact_mut(stored.block_bytes()) {
        for &at in halves {
            let half = burn::tensor::f16::from_f32((random.f32() * 2.0 - 1.0) * largest);
            block[at..at + 2].copy_from_slice(&half.to_le_bytes());
        }
    }
    bytes
}

/// Quantised types.
fn quantised() -> impl Iterator<Item = Stored> {
    Stored::ALL.into_iter().filter(|it| Layout::of(*it).is_some())
}

#[test]
fn products_with_codes_agree_for_all_types_and_counts_of_rows() {
    for stored in quantised() {
        let (inputs, outputs) = (2 * stored.block_values().max(96), 13);
        let bytes = blocks(stored, inputs / stored.block_values() * outputs, 1);
        let weights = StoredRows::new(stored, inputs, &bytes);
        // Their products with the scale of a block are rounded to F16.
        let rounded = matches!(stored, Stored::Q4K | Stored::Q5K | Stored::Q6K);
        let error = if rounded { 1e-3 } else { 1e-5 };
        for rows in [1, 3, 4, 11, FEW_ROWS_MAX + 1] {
            let x = random(rows * inputs, 2);
            let run = |x: Vec<f32>| products_stored(cube(), &weights, x);
            agree(error, run(x.clone()), products(plain(), [&weights; 2], x));
        }
    }
}

/// As [`products`], with weights as they are stored.
fn products_stored(ops: Cuda, weights: &StoredRows<'_>, x: Vec<f32>) -> (Cuda, Vec<Rows>) {
    let matrix = ops.load_linear(weights, Precision::Stored).expect("weights are finite");
    assert!(matches!(matrix, Matrix::Codes(_)), "stays quantised");
    let mut rows = ops.linear(ops.rows(x, weights.inputs), [&matrix, &matrix]).to_vec();
    rows.push(ops.embed(&matrix, &[3, 0, 3], 1.5));
    (ops, rows)
}

#[test]
fn products_with_floats_agree() {
    for rows in [1, 5, 40] {
        let (x, weights) = (random(rows * 40, 3), random(13 * 40, 4));
        let bytes: Vec<u8> = weights.iter().flat_map(|it| it.to_le_bytes()).collect();
        let weights = StoredRows::new(Stored::F32, 40, &bytes);
        let ours = products(cube(), [&weights; 2], x.clone());
        agree(1e-5, ours, products(plain(), [&weights; 2], x));
    }
}

#[test]
fn products_of_few_rows_read_floats_of_16_bits_as_they_are() {
    let ops = Cuda::new(Device::cpu(), DType::BF16, Workers::new(1).expect("no thread"));
    let weights = random(13 * 40, 4).into_iter().map(|it| bf16::from_f32(it).to_f32());
    let bytes: Vec<u8> = weights.flat_map(f32::to_le_bytes).collect();
    let weights = StoredRows::new(Stored::F32, 40, &bytes);
    for rows in [1, 3, CUBE_ROWS_MAX] {
        let x = random(rows * 40, 3);
        let matrix = ops.load_linear(&weights, Precision::Stored).expect("weights are finite");
        let found = ops.linear(ops.rows(x.clone(), 40), [&matrix]).to_vec();
        let (plain, expected) = products(plain(), [&weights; 2], x);
        agree(1e-5, (cube(), found), (plain, expected[..1].to_vec()));
    }
}

#[test]
fn a_weight_that_is_not_finite_is_found() {
    let mut bytes = blocks(Stored::Q8_0, 3 * 2, 5);
    bytes[3 * 34..3 * 34 + 2].copy_from_slice(&burn::tensor::f16::INFINITY.to_le_bytes());
    bytes[3 * 34 + 2] = 1;
    let rows = StoredRows::new(Stored::Q8_0, 64, &bytes);
    let error = cube().load_linear(&rows, Precision::Stored).expect_err("infinite");
    assert_eq!((error.index, error.value), (64 + 32, f32::INFINITY));
}

#[test]
fn scales_too_large_for_f16_leave_the_matrix_dense() {
    let mut bytes = blocks(Stored::Q4K, 1, 6);
    bytes[..2].copy_from_slice(&burn::tensor::f16::MAX.to_le_bytes());
    let rows = StoredRows::new(Stored::Q4K, 256, &bytes);
    let matrix = cube().load_linear(&rows, Precision::Stored).expect("finite in F32");
    assert!(matches!(matrix, Matrix::Dense(_)));
}

#[test]
fn norms_gates_and_sums_agree() {
    for rows in [1, 2, 33] {
        agree(1e-5, by_value(cube(), rows), by_value(cpu(), rows));
    }
}

#[test]
fn attention_of_mixed_batches_agrees_with_and_without_windows() {
    for window in [None, Some(1), Some(7), Some(20), Some(usize::MAX)] {
        both_attend((cube(), cpu()), KvType::F32, window, &BATCHES, 1e-5);
        // The turned keys may differ in the last bit of F32, and then in one of F16.
        both_attend((cube(), cpu()), KvType::F16, window, &BATCHES, 2e-3);
    }
}

#[test]
fn rows_that_see_several_parts_agree() {
    let blocks: Vec<u32> = (0..33).rev().collect();
    for window in [None, Some(150)] {
        let batches: [&[Request<'_>]; 2] = [
            &[(&blocks, 0..300), (&[34], 0..3)],
            &[(&[34], 3..4), (&blocks, 300..301), (&[35], 0..1)],
        ];
        both_attend((cube(), cpu()), KvType::F32, window, &batches, 1e-5);
        both_attend((cube(), cpu()), KvType::F16, window, &batches, 2e-3);
    }
}

#[test]
fn a_row_alone_sees_a_window_far_from_the_start() {
    let blocks: Vec<u32> = (0..33).rev().collect();
    let batches: [&[Request<'_>]; 2] = [&[(&blocks, 0..300)], &[(&blocks, 300..301)]];
    both_attend((cube(), cpu()), KvType::F32, Some(7), &batches, 1e-5);
}

#[test]
fn what_is_no_number_stays_no_number() {
    let cube = cube();
    let gates = || cube.rows(vec![f32::NAN, f32::INFINITY, -1e30, 1.0], 4);
    for activation in [Activation::Silu, Activation::Gelu] {
        let gated = cube.values(cube.gated(activation, gates(), cube.rows(vec![1.0; 4], 4)));
        assert!(gated[0].is_nan() && !gated[1].is_finite(), "{gated:?}");
        assert!(gated[2].abs() < 1e-6 && gated[3].is_finite(), "{gated:?}");
    }
    let view = View { heads: 2, scale: 0.2, window: None };
    let mut cache = cube.cache(KvType::F16, 1, 1, 8);
    let sight = cube.sight(view, quarters(0..2, 8), std::slice::from_ref(&(0..2)));
    let table = Table { blocks: &[0], layers: LayerRange::new(0, 1).expect("not empty") }.layer(0);
    let rows = [2, 1, 1].map(|heads| {
        let mut values = random(2 * heads * 8, 1);
        values[0] = if heads == 2 { 0.0 } else { f32::NAN };
        cube.rows(values, heads * 8)
    });
    let span = Span { table, first_position: 0, count: 2 };
    let attended = cube.values(cube.attend(&mut cache, &sight, &[span], rows));
    assert!(attended.iter().all(|it| it.is_nan()), "both rows see the key: {attended:?}");
}

/// Random queries, keys and values of a request whose last row attends alone.
fn alone<O: Ops>(
    ops: &O,
    (heads, kv_heads, size): (usize, usize, usize),
    length: usize,
) -> Vec<f32> {
    let view = View { heads, scale: 0.2, window: None };
    let mut cache = ops.cache(KvType::F16, 20, kv_heads, size);
    let blocks: Vec<u32> = (0..20).rev().collect();
    let layers = LayerRange::new(0, 1).expect("not empty");
    let mut last = Vec::new();
    for positions in [0..length - 1, length - 1..length] {
        let (seed, count) = (positions.start as u64, positions.len());
        let turns = quarters(positions.clone(), size);
        let sight = ops.sight(view, turns, std::slice::from_ref(&positions));
        let table = Table { blocks: &blocks, layers }.layer(0);
        let span = Span { table, first_position: positions.start, count };
        let rows = [heads, kv_heads, kv_heads]
            .map(|it| ops.rows(random(count * it * size, seed), it * size));
        last = ops.values(ops.attend(&mut cache, &sight, &[span], rows));
    }
    last
}

/// Turns at frequencies of a model with heads of some size.
fn quarters(positions: Range<usize>, size: usize) -> Turns {
    let text = format!(
        r#"{{"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 64, "head_dim": {size},
        "intermediate_size": 72, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 61,
        "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": false, "eos_token_id": 0}}"#
    );
    let config = crate::config::from_hf(text.as_bytes(), None).expect("a configuration");
    crate::rope::Frequencies::global(&config).turns(positions)
}

#[test]
fn groups_and_heads_of_all_shapes_agree() {
    let shapes = [(4, 4, 64), (8, 1, 16), (12, 1, 32), (6, 2, 128), (4, 1, 256), (2, 2, 6)];
    for shape in shapes {
        for length in [2, 150] {
            let pairs = alone(&cube(), shape, length).into_iter().zip(alone(&cpu(), shape, length));
            for (found, expected) in pairs {
                assert!((found - expected).abs() < 2e-3, "{found} for {expected} of {shape:?}");
            }
        }
    }
}

#[test]
fn what_others_left_in_a_block_is_not_seen() {
    let (cube, view) = (cube(), View { heads: HEADS, scale: 0.3, window: None });
    let mut cache = cube.cache(KvType::F32, 12, KV_HEADS, SIZE);
    let expected = attended(&cube, &mut cache, view, &BATCHES[..1]);
    let mut lines = cache.export(&[0]);
    lines[16..].as_chunks_mut().0.iter_mut().for_each(|it| *it = f32::NAN.to_le_bytes());
    for block in 0..12 {
        cache.import(&[block], &lines).expect("the same shape");
    }
    let found = attended(&cube, &mut cache, view, &BATCHES[..1]);
    assert_eq!(cube.values(found[0].clone()), cube.values(expected[0].clone()));
}

#[test]
fn blocks_move_between_loops_and_kernels() {
    let view = View { heads: HEADS, scale: 0.3, window: None };
    for (kind, error) in [(KvType::F32, 1e-5), (KvType::F16, 2e-3)] {
        let (cpu, cube): (Cpu, Cuda) = (cpu(), cube());
        let mut loops = cpu.cache(kind, 12, KV_HEADS, SIZE);
        let mut ours = cube.cache(kind, 14, KV_HEADS, SIZE);
        attended(&cpu, &mut loops, view, &BATCHES[..2]);
        let bytes = loops.export(&[5, 0, 7]);
        ours.import(&[13, 1, 12], &bytes).expect("the same shape");
        assert_eq!(ours.export(&[13, 1, 12]), bytes);
        ours.copy(12, 3);
        let (here, there) = ([5, 0, 7], [13, 1, 3]);
        let expected = attended(&cpu, &mut loops, view, &[&[(&here, 34..40)]]);
        let found = attended(&cube, &mut ours, view, &[&[(&there, 34..40)]]);
        agree(error, (cube, found), (cpu, expected));
    }
}
