//! What a run is given.

use thalweg_planner::cluster::Model;
use thalweg_planner::device::Device;
use thalweg_wire::LayerRange;

/// Everything that decides a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Sizes of the model.
    pub model: Model,
    /// Machine types: curves and limits by number of layers.
    pub devices: Vec<Device>,
    /// Hosts with their layers.
    pub hosts: Vec<Host>,
    /// Directed links. Their order decides between equals.
    pub links: Vec<Link>,
    /// The gateway's network card, each way.
    pub gateway_nic_bytes_per_second: f64,
    /// Who decides where queries go.
    pub policy: Policy,
    /// What comes in.
    pub work: Work,
    /// What is measured.
    pub window: Window,
    /// Seed of whatever is drawn during the run.
    pub seed: u64,
}

/// A host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Host {
    /// Index into [`Scenario::devices`].
    pub device: usize,
    /// Layers it holds.
    pub layers: LayerRange,
    /// KV memory, in token-layers.
    pub kv_token_layers: u64,
    /// Network card, each way.
    pub nic_bytes_per_second: f64,
    /// Rate at which it loads its layers before the run.
    pub load_bytes_per_second: f64,
}

/// One end of a link.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum End {
    /// Where queries come from and tokens go to.
    Gateway,
    /// A host, by index.
    Host(u32),
}

/// A directed link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Sender.
    pub from: End,
    /// Receiver.
    pub to: End,
    /// Rate.
    pub bytes_per_second: f64,
    /// Delay of the last byte.
    pub latency_seconds: f64,
}

/// Who decides where queries go.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    /// By the plan's flow, with an estimate of KV memory.
    Helix(Helix),
    /// To whoever was fast lately (SWARM parallelism, appendix C).
    Swarm,
    /// Over any free link.
    Random,
    /// To the host with the fewest in front of its first layer.
    ShortestQueue,
}

/// The plan, and how full it may get.
#[derive(Clone, Debug, PartialEq)]
pub struct Helix {
    /// Tokens/s of each link of the scenario.
    pub flows: Vec<f64>,
    /// A host takes a query if at most this share of its KV memory is then expected to be in use.
    pub kv_share_max: f64,
    /// Share of the mean answer of 240 tokens that each query is expected to add to its prompt.
    pub answer_share: f64,
    /// What becomes of a query that nobody may take.
    pub when_full: WhenFull,
}

/// What becomes of a query that nobody may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WhenFull {
    /// It is dropped and counted.
    Reject,
    /// The run ends with an error.
    Stop,
}

impl Helix {
    /// As the artifact runs offline.
    pub fn offline(flows: Vec<f64>) -> Self {
        Self { flows, kv_share_max: 0.85, answer_share: 1.0, when_full: WhenFull::Reject }
    }

    /// As the artifact runs online.
    pub fn online(flows: Vec<f64>) -> Self {
        Self { flows, kv_share_max: 0.9, answer_share: 0.6, when_full: WhenFull::Stop }
    }
}

/// What comes in.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// So many queries, a tenth of a second apart, then more as the policy sees fit: Helix one after
    /// a prompt or a query ends if some KV memory is free in every layer, the others one after a
    /// query ends. The run ends with the window.
    Offline {
        /// Lengths of queries.
        lengths: Lengths,
        /// Queries at the start.
        at_once: u32,
    },
    /// Queries of given times; the run ends when all have ended.
    Online {
        /// In order of time.
        arrivals: Vec<Arrival>,
    },
}

/// Prompt and answer of a query, in tokens.
pub type Length = (u32, u32);

/// Lengths of queries that come in when there is room.
#[derive(Clone, Debug, PartialEq)]
pub enum Lengths {
    /// One after the other.
    Recorded(Vec<Length>),
    /// Drawn with replacement.
    Drawn(Vec<Length>),
}

/// A query of a given time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// On the run's clock, which begins when hosts begin to load; not before
    /// [`Scenario::loaded_seconds`].
    pub at_seconds: f64,
    /// Prompt and answer.
    pub length: Length,
}

/// What is measured, from the time when all hosts have loaded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Seconds that are not.
    pub warm_up_seconds: f64,
    /// Seconds that are.
    pub seconds: f64,
}

impl Window {
    /// The artifact's offline runs.
    pub const OFFLINE: Self = Self { warm_up_seconds: 60.0, seconds: 600.0 };
    /// The artifact's online runs.
    pub const ONLINE: Self = Self { warm_up_seconds: 0.0, seconds: 1800.0 };
}

impl Scenario {
    /// When queries may begin: a second after the slowest host has loaded, in whole seconds.
    pub fn loaded_seconds(&self) -> f64 {
        let load = |it: &Host| {
            f64::from(it.layers.count()) * self.model.layer_bytes / it.load_bytes_per_second
        };
        self.hosts.iter().map(load).fold(0.0, f64::max).ceil() + 1.0
    }

    /// Window in seconds of the run's clock, both ends inside.
    pub(super) fn measured(&self) -> (f64, f64) {
        let start = self.loaded_seconds() + self.window.warm_up_seconds;
        (start, start + self.window.seconds)
    }

    /// What a token weighs on a link.
    pub(super) fn token_bytes(&self, link: &Link) -> f64 {
        match (link.from, link.to) {
            (End::Host(_), End::Host(_)) => self.model.token_bytes + self.model.activation_bytes,
            _ => self.model.token_bytes,
        }
    }

    /// Layers that the receiver of a link computes of what comes in there, counted from its first;
    /// none at the gateway.
    pub(super) fn entry(&self, link: &Link) -> Option<std::ops::Range<u32>> {
        let End::Host(to) = link.to else { return None };
        let to = self.hosts[to as usize].layers;
        Some(self.next_layer(link.from).max(to.first()) - to.first()..to.count())
    }

    /// The layer to be computed next of what comes from there.
    pub(super) fn next_layer(&self, from: End) -> u32 {
        match from {
            End::Gateway => 0,
            End::Host(host) => self.hosts[host as usize].layers.end(),
        }
    }
}

impl Lengths {
    pub(super) fn list(&self) -> &[Length] {
        match self {
            Self::Recorded(list) | Self::Drawn(list) => list,
        }
    }
}
