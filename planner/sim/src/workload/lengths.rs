//! How long prompts and answers are.

use fastrand::Rng;

/// Tokens of a prompt and of its answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Length {
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Tokens of the answer.
    pub output: u32,
}

/// Where lengths come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Lengths {
    /// As in the conversations of the Azure LLM inference trace 2023.
    AzureConversation,
    /// All alike.
    Fixed(Length),
    /// A recorded stream, from its beginning again once it is over.
    Stream(Vec<Length>),
}

/// No request of the trace is shorter than this, prompt or answer.
const TOKENS_LEAST: f64 = 4.0;

/// Share of requests whose answer has the rank of its prompt; the rest are independent. Gives the
/// trace's correlation of 0.51.
const SAME_RANK_SHARE: f64 = 0.56;

/// A distribution by its quantiles: share of requests, and tokens that it does not exceed.
type Quantiles = &'static [(f64, f64)];

/// Prompts of the Azure LLM inference trace 2023, conversation (AzurePublicDataset), without prompts
/// above 2048 and answers above 1024 tokens: 16,657 requests, mean 763.1.
const PROMPTS: Quantiles = &[
    (0.0, 7.0),
    (0.01, 27.0),
    (0.025, 120.0),
    (0.05, 181.0),
    (0.1, 203.0),
    (0.15, 240.0),
    (0.2, 378.0),
    (0.25, 391.0),
    (0.3, 397.0),
    (0.35, 403.0),
    (0.4, 412.0),
    (0.45, 447.0),
    (0.46, 586.0),
    (0.47, 788.0),
    (0.48, 879.0),
    (0.49, 910.0),
    (0.5, 947.0),
    (0.55, 1004.0),
    (0.6, 1029.0),
    (0.65, 1050.0),
    (0.7, 1072.0),
    (0.75, 1094.0),
    (0.8, 1121.0),
    (0.85, 1161.0),
    (0.9, 1273.0),
    (0.95, 1353.0),
    (0.975, 1670.0),
    (0.99, 1911.0),
    (1.0, 2047.0),
];

/// Answers of the same requests, mean 232.4.
const OUTPUTS: Quantiles = &[
    (0.0, 7.0),
    (0.01, 14.0),
    (0.025, 31.0),
    (0.05, 52.0),
    (0.1, 68.0),
    (0.15, 80.0),
    (0.2, 87.0),
    (0.25, 92.0),
    (0.3, 97.0),
    (0.35, 104.0),
    (0.4, 115.0),
    (0.45, 133.0),
    (0.5, 157.0),
    (0.55, 181.0),
    (0.6, 217.0),
    (0.61, 263.0),
    (0.62, 373.0),
    (0.63, 375.0),
    (0.64, 378.0),
    (0.65, 383.0),
    (0.7, 394.0),
    (0.75, 397.0),
    (0.8, 407.0),
    (0.85, 415.0),
    (0.9, 429.0),
    (0.95, 463.0),
    (0.975, 534.0),
    (0.99, 608.0),
    (1.0, 1000.0),
];

impl Lengths {
    /// The length of request `serial`, counted from zero. Draws the same numbers whatever it draws
    /// them for.
    pub(super) fn draw(&self, serial: u64, random: &mut Rng) -> Length {
        let (prompt_rank, other_rank, same) = (random.f64(), random.f64(), random.f64());
        match self {
            Self::AzureConversation => {
                let output_rank = if same < SAME_RANK_SHARE { prompt_rank } else { other_rank };
                Length {
                    prompt: tokens(PROMPTS, prompt_rank),
                    output: tokens(OUTPUTS, output_rank),
                }
            }
            Self::Fixed(length) => *length,
            Self::Stream(stream) => stream[(serial % stream.len() as u64) as usize],
        }
    }

    /// Tokens of prompt and answer together at most.
    pub fn tokens_max(&self) -> u32 {
        let both = |it: &Length| it.prompt.saturating_add(it.output);
        match self {
            Self::AzureConversation => tokens(PROMPTS, 1.0) + tokens(OUTPUTS, 1.0),
            Self::Fixed(length) => both(length),
            Self::Stream(stream) => stream.iter().map(both).max().unwrap_or(0),
        }
    }
}

/// Reads a distribution at a rank between zero and one, to the nearest token.
fn tokens(quantiles: Quantiles, rank: f64) -> u32 {
    let next = quantiles.partition_point(|it| it.0 < rank).clamp(1, quantiles.len() - 1);
    let ((x0, y0), (x1, y1)) = (quantiles[next - 1], quantiles[next]);
    let tokens = y0 + (rank - x0) / (x1 - x0) * (y1 - y0);
    // At most a few thousand.
    tokens.max(TOKENS_LEAST).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(count: u64) -> Vec<Length> {
        let mut random = Rng::with_seed(1);
        (0..count).map(|it| Lengths::AzureConversation.draw(it, &mut random)).collect()
    }

    #[test]
    fn the_azure_conversation_trace_is_matched() {
        let lengths = sample(200_000);
        let column = |of: fn(&Length) -> u32| -> Vec<f64> {
            let mut values: Vec<f64> = lengths.iter().map(|it| f64::from(of(it))).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let near = |value: f64, wanted: f64| (value / wanted - 1.0).abs() < 0.01;
        let (prompts, outputs) = (column(|it| it.prompt), column(|it| it.output));
        assert!(near(mean(&prompts), 763.08), "{}", mean(&prompts));
        assert!(near(mean(&outputs), 232.45), "{}", mean(&outputs));
        for (values, rank, wanted) in [
            (&prompts, 0.5, 947.0),
            (&prompts, 0.95, 1353.0),
            (&outputs, 0.5, 157.0),
            (&outputs, 0.95, 463.0),
        ] {
            let found = values[(rank * values.len() as f64) as usize];
            assert!((found - wanted).abs() < 0.02 * wanted, "{rank}: {found} for {wanted}");
        }
        assert!(prompts.last() <= Some(&2047.0) && outputs.last() <= Some(&1000.0));
        assert!(prompts[0] >= 4.0 && outputs[0] >= 4.0);
    }

    #[test]
    fn long_prompts_have_long_answers_as_often_as_in_the_trace() {
        let lengths = sample(100_000);
        let pairs = lengths.iter().map(|it| (f64::from(it.prompt), f64::from(it.output)));
        let (mut sums, count) = ([0.0; 5], lengths.len() as f64);
        for (x, y) in pairs {
            for (sum, value) in sums.iter_mut().zip([x, y, x * x, y * y, x * y]) {
                *sum += value / count;
            }
        }
        let [x, y, xx, yy, xy] = sums;
        let correlation = (xy - x * y) / ((xx - x * x) * (yy - y * y)).sqrt();
        assert!((correlation - 0.51).abs() < 0.02, "{correlation}");
    }

    #[test]
    fn a_stream_begins_again() {
        let length = |prompt| Length { prompt, output: 5 };
        let stream = Lengths::Stream(vec![length(1), length(2)]);
        let mut random = Rng::with_seed(0);
        let prompts: Vec<u32> = (0..3).map(|it| stream.draw(it, &mut random).prompt).collect();
        assert_eq!(prompts, [1, 2, 1]);
        assert_eq!(stream.tokens_max(), 7);
    }
}
