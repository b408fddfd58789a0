//! How the next token is chosen.

use serde::{Deserialize, Serialize};

/// Token ids that end a generation, at most.
const STOP_TOKENS_MAX: usize = 64;
/// Most likely tokens reported beside each token, at most (as the OpenAI API allows).
const TOP_LOGPROBS_MAX: u8 = 20;

/// The sampling parameters of one request.
///
/// The draw for the token at position `p` depends on (`seed`, `p`) only, so a request can resume on
/// other hosts from its tokens and continue identically.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Sampling {
    /// Divides the logits; zero means greedy.
    pub temperature: f32,
    /// Keeps the k most likely tokens; zero keeps all.
    pub top_k: u32,
    /// Keeps the most likely tokens that together reach this probability; in (0, 1].
    pub top_p: f32,
    /// Keeps tokens at least this fraction as likely as the most likely one; in [0, 1].
    pub min_p: f32,
    /// Divides (or multiplies, if negative) logits of tokens seen in prompt or output; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted from the logits of tokens already generated; in [-2, 2].
    pub presence_penalty: f32,
    /// Subtracted once per occurrence from the logits of tokens already generated; in [-2, 2].
    pub frequency_penalty: f32,
    /// Seeds the draws.
    pub seed: u64,
    /// Number of most likely tokens to report with each token, or `None` for no log probabilities.
    pub logprobs: Option<u8>,
    /// Tokens to generate at most; at least one.
    pub max_tokens: u32,
    /// Token ids that end the generation (end of sequence, end of turn).
    pub stop_tokens: Vec<u32>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
            logprobs: None,
            max_tokens: 16,
            stop_tokens: Vec::new(),
        }
    }
}

/// A sampling parameter outside its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{name}` is {value}, but must be {allowed}")]
pub struct SamplingError {
    /// Parameter as the API names it.
    pub name: &'static str,
    /// The value given.
    pub value: f64,
    /// The values allowed, in words.
    pub allowed: &'static str,
}

impl Sampling {
    /// Checks every parameter against its range.
    ///
    /// # Errors
    ///
    /// Names the first parameter out of range (NaN is out of every range).
    pub fn check(&self) -> Result<(), SamplingError> {
        let error = |name, value: f32, allowed| {
            Err(SamplingError { name, value: f64::from(value), allowed })
        };
        if !(0.0..=2.0).contains(&self.temperature) {
            return error("temperature", self.temperature, "between 0 and 2");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return error("top_p", self.top_p, "above 0 and at most 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return error("min_p", self.min_p, "between 0 and 1");
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty <= 10.0) {
            return error("repetition_penalty", self.repetition_penalty, "above 0 and at most 10");
        }
        if !(-2.0..=2.0).contains(&self.presence_penalty) {
            return error("presence_penalty", self.presence_penalty, "between -2 and 2");
        }
        if !(-2.0..=2.0).contains(&self.frequency_penalty) {
            return error("frequency_penalty", self.frequency_penalty, "between -2 and 2");
        }
        self.check_counts()
    }

    fn check_counts(&self) -> Result<(), SamplingError> {
        if let Some(n) = self.logprobs.filter(|&n| n > TOP_LOGPROBS_MAX) {
            let allowed = "between 0 and 20";
            return Err(SamplingError { name: "top_logprobs", value: f64::from(n), allowed });
        }
        if self.max_tokens == 0 {
            return Err(SamplingError { name: "max_tokens", value: 0.0, allowed: "at least 1" });
        }
        if self.stop_tokens.len() > STOP_TOKENS_MAX {
            let value = self.stop_tokens.len() as f64;
            return Err(SamplingError { name: "stop_token_ids", value, allowed: "at most 64 ids" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_range_names_parameter_and_value() {
        let sampling = Sampling { top_p: 1.5, ..Sampling::default() };
        let error = sampling.check().expect_err("1.5 is no probability");
        assert_eq!(error.to_string(), "`top_p` is 1.5, but must be above 0 and at most 1");
        let nan = Sampling { temperature: f32::NAN, ..Sampling::default() };
        assert!(nan.check().is_err());
        assert_eq!(Sampling::default().check(), Ok(()));
    }
}
