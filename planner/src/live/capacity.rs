//! What a host sustains with a range of layers: `T_i(k)` from measured curves and memory.

use thalweg_wire::{Bytes, CurvePoint, LayerRange, ModelShape, Profile};

use crate::{Exclusion, Workload};

/// Tokens of a prompt that a stage computes in one step. Longer prompts are cut.
pub(crate) const PREFILL_CHUNK_TOKENS: u32 = 128;

/// Requests a decode step is assumed to hold at most.
pub(crate) const BATCH_REQUESTS_MAX: u32 = 256;

/// A decode step may always hold this many requests: on every device measured, eight rows cost
/// little more than one, so a bound below would save nothing.
const BATCH_REQUESTS_FLOOR: u32 = 8;

/// The bound on a decode step is this many times the batch expected in it, so that a stage that
/// fell behind can catch up.
const BATCH_SLACK: u32 = 2;

/// KV memory is handed out in blocks of this many tokens.
const KV_BLOCK_TOKENS: u64 = 16;

/// Times per token and layer outside of this range, in seconds, are measuring errors: a picosecond
/// is beyond any memory, and nobody serves with a machine that takes ten seconds.
const PLAUSIBLE_SECONDS: std::ops::RangeInclusive<f64> = 1e-12..=10.0;

/// Sizes of the model, and of the request it is planned for.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// Number of layers.
    pub layers: u32,
    /// Bytes of all layers before each one, and of all at the end.
    before: Vec<u128>,
    embedding: u64,
    head: u64,
    /// KV of one token in one layer.
    kv_token_layer: u64,
    /// KV tokens a host must at least have room for: one typical request, in whole blocks.
    reserve_tokens: u64,
    /// KV of one typical request in all layers together.
    request_kv: u64,
    /// KV tokens beyond this are of no use: the largest batch, each request at full context.
    kv_tokens_max: u64,
}

impl Model {
    /// Reads sizes. `shape` has one size per layer.
    pub fn new(shape: &ModelShape, workload: Workload) -> Self {
        let mut before = vec![0_u128];
        for &Bytes(size) in &shape.layer_bytes {
            before.push(before[before.len() - 1] + u128::from(size));
        }
        let tokens = u64::from(workload.prompt_tokens) + u64::from(workload.output_tokens);
        let tokens = tokens.min(u64::from(shape.context_tokens));
        let reserve_tokens = tokens.next_multiple_of(KV_BLOCK_TOKENS);
        let kv_token_layer = shape.kv_bytes_per_token_layer.0;
        let request_kv =
            kv_token_layer.saturating_mul(u64::from(shape.layers)).saturating_mul(tokens);
        Self {
            layers: shape.layers,
            before,
            embedding: shape.embedding_bytes.0,
            head: shape.head_bytes.0,
            kv_token_layer,
            reserve_tokens,
            request_kv,
            kv_tokens_max: u64::from(shape.context_tokens) * u64::from(BATCH_REQUESTS_MAX),
        }
    }

    /// Weights of `range`, with embedding and head where they belong to it.
    pub fn weights(&self, range: LayerRange) -> u64 {
        let layers = self.before[range.end() as usize] - self.before[range.first() as usize];
        let embedding = if range.first() == 0 { self.embedding } else { 0 };
        let head = if range.end() == self.layers { self.head } else { 0 };
        saturated(layers).saturating_add(embedding).saturating_add(head)
    }

    /// Weights of the lightest `count` consecutive layers, without embedding and head.
    pub fn lightest(&self, count: u32) -> u64 {
        let windows = self.before.windows(count as usize + 1);
        saturated(windows.map(|it| it[count as usize] - it[0]).min().unwrap_or(0))
    }

    /// Memory that a host needs for `range`: weights, and the KV of one typical request. The largest
    /// number of bytes stands for all that is beyond it, and fits nowhere.
    pub fn need(&self, range: LayerRange) -> u64 {
        let kv = self.kv_token_layer.saturating_mul(u64::from(range.count()));
        self.weights(range).saturating_add(kv.saturating_mul(self.reserve_tokens))
    }

    /// The whole model as a range.
    pub fn whole(&self) -> LayerRange {
        LayerRange::new(0, self.layers).expect("a model has a layer")
    }
}

/// What one host can do with the model.
#[derive(Clone, Debug)]
pub(crate) struct Capacity {
    memory: u64,
    /// Times when decode steps hold `index + 1` requests. They never grow.
    paces: Vec<Pace>,
}

/// What a token takes of a host's time.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Seconds in each layer.
    layer: f64,
    /// Seconds in norm, head and sampling, for the last stage.
    head: f64,
}

