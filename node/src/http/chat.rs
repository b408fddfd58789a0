//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::answer::{self, Answer, Shape, usage_json};
use super::auth::Tenant;
use super::body::Body;
use super::choice::{Likely, Piece, TokenLogprob, reason};
use super::choices::{Ask, Choices, Usage};
use super::error::ApiError;
use super::request::{ChatRequest, turns};
use super::request_id::RequestName;
use super::{Api, Head};

/// Answers a conversation.
pub(super) async fn chat(
    State(api): State<Arc<Api>>,
    Extension(name): Extension<RequestName>,
    Extension(tenant): Extension<Tenant>,
    Body(request): Body<ChatRequest>,
) -> Result<Response, ApiError> {
    request.check()?;
    let model = api.model(request.options.model.as_deref())?;
    let turns = turns(&request.messages)?;
    let prompt = api.with_text(move |text| text.encode_chat(&turns)).await?;
    let ask = Ask {
        prompts: vec![prompt],
        param: "messages",
        logprobs: request.logprobs(),
        max_tokens: request.max_tokens(),
        tenant,
    };
    let choices = Choices::start(&api, &request.options, ask)?;
    let shape = ChatShape {
        head: Head::new(&api, format!("chatcmpl-{}", name.0), model),
        logprobs: request.logprobs(),
    };
    answer::send(choices, Box::new(shape), &request.options).await
}

struct ChatShape {
    head: Head,
    logprobs: Option<u8>,
}

impl ChatShape {
    fn chunk(&self, index: u32, delta: Value, logprobs: Value, finish: Value) -> Value {
        let choice =
            json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish});
        self.head.object("chat.completion.chunk", json!([choice]))
    }

    fn logprobs(&self, entries: &[TokenLogprob]) -> Value {
        if self.logprobs.is_none() {
            return Value::Null;
        }
        let content = entries.iter().map(entry).collect::<Vec<_>>();
        json!({"content": content, "refusal": null})
    }
}

impl Shape for ChatShape {
    fn opening(&self, index: u32) -> Option<Value> {
        let delta = json!({"role": "assistant", "content": ""});
        Some(self.chunk(index, delta, Value::Null, Value::Null))
    }

    fn chunks(&self, piece: Piece) -> Vec<Value> {
        let Piece { index, text, logprobs, finish } = piece;
        let mut chunks = Vec::new();
        if !text.is_empty() || !logprobs.is_empty() {
            let logprobs = self.logprobs(&logprobs);
            chunks.push(self.chunk(index, json!({"content": text}), logprobs, Value::Null));
        }
        if let Some(finish) = finish {
            chunks.push(self.chunk(index, json!({}), Value::Null, reason(finish).into()));
        }
        chunks
    }

    fn usage_chunk(&self, usage: Usage) -> Value {
        let mut chunk = self.head.object("chat.completion.chunk", json!([]));
        chunk["usage"] = usage_json(usage);
        chunk
    }

    fn whole(&self, answers: Vec<Answer>, usage: Usage) -> Value {
        let choices = answers.into_iter().enumerate().map(|(index, answer)| {
            json!({
                "index": index,
                "message": {"role": "assistant", "content": answer.text, "refusal": null},
                "logprobs": self.logprobs(&answer.logprobs),
                "finish_reason": answer.finish.map(reason),
            })
        });
        let mut whole = self.head.object("chat.completion", choices.collect());
        whole["usage"] = usage_json(usage);
        whole
    }
}

fn entry(entry: &TokenLogprob) -> Value {
    let mut value = likely(&entry.token);
    value["top_logprobs"] = entry.top.iter().map(likely).collect();
    value
}

fn likely(token: &Likely) -> Value {
    json!({"token": token.text, "logprob": token.logprob, "bytes": token.bytes})
}
