//! A plan as it is printed and verified: placement, weights, proof.

use serde::{Deserialize, Serialize};
use thalweg_wire::LayerRange;

use crate::Charge;
use crate::bound::Proof;
use crate::bound::network::NetworkProof;
use crate::flow::{End, Flow, Hop, Limit, bottleneck};
use crate::frontier::Candidate;
use crate::instance::{Instance, Placement};
use crate::sensitivity::Kept;

/// Name of the gateways as the near end of a weight.
pub const SOURCE: &str = "source";
/// Name of the gateways as the far end of a weight.
pub const SINK: &str = "sink";

/// A plan with everything needed to follow it and to check it. Rates are tokens/s, prompt and output
/// tokens together.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// How the placement was found.
    pub method: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the model.
    pub model: String,
    /// Whether a token may enter a host in the middle of its range.
    pub partial_inference: bool,
    /// How hosts are charged for a token.
    pub charge: ChargeName,
    /// Maximum flow of the placement.
    pub flow: f64,
    /// No placement reaches more.
    pub bound: f64,
    /// `(bound - flow) / bound`.
    pub gap: f64,
    /// Maximum flow of the same placement under the other charge.
    pub flow_other_charge: f64,
    /// Time it took, from the parsed file to this plan.
    pub seconds: f64,
    /// Seed of the search.
    pub seed: u64,
    /// What limits the flow, in words.
    pub bottleneck: String,
    /// The same for machines.
    pub limits: Vec<Limiting>,
    /// Mean number of hosts that a token passes.
    pub depth: f64,
    /// The loss of one host that hurts most; absent for a plan without hosts.
    pub worst_loss: Option<Loss>,
    /// Who holds what, in the order of the cluster file.
    pub placement: Vec<Held>,
    /// Hops that carry something.
    pub weights: Vec<Weight>,
    /// Why the bound holds, whatever the network.
    pub proof: Proof,
    /// Why a lower bound holds on this network, where it is known to.
    pub network_proof: Option<NetworkProof>,
    /// What the operator should know of.
    pub notes: Vec<String>,
    /// For an objective other than the flow: what this placement and those beside it serve, the best
    /// first, which is this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frontier: Vec<Served>,
    /// What errors of measurement, slow links and losses leave, if that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sensitivity: Vec<Kept>,
}

/// What a placement serves, by estimate.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Served {
    /// Its maximum flow, prompt and output tokens together.
    pub flow: f64,
    /// Output tokens per second.
    pub tokens_per_second: f64,
    /// Time to first token.
    pub ttft_seconds: f64,
    /// Time per output token.
    pub tpot_seconds: f64,
    /// Requests in flight: the limit to admit.
    pub in_flight: f64,
    /// All hosts that hold something, in dollars.
    pub price_per_hour: f64,
}

/// How hosts are charged.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargeName {
    /// All layers the host holds, as in the Helix paper.
    FullCharge,
    /// The layers it computes of a token.
    WorkCharge,
}

/// Something that holds the flow back.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Limiting {
    /// A host computes, or its network card sends or receives, all the time.
    Host {
        /// Its name.
        host: String,
    },
    /// A link is full.
    Link {
        /// Near end: a host or [`SOURCE`].
        from: String,
        /// Far end: a host or [`SINK`].
        to: String,
    },
    /// A shared capacity is full.
    Shared {
        /// What the operator calls it.
        name: String,
    },
}

/// What one host holds.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Its name.
    pub host: String,
    /// First layer.
    pub first: u32,
    /// Last layer + 1.
    pub end: u32,
    /// Prompt tokens of a step at most, if the plan sets them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_tokens: Option<u32>,
    /// Groups in which its requests decode, if the plan sets them: a step takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batches: Option<u32>,
}

/// What one hop carries.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Weight {
    /// Near end: a host or [`SOURCE`].
    pub from: String,
    /// Far end: a host or [`SINK`].
    pub to: String,
    /// What it carries.
    pub tokens_per_second: f64,
    /// Layers that tokens on this hop have behind them.
    pub position: u32,
}

/// What the loss of one host leaves.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// Who.
    pub host: String,
    /// Flow left by new weights alone.
    pub flow_kept: f64,
    /// The same as a share of the flow.
    pub share: f64,
}

/// What a report says besides what follows from placement and flow.
#[derive(Clone, Debug, PartialEq)]
pub struct Remarks {
    /// How the placement was found.
    pub method: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the model.
    pub model: String,
    /// Maximum flow under the other charge.
    pub flow_other_charge: f64,
    /// Time it took.
    pub seconds: f64,
    /// Seed of the search.
    pub seed: u64,
    /// The loss of one host that hurts most.
    pub worst_loss: Option<Loss>,
    /// A lower bound that holds on this network.
    pub network_proof: Option<NetworkProof>,
    /// What the operator should know of.
    pub notes: Vec<String>,
}

