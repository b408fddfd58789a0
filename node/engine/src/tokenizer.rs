//! Text to token ids and back.
//!
//! Encoding is `tokenizers`' for byte-level vocabularies and for `tokenizer.json`, and our own for
//! the SentencePiece vocabularies of GGUF files, which store scores instead of merges. Decoding is
//! the same for all: every token has a spelling in bytes, and bytes become text when they complete
//! characters. So a stream of tokens decodes exactly as the whole does.

mod from_gguf;
mod patterns;
mod pieces;
mod spelling;
mod stream;

use std::collections::BTreeSet;
use std::path::PathBuf;

use pieces::Pieces;
use spelling::{Spelling, bytes_of};
pub use stream::TokenStreamDecoder;

use crate::source::{Format, ModelSource};

/// A tokenizer that could not be made, or text it does not encode.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A GGUF file without a part of its vocabulary, or with one of the wrong form.
    #[error("vocabulary lacks `{key}`, or has it in another form than expected")]
    Missing {
        /// Key in the file.
        key: String,
    },
    /// Parts of a vocabulary that do not belong together.
    #[error("vocabulary has {found} entries in `{key}`, expected {expected}")]
    Count {
        /// Key in the file.
        key: String,
        /// Entries expected.
        expected: usize,
        /// Entries found.
        found: usize,
    },
    /// A kind of vocabulary that is not read here.
    #[error("{what} `{found}` is not supported (supported: {supported})")]
    Unsupported {
        /// Which property of the vocabulary.
        what: &'static str,
        /// Its value.
        found: String,
        /// The values that are.
        supported: &'static str,
    },
    /// A merge of the byte-level vocabulary that is not two tokens with a space between.
    #[error("merge {index} is `{found}`, expected two tokens of the vocabulary")]
    Merge {
        /// Which one, from zero.
        index: usize,
        /// The entry.
        found: String,
    },
    /// `tokenizer.json` could not be read.
    #[error("cannot read `{path}`")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The `tokenizers` library refuses the vocabulary or the text.
    #[error("tokenizer refuses its input")]
    Library(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Text with a token the model has no embedding for.
    #[error("text contains token {id}, but the model knows {vocab} tokens")]
    OutsideVocabulary {
        /// The token.
        id: u32,
        /// Size of the model's vocabulary.
        vocab: usize,
    },
}

/// Turns text into token ids and back, for one model.
#[derive(Debug)]
pub struct Tokenizer {
    encoder: Encoder,
    spelling: Spelling,
    /// Tokens that are no text: begin and end of sequence, turns.
    control: BTreeSet<u32>,
    vocab: usize,
    bos: Option<u32>,
    eos: Vec<u32>,
    /// Whether a prompt starts with `bos`, where the encoder does not add it.
    add_bos: bool,
    /// Whether the encoder put a space before the text that is not the text's.
    space_before: bool,
}

#[derive(Debug)]
enum Encoder {
    Library(Box<tokenizers::Tokenizer>),
    Pieces(Box<Pieces>),
}

impl Tokenizer {
    /// Makes the tokenizer of a model, from the vocabulary in its GGUF file or from the
    /// `tokenizer.json` in its folder.
    ///
    /// # Errors
    ///
    /// Says what is missing, or which kind of vocabulary is not supported.
    pub fn from_source(source: &ModelSource) -> Result<Self, TokenizerError> {
        match source.format() {
            Format::Gguf { map, header } => from_gguf::build(header, map, source.config()),
            Format::Safetensors(files) => {
                let path = files.folder().join("tokenizer.json");
                let text = std::fs::read(&path)
                    .map_err(|source| TokenizerError::Io { path: path.clone(), source })?;
                Self::from_json(&text, source)
            }
        }
    }

    fn from_json(text: &[u8], source: &ModelSource) -> Result<Self, TokenizerError> {
        let library = tokenizers::Tokenizer::from_bytes(text).map_err(TokenizerError::Library)?;
        let added = library.get_added_tokens_decoder();
        let control = added.iter().filter(|(_, it)| it.special).map(|(&id, _)| id).collect();
        let config = source.config();
        Ok(Self {
            spelling: Spelling::of_decoder(library.get_decoder()),
            encoder: Encoder::Library(Box::new(library)),
            control,
            vocab: config.vocab,
            bos: config.bos,
            eos: config.eos.clone(),
            add_bos: false,
            space_before: false,
        })
    }

    /// Encodes `text`. Control tokens spelled out in it become themselves; `special` adds what the
    /// model expects around a prompt, which a rendered chat template already contains.
    ///
    /// # Errors
    ///
    /// If the text contains a token that the model has no embedding for.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::new();
        if special && self.add_bos {
            ids.extend(self.bos);
        }
        match &self.encoder {
            Encoder::Pieces(pieces) => pieces.encode(text, &mut ids),
            Encoder::Library(library) => {
                let encoding =
                    library.encode_fast(text, special).map_err(TokenizerError::Library)?;
                ids.extend_from_slice(encoding.get_ids());
            }
        }
        match ids.iter().find(|&&id| id as usize >= self.vocab) {
            Some(&id) => Err(TokenizerError::OutsideVocabulary { id, vocab: self.vocab }),
            None => Ok(ids),
        }
    }

    /// Decodes a whole text. Control and unknown tokens become nothing, bytes that are no UTF-8
    /// replacement characters.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut bytes = Vec::new();
        for &id in ids {
            if !self.is_control(id) {
                bytes.extend(self.token_bytes(id));
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let text = if self.space_before { text.strip_prefix(' ').unwrap_or(&text) } else { &text };
        text.to_owned()
    }

    /// Bytes a token stands for, which need not be whole characters; a control token's name.
    /// Empty for an id without token.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        match &self.encoder {
            Encoder::Pieces(pieces) => pieces.bytes(id),
            Encoder::Library(library) => {
                let Some(text) = library.id_to_token(id) else { return Vec::new() };
                let added = library.get_added_vocabulary().get_vocab().contains_key(&text);
                bytes_of(&text, self.spelling, added)
            }
        }
    }

    /// A token as text, for people: bytes that are no UTF-8 become replacement characters.
    pub fn token_text(&self, id: u32) -> String {
        String::from_utf8_lossy(&self.token_bytes(id)).into_owned()
    }

    /// Whether a token is no text.
    pub fn is_control(&self, id: u32) -> bool {
        self.control.contains(&id)
    }

    /// Tokens that end a generation.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos
    }

    /// Token that starts a text, if the model uses one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Number of token ids of the model; every id is below it.
    pub fn vocabulary(&self) -> usize {
        self.vocab
    }
}

#[cfg(test)]
mod tests;
