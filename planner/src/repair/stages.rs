//! The order of a repair's steps: two stages, and in them make before break.

use thalweg_wire::LayerRange;

use super::Step;
use crate::instance::{Instance, Placement};

/// Steps in two stages.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// First stage first, in the order of hosts.
    pub steps: Vec<Step>,
    /// Who holds what after the first stage.
    pub between: Placement,
    /// Who holds what in the end.
    pub last: Placement,
}

impl Schedule {
    /// Nothing to do.
    pub fn none(old: &Placement) -> Self {
        Self { steps: Vec::new(), between: old.clone(), last: old.clone() }
    }

    /// All steps in one stage, whatever they uncover on the way.
    pub fn at_once(instance: &Instance, old: &Placement, to: &Placement) -> Self {
        let steps = (0..old.len()).filter_map(|host| step(instance, host, old, to, 1)).collect();
        Self { steps, between: to.clone(), last: to.clone() }
    }

    /// Puts each step into the first stage, unless that would uncover a layer.
    ///
    /// # Errors
    ///
    /// Hosts whose steps would uncover a layer in the second stage, too.
    pub fn order(instance: &Instance, old: &Placement, to: &Placement) -> Result<Self, Vec<usize>> {
        let mut first: Vec<bool> = (0..old.len()).map(|host| old[host] != to[host]).collect();
        while let Some(layer) = uncovered(instance, old, to, &first) {
            // The host that lets go of the layer and brings least.
            let leaving = (0..old.len()).filter(|&host| {
                let kept = during(instance, host, old[host], to[host]);
                first[host]
                    && holds(old[host], layer)
                    && (!holds(kept, layer) || !holds(to[host], layer))
            });
            let Some(host) = leaving.min_by_key(|&host| loads(old[host], to[host])) else { break };
            first[host] = false;
        }
        let pick = |host: usize| if first[host] { to[host] } else { old[host] };
        let between: Placement = (0..old.len()).map(pick).collect();
        let second: Vec<bool> = (0..old.len()).map(|host| between[host] != to[host]).collect();
        if let Some(layer) = uncovered(instance, &between, to, &second) {
            let breaking: Vec<usize> =
                (0..old.len()).filter(|&it| second[it] && holds(between[it], layer)).collect();
            return Err(breaking);
        }
        let one = (0..old.len()).filter_map(|host| step(instance, host, old, &between, 1));
        let two = (0..old.len()).filter_map(|host| step(instance, host, &between, to, 2));
        let steps = one.chain(two).collect();
        Ok(Self { steps, between, last: to.clone() })
    }

    /// Seconds until every layer is served by somebody, and until all is done.
    ///
    /// A host serves its new range as soon as it is loaded and nobody is missed where it was; at
    /// the latest at the end of the stage.
    pub fn seconds(&self, instance: &Instance, old: &Placement) -> (f64, f64) {
        let mut begin = 0.0;
        let mut covered = (missing(instance, old).is_empty()).then_some(0.0);
        let mut serving = old.clone();
        for stage in [1, 2] {
            let mut steps: Vec<&Step> = self.steps.iter().filter(|it| it.stage == stage).collect();
            steps.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
            for step in &steps {
                let kept = during(instance, step.host, step.from, step.to);
                serving[step.host] = kept;
            }
            let mut waiting: Vec<&Step> = Vec::new();
            for step in &steps {
                waiting.push(step);
                waiting.retain(|it| {
                    let before = missing(instance, &serving);
                    let was = std::mem::replace(&mut serving[it.host], it.to);
                    let worse = missing(instance, &serving).iter().any(|it| !before.contains(it));
                    if worse {
                        serving[it.host] = was;
                    }
                    worse
                });
                if covered.is_none() && missing(instance, &serving).is_empty() {
                    covered = Some(begin + step.seconds);
                }
            }
            waiting.iter().for_each(|it| serving[it.host] = it.to);
            begin += steps.last().map_or(0.0, |it| it.seconds);
            if covered.is_none() && missing(instance, &serving).is_empty() {
                covered = Some(begin);
            }
        }
        (covered.unwrap_or(f64::INFINITY), begin)
    }
}

/// A layer that was covered and is not while `moving` hosts load, or once they are done.
fn uncovered(
    instance: &Instance,
    from: &Placement,
    to: &Placement,
    moving: &[bool],
) -> Option<u32> {
    let turn = |of: &dyn Fn(usize) -> Option<LayerRange>| -> Placement {
        (0..from.len()).map(|host| if moving[host] { of(host) } else { from[host] }).collect()
    };
    let before = missing(instance, from);
    let loading = turn(&|host| during(instance, host, from[host], to[host]));
    let done = turn(&|host| to[host]);
    let mut gone = missing(instance, &loading);
    gone.extend(missing(instance, &done));
    gone.into_iter().find(|it| !before.contains(it))
}

/// Layers that nobody serves.
fn missing(instance: &Instance, placement: &Placement) -> Vec<u32> {
    let coverage = instance.coverage(placement);
    (0..instance.layers).filter(|&it| coverage[it as usize] <= 0.0).collect()
}

/// What a host goes on serving while it loads: all it has if memory holds the new layers, too;
/// else the layers that stay, and as many beside them as memory holds.
fn during(
    instance: &Instance,
    host: usize,
    from: Option<LayerRange>,
    to: Option<LayerRange>,
) -> Option<LayerRange> {
    let from = from?;
    let Some(to) = to else { return Some(from) };
    let memory = instance.class(host).rates.count_max();
    let room = memory.saturating_sub(loads(Some(from), Some(to))).min(from.count());
    // The end of the old range that lies towards the new one stays.
    let (first, end) = if to.first() >= from.first() {
        (from.end() - room, from.end())
    } else {
        (from.first(), from.first() + room)
    };
    LayerRange::new(first, end).ok()
}

/// Layers of `to` that are not in `from`.
pub(super) fn loads(from: Option<LayerRange>, to: Option<LayerRange>) -> u32 {
    let Some(to) = to else { return 0 };
    let Some(from) = from else { return to.count() };
    let shared = from.end().min(to.end()).saturating_sub(from.first().max(to.first()));
    to.count() - shared
}

fn holds(range: Option<LayerRange>, layer: u32) -> bool {
    range.is_some_and(|it| it.contains(layer))
}

fn step(
    instance: &Instance,
    host: usize,
    from: &Placement,
    to: &Placement,
    stage: u8,
) -> Option<Step> {
    let (from, to) = (from[host], to[host]);
    if from == to {
        return None;
    }
    let loads = loads(from, to);
    let bytes = f64::from(loads) * instance.layer_bytes;
    let rate = instance.hosts[host].load_bytes_per_second;
    let seconds = if loads == 0 { 0.0 } else { bytes / rate };
    Some(Step { host, from, to, loads, bytes, seconds, stage })
}
