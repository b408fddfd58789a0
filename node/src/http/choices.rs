//! The answers to one request, together.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use thalweg_wire::Sampling;

use super::Api;
use super::auth::Tenant;
use super::choice::{Admission, Choice, Piece, Wishes};
use super::cut::{Cut, Keep};
use super::error::ApiError;
use super::meter::Meter;
use super::request::Options;
use crate::generate::Submission;

/// Answers per prompt at most. Each takes KV memory of its own.
const N_MAX: u32 = 16;
/// Answers per request at most, over all its prompts.
const CHOICES_MAX: usize = 64;
/// Stop strings per request at most.
const STOPS_MAX: usize = 16;
/// Size of a stop string at most: this much text is held back.
const STOP_BYTES_MAX: usize = 1024;
/// How long a stream's status line waits for news from the gateway. Refusals take far less, so they
/// get their own status; a request that queues longer gets its headers and keep-alives.
const ADMISSION_WAIT: Duration = Duration::from_secs(1);

/// What a request asks for, apart from its prompts and common options.
pub(super) struct Ask {
    /// The prompts, tokenized.
    pub prompts: Vec<Vec<u32>>,
    /// Field of the request that the prompts came from.
    pub param: &'static str,
    /// Alternatives to report with each token.
    pub logprobs: Option<u8>,
    /// Tokens to generate at most; `None` for as many as the context has room for.
    pub max_tokens: Option<u32>,
    /// Who asks.
    pub tenant: Tenant,
}

/// Tokens read and generated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// Several answers on their way.
pub(super) struct Choices {
    choices: Vec<Choice>,
    prompt_tokens: u64,
    /// Which one is asked first, in turn, so that none starves the others.
    turn: usize,
}

impl Choices {
    /// Starts `n` generations per prompt.
    ///
    /// # Errors
    ///
    /// If an option is out of range, a prompt does not fit, or the gateway takes no more.
    pub(super) fn start(api: &Api, options: &Options, ask: Ask) -> Result<Self, ApiError> {
        let n = checked_n(options, ask.prompts.len())?;
        let stops = checked_stops(options)?;
        let keep = match options.include_stop_str_in_output {
            Some(true) => Keep::Include,
            _ => Keep::Drop,
        };
        let priority = options.priority()?;
        let seed = options.seed.map_or_else(random_seed, |seed| Ok(seed.bits()))?;
        let mut choices = Vec::new();
        for (prompt, at) in ask.prompts.iter().zip(0u32..) {
            let max_tokens = room(api, prompt, &ask)?;
            for nth in 0..n {
                let mut sampling = sampling(api, options, max_tokens, ask.logprobs)?;
                sampling.seed = derived_seed(seed, nth);
                let cut = Cut::new(stops.clone(), keep);
                let wishes = Wishes { index: at * n + nth, cut, logprobs: ask.logprobs };
                let (prompt, tenant) = (prompt.clone(), ask.tenant.0);
                let submission = Submission { prompt, sampling, priority, tenant };
                choices.push(start_one(api, submission, wishes)?);
            }
        }
        let prompt_tokens = ask.prompts.iter().map(|prompt| prompt.len() as u64).sum();
        Ok(Self { choices, prompt_tokens, turn: 0 })
    }

    /// Waits until one answer has a token, one is refused, or a while has passed.
    ///
    /// # Errors
    ///
    /// The refusal.
    pub(super) async fn admitted(&mut self) -> Result<(), ApiError> {
        let settled = std::future::poll_fn(|cx| self.poll_admitted(cx));
        match tokio::time::timeout(ADMISSION_WAIT, settled).await {
            Ok(result) => result,
            Err(_still_queued) => Ok(()),
        }
    }

    /// Waits for the next piece of any answer; `None` after the last piece of all.
    pub(super) async fn next(&mut self) -> Option<Result<Piece, ApiError>> {
        std::future::poll_fn(|cx| self.poll_piece(cx)).await
    }

    /// Number of answers.
    pub(super) fn count(&self) -> usize {
        self.choices.len()
    }

    /// Tokens read and generated so far.
    pub(super) fn usage(&self) -> Usage {
        let completion_tokens = self.choices.iter().map(|it| u64::from(it.tokens())).sum();
        Usage { prompt_tokens: self.prompt_tokens, completion_tokens }
    }

