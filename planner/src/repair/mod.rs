//! Repair of a plan after a change: re-weight first, then move as few bytes as possible.
//!
//! ```text
//! change ── new weights ──▶ enough? ──▶ done, nothing loaded
//!                             │ no
//!                             ▼
//!             fewest loads that reach the flow ──▶ steps in at most two stages
//! ```
//!
//! Loading weights takes minutes, so a repair is judged by the layers it loads, not by the last per
//! cent of flow; a full search may run beside it. The flow it goes for is a share of what a full
//! re-plan may reach, estimated from the bounds before and after the change and from how close the
//! flow was to the bound. Every layer that was covered stays covered while hosts load: make before
//! break. A host has memory for [`count_max`](crate::instance::Rates) layers. One that can hold its
//! old and its new layers together serves the old ones until the new ones are there; one that
//! cannot drops old ones first, and only what others hold.

mod anneal;
mod beam;
mod change;
mod ground;
mod links;
mod parts;
mod search;
mod spots;
mod stages;
#[cfg(test)]
mod tests;

pub use change::Change;

use fastrand::Rng;
use thalweg_wire::LayerRange;

use crate::flow::Judge;
use crate::instance::{Instance, Placement};
use crate::{Charge, bound};
use parts::Parts;
use stages::Schedule;

/// What to do after a change, and what it brings.
#[derive(Clone, Debug, PartialEq)]
pub struct Repair {
    /// The cluster after the change; hosts keep their indices.
    pub instance: Instance,
    /// Flow that the repair went for, in tokens/s.
    pub aim: f64,
    /// Flow by new weights alone, in tokens/s.
    pub flow_reweighted: f64,
    /// Flow after the first and the second stage, in tokens/s. Without steps both are
    /// `flow_reweighted`.
    pub flow_after: [f64; 2],
    /// Who changes what, first stage first.
    pub steps: Vec<Step>,
    /// Who holds what after all steps.
    pub placement: Placement,
    /// Layers loaded, all hosts together.
    pub loads: u32,
    /// Bytes loaded, all hosts together.
    pub bytes: f64,
    /// Seconds until every layer is held and served by somebody, hosts loading in parallel; zero if
    /// none was lost, infinite if some layer fits nowhere.
    pub seconds_to_coverage: f64,
    /// Seconds until the last step is done.
    pub seconds_to_flow: f64,
    /// Whether no layer that was covered is ever uncovered on the way. False only if no repair was
    /// found that keeps this.
    pub stays_covered: bool,
}

/// A host goes from one range to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The host, by index.
    pub host: usize,
    /// What it holds now.
    pub from: Option<LayerRange>,
    /// What it holds afterwards.
    pub to: Option<LayerRange>,
    /// Layers it has to load.
    pub loads: u32,
    /// Bytes it has to load.
    pub bytes: f64,
    /// Seconds this takes.
    pub seconds: f64,
    /// First or second stage: the second begins when the first is done.
    pub stage: u8,
}

/// Share of what a full re-plan may reach that a repair goes for: above the 95 % that are promised,
/// as what a full re-plan reaches is an estimate and off by two per cent now and then.
const AIM_SHARE: f64 = 0.97;

/// The same where links bind: the estimate is closer there, as it is of large clusters or of few
/// placements that links allow.
const AIM_SHARE_LINKS: f64 = 0.958;

/// Placements that a search looks at: what keeps repairs within a second. One takes the same time
/// however many hosts there are.
pub const MOVES: u64 = 6_000_000;

/// Shares of what the aim lacks that are tried one after the other if the aim is not reached, each
/// with this part of the moves. Annealing is luck: the first of them is a second try of about the
/// same aim.
const FALL_BACK: [f64; 6] = [0.9935, 0.98, 0.9, 0.7, 0.4, 0.1];
const FALL_BACK_PART: u64 = 2;

/// Repairs `old`, a placement of `before`, after `change`. Deterministic for a seed.
///
/// Goes for a share of what a full re-plan may reach: of the bound after the change, as much as the
/// flow before was of the bound before, or all of it if nothing flowed. [`replan_for`] takes the aim
/// from the caller.
pub fn replan(before: &Instance, old: &Placement, change: &Change, seed: u64) -> Repair {
    let after = change.apply(before);
    let bound = |it: &Instance| bound::prove(it, Charge::Full).value;
    let flow = Judge::new(before).value(old);
    let reached = match flow / bound(before) {
        reached if reached > 0.0 => reached.min(1.0),
        _ => 1.0,
    };
    let links_bind = Judge::new(&after).links_bind();
    let share = if links_bind { AIM_SHARE_LINKS } else { AIM_SHARE };
    let aim = share * bound(&after) * reached;
    let parts = parts::split(before, old, &after);
    repair(after, &change.survivors(old), &parts, (aim, MOVES), seed)
}

