//! Ids as the reference implementations give them.

use std::sync::Arc;

use serde::Deserialize;

use super::*;
use crate::pull::pull;

/// A text and its tokens according to llama.cpp (for Gemma, also according to SentencePiece).
#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
}

fn tokenizer(model: &str) -> Tokenizer {
    let path = pull(model, &|_, _| ()).expect("the tests' models can be fetched");
    let source = ModelSource::open(&path).expect("a good file");
    Tokenizer::from_source(&source).expect("a supported vocabulary")
}

/// Checks ids, and that whole texts and streams decode to the text again.
fn check(model: &str, golden: &str) {
    let tokenizer = Arc::new(tokenizer(model));
    let cases: Vec<Case> = serde_json::from_str(golden).expect("committed data");
    assert!(cases.len() > 12);
    for Case { text, ids } in cases {
        assert_eq!(tokenizer.encode(&text, false).expect("in vocabulary"), ids, "{text:?}");
        let mut decoder = TokenStreamDecoder::new(Arc::clone(&tokenizer));
        let mut streamed: String = ids.iter().filter_map(|&id| decoder.push(id)).collect();
        streamed.extend(decoder.finish());
        assert_eq!(streamed, tokenizer.decode(&ids), "{text:?}");
        let spelled: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.token_bytes(id)).collect();
        let spelled = String::from_utf8(spelled).expect("the text was UTF-8");
        // Gemma's vocabulary has no way to tell a literal U+2581 from a space.
        assert_eq!(spelled.replace('\u{2581}', " "), text.replace('\u{2581}', " "));
    }
}

#[test]
fn smollm2_encodes_as_its_reference() {
    check("smollm2-135m", include_str!("../../golden/tokens-smollm2-135m.json"));
}

#[test]
fn gemma3_encodes_as_its_reference() {
    check("gemma3-270m", include_str!("../../golden/tokens-gemma3-270m.json"));
}

#[test]
fn prompts_start_as_the_model_expects() {
    let smol = tokenizer("smollm2-135m");
    assert_eq!(smol.encode("a", true).expect("known"), smol.encode("a", false).expect("known"));
    assert_eq!((smol.bos(), smol.eos_ids()), (Some(1), &[0, 2][..]));
    let gemma = tokenizer("gemma3-270m");
    let with = gemma.encode("a", true).expect("known");
    assert_eq!(with[0], 2);
    assert_eq!(with[1..], gemma.encode("a", false).expect("known"));
    assert_eq!((gemma.bos(), gemma.eos_ids()), (Some(2), &[1, 106][..]));
}

#[test]
fn control_tokens_are_no_text() {
    let smol = tokenizer("smollm2-135m");
    let ids = smol.encode("<|im_start|>user\nhi<|im_end|>", false).expect("known");
    assert_eq!((ids[0], ids[ids.len() - 1]), (1, 2));
    assert_eq!(smol.decode(&ids), "user\nhi");
    assert_eq!(smol.token_text(1), "<|im_start|>");
    assert_eq!(smol.token_bytes(1 << 30), b"");
    assert!(smol.is_control(2) && !smol.is_control(ids[1]));
}

#[test]
fn ids_without_embedding_are_refused() {
    let mut tokenizer = tokenizer("smollm2-135m");
    tokenizer.vocab = 1000;
    let error = tokenizer.encode("antidisestablishmentarianism", false).expect_err("high ids");
    assert!(error.to_string().ends_with("but the model knows 1000 tokens"), "{error}");
}

#[test]
fn a_tokenizer_json_encodes_as_the_vocabulary_it_was_made_from() {
    let path = pull("smollm2-135m", &|_, _| ()).expect("the tests' models can be fetched");
    let source = ModelSource::open(&path).expect("a good file");
    let ours = Tokenizer::from_source(&source).expect("a supported vocabulary");
    let Encoder::Library(library) = &ours.encoder else { panic!("a byte-level vocabulary") };
    let mut published = (**library).clone();
    published.with_decoder(Some(tokenizers::decoders::byte_level::ByteLevel::default()));
    let text = published.to_string(false).expect("serialises");
    let read = Tokenizer::from_json(text.as_bytes(), &source).expect("the library's own format");
    assert_eq!((read.spelling, &read.control), (ours.spelling, &ours.control));
    let text = "naïve 🦀 1234<|im_end|>\n";
    let ids = read.encode(text, true).expect("in vocabulary");
    assert_eq!(ids, ours.encode(text, true).expect("in vocabulary"));
    assert_eq!(read.decode(&ids), "naïve 🦀 1234\n");
}
