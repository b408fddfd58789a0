//! How long a step takes on a machine, from its measured curves.
//!
//! A layer of a step reads its weights once and computes all rows of the step:
//!
//! ```text
//! seconds(layer) = max(D(2), P(prompt rows) + D(decode rows)) + attention
//! ```
//!
//! Measured curves of decoding steps begin at two requests; below that a step still reads all the
//! weights, so that no step is shorter than `D(2)`. Published prefill curves go through the origin,
//! and leave out that later parts of a prompt look back at earlier ones: `c` rows after `x` others do
//! `2 · x · hidden / parameters` of the work of their own products on top.
//!
//! Activations that arrive cross the host's memory twice, at rates that the Helix artifact measured
//! (ASPLOS 2025, Thesys-lab/Helix-ASPLOS25).

use thalweg_planner::device::Device;
use thalweg_wire::{CurvePoint, LayerRange, Profile};

use crate::agenda::{Nanos, nanos};

/// Requests from which measured decode curves hold.
const BATCH_LEAST: f64 = 2.0;

/// Seconds per byte of activations received: 4 GB/s, then 5 GB/s.
const RECEIVE_SECONDS_PER_BYTE: f64 = 1.0 / 4e9 + 1.0 / 5e9;

/// How curves are read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Curves {
    /// No step below the time to read the weights, and attention to earlier context.
    #[default]
    Floored,
    /// The curves alone, as the Helix artifact reads them.
    Published,
}

/// Sizes of a model that step times depend on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Weights of one layer.
    pub layer_bytes: f64,
    /// One row between hosts.
    pub activation_bytes: f64,
    /// The head takes as long in a decode step as so many layers.
    pub head_layers: f64,
}

/// What a host's processors do besides computing steps: frames, queues, the API, consensus. Steps take
/// longer by it wherever the same processors do both.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overhead {
    /// Share of the time that is gone whatever is asked, below one.
    pub share: f64,
    /// Seconds for each step: what belongs to it comes and goes together.
    pub step_seconds: f64,
    /// Seconds for each request in a step.
    pub part_seconds: f64,
}

/// Step times of one host.
#[derive(Clone, Debug)]
pub struct Compute {
    device: Device,
    overhead: Overhead,
    curves: Curves,
    activation_bytes: f64,
    head_layers: f64,
    /// Work of one row for one row before it, as a share of the work of its products.
    attention: f64,
    floor_seconds: f64,
}

/// One request's part of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// Which layers it passes.
    pub layers: LayerRange,
    /// Rows.
    pub rows: u32,
    /// Rows before these, for a part of a prompt; `None` for a decode step.
    pub prompt_after: Option<u32>,
    /// Whether the rows came from another host.
    pub received: bool,
    /// Whether a token is sampled.
    pub sampled: bool,
}

/// What all parts do in one layer.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    prompt_rows: f64,
    decode_rows: f64,
    /// Pairs of a prompt's row and an earlier one that no other part of this step has.
    looks_back: f64,
}

impl Compute {
    /// Step times of a machine with these curves.
    pub fn new(device: Device, sizes: Sizes, curves: Curves) -> Self {
        let Sizes { layer_bytes, activation_bytes, head_layers } = sizes;
        // Two bytes a parameter, and two a value.
        let (parameters, hidden) = (layer_bytes / 2.0, activation_bytes / 2.0);
        let floor_seconds = device.decode_seconds(BATCH_LEAST);
        let attention = 2.0 * hidden / parameters;
        let overhead = Overhead::default();
        Self { device, overhead, curves, activation_bytes, head_layers, attention, floor_seconds }
    }

    /// The same machine, with more to do for each step.
    pub fn with_overhead(self, overhead: Overhead) -> Self {
        Self { overhead, ..self }
    }

    /// The curves as a host would measure them: one request alone takes as long as it does here.
    pub fn profile(&self) -> Profile {
        let points = |curve: &[(f64, f64)]| -> Vec<CurvePoint> {
            let point =
                |&(tokens, seconds): &(f64, f64)| CurvePoint { tokens: tokens as u32, seconds };
            curve.iter().filter(|it| it.0 >= 1.0).map(point).collect()
        };
        let mut decode = points(&self.device.decode);
        if decode.first().is_some_and(|it| it.tokens > 1) {
            let seconds = self.layer_seconds(Load { decode_rows: 1.0, ..Load::default() });
            decode.insert(0, CurvePoint { tokens: 1, seconds });
        }
        Profile { prefill: points(&self.device.prefill), decode, head_seconds: 0.0 }
    }

    /// Time of a step of these parts.
    pub fn step(&self, parts: &[Part]) -> Nanos {
        let received = parts.iter().filter(|it| it.received).map(|it| f64::from(it.rows));
        let bytes = received.sum::<f64>() * self.activation_bytes;
        let mut seconds = bytes * RECEIVE_SECONDS_PER_BYTE;
        // Layers between two of these ends have the same load.
        let mut ends: Vec<u32> =
            parts.iter().flat_map(|it| [it.layers.first(), it.layers.end()]).collect();
        ends.sort_unstable();
        ends.dedup();
        for pair in ends.windows(2) {
            let mut load = Load::default();
            parts.iter().filter(|it| it.layers.contains(pair[0])).for_each(|it| load.add(it));
            seconds += f64::from(pair[1] - pair[0]) * self.layer_seconds(load);
        }
        let sampled = parts.iter().filter(|it| it.sampled).count();
        if sampled > 0 && self.head_layers > 0.0 {
            let load = Load { decode_rows: sampled as f64, ..Load::default() };
            seconds += self.head_layers * self.layer_seconds(load);
        }
        let Overhead { share, step_seconds, part_seconds } = self.overhead;
        let besides = step_seconds + parts.len() as f64 * part_seconds;
        nanos((seconds + besides) / (1.0 - share))
    }

