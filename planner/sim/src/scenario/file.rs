//! The words of a scenario file. `examples/scenarios/README.md` explains them to operators.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A scenario as it is written down. Unknown keys are refused.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ScenarioFile {
    /// The cluster file, beside this one.
    pub cluster: String,
    /// The model; the cluster file's own if absent.
    pub model: Option<String>,
    /// A placement method, or a file with a placement (it ends in `.json`).
    #[serde(default = "coverage")]
    pub placement: String,
    /// How stages and gateways schedule.
    #[serde(default = "thalweg")]
    pub policy: String,
    /// Seeds lengths, arrivals and contents.
    #[serde(default)]
    pub seed: u64,
    /// What is measured: from, to. The run ends with it.
    pub window_seconds: (f64, f64),
    /// Which answers are good ones.
    #[serde(default)]
    pub targets: TargetsEntry,
    /// Hosts at which requests come in; the cluster file's gateway if absent.
    pub gateways: Option<Vec<String>>,
    /// How step times follow from curves.
    #[serde(default)]
    pub curves: CurvesEntry,
    /// What hosts do besides computing, by name.
    #[serde(default)]
    pub overheads: BTreeMap<String, OverheadEntry>,
    /// What is asked.
    pub workload: WorkloadEntry,
    /// Bounds of the plan.
    #[serde(default)]
    pub bounds: BoundsEntry,
    /// Limits of hosts and gateways.
    #[serde(default)]
    pub limits: LimitsEntry,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Vec<FaultEntry>,
    /// What is done about it.
    #[serde(default)]
    pub replan: ReplanEntry,
}

fn coverage() -> String {
    "coverage".to_owned()
}

fn thalweg() -> String {
    "thalweg".to_owned()
}

/// See [`Curves`](crate::compute::Curves).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum CurvesEntry {
    /// No step is quicker than reading the weights, and earlier context costs attention.
    #[default]
    Floored,
    /// As published.
    Published,
}

/// See [`Overhead`](crate::compute::Overhead).
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct OverheadEntry {
    /// Share of the time that is gone whatever is asked.
    pub share: f64,
    /// Milliseconds for each step.
    pub step_ms: f64,
    /// Milliseconds for each request in a step.
    pub part_ms: f64,
}

/// Times that a good answer keeps.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TargetsEntry {
    /// To the first token, at most; 5 if absent.
    pub ttft_seconds: Option<f64>,
    /// From one token to the next at most, on average over an answer; 1 if absent.
    pub tpot_seconds: Option<f64>,
}

/// What is asked.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct WorkloadEntry {
    /// When.
    pub arrivals: ArrivalsEntry,
    /// How much.
    #[serde(default)]
    pub lengths: LengthsEntry,
    /// Prompts that begin alike.
    pub prefixes: Option<PrefixesEntry>,
    /// Prompts that are longer for a while.
    pub longer: Option<LongerEntry>,
}

/// When requests come; see [`Arrivals`](crate::workload::Arrivals).
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ArrivalsEntry {
    /// Each on its own.
    Poisson {
        /// Mean rate.
        requests_per_second: f64,
    },
    /// More for a while, again and again.
    Bursts {
        /// Rate between bursts.
        requests_per_second: f64,
        /// From one burst to the next.
        every_seconds: f64,
        /// Length of a burst.
        lasting_seconds: f64,
        /// How much higher the rate is then.
        factor: f64,
    },
    /// Day and night, at one gateway after the other.
    Diurnal {
        /// Mean rate of all gateways.
        requests_per_second: f64,
        /// A day.
        period_seconds: f64,
        /// Swing as a share of the mean.
        depth: f64,
    },
    /// As recorded: a file with one time in seconds a line, ascending.
    Recorded {
        /// The file, beside this one.
        file: String,
    },
    /// Users who ask again once they were answered.
    Users {
        /// How many.
        count: u32,
        /// So many begin by themselves, all if absent; every prompt computed lets another begin.
        start: Option<u32>,
        /// The first requests of those are spread over this time.
        #[serde(default)]
        ramp_seconds: f64,
        /// From an answer to the next request.
        #[serde(default)]
        pause_seconds: f64,
    },
    /// Always more to do.
    Backlog {
        /// Requests in flight at most.
        in_flight_max: u32,
        /// Requests that wait at each gateway.
        #[serde(default = "one")]
        waiting: u32,
    },
}

