//! Chooses the next token from logits.
//!
//! ```text
//! logits -> penalties -> temperature -> top-k -> top-p -> min-p -> draw
//! ```
//!
//! The draw depends on the seed and the position only, and penalties on the tokens so far: a request
//! resumed on another host from its tokens continues identically.

use std::cmp::Ordering;

use thalweg_wire::{Candidate, Sampling};

use crate::simd::{Kernel, dispatch};

/// Most likely tokens looked at first; nucleus sampling rarely needs more, and sorting a whole
/// vocabulary costs milliseconds.
const FIRST_LOOK: usize = 256;

/// Logits that are compared at once.
const LANES: usize = 16;

/// A token and its logit, or later its probability relative to the most likely token.
#[derive(Clone, Copy, Debug)]
struct Weighted {
    token: u32,
    weight: f32,
}

/// A chosen token and, if asked for, the most likely ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The token; its log probability is 0 if none was asked for.
    pub sampled: Candidate,
    /// The most likely tokens before any parameter was applied, in falling order.
    pub top: Vec<Candidate>,
}

/// Chooses a token, or nothing if a logit is not a number.
///
/// `history` is every token so far; its first `prompt_tokens` are the prompt. Log probabilities are
/// those of the model, before penalties and temperature.
pub fn sample(
    logits: &[f32],
    sampling: &Sampling,
    history: &[u32],
    prompt_tokens: u32,
) -> Option<Sampled> {
    let largest = dispatch(Largest(logits)).filter(|_| !logits.is_empty())?;
    let token = if sampling.temperature > 0.0 {
        let adjusted = penalised(logits, sampling, history, prompt_tokens);
        let position = history.len() as u64;
        draw(adjusted, sampling, uniform(sampling.seed, position))
    } else if has_penalties(sampling) {
        greedy(&penalised(logits, sampling, history, prompt_tokens))
    } else {
        let first = logits.iter().position(|&it| it == largest);
        u32::try_from(first.expect("it is one of them")).expect("tokens have 32 bits")
    };
    let Some(count) = sampling.logprobs else {
        return Some(Sampled { sampled: Candidate { token, logprob: 0.0 }, top: Vec::new() });
    };
    let logprob = log_softmax(logits);
    let mut top = weighted(logits);
    keep_most_likely(&mut top, usize::from(count));
    let candidate = |token| Candidate { token, logprob: logprob(logits[token as usize]) };
    let top = top.iter().map(|it| candidate(it.token)).collect();
    Some(Sampled { sampled: candidate(token), top })
}

/// The largest of some logits; nothing if one is not a number. Logits of every token are looked at in
/// every step, so that this pays for vector instructions.
struct Largest<'a>(&'a [f32]);

impl Kernel for Largest<'_> {
    type Output = Option<f32>;

    #[inline(always)]
    fn run<const FMA: bool, const WIDE: bool>(self) -> Option<f32> {
        let (lines, rest) = self.0.as_chunks::<LANES>();
        let mut largest = [f32::NEG_INFINITY; LANES];
        // Stays zero until it meets what is no number.
        let mut sound = [0.0; LANES];
        for line in lines {
            for ((largest, sound), &it) in largest.iter_mut().zip(&mut sound).zip(line) {
                *largest = if it > *largest { it } else { *largest };
                *sound += if it.is_nan() { it } else { 0.0 };
            }
        }
        for ((largest, sound), &it) in largest.iter_mut().zip(&mut sound).zip(rest) {
            *largest = if it > *largest { it } else { *largest };
            *sound += if it.is_nan() { it } else { 0.0 };
        }
        let sound = sound.iter().all(|it| !it.is_nan());
        sound.then(|| largest.into_iter().fold(f32::NEG_INFINITY, f32::max))
    }
}

/// Whether tokens seen change logits.
fn has_penalties(sampling: &Sampling) -> bool {
    sampling.repetition_penalty != 1.0
        || sampling.presence_penalty != 0.0
        || sampling.frequency_penalty != 0.0
}

/// Applies the penalties for tokens seen.
fn penalised(
    logits: &[f32],
    sampling: &Sampling,
    history: &[u32],
    prompt_tokens: u32,
) -> Vec<Weighted> {
    let mut weighted = weighted(logits);
    for (token, _) in occurrences(history) {
        let Some(it) = weighted.get_mut(token as usize) else { continue };
        let repetition = sampling.repetition_penalty;
        it.weight = if it.weight > 0.0 { it.weight / repetition } else { it.weight * repetition };
    }
    let prompt = (prompt_tokens as usize).min(history.len());
    for (token, seen) in occurrences(&history[prompt..]) {
        let Some(it) = weighted.get_mut(token as usize) else { continue };
        it.weight -= sampling.presence_penalty + sampling.frequency_penalty * seen as f32;
    }
    weighted
}

