//! The vocabulary in the entries of a GGUF file.

use std::collections::BTreeSet;

use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use super::patterns::Patterns;
use super::pieces::{Pieces, Role};
use super::spelling::Spelling;
use super::{Encoder, Tokenizer, TokenizerError};
use crate::config::ModelConfig;
use crate::gguf::{Array, Gguf, Value};

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";

/// Kinds of tokens as GGUF numbers them.
mod kind {
    pub(super) const UNKNOWN: i64 = 2;
    pub(super) const CONTROL: i64 = 3;
    pub(super) const USER_DEFINED: i64 = 4;
    pub(super) const BYTE: i64 = 6;
}

/// Makes the tokenizer of the GGUF file `file`, whose header is `gguf`.
pub(super) fn build(
    gguf: &Gguf,
    file: &[u8],
    config: &ModelConfig,
) -> Result<Tokenizer, TokenizerError> {
    let vocabulary = Vocabulary::read(gguf, file, config)?;
    match vocabulary.text("tokenizer.ggml.model")? {
        "gpt2" => vocabulary.byte_level(),
        "llama" => vocabulary.pieces(),
        found => Err(TokenizerError::Unsupported {
            what: "vocabulary type",
            found: found.to_owned(),
            supported: "gpt2, llama",
        }),
    }
}

struct Vocabulary<'a> {
    gguf: &'a Gguf,
    file: &'a [u8],
    config: &'a ModelConfig,
    tokens: Vec<&'a str>,
    kinds: Vec<i64>,
}

impl<'a> Vocabulary<'a> {
    fn read(
        gguf: &'a Gguf,
        file: &'a [u8],
        config: &'a ModelConfig,
    ) -> Result<Self, TokenizerError> {
        let mut this = Self { gguf, file, config, tokens: Vec::new(), kinds: Vec::new() };
        this.tokens = this.texts(TOKENS)?;
        // A padded embedding has more rows than there are tokens, never fewer.
        if this.tokens.len() > config.vocab {
            let (expected, found) = (config.vocab, this.tokens.len());
            return Err(TokenizerError::Count { key: TOKENS.to_owned(), expected, found });
        }
        let number = |it: Value| it.as_f64().map(|x| x as i64);
        this.kinds = match gguf.entry(TYPES) {
            None => vec![1; this.tokens.len()],
            Some(_) => this.numbers(TYPES, this.tokens.len(), number)?,
        };
        Ok(this)
    }

    fn byte_level(&self) -> Result<Tokenizer, TokenizerError> {
        let name = self.gguf.entry("tokenizer.ggml.pre").and_then(Value::as_str);
        let patterns = Patterns::of(name.unwrap_or("default"))?;
        let words = self.tokens.iter().map(|text| (*text).to_owned());
        let vocab: tokenizers::models::bpe::Vocab = words.zip(0..).collect();
        let model = BPE::builder()
            .vocab_and_merges(vocab, self.merges()?)
            .ignore_merges(patterns.whole_first)
            .build()
            .map_err(TokenizerError::Library)?;
        let mut library = tokenizers::Tokenizer::new(model);
        library.with_pre_tokenizer(Some(pre_tokenizer(patterns.splits)?));
        for (text, kind) in self.tokens.iter().zip(&self.kinds) {
            let added = match *kind {
                kind::CONTROL | kind::UNKNOWN => library.add_special_tokens([token(text, true)]),
                kind::USER_DEFINED => library.add_tokens([token(text, false)]),
                _ => continue,
            };
            added.map_err(TokenizerError::Library)?;
        }
        let encoder = Encoder::Library(Box::new(library));
        Ok(self.finish(encoder, Spelling::ByteLevel, patterns.add_bos, false))
    }

