//! One answer on its way: events of a generation in, text that can be shown out.
//!
//! ```text
//! TokenEvent -> Decoder -> Cut -> Piece
//!      \-> Logprobs ----------/   (a token's entry leaves with the text it belongs to)
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use thalweg_wire::{Candidate, Finish};

use super::cut::{Cut, Released};
use super::error::ApiError;
use super::meter::Meter;
use super::text::{Decoder, Text};
use crate::generate::{Generation, TokenEvent};

/// Log probability reported for what cannot happen: JSON has no infinity. OpenAI's own value.
const LOGPROB_MIN: f32 = -9999.0;

/// More of one answer.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Piece {
    /// Which answer.
    pub index: u32,
    /// Text, possibly none in the last piece.
    pub text: String,
    /// Entries of the tokens that the text was made of; empty if not asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// Set on the last piece.
    pub finish: Option<Finish>,
}

/// How likely a token was, and what else was likely.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TokenLogprob {
    /// Where the token's text starts in the answer, in characters.
    pub start_chars: usize,
    pub token: Likely,
    pub top: Vec<Likely>,
}

/// A token as text and bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Likely {
    /// Text, with replacement characters where the bytes are no whole characters.
    pub text: String,
    pub bytes: Vec<u8>,
    pub logprob: f32,
}

/// What a choice needs besides its generation.
pub(super) struct Wishes {
    pub index: u32,
    pub cut: Cut,
    /// Whether log probabilities are reported.
    pub logprobs: Option<u8>,
}

/// Turns the events of one generation into pieces of an answer.
pub(super) struct Choice {
    index: u32,
    /// Dropped as soon as nothing more is needed of it, which cancels it.
    generation: Option<Generation>,
    /// An event taken early, to see whether the generation was admitted.
    front: Option<Option<TokenEvent>>,
    text: Arc<dyn Text>,
    decoder: Box<dyn Decoder>,
    cut: Cut,
    logprobs: Option<Logprobs>,
    meter: Meter,
}

/// Entries that wait for the text of their tokens.
#[derive(Default)]
struct Logprobs {
    waiting: VecDeque<TokenLogprob>,
    decoded_chars: usize,
    released_chars: usize,
}

/// Whether a generation was taken by the gateway.
#[derive(Debug)]
pub(super) enum Admission {
    /// It has a token.
    Token,
    /// It will have none.
    Refused,
}

impl Choice {
    pub(super) fn new(
        generation: Generation,
        text: Arc<dyn Text>,
        wishes: Wishes,
        meter: Meter,
    ) -> Self {
        let decoder = Arc::clone(&text).decoder();
        let Wishes { index, cut, logprobs } = wishes;
        let logprobs = logprobs.map(|_| Logprobs::default());
        let generation = Some(generation);
        Self { index, generation, front: None, text, decoder, cut, logprobs, meter }
    }

    /// Waits for the first event, without taking it.
    pub(super) fn poll_admission(&mut self, cx: &mut Context<'_>) -> Poll<Admission> {
        if self.front.is_none()
            && let Some(generation) = &mut self.generation
        {
            self.front = Some(ready!(generation.poll_next(cx)));
        }
        Poll::Ready(match self.front {
            Some(Some(TokenEvent::Token { .. })) => Admission::Token,
            _ => Admission::Refused,
        })
    }

    /// Waits for the next piece; `None` after the last one.
    pub(super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Piece, ApiError>>> {
        loop {
            let Some(generation) = &mut self.generation else { return Poll::Ready(None) };
            let event = match self.front.take() {
                Some(event) => event,
                None => ready!(generation.poll_next(cx)),
            };
            let piece = self.take(event);
            let last = piece.as_ref().map_or(true, |piece| piece.finish.is_some());
            if last {
                self.generation = None;
            }
            if last || piece.as_ref().is_ok_and(|piece| !piece.text.is_empty()) {
                return Poll::Ready(Some(piece));
            }
        }
    }

    /// Tokens generated so far.
    pub(super) fn tokens(&self) -> u32 {
        self.meter.tokens()
    }

    fn take(&mut self, event: Option<TokenEvent>) -> Result<Piece, ApiError> {
        match event {
            Some(TokenEvent::Token { sampled, top, finish }) => {
                self.meter.token();
                let piece = self.piece(sampled, &top, finish);
                if let Some(finish) = piece.finish {
                    self.meter.end(reason(finish));
                }
                Ok(piece)
            }
            Some(TokenEvent::Rejected(rejection)) => {
                self.meter.end("error");
                Err(rejection.into())
            }
            None => {
                self.meter.end("error");
                Err(ApiError::Ended)
            }
        }
    }

    fn piece(&mut self, sampled: Candidate, top: &[Candidate], finish: Option<Finish>) -> Piece {
        let mut decoded = String::new();
        // A stop token ends the text without being part of it.
        if finish != Some(Finish::Stop) {
            if let Some(logprobs) = &mut self.logprobs {
                logprobs.wait(self.text.as_ref(), sampled, top);
            }
            decoded = self.decoder.push(sampled.token);
        }
        if finish.is_some() {
            decoded.push_str(&self.decoder.finish());
        }
        let (text, finish) = match self.cut.push(&decoded) {
            Released::Stopped(text) => (text, Some(Finish::Stop)),
            Released::Open(text) if finish.is_some() => (text + &self.cut.finish(), finish),
            Released::Open(text) => (text, None),
        };
        let logprobs = match &mut self.logprobs {
            Some(logprobs) => logprobs.release(&decoded, &text, finish),
            None => Vec::new(),
        };
        Piece { index: self.index, text, logprobs, finish }
    }
}

/// The reason as OpenAI and vLLM call it.
pub(super) const fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

impl Logprobs {
    fn wait(&mut self, text: &dyn Text, sampled: Candidate, top: &[Candidate]) {
        self.waiting.push_back(TokenLogprob {
            start_chars: self.decoded_chars,
            token: likely(text, sampled),
            top: top.iter().map(|&it| likely(text, it)).collect(),
        });
    }

    /// Returns the entries of tokens whose text was released. At the end of the answer, tokens
    /// without text of their own go along unless a stop string cut them off.
    fn release(
        &mut self,
        decoded: &str,
        released: &str,
        finish: Option<Finish>,
    ) -> Vec<TokenLogprob> {
        self.decoded_chars += decoded.chars().count();
        self.released_chars += released.chars().count();
        let whole = finish.is_some() && self.released_chars == self.decoded_chars;
        let shown = |entry: &TokenLogprob| whole || entry.start_chars < self.released_chars;
        let count = self.waiting.iter().take_while(|&entry| shown(entry)).count();
        self.waiting.drain(..count).collect()
    }
}

fn likely(text: &dyn Text, candidate: Candidate) -> Likely {
    let bytes = text.token_bytes(candidate.token);
    let logprob = candidate.logprob.max(LOGPROB_MIN);
    Likely { text: String::from_utf8_lossy(&bytes).into_owned(), bytes, logprob }
}