/// Each distinct token with how often it occurs, by rising token.
fn occurrences(history: &[u32]) -> Vec<(u32, usize)> {
    let mut sorted = history.to_vec();
    sorted.sort_unstable();
    sorted.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect()
}

fn weighted(logits: &[f32]) -> Vec<Weighted> {
    (0u32..).zip(logits).map(|(token, &weight)| Weighted { token, weight }).collect()
}

/// The most likely token; the lowest id among equals.
fn greedy(adjusted: &[Weighted]) -> u32 {
    let best = adjusted.iter().min_by(|a, b| by_likelihood(a, b));
    best.expect("logits are not empty").token
}

/// Orders by falling weight, then by rising token id.
fn by_likelihood(a: &Weighted, b: &Weighted) -> Ordering {
    b.weight.total_cmp(&a.weight).then(a.token.cmp(&b.token))
}

/// Draws from what the parameters leave of the distribution, at `uniform` in [0, 1).
fn draw(mut kept: Vec<Weighted>, sampling: &Sampling, uniform: f64) -> u32 {
    if sampling.top_k > 0 {
        keep_most_likely(&mut kept, sampling.top_k as usize);
    }
    let max = kept.iter().map(|it| it.weight).fold(f32::NEG_INFINITY, f32::max);
    for it in &mut kept {
        it.weight = ((it.weight - max) / sampling.temperature).exp();
    }
    if sampling.top_p < 1.0 {
        keep_nucleus(&mut kept, f64::from(sampling.top_p));
    }
    if sampling.min_p > 0.0 {
        kept.retain(|it| it.weight >= sampling.min_p);
    }
    let total: f64 = kept.iter().map(|it| f64::from(it.weight)).sum();
    let mut left = uniform * total;
    for it in &kept {
        left -= f64::from(it.weight);
        if left < 0.0 {
            return it.token;
        }
    }
    kept.iter().rfind(|it| it.weight > 0.0).expect("the most likely token has weight 1").token
}

/// Keeps the `count` most likely, sorted.
fn keep_most_likely(kept: &mut Vec<Weighted>, count: usize) {
    if count > 0 && count < kept.len() {
        kept.select_nth_unstable_by(count - 1, by_likelihood);
    }
    kept.truncate(count);
    kept.sort_unstable_by(by_likelihood);
}

/// Keeps the shortest run of most likely tokens that reaches the share `top_p` of all.
fn keep_nucleus(kept: &mut Vec<Weighted>, top_p: f64) {
    let goal = top_p * kept.iter().map(|it| f64::from(it.weight)).sum::<f64>();
    let mut look = FIRST_LOOK;
    loop {
        let mut most = kept.clone();
        keep_most_likely(&mut most, look);
        let mut reached = 0.0;
        let enough = most.iter().position(|it| {
            reached += f64::from(it.weight);
            reached >= goal
        });
        if enough.is_some() || most.len() == kept.len() {
            most.truncate(enough.map_or(most.len(), |it| it + 1));
            *kept = most;
            return;
        }
        look *= FIRST_LOOK;
    }
}

