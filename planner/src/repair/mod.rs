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
//! cent of flow; a full search may run beside it. Every layer that was covered stays covered while
//! hosts load: make before break. A host has memory for [`count_max`](crate::instance::Rates)
//! layers. One that can hold its old and its new layers together serves the old ones until the new
//! ones are there; one that cannot drops old ones first, and only what others hold.

mod change;
mod search;
mod stages;
#[cfg(test)]
mod tests;

pub use change::Change;
pub use search::fewest_loads;

use fastrand::Rng;
use thalweg_wire::LayerRange;

use crate::flow::Judge;
use crate::instance::{Instance, Placement};
use crate::survive;
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

/// Share of what a full re-plan might reach that a repair goes for. A share above what is promised
/// (95 %), as what a full re-plan reaches is estimated.
const AIM_SHARE: f64 = 0.955;

/// Moves for each host of the short search that estimates what a full re-plan reaches.
const GLIMPSE_PER_HOST: u64 = 20_000;

/// Moves of that search at most.
const GLIMPSE_MAX: u64 = 1_000_000;

/// Shares of the aim that are tried, one after the other, until one can be reached.
const FALL_BACK: [f64; 6] = [1.0, 0.97, 0.9, 0.75, 0.5, 0.1];

/// Moves of the search for each host.
const MOVES_PER_HOST: u64 = 40_000;

/// Moves of a search at most: what keeps repairs of large clusters within seconds.
const MOVES_MAX: u64 = 4_000_000;

/// Searches for an order of the steps, each with the hosts held in place that had no order before.
const ORDERS_MAX: usize = 4;

/// Repairs `old`, a placement of `before`, after `change`. Deterministic for a seed.
///
/// The flow it goes for is a share of what a full re-plan may reach, estimated by a short search and
/// from what the change does to the hosts at their present ranges; [`replan_for`] takes it from the
/// caller.
pub fn replan(before: &Instance, old: &Placement, change: &Change, seed: u64) -> Repair {
    let after = change.apply(before);
    let mut left = change.survivors(old);
    left.resize(after.hosts.len(), None);
    let mut estimate = estimate(before, &after, old, change);
    if !Judge::new(&after).links_bind() {
        let moves = (GLIMPSE_PER_HOST * after.hosts.len() as u64).min(GLIMPSE_MAX);
        let found = survive::glimpse(&after, &left, moves, seed);
        let reached = found.map_or(0.0, |it| Judge::new(&after).value(&it));
        estimate = estimate.max(reached);
    }
    replan_for(after, &left, AIM_SHARE * estimate, seed)
}

/// Moves `old`, what the hosts of `instance` hold now, to a flow of `aim` tokens/s with few loads,
/// or as near as it gets.
pub fn replan_for(instance: Instance, old: &Placement, aim: f64, seed: u64) -> Repair {
    let mut old = old.clone();
    old.resize(instance.hosts.len(), None);
    // A range that no longer fits, as after a shift of the workload, is not held.
    for (host, range) in old.iter_mut().enumerate() {
        *range = range.filter(|it| it.end() <= instance.layers && instance.rate(host, *it) > 0.0);
    }
    let flow_reweighted = Judge::new(&instance).value(&old);
    let mut rng = Rng::with_seed(seed);
    let (schedule, stays_covered) = if flow_reweighted >= aim {
        (Schedule::none(&old), true)
    } else {
        ordered(&instance, &old, flow_reweighted, aim, &mut rng)
    };
    report(instance, &old, schedule, aim, flow_reweighted, stays_covered)
}

/// Searches for few loads, then for an order of them, until both are there.
fn ordered(
    instance: &Instance,
    old: &Placement,
    now: f64,
    aim: f64,
    rng: &mut Rng,
) -> (Schedule, bool) {
    let moves = (MOVES_PER_HOST * instance.hosts.len() as u64).min(MOVES_MAX);
    let goals = FALL_BACK.iter().map(|share| share * aim).filter(|&goal| goal > now);
    let mut unordered = None;
    for goal in goals {
        let mut fixed = vec![false; old.len()];
        for _ in 0..ORDERS_MAX {
            let Some(to) = fewest_loads(instance, old, &fixed, goal, moves, rng) else { break };
            match Schedule::order(instance, old, &to) {
                Ok(schedule) => return (schedule, true),
                Err(breaking) => breaking.into_iter().for_each(|host| fixed[host] = true),
            }
            unordered.get_or_insert(to);
        }
    }
    match unordered {
        // Nothing is served while a layer is missing, so that uncovering others costs no more.
        Some(to) if now <= 0.0 => (Schedule::at_once(instance, old, &to), false),
        _ => (Schedule::none(old), true),
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

/// What a full re-plan may reach: the flow before, times what the change leaves of the work that
/// all hosts do at their present ranges. A host without a range counts with the length that hosts
/// of its class have on average, or with the most work it can do.
fn estimate(before: &Instance, after: &Instance, old: &Placement, change: &Change) -> f64 {
    let flow = Judge::new(before).value(old);
    let work = |instance: &Instance, placement: &Placement| -> f64 {
        let held = |(host, range): (usize, &Option<LayerRange>)| match range {
            Some(range) => f64::from(range.count()) * instance.rate(host, *range),
            None => idle_work(instance, placement, host),
        };
        placement.iter().enumerate().map(held).sum()
    };
    let was = work(before, old);
    let mut now = change.survivors(old);
    now.resize(after.hosts.len(), None);
    if was > 0.0 { flow * work(after, &now) / was } else { 0.0 }
}

fn idle_work(instance: &Instance, placement: &Placement, host: usize) -> f64 {
    let class = instance.hosts[host].class;
    let peers = placement.iter().enumerate().filter(|it| instance.hosts[it.0].class == class);
    let counts: Vec<u32> = peers.filter_map(|it| it.1.map(LayerRange::count)).collect();
    let rates = &instance.classes[class].rates;
    let work = |count: u32| f64::from(count) * rates.most(count);
    match u32::try_from(counts.len()) {
        Ok(peers) if peers > 0 => work(counts.iter().sum::<u32>() / peers),
        _ => (1..=rates.count_max()).map(work).fold(0.0, f64::max),
    }
}
