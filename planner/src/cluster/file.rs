//! The words of a cluster file. `examples/clusters/README.md` explains them to operators.
//!
//! Amounts are bytes, rates bytes per second, times seconds (curves: milliseconds), prices dollars.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A cluster as its operator describes it. Unknown keys are refused.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterFile {
    /// The model to serve unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Hosts, in the order that plans show them.
    #[serde(default)]
    pub hosts: Vec<HostEntry>,
    /// What is to be served.
    #[serde(default, skip_serializing_if = "is_default")]
    pub workload: Demand,
    /// What joins the hosts.
    #[serde(default)]
    pub network: NetworkEntry,
    /// What may run where.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy: Policy,
    /// Dollars per hour by machine type.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prices: BTreeMap<String, f64>,
    /// Regions with more to them than a name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub regions: BTreeMap<String, RegionEntry>,
    /// Providers whose egress is limited.
    #[serde(default, skip_serializing_if = "is_default")]
    pub providers: BTreeMap<String, ProviderEntry>,
    /// Machine types beyond the catalogue, or in place of one of its own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub machines: BTreeMap<String, Machine>,
    /// Models beyond the catalogue, or in place of one of its own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub models: BTreeMap<String, Model>,
    /// What machine types do with models.
    #[serde(default, skip_serializing_if = "is_default")]
    pub profiles: Vec<ProfileEntry>,
}

/// A host, or several alike.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HostEntry {
    /// Unique name; several hosts get `-0`, `-1` and so on appended.
    pub name: String,
    /// Machine type.
    pub machine: String,
    /// How many; one host of exactly this name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Where it stands; all hosts without one stand together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Memory if it differs from the machine type's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<f64>,
    /// Network card if it differs from the machine type's; each way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nic_bytes_per_second: Option<f64>,
    /// Price if it differs from the machine type's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_per_hour: Option<f64>,
}

/// What is to be served.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Demand {
    /// Mean length of a prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<f64>,
    /// Mean length of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<f64>,
    /// In place of means: prompt tokens, output tokens, and how often the pair occurs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lengths: Vec<(f64, f64, f64)>,
    /// Time to first token wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_seconds: Option<f64>,
    /// Time per output token wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpot_seconds: Option<f64>,
}

/// What joins the hosts, from the general to the particular: the last that applies counts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkEntry {
    /// Between any two hosts, and between each host and the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Line>,
    /// Between hosts of one region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_region: Option<Line>,
    /// Between each host and the gateway, where requests enter and answers leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Line>,
    /// Region that the gateway stands in; its links are then those of a host there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_region: Option<String>,
    /// Between regions: each pair of hosts has a link of its own like this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub region_links: Vec<LinkEntry>,
    /// Between two hosts, or a host and `gateway`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkEntry>,
    /// Capacities that the links between regions draw on together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<SharedEntry>,
}

/// Rate and delay of a link.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Rate each way; zero means no link.
    pub bytes_per_second: f64,
    /// One-way delay.
    #[serde(default)]
    pub latency_seconds: f64,
}

/// A link with its ends: `between` for both directions, `from` and `to` for one.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LinkEntry {
    /// Both ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between: Option<(String, String)>,
    /// Near end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Far end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Rate each way; zero means no link.
    pub bytes_per_second: f64,
    /// One-way delay.
    #[serde(default)]
    pub latency_seconds: f64,
}

/// A capacity that links between regions draw on together.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SharedEntry {
    /// What the operator calls it.
    pub name: String,
    /// All links together.
    pub bytes_per_second: f64,
    /// Ordered pairs of regions; name both orders if both draw on the same capacity.
    pub carries: Vec<(String, String)>,
}

/// What may run where.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// If given, only these hosts (or groups) may hold the first layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_stage_hosts: Option<Vec<String>>,
    /// If given, only these hosts (or groups) may hold the last layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_stage_hosts: Option<Vec<String>>,
    /// Hosts (or groups) that hold nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_hosts: Vec<String>,
    /// By model, the only regions that may hold it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allowed_regions: BTreeMap<String, Vec<String>>,
}

/// A region.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RegionEntry {
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// All that leaves the region for others, together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_bytes_per_second: Option<f64>,
}

/// A provider.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderEntry {
    /// All that leaves the provider's regions for regions of others, together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_bytes_per_second: Option<f64>,
}

/// A machine type.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Memory for weights, KV and working space.
    pub memory_bytes: f64,
    /// Network card, each way.
    pub nic_bytes_per_second: f64,
    /// Rate at which weights can be loaded.
    pub load_bytes_per_second: f64,
}

/// A model.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Number of layers.
    pub layers: u32,
    /// Weights of one layer.
    pub layer_bytes: f64,
    /// What a hop carries per token.
    pub activation_bytes: f64,
    /// What gateways and hosts exchange per token.
    pub token_bytes: f64,
    /// KV of one token in one layer.
    pub kv_bytes_per_token_layer: f64,
    /// Weights that come with the first layer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub embedding_bytes: f64,
    /// Weights that come with the last layer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub head_bytes: f64,
    /// The head takes as long in a decode step as so many layers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub head_layers: f64,
}

/// What a machine type does with a model: curves and KV memory, or the resulting rates.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileEntry {
    /// The model.
    pub model: String,
    /// The machine type.
    pub machine: String,
    /// In place of rates from curves: tokens/s when holding one layer, two, and so on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens_per_second: Vec<f64>,
    /// The same where the first layer is among them; follows from memory if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_tokens_per_second: Vec<f64>,
    /// The same where the last layer is among them; follows from memory and head if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_tokens_per_second: Vec<f64>,
    /// The same where both are; follows from memory and head if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub both_tokens_per_second: Vec<f64>,
    /// Layers that such a machine holds where there is room to spare; all it can if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers_typical: Option<u32>,
    /// Where the closed-loop estimate starts; only its ratio to other machine types matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_layer_tokens_per_second: Option<f64>,
    /// Prompts in one step at most.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prefill_requests_max: u32,
    /// Decoding requests in one step at most, when holding one layer, two, and so on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decode_requests_max: Vec<u32>,
    /// KV blocks of 16 tokens in every layer held, when holding one layer, two, and so on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kv_blocks: Vec<f64>,
    /// Prompt tokens in a step, and its milliseconds per layer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefill_ms: Vec<(f64, f64)>,
    /// Decoding requests in a step, and its milliseconds per layer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decode_ms: Vec<(f64, f64)>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
