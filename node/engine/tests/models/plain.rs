//! Whole models by our own loops for processors, by burn's operations, and by our kernels for GPUs.

use thalweg_engine::{ComputeDevice, Precision, Shard};

use crate::pieces::{GEMMA, LLAMA, part, prompt, small};
#[cfg(feature = "cuda")]
use crate::rig::open;
use crate::rig::{Part, load_on, logits, range, table};

/// Difference allowed, as a part of the largest logit.
const TOLERANCE: f32 = 1e-3;

fn cut(device: ComputeDevice, config: &str) -> Vec<Shard> {
    let (_folder, source) = small(config);
    let load = |layers| load_on(device, &source, layers, 1, Precision::F32);
    vec![load(range(0, 3)), load(range(3, 7))]
}

/// Prompts over several blocks beside short ones, then decodes beside a chunk.
fn batches() -> [Vec<Part>; 3] {
    let lengths = [1, 40, 16, 300, 5];
    let prompts = lengths.iter().zip([0, 3, 8, 12, 40]);
    let prompts = prompts.map(|(&length, column)| {
        let mut part = part(column, prompt(length, u64::from(column)));
        part.columns.push(part.columns[part.columns.len() - 1] + 1);
        part
    });
    let prompts: Vec<Part> = prompts.collect();
    let after = |tokens: [usize; 5], seed| {
        let parts = prompts.iter().zip(tokens);
        let next = |(it, count): (&Part, usize)| Part {
            columns: it.columns.clone(),
            first_position: it.first_position + it.tokens.len() as u32,
            tokens: prompt(count, seed),
        };
        parts.map(next).collect::<Vec<_>>()
    };
    let (decodes, mixed) = (after([1; 5], 50), after([9, 1, 1, 2, 1], 51));
    [prompts, decodes, mixed]
}

/// A prompt in pieces beside a request that decodes. No step has more than eight rows, as burn takes minutes
/// to multiply more on processors.
#[cfg(feature = "cuda")]
fn pieces() -> Vec<Vec<Part>> {
    let (long, short) = (prompt(35, 1), prompt(6, 2));
    let piece = |columns: &[u32], tokens: &[u32], first: usize, count: usize| Part {
        columns: columns.to_vec(),
        first_position: first as u32,
        tokens: tokens[first..first + count].to_vec(),
    };
    let step = |at: usize| vec![piece(&[5, 0, 9], &long, 7 * at, 7), piece(&[3], &short, at, 1)];
    let decodes = vec![piece(&[5, 0, 9], &[long.clone(), vec![8]].concat(), 35, 1)];
    (0..5).map(step).chain([decodes]).collect()
}

/// Largest difference, as a part of the largest logit.
fn difference(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f32 {
    let differences = found.iter().zip(expected).map(|(found, expected)| {
        let largest = expected.iter().fold(0.0, |max: f32, it| max.max(it.abs()));
        assert!(largest > 0.1, "logits say something");
        let pairs = found.iter().zip(expected);
        pairs.fold(0.0, |max: f32, (found, expected)| max.max((found - expected).abs() / largest))
    });
    differences.fold(0.0, f32::max)
}

fn agree(device: ComputeDevice, batches: impl Fn() -> Vec<Vec<Part>>) {
    for config in [LLAMA, GEMMA] {
        let [mut ours, mut theirs] = [ComputeDevice::Cpu, device].map(|it| cut(it, config));
        for batch in batches() {
            let [expected, found] = [&mut ours, &mut theirs].map(|it| logits(it, &batch));
            let difference = difference(&found, &expected);
            assert!(difference < TOLERANCE, "{device} is off by {difference}");
        }
    }
}

#[test]
fn logits_agree_for_whole_models_and_mixed_batches() {
    agree(ComputeDevice::Burn, || batches().into());
}

#[cfg(feature = "cuda")]
#[test]
fn kernels_for_gpus_agree_for_whole_models_and_mixed_batches() {
    agree(ComputeDevice::Cube, pieces);
}

fn continues(device: ComputeDevice) {
    let (_folder, source) = small(LLAMA);
    let layers = range(0, 7);
    let load = |device| [load_on(device, &source, layers, 1, Precision::F32)];
    let [mut ours, mut theirs] = [ComputeDevice::Cpu, device].map(load);
    let whole = Part { columns: vec![0, 1, 2], first_position: 0, tokens: prompt(40, 1) };
    logits(&mut ours, std::slice::from_ref(&whole));
    let blocks = table(&whole.columns, layers, layers);
    let bytes = ours[0].export_blocks(&blocks).expect("the blocks are there");
    theirs[0].import_blocks(&blocks, &bytes).expect("the shards are alike");
    let next = [Part { first_position: 40, tokens: vec![7], ..whole }];
    let [expected, found] = [&mut ours, &mut theirs].map(|it| logits(it, &next));
    let difference = difference(&found, &expected);
    assert!(difference < TOLERANCE, "{device} is off by {difference}");
}

#[test]
fn blocks_of_one_are_continued_by_the_other() {
    continues(ComputeDevice::Burn);
}

#[cfg(feature = "cuda")]
#[test]
fn blocks_are_continued_by_kernels_for_gpus() {
    continues(ComputeDevice::Cube);
}

/// Weights stay quantised and keys and values are F16 in the one, all is F32 in the other. With few rows,
/// as in [`pieces`].
#[cfg(feature = "cuda")]
#[test]
fn kernels_for_gpus_run_a_quantised_model() {
    let source = open("smollm2-135m");
    let layers = range(0, source.config().layers as u32);
    let load = |device, precision| [load_on(device, &source, layers, 2, precision)];
    let mut ours = load(ComputeDevice::Cpu, Precision::F32);
    let mut theirs = load(ComputeDevice::Cube, Precision::Stored);
    let prompts = [part(0, prompt(17, 1)), part(4, prompt(3, 2))];
    let decodes = prompts.clone().map(|it| Part {
        first_position: it.tokens.len() as u32,
        tokens: vec![9],
        columns: vec![it.columns[0], it.columns[0] + 1],
    });
    for batch in [prompts, decodes] {
        let [found, expected] = [&mut theirs, &mut ours].map(|it| logits(it, &batch));
        let difference = difference(&found, &expected);
        assert!(difference < 1e-2, "off by {difference}");
    }
}