impl Report {
    /// Puts a plan together. `flow` is a maximum flow of `placement`.
    pub fn new(
        instance: &Instance,
        placement: &Placement,
        flow: &Flow,
        proof: Proof,
        remarks: Remarks,
    ) -> Self {
        // Where the bound is reached, the two sums differ in their last bits.
        let network = remarks.network_proof.as_ref().map_or(f64::INFINITY, |it| it.value);
        let bound = proof.value.min(network).max(flow.value);
        Self {
            method: remarks.method,
            cluster: remarks.cluster,
            model: remarks.model,
            partial_inference: instance.partial,
            charge: flow.charge.into(),
            flow: flow.value,
            bound,
            gap: gap(flow.value, bound),
            flow_other_charge: remarks.flow_other_charge,
            seconds: remarks.seconds,
            seed: remarks.seed,
            bottleneck: bottleneck(instance, placement, flow).to_string(),
            limits: flow.limits.iter().map(|it| limiting(instance, it.0)).collect(),
            depth: flow.depth(),
            worst_loss: remarks.worst_loss,
            placement: held(instance, placement),
            weights: flow.hops.iter().map(|it| weight(instance, it)).collect(),
            proof,
            network_proof: remarks.network_proof,
            notes: remarks.notes,
            frontier: Vec::new(),
            sensitivity: Vec::new(),
        }
    }

    /// The placement by host index; `None` if it names a host that the instance lacks, or an empty
    /// range.
    pub fn placement_of(&self, instance: &Instance) -> Option<Placement> {
        let mut placement = vec![None; instance.hosts.len()];
        for held in &self.placement {
            let host = instance.hosts.iter().position(|it| it.name == held.host)?;
            placement[host] = Some(LayerRange::new(held.first, held.end).ok()?);
        }
        Some(placement)
    }
}

/// `(bound - flow) / bound`; zero where nothing can flow.
pub fn gap(flow: f64, bound: f64) -> f64 {
    if bound > 0.0 { (bound - flow) / bound } else { 0.0 }
}

impl From<&Candidate> for Served {
    fn from(it: &Candidate) -> Self {
        Self {
            flow: it.flow,
            tokens_per_second: it.score.tokens_per_second,
            ttft_seconds: it.score.ttft_seconds,
            tpot_seconds: it.score.tpot_seconds,
            in_flight: it.score.in_flight,
            price_per_hour: it.score.price_per_hour,
        }
    }
}

impl From<Charge> for ChargeName {
    fn from(charge: Charge) -> Self {
        match charge {
            Charge::Full => Self::FullCharge,
            Charge::Work => Self::WorkCharge,
        }
    }
}

impl From<ChargeName> for Charge {
    fn from(charge: ChargeName) -> Self {
        match charge {
            ChargeName::FullCharge => Self::Full,
            ChargeName::WorkCharge => Self::Work,
        }
    }
}

fn held(instance: &Instance, placement: &Placement) -> Vec<Held> {
    let pairs = instance.hosts.iter().zip(placement);
    pairs
        .filter_map(|(host, range)| {
            let range = (*range)?;
            let (host, first, end) = (host.name.clone(), range.first(), range.end());
            Some(Held { host, first, end, chunk_tokens: None, micro_batches: None })
        })
        .collect()
}

fn weight(instance: &Instance, hop: &Hop) -> Weight {
    let name = |end: End| match end {
        End::Source => SOURCE.to_owned(),
        End::Host(host) => instance.hosts[host].name.clone(),
        End::Sink => SINK.to_owned(),
    };
    Weight {
        from: name(hop.from),
        to: name(hop.to),
        tokens_per_second: hop.tokens_per_second,
        position: hop.position,
    }
}

fn limiting(instance: &Instance, limit: Limit) -> Limiting {
    let name = |host: usize| instance.hosts[host].name.clone();
    match limit {
        Limit::Host(host) => Limiting::Host { host: name(host) },
        Limit::Link(from, to) => Limiting::Link { from: name(from), to: name(to) },
        Limit::Enter(host) => Limiting::Link { from: SOURCE.to_owned(), to: name(host) },
        Limit::Leave(host) => Limiting::Link { from: name(host), to: SINK.to_owned() },
        Limit::Shared(at) => Limiting::Shared { name: instance.network.shared[at].name.clone() },
    }
}
