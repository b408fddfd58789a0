//! Request bodies: OpenAI's fields, the extras of vLLM that mean something here, and nothing said
//! about the rest, so that clients which send more are still served.

use serde::Deserialize;
use serde_json::Value;
use thalweg_wire::Open;

use super::error::ApiError;
use super::text::ChatTurn;

/// Body of `POST /v1/chat/completions`.
#[derive(Debug, Deserialize)]
pub(super) struct ChatRequest {
    pub messages: Vec<Message>,
    #[serde(default)]
    pub logprobs: Option<bool>,
    #[serde(default)]
    pub top_logprobs: Option<u8>,
    #[serde(default)]
    pub max_completion_tokens: Option<u32>,
    #[serde(default)]
    pub tools: Option<Vec<Value>>,
    #[serde(default)]
    pub response_format: Option<ResponseFormat>,
    #[serde(flatten)]
    pub options: Options,
}

/// Body of `POST /v1/completions`.
#[derive(Debug, Deserialize)]
pub(super) struct CompletionRequest {
    pub prompt: Prompt,
    #[serde(default)]
    pub logprobs: Option<u8>,
    #[serde(default)]
    pub echo: Option<bool>,
    #[serde(default)]
    pub best_of: Option<u32>,
    #[serde(default)]
    pub suffix: Option<String>,
    #[serde(flatten)]
    pub options: Options,
}

/// What both kinds of request can say. Absent and `null` mean the same.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Options {
    pub model: Option<String>,
    pub stream: Option<bool>,
    pub stream_options: Option<StreamOptions>,
    pub n: Option<u32>,
    pub max_tokens: Option<u32>,
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<i64>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub seed: Option<Seed>,
    pub stop: Option<Stop>,
    pub stop_token_ids: Option<Vec<u32>>,
    pub include_stop_str_in_output: Option<bool>,
    pub ignore_eos: Option<bool>,
    pub priority: Option<i64>,
    pub logit_bias: Option<serde_json::Map<String, Value>>,
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StreamOptions {
    pub include_usage: Option<bool>,
}

/// A seed: any 64-bit integer, signed as OpenAI's or unsigned.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Seed {
    Unsigned(u64),
    Signed(i64),
}

/// One stop string, or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Stop {
    One(String),
    Many(Vec<String>),
}

/// A prompt as text or tokens, or several of either.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a prompt is a string, token ids, or a list of either")]
pub(super) enum Prompt {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    TokenLists(Vec<Vec<u32>>),
}

/// One prompt.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum OnePrompt {
    Text(String),
    Tokens(Vec<u32>),
}

/// One message of a chat.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    pub role: String,
    #[serde(default)]
    pub content: Option<Content>,
}

/// What a message says: text, or parts of it.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "content is a string or a list of parts")]
pub(super) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of a message. Only text has a meaning to the models served.
#[derive(Debug, Deserialize)]
pub(super) struct Part {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub text: Option<String>,
}

/// The form asked of the answer.
#[derive(Debug, Deserialize)]
pub(super) struct ResponseFormat {
    #[serde(rename = "type")]
    pub kind: String,
}

/// Body of `POST /tokenize`: text, or a chat.
#[derive(Debug, Deserialize)]
pub(super) struct TokenizeRequest {
    #[serde(default)]
    pub prompt: Option<String>,
    #[serde(default)]
    pub messages: Option<Vec<Message>>,
    #[serde(default)]
    pub add_special_tokens: Option<bool>,
    #[serde(default)]
    pub model: Option<String>,
}

/// Body of `POST /detokenize`.
#[derive(Debug, Deserialize)]
pub(super) struct DetokenizeRequest {
    pub tokens: Vec<u32>,
    #[serde(default)]
    pub model: Option<String>,
}

