//! Quantised weights lose no more than the reference loses with the same file.
//!
//! The files under `tests/golden` are written by `scripts/perplexity.py`.

use std::path::Path;

use serde::Deserialize;
use thalweg_engine::{Precision, Tokenizer};

use crate::rig::{Part, activations, columns, load_cut_as, open};

/// How far perplexities may be apart, as a share.
const APART_MAX: f64 = 0.005;

/// What the reference makes of the text.
#[derive(Deserialize)]
struct Golden {
    model: String,
    window: usize,
    windows: usize,
    first_tokens: Vec<u32>,
    /// What each window begins with in place of its first token.
    begin: Option<u32>,
    perplexity: f64,
}

#[test]
fn a_text_is_as_likely_to_smollm2_as_the_reference_says() {
    check("perplexity-smollm2-135m.json");
}

#[test]
fn a_text_is_as_likely_to_gemma3_as_the_reference_says() {
    check("perplexity-gemma3-270m.json");
}

fn check(file: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let read = |file| std::fs::read_to_string(folder.join(file)).expect("golden file is there");
    let golden: Golden = serde_json::from_str(&read(file)).expect("golden file parses");
    let source = open(&golden.model);
    let tokenizer = Tokenizer::from_source(&source).expect("the model has a tokenizer");
    let tokens = tokenizer.encode(&read("genesis.txt"), false).expect("a text");
    let begin =
        tokens.iter().position(|it| *it == golden.first_tokens[0]).expect("the text begins");
    let tokens = &tokens[begin..];
    assert!(tokens.starts_with(&golden.first_tokens), "{:?}", &tokens[..8]);
    let mut shards = load_cut_as(Precision::Stored, &source, &[]);
    let (half, mut losses) = (golden.window / 2, Vec::new());
    for window in tokens.chunks_exact(golden.window).take(golden.windows) {
        let columns = columns(0, window.len());
        let tokens = golden
            .begin
            .into_iter()
            .chain(window[usize::from(golden.begin.is_some())..].iter().copied());
        let part = Part { columns, first_position: 0, tokens: tokens.collect() };
        let rows = activations(&mut shards, &[part]).remove(0);
        let hidden = shards[0].config().hidden;
        let vocab = shards[0].config().vocab;
        let logits = shards[0].logits(&rows[(half - 1) * hidden..(window.len() - 1) * hidden]);
        let targets = &window[half..];
        losses.extend(logits.chunks_exact(vocab).zip(targets).map(|(it, &at)| loss(it, at)));
    }
    assert_eq!(losses.len(), golden.windows * half, "the text is long enough");
    let found = (losses.iter().sum::<f64>() / losses.len() as f64).exp();
    let apart = found / golden.perplexity - 1.0;
    println!("perplexity {found:.4}, reference {:.4}: {:+.3} %", golden.perplexity, apart * 100.0);
    assert!(apart.abs() < APART_MAX, "{found} against {}", golden.perplexity);
}

/// Minus the logarithm of the probability of a token.
fn loss(logits: &[f32], token: u32) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|it| f64::from(it - largest).exp()).sum();
    sum.ln() + f64::from(largest - logits[token as usize])
}
