//! What came of a run, in numbers that can be written down.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::agenda::{Nanos, seconds};

/// What came of a run. Latencies are of what happened in the window, counts of requests are of the
/// whole run.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Outcome {
    /// How requests were scheduled and routed.
    pub policy: String,
    /// The cluster.
    pub cluster: String,
    /// The model.
    pub model: String,
    /// How the layers were placed.
    pub placement: String,
    /// Seed of the workload.
    pub seed: u64,
    /// Begin and end of the window, in seconds.
    pub window_seconds: (f64, f64),
    /// Tokens after the first of each answer, per second.
    pub decode_tokens_per_second: f64,
    /// Tokens of prompts that were answered for the first time, per second.
    pub prompt_tokens_per_second: f64,
    /// Answers within the targets that ended in the window, per second.
    pub goodput_requests_per_second: f64,
    /// From the arrival of a request to its first token.
    pub ttft_mean_seconds: f64,
    /// Half are quicker.
    pub ttft_p50_seconds: f64,
    /// 95 of 100 are quicker.
    pub ttft_p95_seconds: f64,
    /// From one token of an answer to the next.
    pub tpot_mean_seconds: f64,
    /// Half are quicker.
    pub tpot_p50_seconds: f64,
    /// 95 of 100 are quicker.
    pub tpot_p95_seconds: f64,
    /// From the arrival to the start on the route that led to the first token.
    pub queue_mean_seconds: f64,
    /// Half are quicker.
    pub queue_p50_seconds: f64,
    /// 95 of 100 are quicker.
    pub queue_p95_seconds: f64,
    /// Requests asked.
    pub arrived: u64,
    /// Requests that were given a route.
    pub accepted: u64,
    /// Requests turned away.
    pub rejected: u64,
    /// Requests answered to the end.
    pub finished: u64,
    /// Requests whose gateway died.
    pub cut_off: u64,
    /// Requests not over at the end: on a route.
    pub running: u64,
    /// Requests not over at the end: waiting.
    pub waiting: u64,
    /// Requests that nobody knows any more; never above zero.
    pub lost: u64,
    /// Routes that requests were given after their first.
    pub replays: u64,
    /// Tokens computed again for that.
    pub replayed_tokens: u64,
    /// Requests that stages gave up because KV ran out.
    pub preempted: u64,
    /// Refusals of stages, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Happenings in the world.
    pub events: u64,
    /// Virtual time.
    pub simulated_seconds: f64,
    /// Hosts, in the order of the cluster file.
    pub hosts: Vec<HostOutcome>,
    /// Links that carried something.
    pub links: Vec<LinkOutcome>,
    /// The run over time.
    pub timeline: Timeline,
}

/// What one host did in the window.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct HostOutcome {
    /// Its name.
    pub name: String,
    /// Its machine type.
    pub machine: String,
    /// First layer and last layer + 1, at the end; absent for a host that holds nothing.
    pub layers: Option<(u32, u32)>,
    /// Share of the time with a step running.
    pub utilisation: f64,
    /// Steps begun.
    pub steps: u64,
    /// Decode rows of a step with any: mean.
    pub batch_mean: f64,
    /// The same, median.
    pub batch_p50: u32,
    /// The same, largest.
    pub batch_max: u32,
    /// Prompt rows of a step, mean over all steps.
    pub prompt_rows_mean: f64,
    /// KV capacity in tokens of all its layers.
    pub kv_tokens: u64,
    /// Share of the KV in use, mean over the looks in the window.
    pub kv_used_mean: f64,
    /// The same, largest.
    pub kv_used_max: f64,
}

/// What one link carried since the start.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct LinkOutcome {
    /// Near end.
    pub from: String,
    /// Far end.
    pub to: String,
    /// Its bandwidth at the end.
    pub bytes_per_second: f64,
    /// Share of the time with something to send.
    pub busy: f64,
    /// Bytes, by class: control, token, decode, prefill, KV, weights.
    pub bytes: [f64; 6],
    /// Frames, by class.
    pub frames: [u64; 6],
}

/// The run over time: one entry for each look.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Timeline {
    /// When.
    pub seconds: Vec<f64>,
    /// Tokens after the first of each answer, per second since the look before.
    pub decode_tokens_per_second: Vec<f64>,
    /// Requests on a route.
    pub running: Vec<usize>,
    /// Requests that wait.
    pub waiting: Vec<usize>,
    /// By host: busy share since the look before.
    pub busy: Vec<Vec<f64>>,
    /// By host: share of KV in use.
    pub kv_used: Vec<Vec<f64>>,
}

impl Outcome {
    /// As JSON: the same run gives the same bytes.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers, strings and lists have a text")
    }
}

/// Mean, median and 95th percentile in seconds; zeros without values.
pub(crate) fn spread(mut values: Vec<Nanos>) -> [f64; 3] {
    if values.is_empty() {
        return [0.0; 3];
    }
    values.sort_unstable();
    let mean = values.iter().map(|&it| seconds(it)).sum::<f64>() / values.len() as f64;
    [mean, seconds(rank(&values, 0.5)), seconds(rank(&values, 0.95))]
}

/// The smallest value that a share of all do not exceed.
fn rank(sorted: &[Nanos], share: f64) -> Nanos {
    let at = (share * sorted.len() as f64).ceil() as usize;
    sorted[at.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_of_nearest_rank() {
        let values = (1..=100).rev().map(|it| it * 1_000_000_000).collect();
        assert_eq!(spread(values), [50.5, 50.0, 95.0]);
        assert_eq!(spread(vec![2_000_000_000]), [2.0; 3]);
        assert_eq!(spread(Vec::new()), [0.0; 3]);
    }
}
