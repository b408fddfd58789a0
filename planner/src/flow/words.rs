//! The minimum cut in words, and what one more host would bring.

use std::collections::BTreeMap;
use std::fmt;

use thalweg_wire::LayerRange;

use super::{Flow, Limit, links_bind, value};
use crate::instance::{Instance, Pairs, Placement};

/// Layers whose coverage exceeds the flow by no more than this share are tight.
const TIGHT: f64 = 1e-6;

/// Where links bind, every addition takes an exact flow; on more hosts they are not tried.
const EXACT_HOSTS_MAX: usize = 64;

/// Links or kinds of hosts named in words at most.
const NAMED_MAX: usize = 3;

/// An addition that brings less than this share more is not worth naming.
const GAIN_MIN: f64 = 1e-3;

/// What limits a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Bottleneck {
    /// Stretches of layers, first and one past last, covered no more than the flow. Empty if links
    /// hold the flow back.
    pub layers: Vec<LayerRange>,
    /// Hosts that limit, as "3 T4 in eu-west".
    pub hosts: Vec<String>,
    /// Links and shared capacities that limit, by name.
    pub links: Vec<String>,
    /// What one more host would bring.
    pub addition: Addition,
}

/// What one more host would bring.
#[derive(Clone, Debug, PartialEq)]
pub enum Addition {
    /// Not known: on large clusters whose links bind it would take too long to find out.
    Untried,
    /// Nothing, whatever its type and region.
    Nothing,
    /// The host that would add most.
    Host {
        /// Machine type.
        machine: String,
        /// Region.
        region: String,
        /// What it would hold.
        layers: LayerRange,
        /// Share of the flow that it adds.
        gain: f64,
    },
}

/// Says what holds `flow`, a maximum flow of `placement`, back.
pub fn bottleneck(
    instance: &Instance,
    placement: &[Option<LayerRange>],
    flow: &Flow,
) -> Bottleneck {
    let links = flow.limits.iter().filter_map(|it| link_name(instance, it.0)).collect();
    let hosts: Vec<usize> = flow
        .limits
        .iter()
        .filter_map(|it| if let Limit::Host(host) = it.0 { Some(host) } else { None })
        .collect();
    let tight = tight(instance, placement, flow.value);
    let layers = if hosts.is_empty() { Vec::new() } else { tight };
    Bottleneck {
        layers,
        hosts: grouped(instance, &hosts),
        links,
        addition: addition(instance, placement, flow.value),
    }
}

fn link_name(instance: &Instance, limit: Limit) -> Option<String> {
    let name = |host: usize| &instance.hosts[host].name;
    match limit {
        Limit::Host(_) => None,
        Limit::Link(from, to) => Some(format!("link {} -> {}", name(from), name(to))),
        Limit::Enter(host) => Some(format!("link gateway -> {}", name(host))),
        Limit::Leave(host) => Some(format!("link {} -> gateway", name(host))),
        Limit::Shared(index) => Some(instance.network.shared[index].name.clone()),
    }
}

/// Stretches of layers whose coverage is the flow.
fn tight(instance: &Instance, placement: &[Option<LayerRange>], value: f64) -> Vec<LayerRange> {
    let coverage = instance.coverage(placement);
    let mut found: Vec<LayerRange> = Vec::new();
    for layer in 0..instance.layers {
        if coverage[layer as usize] > value * (1.0 + TIGHT) {
            continue;
        }
        let first = found.pop_if(|it| it.end() == layer).map_or(layer, LayerRange::first);
        found.extend(LayerRange::new(first, layer + 1).ok());
    }
    found
}

/// Counts hosts by machine type and region.
fn grouped(instance: &Instance, hosts: &[usize]) -> Vec<String> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for &host in hosts {
        let region = &instance.regions[instance.hosts[host].region];
        *counts.entry((instance.class(host).name.as_str(), region)).or_default() += 1;
    }
    let several = instance.regions.len() > 1;
    let named = counts.into_iter().map(|((machine, region), count)| {
        let place = if several { format!(" in {region}") } else { String::new() };
        format!("{count} {machine}{place}")
    });
    named.collect()
}

/// Finds the kind of host, a twin of one that is there, that would add most.
fn addition(instance: &Instance, placement: &[Option<LayerRange>], flow: f64) -> Addition {
    let bound = links_bind(instance);
    if flow <= 0.0 || (bound && instance.hosts.len() > EXACT_HOSTS_MAX) {
        return Addition::Untried;
    }
    let mut kinds: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for (at, host) in instance.hosts.iter().enumerate() {
        kinds.entry((host.class, host.region)).or_insert(at);
    }
    let (mut best, mut most) = (Addition::Nothing, GAIN_MIN);
    for &twin in kinds.values() {
        let gained = if bound {
            by_flow(instance, placement, twin)
        } else {
            by_coverage(instance, placement, twin)
        };
        let Some((layers, reached)) = gained else { continue };
        let gain = reached / flow - 1.0;
        if gain > most {
            most = gain;
            let machine = instance.class(twin).name.clone();
            let region = instance.regions[instance.hosts[twin].region].clone();
            best = Addition::Host { machine, region, layers, gain };
        }
    }
    best
}

