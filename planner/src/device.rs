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
    /// Seconds per layer of a step with `tokens` prompt tokens. Zero tokens take no time; a step
    /// smaller than the first point takes as long as that; past the last point the last slope goes
    /// on unless it falls.
    pub fn prefill_seconds(&self, tokens: f64) -> f64 {
        read(&self.prefill, tokens)
    }

    /// Seconds per layer of a step with `requests` decoding requests, read like
    /// [`Device::prefill_seconds`].
    pub fn decode_seconds(&self, requests: f64) -> f64 {
        read(&self.decode, requests)
    }
}

fn read(curve: &[(f64, f64)], at: f64) -> f64 {
    let next = curve.partition_point(|it| it.0 < at);
    match curve {
        [] => 0.0,
        _ if at <= 0.0 => 0.0,
        [(_, only)] => *only,
        [(_, first), ..] if next == 0 => *first,
        [.., (x0, y0), (x1, y1)] if next == curve.len() => {
            y1 + (at - x1) * ((y1 - y0) / (x1 - x0)).max(0.0)
        }
        _ => {
            let ((x0, y0), (x1, y1)) = (curve[next - 1], curve[next]);
            y0 + (at - x0) * (y1 - y0) / (x1 - x0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_read_between_before_and_past_their_points() {
        let curve = [(2.0, 1.0), (4.0, 3.0), (8.0, 2.0)];
        let read = [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0].map(|at| read(&curve, at));
        assert_eq!(read, [0.0, 1.0, 1.0, 2.0, 3.0, 2.5, 2.0, 2.0]);
        assert_eq!(super::read(&curve[..2], 5.0), 4.0);
        assert_eq!(super::read(&[(2.0, 1.0)], 9.0), 1.0);
        assert_eq!(super::read(&[], 9.0), 0.0);
    }
}
