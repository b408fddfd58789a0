//! Where to look: hosts that serve together, and what a flow asks of them.
//!
//! Without binding links all hosts serve together, and the flow is the least coverage of a layer.
//! Where links bind, regions that hold the model by themselves each have a flow of their own, and
//! what is left of the flow is that of all other hosts. After a change only those parts move that
//! it hit; how links carry the result is for an exact flow to say. Where regions complement each
//! other, what one of them covered comes back in that region first: what links carry then stays as
//! it is.

use fastrand::Rng;

use super::ground::{Ground, Seat};
use super::search;
use super::stages::Schedule;
use crate::flow::Judge;
use crate::instance::{Instance, Placement};

/// Times that a demand is raised because links carry less than is covered.
const RAISES_MAX: usize = 3;

/// Shares of what a flow may fall by that the coverage of a part may fall by, one after the other.
const SPARE_SHARES: [f64; 3] = [1.0, 0.5, 0.1];

/// Changes of a flow below this share are rounding.
const SAME: f64 = 1.0 - 1e-9;

/// Hosts that serve together.
#[derive(Clone, Debug)]
pub(super) struct Part {
    hosts: Vec<usize>,
    /// Coverage of each layer by these hosts alone, before the change, and its least.
    covered: Vec<f64>,
    flow: f64,
    /// Flow of the whole cluster before the change.
    flow_of_all: f64,
    /// Whether it has hosts that were not there before.
    grew: bool,
}

/// Where to look after a change.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    /// Hosts that serve together; each host is in one.
    serving: Vec<Part>,
    /// Hosts of each region, where links bind and regions serve together.
    regions: Vec<Part>,
}

/// Parts of the cluster `after` a change of `before`, where hosts held `old`.
pub(super) fn split(before: &Instance, old: &Placement, after: &Instance) -> Parts {
    let flow_of_all = Judge::new(before).value(old);
    let part = |hosts: Vec<usize>| {
        let covered = covered(before, old, &hosts);
        let flow = least(&covered);
        let grew = hosts.last().is_some_and(|&it| it >= before.hosts.len());
        Part { hosts, covered, flow, flow_of_all, grew }
    };
    let all = || vec![part((0..after.hosts.len()).collect())];
    if !Judge::new(after).links_bind() {
        return Parts { serving: all(), regions: Vec::new() };
    }
    let region = |region: usize| {
        part((0..after.hosts.len()).filter(|&it| after.hosts[it].region == region).collect())
    };
    let (mut serving, regions): (Vec<Part>, Vec<Part>) =
        (0..after.regions.len()).map(region).partition(|it| it.flow > 0.0);
    if serving.is_empty() {
        return Parts { serving: all(), regions };
    }
    let mut rest: Vec<usize> = regions.iter().flat_map(|it| &it.hosts).copied().collect();
    rest.sort_unstable();
    if !rest.is_empty() {
        serving.push(part(rest));
    }
    Parts { serving, regions }
}

/// Coverage of each layer by some hosts alone.
fn covered(instance: &Instance, placement: &Placement, hosts: &[usize]) -> Vec<f64> {
    let mut only = vec![None; instance.hosts.len()];
    for &host in hosts {
        // Hosts that join are behind the others.
        if let (Some(only), Some(range)) = (only.get_mut(host), placement.get(host)) {
            *only = *range;
        }
    }
    instance.coverage(&only)
}

fn least(covered: &[f64]) -> f64 {
    covered.iter().copied().reduce(f64::min).unwrap_or(0.0)
}

