//! Where to look: hosts that serve together, and what a flow asks of them.
//!
//! Without binding links all hosts serve together, and the flow is the least coverage of a layer.
//! Where links bind, regions that hold the model by themselves each have a flow of their own, and
//! what is left of the flow is that of all other hosts. After a change only those parts move that
//! it hit; how links carry the result is for an exact flow to say.

use fastrand::Rng;

use super::ground::{Ground, Seat};
use super::search;
use super::stages::Schedule;
use crate::flow::Judge;
use crate::instance::{Instance, Placement};

/// Times that a demand is raised because links carry less than is covered.
const RAISES_MAX: usize = 3;

/// Changes of a flow below this share are rounding.
const SAME: f64 = 1.0 - 1e-9;

/// Hosts that serve together.
#[derive(Clone, Debug)]
pub(super) struct Part {
    hosts: Vec<usize>,
    /// Least coverage of a layer by these hosts alone, before the change.
    flow: f64,
    /// Whether it has hosts that were not there before.
    grew: bool,
}

/// Parts of the cluster `after` a change of `before`, where hosts held `old`.
pub(super) fn split(before: &Instance, old: &Placement, after: &Instance) -> Vec<Part> {
    let part = |hosts: Vec<usize>| Part {
        flow: least(before, old, &hosts),
        grew: hosts.last().is_some_and(|&it| it >= before.hosts.len()),
        hosts,
    };
    let all = || vec![part((0..after.hosts.len()).collect())];
    if !Judge::new(after).links_bind() {
        return all();
    }
    let region = |region: usize| {
        part((0..after.hosts.len()).filter(|&it| after.hosts[it].region == region).collect())
    };
    let (mut parts, others): (Vec<Part>, Vec<Part>) =
        (0..after.regions.len()).map(region).partition(|it| it.flow > 0.0);
    if parts.is_empty() {
        return all();
    }
    let mut rest: Vec<usize> = others.into_iter().flat_map(|it| it.hosts).collect();
    rest.sort_unstable();
    if !rest.is_empty() {
        parts.push(part(rest));
    }
    parts
}

/// Least coverage of a layer by some hosts alone.
fn least(instance: &Instance, placement: &Placement, hosts: &[usize]) -> f64 {
    let mut only = vec![None; instance.hosts.len()];
    for &host in hosts {
        // Hosts that join are behind the others.
        if let (Some(only), Some(range)) = (only.get_mut(host), placement.get(host)) {
            *only = *range;
        }
    }
    instance.coverage(&only).into_iter().reduce(f64::min).unwrap_or(0.0)
}

/// Few loads from `old` to a flow of `goal`, by moves of the parts that a change hit. With
/// `keeping` only placements count whose steps keep all layers covered. `None` if none was found;
/// what is found may have a lower flow where links bind.
pub(super) fn fewest_loads(
    instance: &Instance,
    old: &Placement,
    parts: &[Part],
    goal: f64,
    keeping: bool,
    moves: u64,
    rng: &mut Rng,
) -> Option<Placement> {
    let mut judge = Judge::new(instance);
    let now: Vec<f64> = parts.iter().map(|it| least(instance, old, &it.hosts)).collect();
    let is_hit = |at: &usize| now[*at] < parts[*at].flow * SAME || parts[*at].grew;
    let mut hit: Vec<usize> = (0..parts.len()).filter(is_hit).collect();
    if hit.is_empty() {
        hit = (0..parts.len()).collect();
    }
    let whole: f64 = hit.iter().map(|&it| parts[it].flow).sum();
    let mut lacking = goal - judge.value(old);
    let mut found = None;
    for _ in 0..=RAISES_MAX {
        let mut to = old.clone();
        for &at in &hit {
            let share = if whole > 0.0 { parts[at].flow / whole } else { 1.0 / hit.len() as f64 };
            let asked = Asked {
                hosts: &parts[at].hosts,
                demand: now[at] + lacking * share,
                keeping,
                moves: moves / hit.len() as u64,
            };
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

/// What one part is asked for.
struct Asked<'a> {
    hosts: &'a [usize],
    /// Tokens/s that each layer needs.
    demand: f64,
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
        let demand = vec![self.demand; instance.layers as usize];
        let ground = Ground::new(instance, self.hosts.to_vec(), old, &demand);
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
