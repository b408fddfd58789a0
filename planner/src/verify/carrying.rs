//! Weights: legal hops that conserve tokens and fit everything they go through.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_wire::LayerRange;

use super::placing::indices;
use super::{Finding, TOLERANCE, exceeds};
use crate::Charge;
use crate::instance::Instance;
use crate::report::{Report, SINK, SOURCE, Weight};

/// What goes through one host, in tokens/s.
#[derive(Clone, Copy, Default)]
struct Passage {
    received: f64,
    passed: f64,
    /// Through its network card, from and to other hosts.
    card_in: f64,
    card_out: f64,
    /// Layers computed per second.
    work: f64,
}

/// Ends of a hop; `None` is the gateways.
type Ends = (Option<usize>, Option<usize>);

/// Checks the weights of a placement that holds.
pub(super) fn check(
    report: &Report,
    instance: &Instance,
    placement: &[Option<LayerRange>],
    findings: &mut Vec<Finding>,
) {
    let names = indices(instance);
    let mut passages = vec![Passage::default(); instance.hosts.len()];
    let mut links: BTreeMap<Ends, f64> = BTreeMap::new();
    let mut entered = 0.0;
    for weight in &report.weights {
        let rate = weight.tokens_per_second;
        if !(rate >= 0.0 && rate.is_finite()) {
            let what = format!("weight {} -> {}", weight.from, weight.to);
            findings.push(Finding::Figure { what, value: rate });
            continue;
        }
        let Some(ends) = ends(weight, &names, findings) else { continue };
        if let Err(problem) = legal(weight, ends, instance, placement) {
            let (from, to) = (weight.from.clone(), weight.to.clone());
            findings.push(Finding::Hop { from, to, position: weight.position, problem });
            continue;
        }
        *links.entry(ends).or_default() += rate;
        if let Some(to) = ends.1 {
            let behind = placement[to].map_or(0, |it| it.end() - weight.position);
            passages[to].received += rate;
            passages[to].work += rate * f64::from(behind);
            passages[to].card_in += if ends.0.is_some() { rate } else { 0.0 };
        }
        match ends.0 {
            Some(from) => {
                passages[from].passed += rate;
                passages[from].card_out += if ends.1.is_some() { rate } else { 0.0 };
            }
            None => entered += rate,
        }
    }
    // A claim that is no number is carried by nothing.
    let carried = (entered - report.flow).abs() <= TOLERANCE * report.flow;
    if !carried {
        findings.push(Finding::Value { claimed: report.flow, carried: entered });
    }
    hosts(report.charge.into(), instance, placement, &passages, findings);
    wires(instance, &links, findings);
    shared(instance, &links, findings);
}

/// Reads the names of a weight. A host may be called like the gateways: the position tells.
fn ends(
    weight: &Weight,
    names: &BTreeMap<&str, usize>,
    findings: &mut Vec<Finding>,
) -> Option<Ends> {
    let mut host = |name: &String, gateway: bool| {
        if gateway {
            return Some(None);
        }
        let known = names.get(name.as_str()).copied();
        if known.is_none() {
            findings.push(Finding::UnknownHost { what: "a weight", host: name.clone() });
        }
        known.map(Some)
    };
    let from = host(&weight.from, weight.from == SOURCE)?;
    let to = host(&weight.to, weight.to == SINK)?;
    Some((from, to))
}

/// Whether ranges allow a hop: a host passes a token on where its range ends, to one that holds the
/// next layer, or whose range starts there.
fn legal(
    weight: &Weight,
    ends: Ends,
    instance: &Instance,
    placement: &[Option<LayerRange>],
) -> Result<(), &'static str> {
    let Weight { position, .. } = *weight;
    let held = |host: usize| placement[host].ok_or("it holds no layers");
    let leaves = match ends.0 {
        Some(from) => held(from)?.end(),
        None => 0,
    };
    if position != leaves {
        return Err("the near end does not stop there");
    }
    match ends.1 {
        None if ends.0.is_none() => Err("it passes no host"),
        None if position != instance.layers => Err("layers are left to compute"),
        None => Ok(()),
        Some(to) if !held(to)?.contains(position) => {
            Err("the far end does not hold the next layer")
        }
        Some(to) if !instance.partial && held(to)?.first() != position => {
            Err("without partial inference the far end must start there")
        }
        Some(_) => Ok(()),
    }
}

/// Each host passes on what it receives, and no more than it computes and its card moves.
fn hosts(
    charge: Charge,
    instance: &Instance,
    placement: &[Option<LayerRange>],
    passages: &[Passage],
    findings: &mut Vec<Finding>,
) {
    for (host, passage) in passages.iter().enumerate() {
        let (at, Some(range)) = (&instance.hosts[host], placement[host]) else { continue };
        let Passage { received, passed, .. } = *passage;
        if (received - passed).abs() > TOLERANCE * received.max(passed) {
            findings.push(Finding::Conservation { host: at.name.clone(), received, passed });
        }
        let rate = instance.class(host).rates.of(range, instance.layers);
        // Under work charge the unit is a whole pass through the range.
        let computed = match charge {
            Charge::Full => received,
            Charge::Work => passage.work / f64::from(range.count()),
        };
        let loads = [
            (String::new(), computed, rate),
            ("the card of ".to_owned(), passage.card_in, at.nic_in),
            ("the card of ".to_owned(), passage.card_out, at.nic_out),
        ];
        for (what, carried, capacity) in loads.into_iter().filter(|it| exceeds(it.1, it.2)) {
            findings.push(Finding::Capacity { what: what + &at.name, carried, capacity });
        }
    }
}

/// Every hop has a link that carries it.
fn wires(instance: &Instance, links: &BTreeMap<Ends, f64>, findings: &mut Vec<Finding>) {
    let name = |end: Option<usize>, gateway: &str| {
        end.map_or_else(|| gateway.to_owned(), |host| instance.hosts[host].name.clone())
    };
    for (&(from, to), &carried) in links {
        let wire = match (from, to) {
            (Some(from), Some(to)) => instance.wire(from, to),
            (None, Some(to)) => instance.network.enter.get(to).copied().flatten(),
            (Some(from), None) => instance.network.leave.get(from).copied().flatten(),
            (None, None) => None,
        };
        let capacity = wire.map_or(0.0, |it| it.tokens_per_second);
        if exceeds(carried, capacity) {
            let what = format!("link {} -> {}", name(from, SOURCE), name(to, SINK));
            findings.push(Finding::Capacity { what, carried, capacity });
        }
    }
}

/// All the links that draw on a shared capacity fit into it together.
fn shared(instance: &Instance, links: &BTreeMap<Ends, f64>, findings: &mut Vec<Finding>) {
    let region = |host: usize| instance.hosts[host].region;
    let between = links.iter().filter_map(|(ends, &rate)| match *ends {
        (Some(from), Some(to)) => Some(((region(from), region(to)), rate)),
        _ => None,
    });
    let mut crossings: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    between.for_each(|(pair, rate)| *crossings.entry(pair).or_default() += rate);
    for it in &instance.network.shared {
        // A pair named twice still draws once.
        let pairs: BTreeSet<_> = it.carries.iter().collect();
        let carried = pairs.into_iter().filter_map(|pair| crossings.get(pair)).sum();
        if exceeds(carried, it.tokens_per_second) {
            let (what, capacity) = (it.name.clone(), it.tokens_per_second);
            findings.push(Finding::Capacity { what, carried, capacity });
        }
    }
}