impl Capacity {
    /// Reads a profile.
    ///
    /// Prompt tokens cost what a prefill chunk costs, output tokens what a decode step costs,
    /// shared by its requests; a token of the workload costs their mean. Between measured points
    /// times are interpolated, before the first a step costs as much as the first, and past the last
    /// no further gain is assumed. A larger step is never taken to be faster than a smaller one. The
    /// head was measured with one request; like a layer it reads its weights once a step, so that it
    /// is taken to gain from more requests as a layer does.
    pub fn new(memory: Bytes, profile: &Profile, workload: Workload) -> Result<Self, Exclusion> {
        profile.check()?;
        let prompt = f64::from(workload.prompt_tokens);
        let output = f64::from(workload.output_tokens);
        let chunk = workload.prompt_tokens.clamp(1, PREFILL_CHUNK_TOKENS);
        let prefill = step_seconds(&profile.prefill, chunk) / f64::from(chunk);
        let alone = step_seconds(&profile.decode, 1);
        let mut paces = Vec::new();
        let mut least = Pace { layer: f64::INFINITY, head: f64::INFINITY };
        for requests in 1..=BATCH_REQUESTS_MAX {
            let decode = step_seconds(&profile.decode, requests) / f64::from(requests);
            let layer = (prompt * prefill + output * decode) / (prompt + output);
            let head = profile.head_seconds * (decode / alone) * output / (prompt + output);
            if !PLAUSIBLE_SECONDS.contains(&layer) {
                return Err(Exclusion::Implausible { seconds: layer });
            }
            if head.is_nan() || head > *PLAUSIBLE_SECONDS.end() {
                return Err(Exclusion::Implausible { seconds: profile.head_seconds });
            }
            least = Pace { layer: least.layer.min(layer), head: least.head.min(head) };
            paces.push(least);
        }
        Ok(Self { memory: memory.0, paces })
    }

    /// Memory for weights and KV together.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Whether weights and the KV of one typical request fit.
    pub fn holds(&self, model: &Model, range: LayerRange) -> bool {
        let need = model.need(range);
        need <= self.memory && need < u64::MAX
    }

    /// Requests that are here at a time on the mean, when `weights` leave the rest of memory to KV.
    ///
    /// The host's KV holds `r` typical requests in its `k` layers; of these about `k / L` are here
    /// at a time and the rest at other stages. That is the host's KV memory over the KV of a request
    /// in all `L` layers, which only depends on the memory left beside the weights.
    fn present(&self, model: &Model, weights: u64) -> f64 {
        let kv = self.memory.saturating_sub(weights);
        if model.request_kv == 0 {
            return f64::from(BATCH_REQUESTS_MAX);
        }
        (kv as f64 / model.request_kv as f64).min(f64::from(BATCH_REQUESTS_MAX))
    }

    /// Whole requests that share a decode step.
    fn batch(&self, model: &Model, weights: u64) -> u32 {
        // Between 1 and a few hundred: nothing is lost but the fraction.
        self.present(model, weights).max(1.0) as u32
    }

    /// Times of a host that is never without a request, and the share of its time that it is not:
    /// below one if its KV holds too little to keep it busy.
    fn pace(&self, model: &Model, weights: u64) -> (Pace, f64) {
        let pace = self.paces[self.batch(model, weights) as usize - 1];
        // KV of one request in one layer is the least that any range leaves.
        let least = 1.0 / f64::from(model.layers);
        (pace, self.present(model, weights).clamp(least, 1.0))
    }

    /// Seconds that one token takes of the host's time in each layer, if it holds `range`.
    pub fn layer_seconds(&self, model: &Model, range: LayerRange) -> f64 {
        let (pace, present) = self.pace(model, model.weights(range));
        pace.layer / present
    }

    /// Least seconds per token and layer that `count` layers anywhere can give, `None` if no such
    /// range fits.
    pub fn least_layer_seconds(&self, model: &Model, count: u32) -> Option<f64> {
        let weights = model.lightest(count);
        let kv = model.kv_token_layer.saturating_mul(u64::from(count));
        let need = weights.saturating_add(kv.saturating_mul(model.reserve_tokens));
        let fits = need <= self.memory && need < u64::MAX;
        let (pace, present) = self.pace(model, weights);
        fits.then_some(pace.layer / present)
    }

    /// Most seconds per token and layer while there is work: decode steps of one request.
    pub fn most_layer_seconds(&self) -> f64 {
        self.paces[0].layer
    }

    /// The least that the head costs at any batch, in layers.
    pub fn head_layers(&self) -> f64 {
        self.paces.iter().map(|it| it.head / it.layer).fold(f64::INFINITY, f64::min)
    }

    /// Seconds that a token keeps a holder of `range` busy when it enters at layer `entry`.
    pub fn busy_seconds(&self, model: &Model, range: LayerRange, entry: u32) -> f64 {
        let (pace, present) = self.pace(model, model.weights(range));
        let head = if range.end() == model.layers { pace.head } else { 0.0 };
        (f64::from(range.end() - entry) * pace.layer + head) / present
    }

