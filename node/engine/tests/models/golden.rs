//! Greedy tokens equal those of llama.cpp on the same weights in F32.
//!
//! The files under `tests/golden` are written by `scripts/golden.py`.

use std::path::Path;

use serde::Deserialize;

use crate::rig::{greedy, load_cut, open};

/// Where the reference's two largest logits are closer than this, either token is right.
const TIE: f32 = 1e-3;

#[derive(Deserialize)]
struct Golden {
    model: String,
    cases: Vec<Case>,
}

/// A prompt, its continuation, and the reference's gap between the two largest logits per token.
#[derive(Deserialize)]
struct Case {
    prompt: String,
    tokens: Vec<u32>,
    output: Vec<u32>,
    gaps: Vec<f32>,
}

/// All prompts run side by side: the reference computed each by itself.
fn check(file: &str, cuts: &[u32], cases: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let text = std::fs::read_to_string(folder.join(file)).expect("golden file is there");
    let golden: Golden = serde_json::from_str(&text).expect("golden file parses");
    assert!(golden.cases.len() >= cases, "{file} has {} cases", golden.cases.len());
    let mut shards = load_cut(&open(&golden.model), cuts);
    let prompts: Vec<Vec<u32>> = golden.cases.iter().map(|it| it.tokens.clone()).collect();
    let all = greedy(&mut shards, &prompts, golden.cases[0].output.len());
    for (case, found) in golden.cases.iter().zip(all) {
        let Some(at) = (0..found.len()).find(|&it| found[it] != case.output[it]) else { continue };
        let (prompt, gap) = (&case.prompt, case.gaps[at]);
        assert!(gap < TIE, "{prompt:?}: {found:?} leaves {:?} at token {at}", case.output);
        println!("{prompt:?}: tie of {gap} at token {at}, not compared further");
    }
}

#[test]
fn smollm2_says_what_the_reference_says() {
    check("smollm2-135m.json", &[], 20);
}

#[test]
fn smollm2_in_three_shards_says_what_the_reference_says() {
    check("smollm2-135m.json", &[7, 21], 20);
}

#[test]
fn gemma3_says_what_the_reference_says() {
    check("gemma3-270m.json", &[], 5);
}