impl ChatRequest {
    /// Refuses what would be answered wrongly rather than not at all.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        if self.messages.is_empty() {
            return Err(ApiError::invalid("messages", "`messages` is empty."));
        }
        if self.tools.as_ref().is_some_and(|tools| !tools.is_empty()) {
            return Err(ApiError::invalid("tools", "Tools are not supported."));
        }
        if let Some(format) = self.response_format.as_ref().filter(|it| it.kind != "text") {
            let message = format!("Response format `{}` is not supported.", format.kind);
            return Err(ApiError::invalid("response_format", message));
        }
        if self.top_logprobs.is_some_and(|n| n > 0) && self.logprobs != Some(true) {
            let message = "`top_logprobs` needs `logprobs` to be true.";
            return Err(ApiError::invalid("top_logprobs", message));
        }
        self.options.check()
    }

    /// Number of alternatives to report with each token; `None` for no log probabilities.
    pub(super) fn logprobs(&self) -> Option<u8> {
        (self.logprobs == Some(true)).then(|| self.top_logprobs.unwrap_or(0))
    }

    /// Most tokens asked for; the newer name wins.
    pub(super) fn max_tokens(&self) -> Option<u32> {
        self.max_completion_tokens.or(self.options.max_tokens)
    }
}

impl CompletionRequest {
    /// Refuses what would be answered wrongly rather than not at all.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        if self.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty()) {
            return Err(ApiError::invalid("suffix", "`suffix` is not supported."));
        }
        if self.best_of.is_some_and(|best_of| best_of != self.options.choices_per_prompt()) {
            return Err(ApiError::invalid("best_of", "`best_of` must equal `n`."));
        }
        if self.echo == Some(true) && self.logprobs.is_some() {
            let message = "`echo` cannot be combined with `logprobs`.";
            return Err(ApiError::invalid("echo", message));
        }
        self.options.check()
    }
}

impl Options {
    fn check(&self) -> Result<(), ApiError> {
        if self.logit_bias.as_ref().is_some_and(|bias| !bias.is_empty()) {
            return Err(ApiError::invalid("logit_bias", "`logit_bias` is not supported."));
        }
        Ok(())
    }

    /// How important the request is: as in vLLM, lower goes first and zero is usual.
    ///
    /// # Errors
    ///
    /// If hosts have no number for it.
    pub(super) fn priority(&self) -> Result<u8, ApiError> {
        let asked = self.priority.unwrap_or(0);
        let usual = i64::from(Open::PRIORITY_DEFAULT);
        let ours = usual.checked_sub(asked).and_then(|it| u8::try_from(it).ok());
        ours.ok_or_else(|| {
            let (least, most) = (usual - i64::from(u8::MAX), usual);
            let message = format!("`priority` is {asked}, but must be between {least} and {most}.");
            ApiError::invalid("priority", message)
        })
    }

    /// Answers per prompt.
    pub(super) fn choices_per_prompt(&self) -> u32 {
        self.n.unwrap_or(1)
    }

    pub(super) fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(super) fn includes_usage(&self) -> bool {
        self.stream_options.and_then(|it| it.include_usage).unwrap_or(false)
    }

    pub(super) fn stops(&self) -> Vec<String> {
        match &self.stop {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop.clone()],
            Some(Stop::Many(stops)) => stops.clone(),
        }
    }
}

impl Seed {
    /// The 64 bits of the seed.
    pub(super) fn bits(self) -> u64 {
        match self {
            Self::Unsigned(seed) => seed,
            Self::Signed(seed) => seed.cast_unsigned(),
        }
    }
}

impl Prompt {
    /// The prompts, in order.
    pub(super) fn into_list(self) -> Vec<OnePrompt> {
        match self {
            Self::Text(text) => vec![OnePrompt::Text(text)],
            Self::Texts(texts) => texts.into_iter().map(OnePrompt::Text).collect(),
            Self::Tokens(tokens) => vec![OnePrompt::Tokens(tokens)],
            Self::TokenLists(lists) => lists.into_iter().map(OnePrompt::Tokens).collect(),
        }
    }
}

/// Turns messages into what a chat template takes.
///
/// # Errors
///
/// If a part is not text.
pub(super) fn turns(messages: &[Message]) -> Result<Vec<ChatTurn>, ApiError> {
    messages.iter().map(turn).collect()
}

