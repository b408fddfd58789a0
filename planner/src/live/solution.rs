//! A placement with its flow, its proof and its bottleneck.

use std::fmt;

use thalweg_wire::{Assignment, End, Epoch, HostId, LayerRange, ModelId, Plan, Weight};

use crate::live::capacity::PREFILL_CHUNK_TOKENS;
use crate::live::full::full_flow;
use crate::live::instance::{Instance, Placement};
use crate::live::network::{Hop, Place};
use crate::live::work::{Held, work_flow};
use crate::{Excluded, Problem};

/// How a host's capacity is charged for a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Charge {
    /// All the layers the host holds, as in the Helix paper.
    Full,
    /// The layers the token is computed in.
    Work,
}

impl fmt::Display for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full charge",
            Self::Work => "work charge",
        })
    }
}

/// Something that holds a flow back.
#[derive(Clone, Debug, PartialEq)]
pub enum Limit {
    /// A host computes all the time.
    Host {
        /// Who.
        host: HostId,
        /// Its name.
        name: String,
        /// What it holds.
        layers: LayerRange,
    },
    /// A link is full.
    Link {
        /// Near end and its name.
        from: (HostId, String),
        /// Far end and its name.
        to: (HostId, String),
        /// What the link carries.
        tokens_per_second: f64,
    },
}

/// What holds a plan's flow back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bottleneck {
    /// Each limit with its share: raising it by one per cent raises the flow by `share` per cent.
    /// Shares sum up to one, but for limits too small to name. Largest first.
    pub limits: Vec<(Limit, f64)>,
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.limits.is_empty() {
            return f.write_str("nothing in particular");
        }
        for (at, (limit, share)) in self.limits.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{limit} ({:.0} %)", share * 100.0)?;
        }
        Ok(())
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { name, layers, .. } => {
                write!(f, "host `{name}` computes layers {layers} all the time")
            }
            Self::Link { from, to, tokens_per_second } => {
                let (from, to) = (&from.1, &to.1);
                write!(f, "link `{from}` -> `{to}` is full at {tokens_per_second:.1} tokens/s")
            }
        }
    }
}

/// Where the layers go, and what that is worth.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// The capacity model of `flow`, `weights` and `bottleneck`.
    pub charge: Charge,
    /// Who holds what, in order of first layer.
    pub assignments: Vec<Assignment>,
    /// Hops with positive flow.
    pub weights: Vec<Weight>,
    /// Maximum flow of the placement, in tokens/s (prompt and output tokens together).
    pub flow: f64,
    /// The same under full charge, for comparison.
    pub flow_full_charge: f64,
    /// Full-charge flow left after the worst loss of one host, in tokens/s; zero if some layer is on
    /// one host only.
    pub flow_after_loss: f64,
    /// No placement reaches more, in tokens/s.
    pub bound: f64,
    /// Mean number of hosts a token passes.
    pub hops: f64,
    /// What limits the flow.
    pub bottleneck: Bottleneck,
    /// Hosts that were left out.
    pub excluded: Vec<Excluded>,
    model: ModelId,
    layers: u32,
}

impl Solution {
    /// Who holds what, in order of first layer.
    pub fn placement(&self) -> Vec<(HostId, LayerRange)> {
        self.assignments.iter().map(|it| (it.host, it.layers)).collect()
    }

    /// Share of the bound that the flow does not reach, between 0 and 1.
    pub fn gap(&self) -> f64 {
        if self.bound > 0.0 { (1.0 - self.flow / self.bound).max(0.0) } else { 0.0 }
    }

    /// Numbers the solution, which makes it a plan.
    pub fn into_plan(self, epoch: Epoch, term: u64) -> Plan {
        Plan {
            epoch,
            term,
            model: self.model,
            layers: self.layers,
            bottleneck: self.bottleneck.to_string(),
            assignments: self.assignments,
            weights: self.weights,
            flow: self.flow,
            bound: self.bound,
        }
    }