    fn poll_admitted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ApiError>> {
        let mut settled = Poll::Pending;
        for choice in &mut self.choices {
            match choice.poll_admission(cx) {
                Poll::Ready(Admission::Token) => settled = Poll::Ready(Ok(())),
                Poll::Ready(Admission::Refused) => {
                    let refusal = choice.poll_piece(cx);
                    return refusal.map(|it| it.map_or(Ok(()), |piece| piece.map(drop)));
                }
                Poll::Pending => {}
            }
        }
        settled
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, ApiError>>> {
        let count = self.choices.len();
        let mut ended = 0;
        for step in 0..count {
            let at = (self.turn + step) % count;
            match self.choices[at].poll_piece(cx) {
                Poll::Ready(Some(piece)) => {
                    self.turn = at + 1;
                    return Poll::Ready(Some(piece));
                }
                Poll::Ready(None) => ended += 1,
                Poll::Pending => {}
            }
        }
        if ended == count { Poll::Ready(None) } else { Poll::Pending }
    }
}

fn start_one(api: &Api, submission: Submission, wishes: Wishes) -> Result<Choice, ApiError> {
    let prompt_tokens = submission.prompt.len();
    let generation = api.gateway.submit(submission).map_err(ApiError::Busy)?;
    let meter = Meter::start(Arc::clone(&api.metrics), prompt_tokens);
    Ok(Choice::new(generation, Arc::clone(&api.text), wishes, meter))
}

fn checked_n(options: &Options, prompts: usize) -> Result<u32, ApiError> {
    let n = options.choices_per_prompt();
    if n == 0 || n > N_MAX {
        let message = format!("`n` is {n}, but must be between 1 and {N_MAX}.");
        return Err(ApiError::invalid("n", message));
    }
    if prompts == 0 {
        return Err(ApiError::invalid("prompt", "There is no prompt."));
    }
    let choices = prompts.saturating_mul(n as usize);
    if choices > CHOICES_MAX {
        let message = format!("{choices} answers are asked for, but at most {CHOICES_MAX} can be.");
        return Err(ApiError::invalid("prompt", message));
    }
    Ok(n)
}

fn checked_stops(options: &Options) -> Result<Vec<String>, ApiError> {
    let stops = options.stops();
    if stops.len() > STOPS_MAX {
        let message = format!("{} stop strings, but at most {STOPS_MAX} can be.", stops.len());
        return Err(ApiError::invalid("stop", message));
    }
    if let Some(stop) = stops.iter().find(|stop| stop.len() > STOP_BYTES_MAX) {
        let bytes = stop.len();
        let message =
            format!("A stop string has {bytes} bytes, but at most {STOP_BYTES_MAX} can be.");
        return Err(ApiError::invalid("stop", message));
    }
    Ok(stops)
}

/// Returns how many tokens may be generated: what was asked for, within the context.
fn room(api: &Api, prompt: &[u32], ask: &Ask) -> Result<u32, ApiError> {
    if prompt.is_empty() {
        return Err(ApiError::invalid(ask.param, "The prompt is empty."));
    }
    let vocabulary = api.text.vocabulary();
    if let Some(token) = prompt.iter().find(|&&token| token >= vocabulary) {
        let message = format!("Token id {token} is not below the vocabulary of {vocabulary}.");
        return Err(ApiError::invalid(ask.param, message));
    }
    let context = api.context_tokens;
    let used = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
    match context.checked_sub(used) {
        None | Some(0) => {
            Err(ApiError::PromptTooLong { param: ask.param, prompt: prompt.len(), context })
        }
        Some(room) => Ok(ask.max_tokens.map_or(room, |asked| asked.min(room))),
    }
}

fn sampling(
    api: &Api,
    options: &Options,
    max_tokens: u32,
    logprobs: Option<u8>,
) -> Result<Sampling, ApiError> {
    let default = Sampling::default();
    let mut stop_tokens = options.stop_token_ids.clone().unwrap_or_default();
    if options.ignore_eos != Some(true) {
        stop_tokens.extend(api.text.eos_ids());
    }
    let sampling = Sampling {
        temperature: options.temperature.unwrap_or(default.temperature),
        // vLLM's -1 and OpenAI's absence both mean all.
        top_k: u32::try_from(options.top_k.unwrap_or(0).max(0)).unwrap_or(u32::MAX),
        top_p: options.top_p.unwrap_or(default.top_p),
        min_p: options.min_p.unwrap_or(default.min_p),
        repetition_penalty: options.repetition_penalty.unwrap_or(default.repetition_penalty),
        presence_penalty: options.presence_penalty.unwrap_or(default.presence_penalty),
        frequency_penalty: options.frequency_penalty.unwrap_or(default.frequency_penalty),
        seed: default.seed,
        logprobs,
        max_tokens,
        stop_tokens,
    };
    sampling.check().map_err(|error| ApiError::invalid(error.name, format!("{error}.")))?;
    Ok(sampling)
}

fn random_seed() -> Result<u64, ApiError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|_| ApiError::Internal("the system gives no random numbers"))?;
    Ok(u64::from_le_bytes(bytes))
}

/// Returns the seed of the `nth` answer: the first has the seed itself, so that asking for more
/// does not change it; the others are SplitMix64 outputs.
fn derived_seed(seed: u64, nth: u32) -> u64 {
    if nth == 0 {
        return seed;
    }
    let mut z = seed.wrapping_add(u64::from(nth).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn answers_of_one_seed_have_different_seeds_that_stay() {
        let seeds = (0..N_MAX).map(|nth| derived_seed(7, nth)).collect::<Vec<_>>();
        assert_eq!(seeds[0], 7);
        assert_eq!(seeds.iter().collect::<BTreeSet<_>>().len(), seeds.len());
        assert_eq!(seeds, (0..N_MAX).map(|nth| derived_seed(7, nth)).collect::<Vec<_>>());
    }
}