/// The range at which a twin of `twin` adds most, where coverage is the flow.
fn by_coverage(
    instance: &Instance,
    placement: &[Option<LayerRange>],
    twin: usize,
) -> Option<(LayerRange, f64)> {
    let coverage = instance.coverage(placement);
    let layers = coverage.len();
    // Least coverage before each layer, and from it on.
    let mut before = vec![f64::INFINITY; layers + 1];
    let mut after = vec![f64::INFINITY; layers + 1];
    for at in 0..layers {
        before[at + 1] = before[at].min(coverage[at]);
        after[layers - 1 - at] = after[layers - at].min(coverage[layers - 1 - at]);
    }
    let mut best: Option<(LayerRange, f64)> = None;
    for first in 0..instance.layers {
        let mut inside = f64::INFINITY;
        for end in first + 1..=instance.layers {
            inside = inside.min(coverage[end as usize - 1]);
            let Ok(range) = LayerRange::new(first, end) else { continue };
            let rate = instance.rate(twin, range);
            if rate <= 0.0 {
                continue;
            }
            let outside = before[first as usize].min(after[end as usize]);
            let reached = outside.min(inside + rate);
            if best.is_none_or(|it| reached > it.1) {
                best = Some((range, reached));
            }
        }
    }
    best
}

/// The same by exact flows: ranges of several lengths around the layers that are covered least.
fn by_flow(
    instance: &Instance,
    placement: &[Option<LayerRange>],
    twin: usize,
) -> Option<(LayerRange, f64)> {
    let larger = with_twin(instance, twin);
    let mut tried: Placement = placement.to_vec();
    tried.push(None);
    let mut best: Option<(LayerRange, f64)> = None;
    let most = instance.class(twin).rates.count_max().min(instance.layers);
    let mut count = most;
    while count > 0 {
        for first in 0..=instance.layers - count {
            let Ok(range) = LayerRange::new(first, first + count) else { continue };
            tried[placement.len()] = Some(range);
            let reached = value(&larger, &tried);
            if best.is_none_or(|it| reached > it.1) {
                best = Some((range, reached));
            }
        }
        count /= 2;
    }
    best
}

/// The instance with one more host, linked as `twin` is.
fn with_twin(instance: &Instance, twin: usize) -> Instance {
    let mut larger = instance.clone();
    let hosts = instance.hosts.len();
    larger.hosts.push(instance.hosts[twin].clone());
    larger.network.enter.push(instance.network.enter[twin]);
    larger.network.leave.push(instance.network.leave[twin]);
    if let Pairs::Each(_) = instance.network.pairs {
        let old = |at: usize| if at == hosts { twin } else { at };
        let pairs = (0..=hosts).flat_map(|from| (0..=hosts).map(move |to| (from, to)));
        let wires = pairs.map(|(from, to)| {
            let (near, far) = (old(from), old(to));
            (from != to && near != far).then(|| instance.wire(near, far)).flatten()
        });
        larger.network.pairs = Pairs::Each(wires.collect());
    }
    larger
}

/// The first few names, and how many `kind` more there are.
fn named(names: &[String], kind: &str) -> Vec<String> {
    let mut some: Vec<String> = names.iter().take(NAMED_MAX).cloned().collect();
    if names.len() > NAMED_MAX {
        some.push(format!("{} more {kind}", names.len() - NAMED_MAX));
    }
    some
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tight: u32 = self.layers.iter().map(|it| it.count()).sum();
        let mut limits = named(&self.hosts, "kinds of hosts");
        if let Some(first) = self.layers.first() {
            let more = tight - first.count();
            let others = if more > 0 { format!(" and {more} more") } else { String::new() };
            let (from, to) = (first.first(), first.end() - 1);
            let layers =
                if from == to { format!("layer {from}") } else { format!("layers {from}-{to}") };
            limits = vec![format!("{layers}{others} on {}", limits.join(", "))];
        }
        limits.extend(named(&self.links, "links"));
        if limits.is_empty() {
            return f.write_str("nothing limits the plan: it carries nothing");
        }
        write!(f, "{} limit the plan", limits.join(", "))?;
        match &self.addition {
            Addition::Host { machine, region, layers, gain } => {
                let (from, to, percent) = (layers.first(), layers.end() - 1, gain * 100.0);
                write!(
                    f,
                    "; one more {machine} in {region} on layers {from}-{to} adds {percent:.1} %"
                )
            }
            Addition::Nothing if tight > 1 => {
                write!(f, "; one more host adds nothing, {tight} layers are tight")
            }
            Addition::Nothing => f.write_str("; one more host adds nothing"),
            Addition::Untried => Ok(()),
        }
    }
}
