//! What an independent implementation says on the same weights: the files in `golden/`.

use thalweg_engine::{ModelSource, Tokenizer};

use crate::cluster::model;

/// Where the reference's two largest logits are closer than this, either token is right.
const TIE: f32 = 1e-3;

/// A prompt and what follows it.
#[derive(Clone, Debug)]
pub struct Case {
    /// The prompt, in tokens.
    pub prompt: Vec<u32>,
    /// Texts of the tokens that follow.
    pub output: Vec<String>,
    /// The reference's gap between its two largest logits, for each of them.
    gaps: Vec<f32>,
}

impl Case {
    /// Asserts that `found` is what the reference says. Past a tie nothing is compared.
    pub fn check(&self, found: &[String], at: &str) {
        let tie = self.gaps.iter().position(|&gap| gap < TIE).unwrap_or(usize::MAX);
        let compared = found.len().min(tie);
        assert!(found.len() <= self.output.len(), "{at}: more tokens than the reference has");
        assert_eq!(found[..compared], self.output[..compared], "{at}, {:?}", self.prompt);
    }
}

/// The cases of the model that clusters serve, in the order of the file.
pub fn cases() -> Vec<Case> {
    let golden = include_str!("../golden/smollm2-135m.json");
    let golden: serde_json::Value = serde_json::from_str(golden).expect("committed data");
    let source = ModelSource::open(&model()).unwrap_or_else(|error| panic!("{error}"));
    let tokenizer = Tokenizer::from_source(&source).unwrap_or_else(|error| panic!("{error}"));
    let numbers = |it: &serde_json::Value| -> Vec<u32> {
        serde_json::from_value(it.clone()).expect("token ids")
    };
    let cases = golden["cases"].as_array().expect("committed data");
    let case = |it: &serde_json::Value| Case {
        prompt: numbers(&it["tokens"]),
        output: numbers(&it["output"]).iter().map(|&id| text(&tokenizer, id)).collect(),
        gaps: serde_json::from_value(it["gaps"].clone()).expect("numbers"),
    };
    cases.iter().map(case).collect()
}

/// The text of a token as the API reports it.
fn text(tokenizer: &Tokenizer, id: u32) -> String {
    String::from_utf8_lossy(&tokenizer.token_bytes(id)).into_owned()
}
