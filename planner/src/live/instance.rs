//! A problem made ready for computing: checked, in a fixed order, with indices instead of names.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_wire::{DType, HostId, LayerRange};

use crate::live::capacity::{Capacity, Model};
use crate::{Excluded, Exclusion, Problem, ProblemError};

/// Bits of one value of the activations that travel between hosts.
const ACTIVATION_VALUE_BITS: u64 = 8 * DType::F32.bytes() as u64;

/// Share of the flow that one hop must earn: measured curves are not more exact than this.
const HOP_PRICE: f64 = 0.002;

/// A link of this one-way delay, in microseconds, doubles the price of its hop.
const HOP_DELAY_US: f64 = 10_000.0;

/// Price of a hop at most, so that a plan over slow links is still worth having.
const HOP_PRICE_MAX: f64 = 0.02;

/// A link that carries less than a token in three hours is no link.
const LINK_TOKENS_PER_SECOND_MIN: f64 = 1e-4;

/// A usable host.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub id: HostId,
    pub name: String,
    pub region: String,
    pub capacity: Capacity,
}

/// A usable link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire {
    /// Rows of activations it carries in a second.
    pub tokens_per_second: f64,
    /// Share of the flow that a hop over it must earn.
    pub price: f64,
}

/// What each host holds, by index.
pub(crate) type Placement = Vec<Option<LayerRange>>;

/// The problem in indices. Hosts are in order of id, so that the caller's order does not matter.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub model: Model,
    pub hosts: Vec<Node>,
    pub excluded: Vec<Excluded>,
    wires: Vec<Option<Wire>>,
}

impl Instance {
    /// Checks `problem`; hosts that cannot be true are left out.
    pub fn new(problem: &Problem) -> Result<Self, ProblemError> {
        check(problem)?;
        let mut hosts = Vec::new();
        let mut excluded = Vec::new();
        let mut seen = BTreeSet::new();
        for host in &problem.hosts {
            let capacity = if seen.insert(host.id) {
                Capacity::new(host.memory, &host.profile, problem.workload)
            } else {
                Err(Exclusion::Duplicate)
            };
            let (id, name) = (host.id, host.name.clone());
            match capacity {
                Ok(capacity) => {
                    hosts.push(Node { id, name, region: host.region.clone(), capacity });
                }
                Err(exclusion) => excluded.push(Excluded { host: id, name, exclusion }),
            }
        }
        hosts.sort_by_key(|it| it.id);
        excluded.sort_by_key(|it| it.host);
        let wires = wires(problem, &hosts);
        Ok(Self { model: Model::new(&problem.shape, problem.workload), hosts, excluded, wires })
    }

    /// The link from one host to another, if there is one.
    pub fn wire(&self, from: usize, to: usize) -> Option<Wire> {
        self.wires[from * self.hosts.len() + to]
    }

    /// Price of a hop that leaves the gateway.
    pub fn entry_price(&self) -> f64 {
        HOP_PRICE
    }

    /// The same cluster with a perfect link between every pair.
    pub fn with_perfect_links(&self) -> Self {
        let perfect = Wire { tokens_per_second: f64::INFINITY, price: HOP_PRICE };
        let wires = vec![Some(perfect); self.wires.len()];
        Self { wires, ..self.clone() }
    }

    /// Whether any missing or slow link could hold back a flow.
    pub fn links_bind(&self) -> bool {
        let single = |it: &Node| Some(1.0 / it.capacity.least_layer_seconds(&self.model, 1)?);
        let fastest: f64 = self.hosts.iter().filter_map(single).fold(0.0, f64::max);
        let all = 0..self.hosts.len();
        let slow = |from, to| {
            from != to && self.wire(from, to).is_none_or(|it| it.tokens_per_second < fastest)
        };
        all.clone().any(|from| all.clone().any(|to| slow(from, to)))
    }

    /// Whether `host` can hold `range`.
    pub fn holds(&self, host: usize, range: LayerRange) -> bool {
        self.hosts[host].capacity.holds(&self.model, range)
    }

    /// `T(k)` of `host` holding `range`.
    pub fn tokens_per_second(&self, host: usize, range: LayerRange) -> f64 {
        self.hosts[host].capacity.tokens_per_second(&self.model, range)
    }
}

fn check(problem: &Problem) -> Result<(), ProblemError> {
    let shape = &problem.shape;
    if shape.layers == 0 || shape.layers > Problem::LAYERS_MAX {
        return Err(ProblemError::Layers { layers: shape.layers });
    }
    if shape.layer_bytes.len() != shape.layers as usize {
        let sizes = shape.layer_bytes.len();
        return Err(ProblemError::LayerSizes { layers: shape.layers, sizes });
    }
    if shape.hidden == 0 {
        return Err(ProblemError::NoActivations);
    }
    if shape.context_tokens == 0 {
        return Err(ProblemError::NoContext);
    }
    if problem.workload.prompt_tokens == 0 && problem.workload.output_tokens == 0 {
        return Err(ProblemError::NoWork);
    }
    if problem.hosts.len() > Problem::HOSTS_MAX {
        return Err(ProblemError::TooManyHosts { hosts: problem.hosts.len() });
    }
    Ok(())
}

/// The table of links, row by near end.
fn wires(problem: &Problem, hosts: &[Node]) -> Vec<Option<Wire>> {
    let index: BTreeMap<HostId, usize> =
        hosts.iter().enumerate().map(|(at, host)| (host.id, at)).collect();
    let row_bits = ACTIVATION_VALUE_BITS * u64::from(problem.shape.hidden);
    let mut wires = vec![None; hosts.len() * hosts.len()];
    for link in &problem.links {
        let (Some(&from), Some(&to)) = (index.get(&link.from), index.get(&link.to)) else {
            continue;
        };
        let delay = link.rtt_us as f64 / 2.0 / HOP_DELAY_US;
        let wire = Wire {
            tokens_per_second: link.bandwidth.0 as f64 / row_bits as f64,
            price: (HOP_PRICE * (1.0 + delay)).min(HOP_PRICE_MAX),
        };
        let usable = from != to && wire.tokens_per_second >= LINK_TOKENS_PER_SECOND_MIN;
        wires[from * hosts.len() + to] = usable.then_some(wire);
    }
    wires
}