/// Few loads from `old` to a flow of `goal`, by moves of the parts that a change hit. With
/// `keeping` only placements count whose steps keep all layers covered. `None` if none was found;
/// what is found may have a lower flow where links bind.
pub(super) fn fewest_loads(
    instance: &Instance,
    old: &Placement,
    parts: &Parts,
    goal: f64,
    keeping: bool,
    moves: u64,
    rng: &mut Rng,
) -> Option<Placement> {
    let mut judge = Judge::new(instance);
    let now = |it: &Part| covered(instance, old, &it.hosts);
    let thinner = |it: &&Part| now(it).iter().zip(&it.covered).any(|(now, was)| *now < was * SAME);
    let serving = &parts.serving;
    let thin: Vec<&Part> = match serving.len() {
        1 => parts.regions.iter().filter(thinner).collect(),
        _ => parts.regions.iter().filter(thinner).chain(serving.iter().find(thinner)).collect(),
    };
    let with_flow = serving.iter().map(|it| (it, least(&now(it))));
    let mut hit: Vec<(&Part, f64)> =
        with_flow.clone().filter(|(it, now)| *now < it.flow * SAME || it.grew).collect();
    if hit.is_empty() && thin.is_empty() {
        hit = with_flow.collect();
    }
    let effort = (keeping, moves);
    let mut found = raise(instance, old, &hit, goal, effort, rng);
    // Flow passes through several parts: what one gave to others is to come back.
    for part in thin {
        if found.as_ref().is_some_and(|it| judge.value(it) >= goal * SAME) {
            break;
        }
        found = give_back(instance, old, part, goal, effort, rng).or(found);
    }
    found
}

/// Few loads by which parts, each with its flow now, make up for what a flow of `goal` lacks.
fn raise(
    instance: &Instance,
    old: &Placement,
    parts: &[(&Part, f64)],
    goal: f64,
    (keeping, moves): (bool, u64),
    rng: &mut Rng,
) -> Option<Placement> {
    let mut judge = Judge::new(instance);
    let whole: f64 = parts.iter().map(|it| it.0.flow).sum();
    let mut lacking = goal - judge.value(old);
    let mut found = None;
    if parts.is_empty() {
        return None;
    }
    for _ in 0..=RAISES_MAX {
        let mut to = old.clone();
        for &(part, now) in parts {
            let share = if whole > 0.0 { part.flow / whole } else { 1.0 / parts.len() as f64 };
            let demand = vec![now + lacking * share; instance.layers as usize];
            let moves = moves / parts.len() as u64;
            let asked = Asked { hosts: &part.hosts, demand, keeping, moves };
            if !asked.search(instance, old, &mut to, rng) {
                return found;
            }
        }
        let value = judge.value(&to);
        found = Some(to);
        if value >= goal * SAME {
            break;
        }
        lacking += goal - value;
    }
    found
}

/// Few loads by which the hosts of one part cover each layer as they did, but for what the flow may
/// fall by, or for a share of it if that is not enough for a flow of `goal`.
fn give_back(
    instance: &Instance,
    old: &Placement,
    part: &Part,
    goal: f64,
    (keeping, moves): (bool, u64),
    rng: &mut Rng,
) -> Option<Placement> {
    let mut judge = Judge::new(instance);
    let spare = (part.flow_of_all - goal).max(0.0);
    let mut found = None;
    for share in SPARE_SHARES {
        let demand = part.covered.iter().map(|it| (it - share * spare).max(0.0)).collect();
        let asked = Asked { hosts: &part.hosts, demand, keeping, moves };
        let mut to = old.clone();
        if !asked.search(instance, old, &mut to, rng) {
            break;
        }
        let value = judge.value(&to);
        found = Some(to);
        if value >= goal * SAME {
            break;
        }
    }
    found
}

/// What one part is asked for.
struct Asked<'a> {
    hosts: &'a [usize],
    /// Tokens/s that each layer needs.
    demand: Vec<f64>,
    keeping: bool,
    moves: u64,
}

impl Asked<'_> {
    /// Changes what the hosts hold in `to`. False if nothing was found.
    fn search(
        &self,
        instance: &Instance,
        old: &Placement,
        to: &mut Placement,
        rng: &mut Rng,
    ) -> bool {
        let ground = Ground::new(instance, self.hosts.to_vec(), old, &self.demand);
        let base = to.clone();
        let placed = |seats: &[Seat]| {
            let mut all = base.clone();
            ground.hosts.iter().zip(seats).for_each(|(&host, seat)| all[host] = seat.range());
            all
        };
        let reachable = |seats: &[Seat]| {
            !self.keeping || Schedule::order(instance, old, &placed(seats)).is_ok()
        };
        let found = search::fewest_loads(&ground, &reachable, self.moves, rng);
        if let Some(seats) = &found {
            *to = placed(seats);
        }
        found.is_some()
    }
}
