//! How byte-level vocabularies split text before merging, by the names GGUF files use.

use super::TokenizerError;

/// What GPT-2 splits by: contractions, words, numbers, punctuation, spaces.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How one kind of vocabulary treats text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Patterns {
    /// Applied one after the other; each cuts out its matches.
    pub(super) splits: &'static [&'static str],
    /// Whether a stretch of text that is a token as a whole is not merged up from bytes.
    pub(super) whole_first: bool,
    /// Whether prompts start with the begin token unless the file says otherwise.
    pub(super) add_bos: bool,
}

impl Patterns {
    /// Returns the patterns of a pre-tokenizer.
    ///
    /// # Errors
    ///
    /// If the name is not known: any other patterns would encode text wrongly without a sign.
    pub(super) fn of(name: &str) -> Result<Self, TokenizerError> {
        let plain = |splits| Self { splits, whole_first: false, add_bos: false };
        let whole = |splits| Self { splits, whole_first: true, add_bos: true };
        Ok(match name {
            "gpt-2" | "olmo" => plain(&[GPT2]),
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => {
                plain(&[r"\p{N}", GPT2])
            }
            "default" => plain(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "pixtral" => whole(&[LLAMA3]),
            "smaug-bpe" => plain(&[LLAMA3]),
            "tekken" => whole(&[TEKKEN]),
            found => {
                return Err(TokenizerError::Unsupported {
                    what: "pre-tokenizer",
                    found: found.to_owned(),
                    supported: "gpt-2, smollm, llama-bpe, tekken, default and their kin",
                });
            }
        })
    }
}
