//! How long a step of one layer takes, and what fits into it.

use thalweg_planner::device::Device;

/// Longest prompt that the artifact knows; a step's room for prompts is a number of these.
const PROMPT_TOKENS_MAX: u32 = 2048;

/// Tokens of context that a step has room for per decoding request in it.
const CONTEXT_TOKENS_EACH: u64 = 1000;

/// Prompts, and decoding requests, that a machine type may list for a step.
pub(super) const PROMPTS_LISTED_MAX: u32 = 1 << 10;
pub(super) const DECODES_LISTED_MAX: u32 = 1 << 20;

/// What a step may hold at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limits {
    pub prompts: u32,
    pub prompt_tokens: u64,
    pub decodes: u32,
    pub context_tokens: u64,
}

impl Limits {
    /// Limits of a machine that holds so many layers; `None` where they are not known. A machine
    /// with more layers than listed has the limits of the last number listed.
    pub fn of(device: &Device, layers: u32) -> Option<Self> {
        let listed = device.decode_requests_max.len().checked_sub(1)?;
        let decodes = device.decode_requests_max[listed.min(layers as usize)];
        let prompts = device.prefill_requests_max;
        (prompts > 0 && decodes > 0).then(|| Self {
            prompts,
            prompt_tokens: u64::from(prompts) * u64::from(PROMPT_TOKENS_MAX),
            decodes,
            context_tokens: u64::from(decodes) * CONTEXT_TOKENS_EACH,
        })
    }
}

/// Seconds per layer by what is in a step: a machine's curves, read once for every whole number.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    prefill: Vec<f64>,
    decode: Vec<f64>,
}

impl Steps {
    /// Reads a machine's curves up to the largest limits of any number of layers.
    pub fn new(device: &Device) -> Self {
        let decodes = device.decode_requests_max.iter().copied().max().unwrap_or(0);
        let prompt_tokens = device.prefill_requests_max * PROMPT_TOKENS_MAX;
        let decode = |it| device.decode_seconds(it);
        let mut steps = Self {
            prefill: table(&device.prefill, prompt_tokens, |it| device.prefill_seconds(it)),
            decode: table(&device.decode, decodes, decode),
        };
        // The artifact takes a single decoding request for twice as long as its table says.
        if let Some(one) = steps.decode.get_mut(1) {
            *one *= 2.0;
        }
        steps
    }

    /// Seconds of a step of one layer within the limits.
    pub fn seconds(&self, prompt_tokens: u64, decodes: u32) -> f64 {
        self.prefill[prompt_tokens as usize] + self.decode[decodes as usize]
    }
}

/// A curve at zero to `last`.
fn table(curve: &[(f64, f64)], last: u32, read: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut table: Vec<f64> = (0..=last).map(|it| read(f64::from(it))).collect();
    // At a point of the curve its own figure, free of the rounding of an interpolation.
    for &(at, seconds) in curve {
        if at > 0.0 && at <= f64::from(last) && at.fract() == 0.0 {
            table[at as usize] = seconds;
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        Device {
            prefill: vec![(0.0, 0.0), (100.0, 0.01), (4096.0, 0.41)],
            decode: vec![(0.0, 0.0), (2.0, 0.001), (4.0, 0.003)],
            kv_token_layers: vec![0.0, 1000.0, 1600.0],
            prefill_requests_max: 2,
            decode_requests_max: vec![0, 4, 3],
        }
    }

    #[test]
    fn prompt_and_decodes_add_up_and_one_decode_counts_twice() {
        let steps = Steps::new(&device());
        assert_eq!(steps.seconds(0, 0), 0.0);
        assert_eq!(steps.seconds(50, 0), 0.005);
        assert_eq!(steps.seconds(100, 1), 0.01 + 2.0 * 0.0005);
        assert_eq!(steps.seconds(0, 3), 0.001 + 1.0 * (0.003 - 0.001) / 2.0);
        assert_eq!(steps.seconds(4096, 4), 0.41 + 0.003);
    }

    #[test]
    fn limits_follow_the_number_of_layers_and_stay_at_the_last() {
        let expected = Limits { prompts: 2, prompt_tokens: 4096, decodes: 4, context_tokens: 4000 };
        assert_eq!(Limits::of(&device(), 1), Some(expected));
        assert_eq!(Limits::of(&device(), 2).map(|it| it.decodes), Some(3));
        assert_eq!(Limits::of(&device(), 9).map(|it| it.context_tokens), Some(3000));
        let unknown = Device { decode_requests_max: vec![], ..device() };
        assert_eq!(Limits::of(&unknown, 1), None);
        assert_eq!(Limits::of(&Device { prefill_requests_max: 0, ..device() }, 1), None);
    }
}