/// Moves `old`, what the hosts of `instance` hold now, to a flow of `aim` tokens/s with few loads,
/// or as near as it gets. Looks at `moves` placements where [`replan`] looks at [`MOVES`].
pub fn replan_for(instance: Instance, old: &Placement, aim: f64, moves: u64, seed: u64) -> Repair {
    let parts = parts::split(&instance, old, &instance);
    repair(instance, old, &parts, (aim, moves), seed)
}

fn repair(
    instance: Instance,
    old: &Placement,
    parts: &Parts,
    (aim, moves): (f64, u64),
    seed: u64,
) -> Repair {
    let mut old = old.clone();
    old.resize(instance.hosts.len(), None);
    // A range that no longer fits, as after a shift of the workload, is not held.
    for (host, range) in old.iter_mut().enumerate() {
        *range = range.filter(|it| it.end() <= instance.layers && instance.rate(host, *it) > 0.0);
    }
    let flow_reweighted = Judge::new(&instance).value(&old);
    let (schedule, stays_covered) = if flow_reweighted >= aim {
        (Schedule::none(&old), true)
    } else {
        Mover { instance: &instance, old: &old, parts, now: flow_reweighted }
            .move_to(aim, moves, seed)
    };
    report(instance, &old, schedule, aim, flow_reweighted, stays_covered)
}

/// Searches for few loads, at lower and lower aims.
struct Mover<'a> {
    instance: &'a Instance,
    old: &'a Placement,
    parts: &'a Parts,
    /// Flow by new weights alone.
    now: f64,
}

impl Mover<'_> {
    /// Steps towards `aim`, and whether they keep all layers covered.
    fn move_to(&self, aim: f64, moves: u64, seed: u64) -> (Schedule, bool) {
        let mut rng = Rng::with_seed(seed);
        if let Some(found) = self.fewest_loads(aim, moves, &mut rng) {
            return found;
        }
        let mut goals = FALL_BACK.iter().map(|share| self.now + share * (aim - self.now));
        goals
            .find_map(|goal| self.fewest_loads(goal, moves / FALL_BACK_PART, &mut rng))
            .unwrap_or_else(|| (Schedule::none(self.old), true))
    }

    /// Few loads to a flow of `goal`, in an order that keeps all layers covered; if there is none,
    /// and nothing is served until some layer is loaded, in any order.
    fn fewest_loads(&self, goal: f64, moves: u64, rng: &mut Rng) -> Option<(Schedule, bool)> {
        let Self { instance, old, .. } = self;
        if let Some(to) = self.search(goal, true, moves, rng) {
            let schedule = Schedule::order(instance, old, &to).ok()?;
            return Some((schedule, true));
        }
        if self.now > 0.0 {
            return None;
        }
        let to = self.search(goal, false, moves / FALL_BACK_PART, rng)?;
        Some((Schedule::at_once(instance, old, &to), false))
    }

    fn search(&self, goal: f64, keeping: bool, moves: u64, rng: &mut Rng) -> Option<Placement> {
        let Self { instance, old, parts, .. } = self;
        let near = parts::fewest_loads(instance, old, parts, goal, keeping, moves, rng);
        let mut judge = Judge::new(instance);
        let reaches = |it: &Placement, judge: &mut Judge<'_>| judge.value(it) >= goal;
        match near {
            Some(near) if reaches(&near, &mut judge) => Some(near),
            near if judge.links_bind() => {
                let starts: Vec<Placement> = near.into_iter().chain([(*old).clone()]).collect();
                links::fewest_loads(instance, old, &starts, goal, keeping, rng)
            }
            _ => None,
        }
    }
}

fn report(
    instance: Instance,
    old: &Placement,
    schedule: Schedule,
    aim: f64,
    flow_reweighted: f64,
    stays_covered: bool,
) -> Repair {
    let mut judge = Judge::new(&instance);
    let flow_after = [judge.value(&schedule.between), judge.value(&schedule.last)];
    let (seconds_to_coverage, seconds_to_flow) = schedule.seconds(&instance, old);
    Repair {
        aim,
        flow_reweighted,
        flow_after,
        loads: schedule.steps.iter().map(|it| it.loads).sum(),
        bytes: schedule.steps.iter().map(|it| it.bytes).sum(),
        steps: schedule.steps,
        placement: schedule.last,
        seconds_to_coverage,
        seconds_to_flow,
        stays_covered,
        instance,
    }
}
