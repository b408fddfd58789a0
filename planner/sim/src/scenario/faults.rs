//! Faults by name.

use thalweg_planner::instance::Instance;

use super::{FaultEntry, LinksEntry, ScenarioError};
use crate::agenda::nanos;
use crate::world::{Between, Fault, FaultKind};

/// Names listed in an error at most.
const NAMES_MAX: usize = 12;

/// Turns names into indices.
pub(super) fn faults(
    entries: &[FaultEntry],
    instance: &Instance,
) -> Result<Vec<Fault>, ScenarioError> {
    let mut found = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let at = nanos(entry.at_seconds);
        let kinds = kinds(entry, &format!("faults[{index}]"), instance)?;
        found.extend(kinds.into_iter().map(|kind| Fault { at, kind }));
    }
    Ok(found)
}

/// The host of that name.
pub(super) fn host(instance: &Instance, key: &str, name: &str) -> Result<usize, ScenarioError> {
    let found = instance.hosts.iter().position(|it| it.name == name);
    found.ok_or_else(|| unknown(key, "host", name, instance.hosts.iter().map(|it| &it.name)))
}

fn kinds(
    entry: &FaultEntry,
    key: &str,
    instance: &Instance,
) -> Result<Vec<FaultKind>, ScenarioError> {
    let FaultEntry { host_dies, host_joins, links, shared, .. } = entry;
    match (host_dies, host_joins, links, shared) {
        (Some(name), None, None, None) => {
            Ok(vec![FaultKind::HostDies(host(instance, &format!("{key}.host_dies"), name)?)])
        }
        (None, Some(name), None, None) => {
            Ok(vec![FaultKind::HostJoins(host(instance, &format!("{key}.host_joins"), name)?)])
        }
        (None, None, Some(links), None) => slower(links, &format!("{key}.links"), instance),
        (None, None, None, Some(fault)) => {
            let lines = &instance.network.shared;
            let known = || lines.iter().map(|it| &it.name);
            let at = lines.iter().position(|it| it.name == fault.name);
            let key = format!("{key}.shared.name");
            let shared =
                at.ok_or_else(|| unknown(&key, "shared capacity", &fault.name, known()))?;
            Ok(vec![FaultKind::SharedKeeps { shared, share: fault.keeps }])
        }
        _ => Err(ScenarioError::Shape {
            key: key.to_owned(),
            problem: "give exactly one of host_dies, host_joins, links, shared".to_owned(),
        }),
    }
}

fn slower(
    links: &LinksEntry,
    key: &str,
    instance: &Instance,
) -> Result<Vec<FaultKind>, ScenarioError> {
    let shape = |problem: &str| {
        Err(ScenarioError::Shape { key: key.to_owned(), problem: problem.to_owned() })
    };
    let share = match (links.keeps, links.loss) {
        (Some(keeps), None) => keeps,
        (None, Some(loss)) => 1.0 - loss,
        _ => return shape("give either `keeps` or `loss`"),
    };
    let pairs = match (&links.between, &links.from, &links.to) {
        (Some((a, b)), None, None) => vec![(a, b), (b, a)],
        (None, Some(from), Some(to)) => vec![(from, to)],
        _ => return shape("give either `between = [A, B]` or `from = A` with `to = B`"),
    };
    let kind = |(from, to): (&String, &String)| {
        let region = |name: &String| instance.regions.iter().position(|it| it == name);
        let between = match (region(from), region(to)) {
            (Some(from), Some(to)) => Between::Regions(from, to),
            _ => Between::Hosts(host(instance, key, from)?, host(instance, key, to)?),
        };
        Ok(FaultKind::LinksKeep { between, share })
    };
    pairs.into_iter().map(kind).collect()
}

fn unknown<'a>(
    key: &str,
    kind: &'static str,
    name: &str,
    known: impl Iterator<Item = &'a String>,
) -> ScenarioError {
    let mut names: Vec<&str> = known.map(String::as_str).collect();
    let more = names.len().saturating_sub(NAMES_MAX);
    names.truncate(NAMES_MAX);
    let mut known = names.join(", ");
    if more > 0 {
        known += &format!(" and {more} more");
    }
    if known.is_empty() {
        known = "none".to_owned();
    }
    ScenarioError::Unknown { key: key.to_owned(), kind, name: name.to_owned(), known }
}