/// The draw for the token at `position`, in [0, 1).
fn uniform(seed: u64, position: u64) -> f64 {
    let bits = mix(mix(seed) ^ position);
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// The output function of SplitMix64 (Steele, Lea and Flood, 2014): a bijection that scatters bits.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Returns the function from logit to log probability.
fn log_softmax(logits: &[f32]) -> impl Fn(f32) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&it| f64::from((it - max).exp())).sum();
    let log_sum = sum.ln() as f32;
    move |logit| logit - max - log_sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [0.0, 2.0, 1.0, -1.0, 2.0];

    fn with(change: impl FnOnce(&mut Sampling)) -> Sampling {
        let mut sampling = Sampling::default();
        change(&mut sampling);
        sampling
    }

    fn token(sampling: &Sampling, history: &[u32], prompt_tokens: u32) -> u32 {
        sample(&LOGITS, sampling, history, prompt_tokens).expect("logits are numbers").sampled.token
    }

    /// Draws at many positions and returns how often each token came.
    fn frequencies(sampling: &Sampling) -> [f64; 5] {
        const DRAWS: usize = 20_000;
        let mut counts = [0.0; 5];
        for position in 0..DRAWS as u64 {
            let kept = weighted(&LOGITS);
            let drawn = draw(kept, sampling, uniform(sampling.seed, position));
            counts[drawn as usize] += 1.0 / DRAWS as f64;
        }
        counts
    }

    fn assert_distribution(sampling: &Sampling, expected: [f64; 5]) {
        let found = frequencies(sampling);
        for (found, expected) in found.iter().zip(expected) {
            // Five standard deviations of a share of 20 000 draws.
            assert!((found - expected).abs() < 0.018, "{found} against {expected}");
            assert!(expected > 0.0 || *found == 0.0, "a token was drawn that was cut");
        }
    }

    fn shares(weights: [f64; 5]) -> [f64; 5] {
        let total: f64 = weights.iter().sum();
        weights.map(|it| it / total)
    }

    #[test]
    fn greedy_takes_the_lowest_id_among_equals() {
        assert_eq!(token(&with(|it| it.temperature = 0.0), &[], 0), 1);
    }

    #[test]
    fn draws_follow_the_distribution() {
        let weights = LOGITS.map(|it| f64::from(it).exp());
        assert_distribution(&with(|it| it.seed = 7), shares(weights));
        let hot = LOGITS.map(|it| (f64::from(it) / 2.0).exp());
        assert_distribution(&with(|it| it.temperature = 2.0), shares(hot));
    }

    #[test]
    fn cuts_leave_the_rest_in_proportion() {
        let [_, two, one, _, _] = LOGITS.map(|it| f64::from(it).exp());
        assert_distribution(&with(|it| it.top_k = 3), shares([0.0, two, one, 0.0, two]));
        assert_distribution(&with(|it| it.top_p = 0.7), shares([0.0, two, 0.0, 0.0, two]));
        assert_distribution(&with(|it| it.min_p = 0.3), shares([0.0, two, one, 0.0, two]));
        assert_distribution(&with(|it| it.top_p = 1e-6), [0.0, 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn the_nucleus_is_found_beyond_the_first_look() {
        let flat = [1.0; 2 * FIRST_LOOK];
        let mut kept = weighted(&flat);
        keep_nucleus(&mut kept, 2.0);
        assert_eq!(kept.len(), flat.len());
        let mut kept = weighted(&flat);
        keep_nucleus(&mut kept, 0.75);
        assert_eq!(kept.len(), FIRST_LOOK * 3 / 2);
    }

    #[test]
    fn a_draw_depends_on_seed_and_position_alone() {
        let sampling = with(|it| it.seed = 3);
        let first: Vec<u32> = (0..50).map(|n| token(&sampling, &vec![0; n], 0)).collect();
        let again: Vec<u32> = (0..50).rev().map(|n| token(&sampling, &vec![4; n], 9)).collect();
        assert!(first.iter().eq(again.iter().rev()), "order and history changed a draw");
        let other: Vec<u32> =
            (0..50).map(|n| token(&with(|it| it.seed = 4), &vec![0; n], 0)).collect();
        assert_ne!(first, other);
    }

    #[test]
    fn penalties_count_what_they_name() {
        let greedy = |change: fn(&mut Sampling)| {
            with(|it| {
                it.temperature = 0.0;
                change(it);
            })
        };
        // Token 1 is in the prompt, token 4 was generated.
        let repetition = greedy(|it| it.repetition_penalty = 4.0);
        assert_eq!(token(&repetition, &[1, 4], 1), 2, "prompt and output count");
        let presence = greedy(|it| it.presence_penalty = 0.5);
        assert_eq!(token(&presence, &[4, 1], 1), 4, "the prompt does not count");
        let frequency = greedy(|it| it.frequency_penalty = 0.4);
        assert_eq!(token(&frequency, &[1, 1, 1, 4, 4], 0), 4, "each occurrence counts");
    }

    #[test]
    fn log_probabilities_are_the_models_own() {
        let sampling = with(|it| {
            it.temperature = 0.0;
            it.repetition_penalty = 4.0;
            it.logprobs = Some(2);
        });
        let sampled = sample(&LOGITS, &sampling, &[1, 4], 0).expect("logits are numbers");
        let log_sum = LOGITS.map(|it| f64::from(it).exp()).iter().sum::<f64>().ln();
        assert_eq!(sampled.top.iter().map(|it| it.token).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(sampled.sampled.token, 2);
        assert!((f64::from(sampled.sampled.logprob) - (1.0 - log_sum)).abs() < 1e-5);
    }

    #[test]
    fn a_logit_that_is_not_a_number_is_no_token() {
        assert_eq!(sample(&[0.0, f32::NAN], &Sampling::default(), &[], 0), None);
    }
}