    fn layer_seconds(&self, load: Load) -> f64 {
        if load.prompt_rows + load.decode_rows <= 0.0 {
            return 0.0;
        }
        let prefill = self.device.prefill_seconds(load.prompt_rows);
        let plain = prefill + self.device.decode_seconds(load.decode_rows);
        match self.curves {
            Curves::Published => plain,
            Curves::Floored => {
                let earlier = load.looks_back / load.prompt_rows.max(1.0);
                plain.max(self.floor_seconds) + prefill * earlier * self.attention
            }
        }
    }
}

impl Load {
    fn add(&mut self, part: &Part) {
        let rows = f64::from(part.rows);
        match part.prompt_after {
            Some(earlier) => {
                self.prompt_rows += rows;
                self.looks_back += rows * f64::from(earlier);
            }
            None => self.decode_rows += rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        Device {
            prefill: vec![(0.0, 0.0), (100.0, 0.010), (200.0, 0.020)],
            decode: vec![(0.0, 0.0), (2.0, 0.004), (10.0, 0.006)],
            kv_token_layers: vec![0.0; 5],
            prefill_requests_max: 0,
            decode_requests_max: vec![],
        }
    }

    fn compute(curves: Curves) -> Compute {
        // 2000 parameters a layer, rows of 10 values.
        let sizes = Sizes { layer_bytes: 4000.0, activation_bytes: 20.0, head_layers: 0.0 };
        Compute::new(device(), sizes, curves)
    }

    fn part(first: u32, end: u32, rows: u32, prompt_after: Option<u32>) -> Part {
        let layers = LayerRange::new(first, end).expect("not empty");
        Part { layers, rows, prompt_after, received: false, sampled: false }
    }

    #[test]
    fn no_step_is_shorter_than_reading_the_weights() {
        let parts = [part(0, 2, 1, None)];
        assert_eq!(compute(Curves::Floored).step(&parts), nanos(2.0 * 0.004));
        assert_eq!(compute(Curves::Published).step(&parts), nanos(2.0 * 0.002));
        let small = [part(0, 2, 10, Some(0))];
        assert_eq!(compute(Curves::Floored).step(&small), nanos(2.0 * 0.004));
        assert_eq!(compute(Curves::Published).step(&small), nanos(2.0 * 0.001));
    }

    #[test]
    fn hosts_know_that_one_request_is_not_cheaper_than_two() {
        let first = |curves| compute(curves).profile().decode[0];
        assert_eq!(first(Curves::Floored), CurvePoint { tokens: 1, seconds: 0.004 });
        assert_eq!(first(Curves::Published), CurvePoint { tokens: 1, seconds: 0.002 });
        assert_eq!(compute(Curves::Floored).profile().prefill.len(), 2);
    }

    #[test]
    fn prompts_and_decode_steps_add_up_where_they_meet() {
        // Layers 0..1 decode only, 1..3 both, 3..4 the prompt only.
        let parts = [part(0, 3, 2, None), part(1, 4, 100, Some(0))];
        let expected = 0.004 + 2.0 * (0.010 + 0.004) + 0.010;
        assert_eq!(compute(Curves::Floored).step(&parts), nanos(expected));
    }

    #[test]
    fn earlier_context_costs_attention() {
        // 2 · 10 values · 1000 earlier rows / 2000 parameters: ten times the products.
        let parts = [part(0, 1, 100, Some(1000))];
        assert_eq!(compute(Curves::Floored).step(&parts), nanos(0.010 + 0.100));
        assert_eq!(compute(Curves::Published).step(&parts), nanos(0.010));
    }

    #[test]
    fn what_processors_do_besides_makes_steps_longer() {
        let overhead = Overhead { share: 0.2, step_seconds: 0.002, part_seconds: 0.001 };
        let parts = [part(0, 1, 1, None), part(0, 1, 1, None)];
        let busy = compute(Curves::Floored).with_overhead(overhead);
        assert_eq!(busy.step(&parts), nanos((0.004 + 0.002 + 2.0 * 0.001) / 0.8));
    }

    #[test]
    fn rows_received_cross_memory_and_the_head_counts_as_layers() {
        let mut received = part(0, 1, 2, None);
        received.received = true;
        let plain = compute(Curves::Floored).step(&[part(0, 1, 2, None)]);
        assert_eq!(compute(Curves::Floored).step(&[received]) - plain, nanos(40.0 * 0.45e-9));
        let sizes = Sizes { layer_bytes: 4000.0, activation_bytes: 20.0, head_layers: 3.0 };
        let mut last = part(0, 1, 2, None);
        last.sampled = true;
        let with_head = Compute::new(device(), sizes, Curves::Floored).step(&[last]);
        assert_eq!(with_head, nanos(4.0 * 0.004));
    }
}
