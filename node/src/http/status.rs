//! What `GET /api/v1/status` says: the cluster as one host sees it.

use serde::{Deserialize, Serialize};
use thalweg_wire::{End, HostId, ModelShape, Plan, Profile};

/// The cluster, as the answering host sees it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ClusterStatus {
    /// Name of the cluster.
    pub cluster: String,
    /// Host that answers.
    pub host: String,
    /// Version of its program.
    pub version: String,
    /// Model served.
    pub model: String,
    /// Layers of the model.
    pub layers: u32,
    /// Its sizes; `None` from a server that does not tell.
    pub shape: Option<ModelShape>,
    /// Longest context served, in tokens.
    pub context_tokens: u32,
    /// How far the cluster is.
    pub phase: Phase,
    /// How far this host is with loading, while it loads.
    pub loading: Option<Loading>,
    /// Number of the active plan; zero before the first.
    pub epoch: u64,
    /// Host that plans, if one is elected.
    pub leader: Option<String>,
    /// Term of the election.
    pub term: u64,
    /// Hosts by name.
    pub hosts: Vec<HostStatus>,
    /// Measured directed links.
    pub links: Vec<LinkStatus>,
    /// The active plan.
    pub plan: Option<PlanStatus>,
    /// Hops over which the answering host's gateway has sent requests, all plans together.
    pub hops: Vec<HopStatus>,
    /// Why there is no plan, where one was sought and none fits.
    pub infeasible: Option<String>,
}

/// How far a cluster is on its way to the first token.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nobody plans yet.
    #[default]
    Electing,
    /// Hosts measure themselves and their links; the planner waits for them.
    Measuring,
    /// A plan waits for its hosts to load.
    Loading,
    /// A plan is in effect.
    Serving,
}

/// How far a host is with loading.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Loading {
    /// Parts loaded: layers, embedding, head.
    pub done: usize,
    /// Parts to load.
    pub of: usize,
}

/// The requests a gateway has sent over a hop.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct HopStatus {
    /// Where it starts: a host, or `source`.
    pub from: String,
    /// Where it ends: a host, or `sink`.
    pub to: String,
    /// How many requests took it.
    pub requests: u64,
}

/// One host.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct HostStatus {
    /// Name in its certificate.
    pub name: String,
    /// Region in its certificate.
    pub region: String,
    /// Where other hosts reach it.
    pub address: String,
    /// Whether the answering host hears it.
    pub state: HostState,
    /// Memory for weights and KV, in bytes.
    pub memory_bytes: u64,
    /// Kind of machine.
    pub machine: String,
    /// Time of one layer for one token of decode, as the host measured it, in seconds.
    pub decode_seconds_per_layer: Option<f64>,
    /// All that it measured of itself.
    pub profile: Profile,
    /// KV tokens its shard could still take; `None` where unknown.
    pub kv_free_tokens: Option<u64>,
    /// Requests its shard works on; `None` where unknown.
    pub requests: Option<u32>,
}

/// Whether a host is heard.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HostState {
    /// It is.
    Alive,
    /// Not lately.
    Suspect,
    /// Not for long, or never.
    #[default]
    Dead,
}

/// One directed link.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct LinkStatus {
    /// Near end.
    pub from: String,
    /// Far end.
    pub to: String,
    /// Round trip of a small frame, in microseconds.
    pub rtt_us: u64,
    /// Rate of bulk data, in bits per second.
    pub bandwidth_bits_per_s: u64,
}

/// The active plan.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct PlanStatus {
    /// Number of the plan.
    pub epoch: u64,
    /// Maximum flow of the placement, in tokens/s.
    pub flow_tokens_per_s: f64,
    /// No placement reaches more, in tokens/s.
    pub bound_tokens_per_s: f64,
    /// What limits the flow.
    pub bottleneck: String,
    /// Who holds what, by first layer.
    pub placement: Vec<PlacedStatus>,
    /// Hops with traffic.
    pub weights: Vec<WeightStatus>,
}

/// The traffic a hop should carry.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct WeightStatus {
    /// Where it starts: a host, or `source`.
    pub from: String,
    /// Where it ends: a host, or `sink`.
    pub to: String,
    /// Its share of the flow.
    pub tokens_per_s: f64,
}

/// One host's part of the plan.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct PlacedStatus {
    /// Who.
    pub host: String,
    /// First layer held.
    pub first: u32,
    /// One past the last layer held.
    pub end: u32,
    /// KV capacity, in tokens, of each of these layers.
    pub kv_tokens: u64,
    /// Requests whose decode steps run together at most.
    pub batch_max: u32,
    /// Groups in which requests decode; zero takes the number of stages.
    pub micro_batches: u32,
    /// Prompt tokens of a step at most.
    pub chunk_tokens: u32,
    /// Time of a step to which prompts are cut, in microseconds; zero sets none.
    pub step_us: u32,
    /// Requests in flight through the host at most; zero leaves that to KV.
    pub requests_max: u32,
}

impl PlanStatus {
    /// Describes `plan`; `name` knows what hosts are called.
    pub fn new(plan: &Plan, name: impl Fn(HostId) -> String) -> Self {
        let placed = plan.assignments.iter().map(|it| PlacedStatus {
            host: name(it.host),
            first: it.layers.first(),
            end: it.layers.end(),
            kv_tokens: it.kv_tokens,
            batch_max: it.batch_max,
            micro_batches: it.micro_batches,
            chunk_tokens: it.chunk_tokens,
            step_us: it.step_us,
            requests_max: it.requests_max,
        });
        let weights = plan.weights.iter().map(|it| WeightStatus {
            from: end_name(it.from, &name),
            to: end_name(it.to, &name),
            tokens_per_s: it.tokens_per_second,
        });
        Self {
            epoch: plan.epoch.0,
            flow_tokens_per_s: plan.flow,
            bound_tokens_per_s: plan.bound,
            bottleneck: plan.bottleneck.clone(),
            placement: placed.collect(),
            weights: weights.collect(),
        }
    }
}

/// Returns what an end of a hop is called.
pub fn end_name(end: End, name: impl Fn(HostId) -> String) -> String {
    match end {
        End::Source => "source".to_owned(),
        End::Host(host) => name(host),
        End::Sink => "sink".to_owned(),
    }
}
