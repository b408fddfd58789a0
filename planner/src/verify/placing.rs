//! Ranges: hosts that exist, layers that exist, memory and policy.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_wire::LayerRange;

use super::Finding;
use crate::instance::{Instance, Placement};
use crate::report::{Held, Report};

/// Reads the placement; `None` if some host holds what it cannot.
pub(super) fn check(
    report: &Report,
    instance: &Instance,
    findings: &mut Vec<Finding>,
) -> Option<Placement> {
    let before = findings.len();
    let names = indices(instance);
    let mut seen = BTreeSet::new();
    let mut placement: Placement = vec![None; instance.hosts.len()];
    for held in &report.placement {
        let Some(&host) = names.get(held.host.as_str()) else {
            findings.push(Finding::UnknownHost { what: "the placement", host: held.host.clone() });
            continue;
        };
        if !seen.insert(host) {
            findings.push(Finding::PlacedTwice { host: held.host.clone() });
        }
        placement[host] = range(held, host, instance, findings);
    }
    (findings.len() == before).then_some(placement)
}

/// Hosts by name.
pub(super) fn indices(instance: &Instance) -> BTreeMap<&str, usize> {
    instance.hosts.iter().enumerate().map(|(at, it)| (it.name.as_str(), at)).collect()
}

fn range(
    held: &Held,
    host: usize,
    instance: &Instance,
    findings: &mut Vec<Finding>,
) -> Option<LayerRange> {
    let &Held { first, end, .. } = held;
    let (name, layers, at) = (held.host.clone(), instance.layers, &instance.hosts[host]);
    let Some(range) = LayerRange::new(first, end).ok().filter(|_| end <= layers) else {
        findings.push(Finding::Range { host: name, first, end, layers });
        return None;
    };
    let forbidden =
        [(first == 0 && !at.may_be_first, "first"), (end == layers && !at.may_be_last, "last")];
    for (_, end) in forbidden.into_iter().filter(|it| it.0) {
        findings.push(Finding::Policy { host: name.clone(), end });
    }
    let rates = &instance.class(host).rates;
    if rates.of(range, layers) <= 0.0 {
        let most = rates.count_max();
        findings.push(Finding::Memory { host: name, first, end, most });
    }
    Some(range)
}
