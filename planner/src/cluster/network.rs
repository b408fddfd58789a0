//! Links: from bytes between names to tokens between indices.

use std::collections::{BTreeMap, BTreeSet};

use super::error::ClusterError;
use super::file::{ClusterFile, Line, LinkEntry, Model};
use super::names;
use crate::instance::{Host, Instance, Network, Pairs, Shared, Wire};

/// The name that stands for the gateways in links.
pub(super) const GATEWAY: &str = "gateway";

/// Hosts at most where links are given one by one: each pair takes 24 bytes.
const LISTED_HOSTS_MAX: usize = 2048;

/// Links between `hosts` as the file describes them. `known` is the names of all hosts, also of
/// those that policy excludes; links of these are left out.
pub(super) fn network(
    file: &ClusterFile,
    model: &Model,
    regions: &[String],
    hosts: &[Host],
    known: &BTreeMap<String, Option<usize>>,
) -> Result<Network, ClusterError> {
    let by_region = region_lines(file, regions)?;
    let wire = |line: Option<Line>| line.and_then(|it| wire(it, model.activation_bytes));
    let gate = |line: Option<Line>| line.and_then(|it| self::wire(it, model.token_bytes));
    let (enter, leave) = gateway_lines(file, regions, &by_region)?;
    let of_hosts = |lines: &[Option<Line>]| -> Vec<Option<Wire>> {
        hosts.iter().map(|it| gate(lines[it.region])).collect()
    };
    let regional: Vec<_> = by_region.iter().map(|it| wire(*it)).collect();
    let listed = listed(&file.network.links, known)?;
    let pairs = if listed.keys().any(|it| matches!(it, (Some(_), Some(_)))) {
        Pairs::Each(each(hosts, regions.len(), &regional)?)
    } else {
        Pairs::ByRegion(regional)
    };
    let shared = shared(file, model, regions)?;
    let mut network = Network { pairs, enter: of_hosts(&enter), leave: of_hosts(&leave), shared };
    for (ends, line) in listed {
        match (ends, &mut network.pairs) {
            ((None, Some(to)), _) => network.enter[to] = gate(Some(line)),
            ((Some(from), None), _) => network.leave[from] = gate(Some(line)),
            ((Some(from), Some(to)), Pairs::Each(table)) => {
                table[from * hosts.len() + to] = wire(Some(line));
            }
            _ => unreachable!("a link between hosts makes a table of pairs, none joins gateways"),
        }
    }
    Ok(network)
}

/// Notes about regions that nothing joins to the rest, and about a gateway that reaches nobody.
pub(super) fn cut_off(instance: &Instance) -> Vec<String> {
    let mut notes = Vec::new();
    let gateway = [("from", &instance.network.enter), ("to", &instance.network.leave)];
    for (direction, links) in gateway {
        if links.iter().all(Option::is_none) {
            notes.push(format!(
                "no host has a link {direction} the gateway; see network.gateway and default"
            ));
        }
    }
    let Pairs::ByRegion(table) = &instance.network.pairs else { return notes };
    let count = instance.regions.len();
    let used: BTreeSet<usize> = instance.hosts.iter().map(|it| it.region).collect();
    let joined = |from: usize, to: usize| {
        from != to && (table[from * count + to].is_some() || table[to * count + from].is_some())
    };
    let alone = |at: &&usize| used.len() > 1 && !used.iter().any(|it| joined(**at, *it));
    let note = |at: &usize| {
        let name = &instance.regions[*at];
        format!("region {name} has no link to or from another; see network.region_links")
    };
    notes.extend(used.iter().filter(alone).map(note));
    notes
}

/// Tokens of `bytes` each over a line; none where there is no rate.
fn wire(line: Line, bytes: f64) -> Option<Wire> {
    (line.bytes_per_second > 0.0).then(|| Wire {
        tokens_per_second: line.bytes_per_second / bytes,
        latency_seconds: line.latency_seconds,
    })
}

/// Links of hosts by their regions: `[from * regions + to]`.
fn region_lines(file: &ClusterFile, regions: &[String]) -> Result<Vec<Option<Line>>, ClusterError> {
    let count = regions.len();
    let mut table = vec![file.network.default; count * count];
    if file.network.within_region.is_some() {
        (0..count).for_each(|it| table[it * count + it] = file.network.within_region);
    }
    let mut seen = vec![false; count * count];
    for (at, link) in file.network.region_links.iter().enumerate() {
        let key = format!("network.region_links[{at}]");
        for (from, to) in directions(link, &key)? {
            let from_at = names::position(regions, from, "region", || key.clone())?;
            let to_at = names::position(regions, to, "region", || key.clone())?;
            let slot = from_at * count + to_at;
            if seen[slot] && from_at != to_at {
                return Err(ClusterError::Duplicate { key, name: format!("{from} -> {to}") });
            }
            seen[slot] = true;
            table[slot] = Some(line(link));
        }
    }
    Ok(table)
}

fn line(link: &LinkEntry) -> Line {
    Line { bytes_per_second: link.bytes_per_second, latency_seconds: link.latency_seconds }
}

