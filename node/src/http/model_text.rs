//! The served model's own tokenizer and chat template.

use std::sync::Arc;

use thalweg_engine::{ChatMessage, ChatTemplate, ModelSource, TokenStreamDecoder, Tokenizer};

use super::text::{ChatTurn, Decoder, Text, TextError};

/// Tokenizer and chat template of a model.
pub struct ModelText {
    tokenizer: Arc<Tokenizer>,
    template: ChatTemplate,
}

impl ModelText {
    /// Reads both from the model's files.
    ///
    /// # Errors
    ///
    /// If either is missing or of a kind that is not supported.
    pub fn from_source(source: &ModelSource) -> Result<Self, TextError> {
        let tokenizer = Tokenizer::from_source(source).map_err(tokenizer_error)?;
        let template = ChatTemplate::from_source(source).map_err(template_error)?;
        Ok(Self { tokenizer: Arc::new(tokenizer), template })
    }
}

impl Text for ModelText {
    fn encode_chat(&self, turns: &[ChatTurn]) -> Result<Vec<u32>, TextError> {
        let message = |turn: &ChatTurn| ChatMessage {
            role: turn.role.clone(),
            content: turn.content.clone(),
        };
        let messages = turns.iter().map(message).collect::<Vec<_>>();
        let prompt = self.template.render(&messages, true).map_err(template_error)?;
        self.encode(&prompt, false)
    }

    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TextError> {
        self.tokenizer.encode(text, special).map_err(tokenizer_error)
    }

    fn decode(&self, tokens: &[u32]) -> Result<String, TextError> {
        Ok(self.tokenizer.decode(tokens))
    }

    fn decoder(self: Arc<Self>) -> Box<dyn Decoder> {
        Box::new(ModelDecoder(TokenStreamDecoder::new(Arc::clone(&self.tokenizer))))
    }

    fn token_bytes(&self, token: u32) -> Vec<u8> {
        self.tokenizer.token_bytes(token)
    }

    fn eos_ids(&self) -> Vec<u32> {
        self.tokenizer.eos_ids().to_vec()
    }

    fn vocabulary(&self) -> u32 {
        u32::try_from(self.tokenizer.vocabulary()).unwrap_or(u32::MAX)
    }
}

struct ModelDecoder(TokenStreamDecoder);

impl Decoder for ModelDecoder {
    fn push(&mut self, token: u32) -> String {
        self.0.push(token).unwrap_or_default()
    }

    fn finish(&mut self) -> String {
        self.0.finish().unwrap_or_default()
    }
}

fn tokenizer_error(error: impl std::error::Error + Send + Sync + 'static) -> TextError {
    TextError::Tokenizer(Box::new(error))
}

fn template_error(error: impl std::error::Error + Send + Sync + 'static) -> TextError {
    TextError::Template(Box::new(error))
}
