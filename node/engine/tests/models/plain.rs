//! Whole models by our own loops, and by burn's operations.

use thalweg_engine::{ComputeDevice, Precision, Shard};

use crate::pieces::{GEMMA, LLAMA, part, prompt, small};
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

#[test]
fn logits_agree_for_whole_models_and_mixed_batches() {
    for config in [LLAMA, GEMMA] {
        let [mut ours, mut burns] =
            [ComputeDevice::Cpu, ComputeDevice::Burn].map(|it| cut(it, config));
        for batch in batches() {
            let [ours, burns] = [&mut ours, &mut burns].map(|it| logits(it, &batch));
            for (ours, burns) in ours.iter().zip(burns) {
                let largest = burns.iter().fold(0.0, |max: f32, it| max.max(it.abs()));
                assert!(largest > 0.1, "logits say something");
                for (ours, burns) in ours.iter().zip(&burns) {
                    let error = (ours - burns).abs() / largest;
                    assert!(error < TOLERANCE, "{ours} against {burns}");
                }
            }
        }
    }
}

#[test]
fn blocks_of_one_are_continued_by_the_other() {
    let (_folder, source) = small(LLAMA);
    let layers = range(0, 7);
    let load = |device| load_on(device, &source, layers, 1, Precision::F32);
    let [mut ours, mut burns] = [ComputeDevice::Cpu, ComputeDevice::Burn].map(|it| [load(it)]);
    let whole = Part { columns: vec![0, 1, 2], first_position: 0, tokens: prompt(40, 1) };
    logits(&mut ours, std::slice::from_ref(&whole));
    let blocks = table(&whole.columns, layers, layers);
    let bytes = ours[0].export_blocks(&blocks).expect("the blocks are there");
    burns[0].import_blocks(&blocks, &bytes).expect("the shards are alike");
    let next = [Part { first_position: 40, tokens: vec![7], ..whole }];
    let [ours, burns] = [&mut ours, &mut burns].map(|it| logits(it, &next).remove(0));
    for (ours, burns) in ours.iter().zip(&burns) {
        assert!((ours - burns).abs() < TOLERANCE, "{ours} against {burns}");
    }
}