/// A line or none for each region.
type Lines = Vec<Option<Line>>;

/// Links from the gateway to hosts of each region, and back.
fn gateway_lines(
    file: &ClusterFile,
    regions: &[String],
    by_region: &[Option<Line>],
) -> Result<(Lines, Lines), ClusterError> {
    let Some(name) = &file.network.gateway_region else {
        let lines = vec![file.network.gateway.or(file.network.default); regions.len()];
        return Ok((lines.clone(), lines));
    };
    let key = || "network.gateway_region".to_owned();
    let (count, stand) = (regions.len(), names::position(regions, name, "region", key)?);
    let enter = (0..count).map(|it| by_region[stand * count + it]).collect();
    let leave = (0..count).map(|it| by_region[it * count + stand]).collect();
    Ok((enter, leave))
}

/// The ordered pairs of names that a link is about.
fn directions<'a>(link: &'a LinkEntry, key: &str) -> Result<Vec<(&'a str, &'a str)>, ClusterError> {
    match (&link.between, &link.from, &link.to) {
        (Some((a, b)), None, None) => Ok(vec![(a, b), (b, a)]),
        (None, Some(from), Some(to)) => Ok(vec![(from, to)]),
        _ => Err(ClusterError::Shape {
            key: key.to_owned(),
            problem: "give either `between = [A, B]` or `from = A` with `to = B`".to_owned(),
        }),
    }
}

/// Ordered pair of hosts; `None` is the gateway.
type Ends = (Option<usize>, Option<usize>);

/// Links given one by one, without those of excluded hosts.
fn listed(
    links: &[LinkEntry],
    known: &BTreeMap<String, Option<usize>>,
) -> Result<BTreeMap<Ends, Line>, ClusterError> {
    let mut found = BTreeMap::new();
    for (at, link) in links.iter().enumerate() {
        let key = || format!("network.links[{at}]");
        let end = |name: &str| match known.get(name) {
            Some(Some(host)) => Ok(Some(Some(*host))),
            Some(None) => Ok(None),
            None if name == GATEWAY => Ok(Some(None)),
            None => {
                let names = known.keys().map(String::as_str).chain([GATEWAY]);
                Err(names::unknown(names, name, "host", key()))
            }
        };
        for (from, to) in directions(link, &key())? {
            let (Some(near), Some(far)) = (end(from)?, end(to)?) else { continue };
            if near == far {
                let problem = format!("\"{from}\" needs no link to itself; remove it");
                return Err(ClusterError::Shape { key: key(), problem });
            }
            if found.insert((near, far), line(link)).is_some() {
                let name = format!("{from} -> {to}");
                return Err(ClusterError::Duplicate { key: key(), name });
            }
        }
    }
    Ok(found)
}

/// Links of all pairs of hosts, from those of their regions.
fn each(
    hosts: &[Host],
    regions: usize,
    regional: &[Option<Wire>],
) -> Result<Vec<Option<Wire>>, ClusterError> {
    if hosts.len() > LISTED_HOSTS_MAX {
        let problem = format!(
            "links are listed one by one for at most {LISTED_HOSTS_MAX} hosts, here are {}; use \
             network.region_links",
            hosts.len(),
        );
        return Err(ClusterError::Shape { key: "network.links".to_owned(), problem });
    }
    let pairs = hosts.iter().flat_map(|from| hosts.iter().map(move |to| (from.region, to.region)));
    Ok(pairs.map(|(from, to)| regional[from * regions + to]).collect())
}

/// Lines and egress that several links draw on.
fn shared(
    file: &ClusterFile,
    model: &Model,
    regions: &[String],
) -> Result<Vec<Shared>, ClusterError> {
    let tokens = |bytes_per_second: f64| bytes_per_second / model.activation_bytes;
    let mut found = Vec::new();
    for (at, entry) in file.network.shared.iter().enumerate() {
        let place = |name: &str| {
            let key = || format!("network.shared[{at}].carries");
            names::position(regions, name, "region", key)
        };
        let mut carries = Vec::new();
        for (from, to) in &entry.carries {
            carries.push((place(from)?, place(to)?));
        }
        let tokens_per_second = tokens(entry.bytes_per_second);
        found.push(Shared { name: entry.name.clone(), tokens_per_second, carries });
    }
    let mut egress = |name: &String, rate: Option<f64>, ours: &dyn Fn(usize) -> bool| {
        let Some(rate) = rate else { return };
        let (near, far): (Vec<_>, Vec<_>) = (0..regions.len()).partition(|it| ours(*it));
        let carries = near.iter().flat_map(|near| far.iter().map(|far| (*near, *far))).collect();
        let name = format!("egress of {name}");
        found.push(Shared { name, tokens_per_second: tokens(rate), carries });
    };
    for (name, entry) in &file.regions {
        egress(name, entry.egress_bytes_per_second, &|at| regions[at] == *name);
    }
    for (name, entry) in &file.providers {
        let provider = |at: usize| file.regions.get(&regions[at])?.provider.as_ref();
        egress(name, entry.egress_bytes_per_second, &|at| provider(at) == Some(name));
    }
    Ok(found)
}
