//! What the API needs of a tokenizer, apart from any particular one.

use std::sync::Arc;

/// One message of a conversation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChatTurn {
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// Text that does not become tokens, or tokens that do not become text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The model's chat template refuses the conversation.
    #[error("the chat template refuses the messages")]
    Template(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The tokenizer refuses the text or the ids.
    #[error("the tokenizer fails")]
    Tokenizer(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Turns text into token ids and back, for one model.
pub trait Text: Send + Sync {
    /// Renders a conversation with the model's template, ready for the assistant's answer.
    ///
    /// # Errors
    ///
    /// If the template refuses the conversation, for example for its roles.
    fn encode_chat(&self, turns: &[ChatTurn]) -> Result<Vec<u32>, TextError>;

    /// Encodes plain text; `special` adds what the model expects around a prompt.
    ///
    /// # Errors
    ///
    /// If the tokenizer refuses the text.
    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TextError>;

    /// Decodes whole sequences; special tokens become nothing.
    ///
    /// # Errors
    ///
    /// If the tokenizer refuses the ids.
    fn decode(&self, tokens: &[u32]) -> Result<String, TextError>;

    /// Starts decoding tokens as they come.
    fn decoder(self: Arc<Self>) -> Box<dyn Decoder>;

    /// Bytes that one token stands for; empty for an unknown id. Not always whole characters.
    fn token_bytes(&self, token: u32) -> Vec<u8>;

    /// Tokens that end an answer.
    fn eos_ids(&self) -> Vec<u32>;

    /// Number of token ids; every id is below it.
    fn vocabulary(&self) -> u32;
}

/// Decodes one sequence as its tokens come.
pub trait Decoder: Send {
    /// Takes the next token and returns the text that is now certain, often none: a character may
    /// need several tokens.
    fn push(&mut self, token: u32) -> String;

    /// Returns what was held back, with replacement characters for bytes that stayed incomplete.
    fn finish(&mut self) -> String;
}
