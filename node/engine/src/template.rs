//! Chat templates: conversations as the text a model was trained on.
//!
//! Templates are Jinja as Hugging Face's libraries run it: blocks eat the newline after them, Python's
//! string methods work, `raise_exception`, `strftime_now` and an unescaped `tojson` exist. A template
//! comes from a file of unknown origin, so it runs on a limited amount of fuel.

mod date;
mod json;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value as Any;
use minijinja::{Environment, Error, ErrorKind, context};
use serde::{Deserialize, Serialize};

use crate::config::Arch;
use crate::gguf::Value;
use crate::source::{Format, ModelSource};

/// Instructions a template may run, and units of 64 bytes it may set aside. Published templates need
/// a few hundred per message.
const FUEL: u64 = 2_000_000;
/// Name of the template in error messages.
const NAME: &str = "chat_template";

/// For Llama-like models without a template but with ChatML's tokens.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + \
    message['content'] + '<|im_end|>\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
/// For Gemma models without a template, as Gemma's own but lenient about the order of roles.
const GEMMA: &str = "{{ bos_token }}{% for message in messages %}\
    {{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\n' + \
    message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}";
/// For models that know nothing of turns.
const PLAIN: &str = "{{ bos_token }}{% for message in messages %}\
    {{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";

/// One message of a conversation.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ChatMessage {
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// A template that is missing, damaged, or refuses a conversation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A file of the model that does not parse.
    #[error("`{file}` does not parse")]
    File {
        /// Which.
        file: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The template itself says that it does not take such a conversation.
    #[error("{message}")]
    Refused {
        /// The template's words.
        message: String,
    },
    /// A template that is wrong, does something unknown here, or does not end.
    #[error("chat template fails")]
    Failed(#[source] Box<Error>),
}

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    text: String,
    bos_token: String,
    eos_token: String,
}

/// What `raise_exception` was called with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

impl ChatTemplate {
    /// Takes the template of a model, or one that fits its family if it has none.
    ///
    /// # Errors
    ///
    /// If a file that may hold the template does not parse.
    pub fn from_source(source: &ModelSource) -> Result<Self, TemplateError> {
        let Found { text, bos_token, eos_token } = match source.format() {
            Format::Gguf { map, header } => Found::in_gguf(header, map, source),
            Format::Safetensors(files) => Found::in_folder(files.folder())?,
        };
        let text = text.unwrap_or_else(|| fallback(source).to_owned());
        Ok(Self { environment: environment(), text, bos_token, eos_token })
    }

    /// Renders a conversation. With `add_generation_prompt` the text ends where the assistant's
    /// answer starts. The text contains its control tokens: encode it without adding any.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Refused`] if the template does not take such a conversation.
    pub fn render(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let pairs = |it: &ChatMessage| {
            Any::from_pairs([("role", it.role.as_str()), ("content", it.content.as_str())])
        };
        let context = context! {
            messages => messages.iter().map(pairs).collect::<Vec<_>>(),
            add_generation_prompt,
            bos_token => self.bos_token.as_str(),
            eos_token => self.eos_token.as_str(),
            tools => (),
            documents => (),
        };
        self.environment.render_named_str(NAME, &self.text, context).map_err(failed)
    }
}

/// A template's text and the tokens it may write, as a model's files have them.
#[derive(Default)]
struct Found {
    text: Option<String>,
    bos_token: String,
    eos_token: String,
}

impl Found {
    fn in_gguf(header: &crate::gguf::Gguf, file: &[u8], source: &ModelSource) -> Self {
        let text = header.entry("tokenizer.chat_template").and_then(Value::as_str);
        let tokens = header.entry("tokenizer.ggml.tokens").and_then(Value::as_array);
        let eos = header.entry("tokenizer.ggml.eos_token_id").and_then(Value::as_u64);
        let token = |id: Option<u64>| {
            let index = usize::try_from(id?).ok()?;
            tokens?.texts(file)?.nth(index).map(str::to_owned)
        };
        Self {
            text: text.map(str::to_owned),
            bos_token: token(source.config().bos.map(u64::from)).unwrap_or_default(),
            eos_token: token(eos).unwrap_or_default(),
        }
    }

    fn in_folder(folder: &std::path::Path) -> Result<Self, TemplateError> {
        let file = "tokenizer_config.json";
        let mut found = match std::fs::read(folder.join(file)) {
            Ok(text) => {
                let config: TokenizerConfig = serde_json::from_slice(&text)
                    .map_err(|source| TemplateError::File { file, source })?;
                config.into()
            }
            // Optional: the model then gets its family's template.
            Err(_) => Self::default(),
        };
        // Newer repositories keep the template in a file of its own, which wins.
        if let Ok(text) = std::fs::read_to_string(folder.join("chat_template.jinja")) {
            found.text = Some(text);
        }
        Ok(found)
    }
}

/// `tokenizer_config.json`, as far as it matters here.
#[derive(Deserialize)]
struct TokenizerConfig {
    chat_template: Option<Templates>,
    bos_token: Option<Token>,
    eos_token: Option<Token>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Object { content: String },
}

impl From<TokenizerConfig> for Found {
    fn from(config: TokenizerConfig) -> Self {
        let token = |it: Option<Token>| match it {
            Some(Token::Text(text) | Token::Object { content: text }) => text,
            None => String::new(),
        };
        let text = config.chat_template.and_then(|it| match it {
            Templates::One(text) => Some(text),
            Templates::Named(named) => {
                named.into_iter().find(|it| it.name == "default").map(|it| it.template)
            }
        });
        Self { text, bos_token: token(config.bos_token), eos_token: token(config.eos_token) }
    }
}

fn fallback(source: &ModelSource) -> &'static str {
    match (source.config().arch, source.format()) {
        (Arch::Gemma3, _) => GEMMA,
        (Arch::Llama, Format::Gguf { map, header }) => {
            let tokens = header.entry("tokenizer.ggml.tokens").and_then(Value::as_array);
            let mut tokens = tokens.and_then(|it| it.texts(map)).into_iter().flatten();
            if tokens.any(|it| it == "<|im_start|>") { CHATML } else { PLAIN }
        }
        (Arch::Llama, Format::Safetensors(_)) => PLAIN,
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    environment.set_syntax(syntax.build().expect("the default delimiters differ"));
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<Any, Error> {
        let error = Error::new(ErrorKind::InvalidOperation, "raise_exception");
        Err(error.with_source(Raised(message)))
    });
    environment.add_function("strftime_now", |format: &str| date::now(format));
    environment.add_filter("tojson", json::to_json);
    environment
}

/// Tells a refusal by the template from a failure of it.
fn failed(error: Error) -> TemplateError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(it) = cause {
        if let Some(Raised(message)) = it.downcast_ref() {
            return TemplateError::Refused { message: message.clone() };
        }
        cause = it.source();
    }
    TemplateError::Failed(Box::new(error))
}

#[cfg(test)]
mod tests;
