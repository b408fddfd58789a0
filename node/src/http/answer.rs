//! Sends answers: whole as one JSON object, or piece by piece as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};
use thalweg_wire::Finish;

use super::choice::{Piece, TokenLogprob};
use super::choices::{Choices, Usage};
use super::error::ApiError;
use super::request::Options;

/// Silence on a stream at most; proxies drop connections that say nothing for long.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Tells nginx and its kind not to hold a stream back.
const NO_BUFFERING: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// How one endpoint words its answers.
pub(super) trait Shape: Send {
    /// Chunk that opens the answer `index`, if the endpoint has one.
    fn opening(&self, index: u32) -> Option<Value>;
    /// Chunks for one piece.
    fn chunks(&self, piece: Piece) -> Vec<Value>;
    /// Last chunk, with nothing but the usage.
    fn usage_chunk(&self, usage: Usage) -> Value;
    /// All answers at once, by index.
    fn whole(&self, answers: Vec<Answer>, usage: Usage) -> Value;
}

/// One finished answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub text: String,
    pub logprobs: Vec<TokenLogprob>,
    pub finish: Option<Finish>,
}

/// Answers a request the way it asked for.
///
/// # Errors
///
/// Any failure before the first byte of the response; later ones are an event in the stream.
pub(super) async fn send(
    mut choices: Choices,
    shape: Box<dyn Shape>,
    options: &Options,
) -> Result<Response, ApiError> {
    if !options.streams() {
        let answers = collect(&mut choices).await?;
        return Ok(Json(shape.whole(answers, choices.usage())).into_response());
    }
    choices.admitted().await?;
    let events = events(choices, shape, options.includes_usage());
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(([NO_BUFFERING], sse).into_response())
}

/// The usage as OpenAI words it.
pub(super) fn usage_json(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    })
}

async fn collect(choices: &mut Choices) -> Result<Vec<Answer>, ApiError> {
    let mut answers = Vec::new();
    answers.resize_with(choices.count(), Answer::default);
    while let Some(piece) = choices.next().await {
        let piece = piece?;
        let answer = &mut answers[piece.index as usize];
        answer.text.push_str(&piece.text);
        answer.logprobs.extend(piece.logprobs);
        answer.finish = piece.finish;
    }
    Ok(answers)
}

/// A stream in progress. Dropped with the response body, it cancels what still runs.
struct Streaming {
    choices: Choices,
    shape: Box<dyn Shape>,
    include_usage: bool,
    ready: VecDeque<String>,
    ended: bool,
}

fn events(
    choices: Choices,
    shape: Box<dyn Shape>,
    include_usage: bool,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let count = u32::try_from(choices.count()).expect("the number of choices is bounded");
    let mut streaming =
        Streaming { choices, shape, include_usage, ready: VecDeque::new(), ended: false };
    for index in 0..count {
        let opening = streaming.shape.opening(index);
        streaming.ready.extend(opening.map(|chunk| streaming.line(chunk)));
    }
    stream::unfold(streaming, |mut streaming| async {
        let data = streaming.next().await?;
        Some((Ok(Event::default().data(data)), streaming))
    })
}

impl Streaming {
    async fn next(&mut self) -> Option<String> {
        while self.ready.is_empty() && !self.ended {
            match self.choices.next().await {
                Some(Ok(piece)) => {
                    let chunks = self.shape.chunks(piece);
                    let lines = chunks.into_iter().map(|chunk| self.line(chunk));
                    let lines = lines.collect::<Vec<_>>();
                    self.ready.extend(lines);
                }
                Some(Err(error)) => self.end(Some(error.envelope())),
                None if self.include_usage => {
                    self.end(Some(self.shape.usage_chunk(self.choices.usage())));
                }
                None => self.end(None),
            }
        }
        self.ready.pop_front()
    }

    fn end(&mut self, last: Option<Value>) {
        self.ready.extend(last.map(|chunk| chunk.to_string()));
        self.ready.push_back("[DONE]".to_owned());
        self.ended = true;
    }

    /// Where usage is asked for, every chunk has the field, and only the last one a value.
    fn line(&self, mut chunk: Value) -> String {
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk.to_string()
    }
}