    /// `T(k)`: tokens/s when every token is charged the whole `range`.
    pub fn tokens_per_second(&self, model: &Model, range: LayerRange) -> f64 {
        1.0 / self.busy_seconds(model, range, range.first())
    }

    /// KV capacity of a holder of `range`, in tokens, whole blocks.
    pub fn kv_tokens(&self, model: &Model, range: LayerRange) -> u64 {
        let free = self.memory.saturating_sub(model.weights(range));
        let token = model.kv_token_layer.saturating_mul(u64::from(range.count())).max(1);
        let tokens = (free / token).min(model.kv_tokens_max);
        tokens - tokens % KV_BLOCK_TOKENS
    }

    /// Requests whose decode steps may run together on a holder of `range` (pacing).
    pub fn batch_max(&self, model: &Model, range: LayerRange) -> u32 {
        let expected = self.batch(model, model.weights(range));
        (expected * BATCH_SLACK).clamp(BATCH_REQUESTS_FLOOR, BATCH_REQUESTS_MAX)
    }
}

/// No host has more memory than 64 bits count.
fn saturated(bytes: u128) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Time of a step of `tokens` in one layer, read off a checked, non-empty curve.
fn step_seconds(curve: &[CurvePoint], tokens: u32) -> f64 {
    let mut below: Option<CurvePoint> = None;
    for point in curve {
        let seconds = below.map_or(point.seconds, |it| it.seconds.max(point.seconds));
        if point.tokens >= tokens {
            return match below {
                None => seconds,
                Some(low) => {
                    let share =
                        f64::from(tokens - low.tokens) / f64::from(point.tokens - low.tokens);
                    low.seconds + share * (seconds - low.seconds)
                }
            };
        }
        below = Some(CurvePoint { tokens: point.tokens, seconds });
    }
    let last = below.expect("a checked curve has a point");
    last.seconds * f64::from(tokens) / f64::from(last.tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(u32, f64)]) -> Vec<CurvePoint> {
        points.iter().map(|&(tokens, seconds)| CurvePoint { tokens, seconds }).collect()
    }

    #[test]
    fn curves_are_read_between_before_and_past_their_points() {
        let points = curve(&[(2, 1.0), (4, 2.0), (8, 1.5)]);
        let seconds: Vec<f64> = [1, 2, 3, 4, 6, 8, 16]
            .into_iter()
            .map(|tokens| step_seconds(&points, tokens))
            .collect();
        assert_eq!(seconds, [1.0, 1.0, 1.5, 2.0, 2.0, 2.0, 4.0]);
    }

    #[test]
    fn a_token_costs_the_mean_of_prompt_and_output() {
        let profile = Profile {
            prefill: curve(&[(100, 1.0)]),
            decode: curve(&[(1, 0.5), (2, 0.5)]),
            head_seconds: 0.4,
        };
        let workload = Workload { prompt_tokens: 100, output_tokens: 100 };
        let capacity = Capacity::new(Bytes(0), &profile, workload).expect("a good profile");
        // (100 · 1/100 + 100 · 0.5) / 200, and with two requests to a step (1 + 25) / 200.
        // The head takes 0.4 s for every second token, or for two of them at once.
        for (index, layer, head) in [(0, 0.255, 0.2), (1, 0.13, 0.1), (255, 0.13, 0.1)] {
            assert!((capacity.paces[index].layer - layer).abs() < 1e-12);
            assert!((capacity.paces[index].head - head).abs() < 1e-12);
        }
    }

    #[test]
    fn a_host_with_too_little_kv_is_idle_part_of_the_time() {
        let profile = Profile {
            prefill: curve(&[(1, 0.1)]),
            decode: curve(&[(1, 0.1), (2, 0.1)]),
            head_seconds: 0.0,
        };
        let workload = Workload { prompt_tokens: 0, output_tokens: 16 };
        let shape = ModelShape {
            model: thalweg_wire::ModelId([0; 32]),
            name: String::new(),
            layers: 4,
            hidden: 1,
            layer_bytes: vec![Bytes(1000); 4],
            embedding_bytes: Bytes(0),
            head_bytes: Bytes(0),
            kv_bytes_per_token_layer: Bytes(10),
            context_tokens: 100,
        };
        let model = Model::new(&shape, workload);
        let range = LayerRange::new(1, 3).expect("not empty");
        // A request takes 160 bytes a layer. With room for one, two of four stages are elsewhere.
        for (requests, expected) in [(1, 2.5), (2, 5.0), (3, 5.0), (4, 10.0)] {
            let memory = Bytes(2000 + requests * 320);
            let capacity = Capacity::new(memory, &profile, workload).expect("a good profile");
            assert!(capacity.holds(&model, range));
            let flow = capacity.tokens_per_second(&model, range);
            assert!((flow - expected).abs() < 1e-9, "{requests} requests: {flow}");
        }
    }
}