fn turn(message: &Message) -> Result<ChatTurn, ApiError> {
    // `developer` is the newer name of `system`; templates know the older one.
    let role = if message.role == "developer" { "system" } else { &message.role };
    let content = match &message.content {
        None => String::new(),
        Some(Content::Text(text)) => text.clone(),
        Some(Content::Parts(parts)) => parts.iter().map(text_of).collect::<Result<_, _>>()?,
    };
    Ok(ChatTurn { role: role.to_owned(), content })
}

fn text_of(part: &Part) -> Result<&str, ApiError> {
    match (part.kind.as_str(), &part.text) {
        ("text", Some(text)) => Ok(text),
        (kind, _) => {
            let message = format!("Content of type `{kind}` is not supported; only text is.");
            Err(ApiError::invalid("messages", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chat(body: Value) -> ChatRequest {
        serde_json::from_value(body).expect("a chat request")
    }

    #[test]
    fn unknown_fields_and_nulls_are_no_reason_to_refuse() {
        let request = chat(json!({
            "messages": [{"role": "user", "content": "hi", "name": "x"}],
            "user": "u", "metadata": {}, "temperature": null, "stop": null, "n": null,
            "chat_template_kwargs": {"a": 1},
        }));
        assert!(request.check().is_ok());
        assert_eq!(request.options.choices_per_prompt(), 1);
        assert_eq!(request.options.temperature, None);
    }

    #[test]
    fn priorities_are_turned_round_and_have_limits() {
        let of = |priority| Options { priority, ..Options::default() }.priority().ok();
        assert_eq!([None, Some(0), Some(-5), Some(100)].map(of), [100, 100, 105, 0].map(Some));
        assert_eq!([Some(101), Some(-156), Some(i64::MIN)].map(of), [None; 3]);
    }

    #[test]
    fn parts_are_joined_and_developer_is_system() {
        let request = chat(json!({"messages": [
            {"role": "developer", "content": [{"type": "text", "text": "a"},
                                              {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null},
        ]}));
        let turn =
            |role: &str, content: &str| ChatTurn { role: role.into(), content: content.into() };
        assert_eq!(
            turns(&request.messages).expect("text only"),
            [turn("system", "ab"), turn("assistant", "")],
        );
    }

    #[test]
    fn pictures_are_refused_by_name() {
        let request = chat(json!({"messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
        ]}));
        let error = turns(&request.messages).expect_err("no eyes");
        assert_eq!(
            error.to_string(),
            "Content of type `image_url` is not supported; only text is."
        );
    }

    #[test]
    fn prompts_come_in_four_forms() {
        let list = |body: Value| {
            let request: CompletionRequest =
                serde_json::from_value(json!({"prompt": body})).expect("a prompt");
            request.prompt.into_list()
        };
        let text = |it: &str| OnePrompt::Text(it.to_owned());
        assert_eq!(list(json!("a")), [text("a")]);
        assert_eq!(list(json!(["a", "b"])), [text("a"), text("b")]);
        assert_eq!(list(json!([1, 2])), [OnePrompt::Tokens(vec![1, 2])]);
        assert_eq!(
            list(json!([[1], [2]])),
            [OnePrompt::Tokens(vec![1]), OnePrompt::Tokens(vec![2])],
        );
    }

    #[test]
    fn seeds_may_be_negative() {
        let seed = |body: Value| {
            let options: Options = serde_json::from_value(json!({"seed": body})).expect("a seed");
            options.seed.expect("given").bits()
        };
        assert_eq!(seed(json!(-1)), u64::MAX);
        assert_eq!(seed(json!(7)), 7);
    }

    #[test]
    fn what_would_be_answered_wrongly_is_refused() {
        let message = json!([{"role": "user", "content": "hi"}]);
        for (name, value) in [
            ("tools", json!([{}])),
            ("response_format", json!({"type": "json_object"})),
            ("top_logprobs", json!(3)),
            ("logit_bias", json!({"1": 2})),
        ] {
            let error = chat(json!({"messages": message, name: value})).check();
            let error = error.expect_err("unsupported");
            assert_eq!(error.envelope()["error"]["param"], name);
        }
    }
}