    /// Writes a judged placement out in the caller's terms.
    pub(crate) fn new(problem: &Problem, instance: &Instance, judged: &Judged, bound: f64) -> Self {
        let placement = &judged.placement;
        let mut assignments: Vec<Assignment> = held(placement)
            .map(|(host, layers)| {
                let node = &instance.hosts[host];
                let kv_tokens = node.capacity.kv_tokens(&instance.model, layers);
                let batch_max = node.capacity.batch_max(&instance.model, layers);
                Assignment {
                    host: node.id,
                    layers,
                    kv_tokens,
                    batch_max,
                    chunk_tokens: PREFILL_CHUNK_TOKENS,
                    step_us: 0,
                    requests_max: 0,
                    micro_batches: 0,
                }
            })
            .collect();
        assignments.sort_by_key(|it| (it.layers.first(), it.layers.end(), it.host));
        let end = |place| match place {
            Place::Source => End::Source,
            Place::Host(host) => End::Host(instance.hosts[host].id),
            Place::Sink => End::Sink,
        };
        let mut weights: Vec<Weight> = judged
            .hops
            .iter()
            .map(|&(hop, tokens_per_second)| Weight {
                from: end(hop.from),
                to: end(hop.to),
                tokens_per_second,
            })
            .collect();
        weights.sort_by_key(|it| (it.from, it.to));
        Self {
            charge: judged.charge,
            assignments,
            weights,
            flow: judged.flow,
            flow_full_charge: full_flow(instance, placement).flow,
            flow_after_loss: after_worst_loss(instance, placement),
            // Rounding of the last digit must not make a plan look better than the bound.
            bound: bound.max(judged.flow),
            hops: judged.mean_hops(),
            bottleneck: judged.bottleneck(instance),
            excluded: instance.excluded.clone(),
            model: problem.shape.model,
            layers: problem.shape.layers,
        }
    }
}

/// A placement with its flow.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub placement: Placement,
    pub charge: Charge,
    pub flow: f64,
    pub hops: Vec<(Hop, f64)>,
    held: Vec<(Held, f64)>,
}

impl Judged {
    /// Computes the flow of a placement: under work charge, or under full charge if the solver
    /// gives up. Time is priced at a flow of `scale` tokens/s.
    pub fn new(instance: &Instance, placement: Placement, scale: f64) -> Self {
        let full = full_flow(instance, &placement);
        if full.flow <= 0.0 {
            let (charge, flow, hops, held) = (Charge::Work, 0.0, Vec::new(), Vec::new());
            return Self { placement, charge, flow, hops, held };
        }
        let (charge, flow, hops, held) = match work_flow(instance, &placement, full.flow, scale) {
            Ok(it) => (Charge::Work, it.flow, it.hops, it.held),
            Err(_) => (Charge::Full, full.flow, full.hops, Vec::new()),
        };
        Self { placement, charge, flow, hops, held }
    }

    fn mean_hops(&self) -> f64 {
        let into_hosts = self.hops.iter().filter(|(hop, _)| hop.to != Place::Sink);
        into_hosts.map(|it| it.1).sum::<f64>() / self.flow
    }

    fn bottleneck(&self, instance: &Instance) -> Bottleneck {
        let name = |host: usize| (instance.hosts[host].id, instance.hosts[host].name.clone());
        let limit = |held| match held {
            Held::Host(index) => {
                let (host, name) = name(index);
                let layers = self.placement[index].expect("an idle host limits nothing");
                Limit::Host { host, name, layers }
            }
            Held::Link(from, to, tokens_per_second) => {
                Limit::Link { from: name(from), to: name(to), tokens_per_second }
            }
        };
        Bottleneck { limits: self.held.iter().map(|&(held, share)| (limit(held), share)).collect() }
    }
}

fn held(placement: &Placement) -> impl Iterator<Item = (usize, LayerRange)> {
    placement.iter().enumerate().filter_map(|(host, range)| Some((host, (*range)?)))
}

/// Least full-charge flow when any one host is lost and the rest stays as it is.
fn after_worst_loss(instance: &Instance, placement: &Placement) -> f64 {
    let without = |(lost, _)| {
        let mut rest = placement.clone();
        rest[lost] = None;
        full_flow(instance, &rest).flow
    };
    held(placement).map(without).fold(f64::INFINITY, f64::min)
}
