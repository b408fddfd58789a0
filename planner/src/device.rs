//! What is known of a machine type besides its rates: measured step times and KV memory.

/// Step times and KV memory of one machine type for one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Seconds per layer of a step with so many prompt tokens; `(tokens, seconds)`, ascending.
    pub prefill: Vec<(f64, f64)>,
    /// Seconds per layer of a step with so many decoding requests; `(requests, seconds)`, ascending.
    pub decode: Vec<(f64, f64)>,
    /// KV capacity in token-layers when holding `k` layers: `[k]`.
    pub kv_token_layers: Vec<f64>,
    /// Prompts in one step at most; zero where unknown.
    pub prefill_requests_max: u32,
    /// Decoding requests in one step at most, when holding `k` layers: `[k]`; empty where unknown.
    pub decode_requests_max: Vec<u32>,
}

impl Device {
    /// Seconds per layer of a step with `tokens` prompt tokens. Zero tokens take no time; past the
    /// last point the last slope goes on.
    pub fn prefill_seconds(&self, tokens: f64) -> f64 {
        read(&self.prefill, tokens)
    }

    /// Seconds per layer of a step with `requests` decoding requests.
    pub fn decode_seconds(&self, requests: f64) -> f64 {
        read(&self.decode, requests)
    }
}

/// Reads a curve between its points; the first two and the last two points give the ends.
fn read(curve: &[(f64, f64)], at: f64) -> f64 {
    if at <= 0.0 {
        return 0.0;
    }
    let next = curve.partition_point(|it| it.0 < at).clamp(1, curve.len().max(2) - 1);
    match (curve.get(next - 1), curve.get(next)) {
        (Some(&(x0, y0)), Some(&(x1, y1))) => (y0 + (at - x0) * (y1 - y0) / (x1 - x0)).max(0.0),
        (Some(&(_, y)), None) => y,
        (None, _) => 0.0,
    }
}
