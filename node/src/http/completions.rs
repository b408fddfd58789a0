//! `POST /v1/completions`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::answer::{self, Answer, Shape, usage_json};
use super::auth::Tenant;
use super::body::Body;
use super::choice::{Likely, Piece, TokenLogprob, reason};
use super::choices::{Ask, Choices, Usage};
use super::error::ApiError;
use super::request::{CompletionRequest, OnePrompt};
use super::request_id::RequestName;
use super::{Api, Head};

/// Tokens generated where the request does not say: OpenAI's own default.
const MAX_TOKENS_DEFAULT: u32 = 16;

/// Continues prompts.
pub(super) async fn completions(
    State(api): State<Arc<Api>>,
    Extension(name): Extension<RequestName>,
    Extension(tenant): Extension<Tenant>,
    Body(request): Body<CompletionRequest>,
) -> Result<Response, ApiError> {
    request.check()?;
    let CompletionRequest { prompt, logprobs, echo, options, .. } = request;
    let model = api.model(options.model.as_deref())?;
    let echo = echo == Some(true);
    let prompts = prompt.into_list();
    let (prompts, echoes) = api
        .with_text(move |text| {
            let tokens = prompts.iter().map(|prompt| match prompt {
                OnePrompt::Text(prompt) => text.encode(prompt, true),
                OnePrompt::Tokens(tokens) => Ok(tokens.clone()),
            });
            let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
            let echoes = prompts.into_iter().filter(|_| echo).map(|prompt| match prompt {
                OnePrompt::Text(prompt) => Ok(prompt),
                OnePrompt::Tokens(tokens) => text.decode(&tokens),
            });
            Ok((tokens, echoes.collect::<Result<Vec<_>, _>>()?))
        })
        .await?;
    let max_tokens = Some(options.max_tokens.unwrap_or(MAX_TOKENS_DEFAULT));
    let ask = Ask { prompts, param: "prompt", logprobs, max_tokens, tenant };
    let choices = Choices::start(&api, &options, ask)?;
    let shape = CompletionShape {
        head: Head::new(&api, format!("cmpl-{}", name.0), model),
        logprobs,
        echoes,
        choices_per_prompt: options.choices_per_prompt(),
    };
    answer::send(choices, Box::new(shape), &options).await
}

struct CompletionShape {
    head: Head,
    logprobs: Option<u8>,
    /// The prompts, if they are to be repeated before the answers.
    echoes: Vec<String>,
    choices_per_prompt: u32,
}

impl CompletionShape {
    fn echo(&self, index: u32) -> Option<&str> {
        self.echoes.get((index / self.choices_per_prompt) as usize).map(String::as_str)
    }

    fn choice(
        &self,
        index: u32,
        text: &str,
        logprobs: &[TokenLogprob],
        finish: Option<&str>,
    ) -> Value {
        let logprobs = self.logprobs.map(|_| legacy(logprobs));
        json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish})
    }
}

impl Shape for CompletionShape {
    fn opening(&self, index: u32) -> Option<Value> {
        let echo = self.echo(index)?;
        let choice = self.choice(index, echo, &[], None);
        Some(self.head.object("text_completion", json!([choice])))
    }

    fn chunks(&self, piece: Piece) -> Vec<Value> {
        let Piece { index, text, logprobs, finish } = piece;
        let choice = self.choice(index, &text, &logprobs, finish.map(reason));
        vec![self.head.object("text_completion", json!([choice]))]
    }

    fn usage_chunk(&self, usage: Usage) -> Value {
        let mut chunk = self.head.object("text_completion", json!([]));
        chunk["usage"] = usage_json(usage);
        chunk
    }

    fn whole(&self, answers: Vec<Answer>, usage: Usage) -> Value {
        let choices = answers.into_iter().zip(0u32..).map(|(answer, index)| {
            let text = self.echo(index).unwrap_or_default().to_owned() + &answer.text;
            self.choice(index, &text, &answer.logprobs, answer.finish.map(reason))
        });
        let mut whole = self.head.object("text_completion", choices.collect());
        whole["usage"] = usage_json(usage);
        whole
    }
}

/// The older form of log probabilities: four lists side by side.
fn legacy(entries: &[TokenLogprob]) -> Value {
    let all = |of: fn(&TokenLogprob) -> Value| entries.iter().map(of).collect::<Value>();
    json!({
        "tokens": all(|entry| entry.token.text.as_str().into()),
        "token_logprobs": all(|entry| entry.token.logprob.into()),
        "top_logprobs": all(top),
        "text_offset": all(|entry| entry.start_chars.into()),
    })
}

/// Likely tokens by text; the sampled one is among them even if it is not one of the likeliest.
fn top(entry: &TokenLogprob) -> Value {
    let pair = |it: &Likely| (it.text.clone(), Value::from(it.logprob));
    let mut top = entry.top.iter().map(pair).collect::<Map<_, _>>();
    top.extend([pair(&entry.token)]);
    Value::Object(top)
}