const fn one() -> u32 {
    1
}

/// How much is asked; see [`Lengths`](crate::workload::Lengths).
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LengthsEntry {
    /// As in the conversations of the Azure LLM inference trace 2023.
    #[default]
    AzureConversation,
    /// All alike.
    Fixed {
        /// Tokens of a prompt.
        prompt_tokens: u32,
        /// Tokens of an answer.
        output_tokens: u32,
    },
    /// As recorded: lines whose last two numbers are tokens of prompt and answer.
    Recorded {
        /// The file, beside this one.
        file: String,
    },
}

/// See [`Prefixes`](crate::workload::Prefixes).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PrefixesEntry {
    /// Share of requests that begin with a system prompt.
    pub share: f64,
    /// How many system prompts there are.
    pub count: u32,
    /// Tokens of each.
    pub tokens: u32,
}

/// See [`Longer`](crate::workload::Longer).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct LongerEntry {
    /// How much longer.
    pub factor: f64,
    /// From when.
    pub from_seconds: f64,
    /// Until when.
    pub to_seconds: f64,
}

/// Bounds of the plan; what is absent is left to the machines' own limits.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct BoundsEntry {
    /// Decoding requests of a step at most.
    pub batch_max: Option<u32>,
    /// Prompt tokens of a step at most.
    pub chunk_tokens: Option<u32>,
    /// Time of a step that prompts are cut to.
    pub step_ms: Option<f64>,
    /// Requests in flight through a host at most.
    pub requests_max: Option<u32>,
    /// Groups in which requests decode; as many as a route has stages if absent.
    pub micro_batches: Option<u32>,
}

/// Limits of hosts and gateways; what is absent is as on a real host, and without end for users and
/// backlogs, who wait as long as it takes.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct LimitsEntry {
    /// Longest sequence.
    pub context_tokens: Option<u32>,
    /// Requests that wait at a gateway at most.
    pub waiting_max: Option<u32>,
    /// How long one waits for a route.
    pub patience_seconds: Option<f64>,
    /// Silence after which a request is replayed.
    pub stall_seconds: Option<f64>,
    /// Between two heartbeats.
    pub heartbeat_seconds: Option<f64>,
    /// Silence after which a host gets no new work.
    pub suspect_seconds: Option<f64>,
    /// Silence after which a host is given up.
    pub dead_seconds: Option<f64>,
    /// Between two points of the timeline.
    pub look_seconds: Option<f64>,
}

/// What goes wrong: a time, and one of the others.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct FaultEntry {
    /// When.
    pub at_seconds: f64,
    /// This host is gone.
    pub host_dies: Option<String>,
    /// This host appears.
    pub host_joins: Option<String>,
    /// Links are slower.
    pub links: Option<LinksEntry>,
    /// A shared capacity is smaller.
    pub shared: Option<SharedFault>,
}

/// Links that are slower: `between` for both directions, `from` and `to` for one. Names are of two
/// hosts or of two regions.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct LinksEntry {
    /// Both ends.
    pub between: Option<(String, String)>,
    /// Near end.
    pub from: Option<String>,
    /// Far end.
    pub to: Option<String>,
    /// Share of the bandwidth that is left.
    pub keeps: Option<f64>,
    /// In its place: share of packets lost. What is lost is sent again, and counts for nothing.
    pub loss: Option<f64>,
}

/// A shared capacity that is smaller.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct SharedFault {
    /// Its name in the cluster file.
    pub name: String,
    /// Share of it that is left.
    pub keeps: f64,
}

/// What is done when something goes wrong.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ReplanEntry {
    /// How.
    pub method: ReplanMethod,
    /// From the moment a change is known to a plan that hosts know of.
    pub delay_seconds: f64,
}

/// How a changed cluster is planned anew.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum ReplanMethod {
    /// New weights, and layers moved where these are not enough.
    #[default]
    Repair,
    /// Nothing: gateways go round what is lost.
    Nothing,
}

impl Default for ReplanEntry {
    /// A repair within a second.
    fn default() -> Self {
        Self { method: ReplanMethod::Repair, delay_seconds: 1.0 }
    }
}