    fn merges(&self) -> Result<Vec<(String, String)>, TokenizerError> {
        let known: BTreeSet<&str> = self.tokens.iter().copied().collect();
        let split = |(index, merge): (usize, &str)| {
            merge
                .split_once(' ')
                .filter(|(left, right)| known.contains(left) && known.contains(right))
                .map(|(left, right)| (left.to_owned(), right.to_owned()))
                .ok_or_else(|| TokenizerError::Merge { index, found: merge.to_owned() })
        };
        self.texts(MERGES)?.into_iter().enumerate().map(split).collect()
    }

    fn pieces(&self) -> Result<Tokenizer, TokenizerError> {
        let number = |it: Value| it.as_f64().map(|x| x as f32);
        let scores = self.numbers(SCORES, self.tokens.len(), number)?;
        let space_before = self.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true);
        let unknown = self.gguf.entry("tokenizer.ggml.unknown_token_id");
        let unknown = unknown.and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        let role = |kind: &i64| match *kind {
            kind::CONTROL | kind::USER_DEFINED => Role::Whole,
            kind::UNKNOWN => Role::Unknown,
            kind::BYTE => Role::Byte,
            _ => Role::Text,
        };
        let tokens = self.tokens.iter().zip(scores).zip(&self.kinds);
        let tokens = tokens.map(|((text, score), kind)| (*text, score, role(kind)));
        let pieces = Pieces::new(tokens, unknown.unwrap_or(0), space_before);
        let encoder = Encoder::Pieces(Box::new(pieces));
        Ok(self.finish(encoder, Spelling::Pieces, true, space_before))
    }

    fn finish(
        &self,
        encoder: Encoder,
        spelling: Spelling,
        add_bos_default: bool,
        space_before: bool,
    ) -> Tokenizer {
        let is_control = |&(_, kind): &(u32, &i64)| matches!(*kind, kind::CONTROL | kind::UNKNOWN);
        Tokenizer {
            encoder,
            spelling,
            control: (0..).zip(&self.kinds).filter(is_control).map(|(id, _)| id).collect(),
            vocab: self.config.vocab,
            bos: self.config.bos,
            eos: self.config.eos.clone(),
            add_bos: self.flag("tokenizer.ggml.add_bos_token").unwrap_or(add_bos_default),
            space_before,
        }
    }

    fn text(&self, key: &str) -> Result<&'a str, TokenizerError> {
        self.gguf.entry(key).and_then(Value::as_str).ok_or_else(|| missing(key))
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.gguf.entry(key).and_then(Value::as_bool)
    }

    fn array(&self, key: &str) -> Result<&'a Array, TokenizerError> {
        self.gguf.entry(key).and_then(Value::as_array).ok_or_else(|| missing(key))
    }

    fn texts(&self, key: &str) -> Result<Vec<&'a str>, TokenizerError> {
        Ok(self.array(key)?.texts(self.file).ok_or_else(|| missing(key))?.collect())
    }

    fn numbers<T>(
        &self,
        key: &str,
        expected: usize,
        convert: impl Fn(Value) -> Option<T>,
    ) -> Result<Vec<T>, TokenizerError> {
        let array = self.array(key)?;
        if array.len() != expected {
            let found = array.len();
            return Err(TokenizerError::Count { key: key.to_owned(), expected, found });
        }
        array.values(self.file).map(convert).collect::<Option<_>>().ok_or_else(|| missing(key))
    }
}

fn missing(key: &str) -> TokenizerError {
    TokenizerError::Missing { key: key.to_owned() }
}

fn token(text: &str, special: bool) -> AddedToken {
    AddedToken::from(text, special).normalized(false)
}

/// Cuts by each pattern in turn, then writes bytes as characters.
fn pre_tokenizer(splits: &[&str]) -> Result<PreTokenizerWrapper, TokenizerError> {
    let mut steps = Vec::new();
    for pattern in splits {
        let pattern = SplitPattern::Regex((*pattern).to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
            .map_err(TokenizerError::Library)?;
        steps.push(split.into());
    }
    // No space before the text, and no splitting of its own.
    steps.push(ByteLevel::new(false, false, false).into());
    Ok(Sequence::new(steps).into())
}
