//! Where the layers go: by a method, or as a file says.

use std::collections::BTreeMap;

use serde::Deserialize;
use thalweg_planner::Charge;
use thalweg_planner::cluster::Resolved;
use thalweg_planner::flow::{self, End, Flow, Hop};
use thalweg_planner::instance::{Instance, Placement};
use thalweg_planner::method::{Method, Watch};
use thalweg_planner::place::{self, pipelines};
use thalweg_planner::repair::Change;
use thalweg_planner::report::{Held, Report, SINK, SOURCE, Weight};
use thalweg_wire::LayerRange;

use super::{Scenario, ScenarioError};
use crate::world::late;

/// A placement, and what flows through it.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Who holds what.
    pub placement: Placement,
    /// The weights of the plan.
    pub flow: Flow,
    /// What a plan bounds, by host.
    pub steps: Vec<StepBounds>,
}

/// What a plan bounds of a host's steps, if it does.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StepBounds {
    /// Prompt tokens of a step at most.
    pub chunk_tokens: Option<u32>,
    /// Groups in which its requests decode.
    pub micro_batches: Option<u32>,
}

impl Placed {
    fn new(placement: Placement, flow: Flow) -> Self {
        Self { steps: vec![StepBounds::default(); placement.len()], placement, flow }
    }
}

/// The placement method of that name.
///
/// # Errors
///
/// Names those there are.
pub(super) fn method(name: &str) -> Result<Box<dyn Method>, ScenarioError> {
    place::method(name).ok_or_else(|| ScenarioError::Unknown {
        key: "placement".to_owned(),
        kind: "method",
        name: name.to_owned(),
        known: place::NAMES.map(|it| it.0).join(", "),
    })
}

impl Scenario {
    /// Places the layers: as the file says if there is one, else by the method. `watch` is called now
    /// and then, and may end the search.
    ///
    /// # Errors
    ///
    /// If the method finds nothing.
    pub fn place(&self, watch: &mut Watch<'_>) -> Result<Placed, ScenarioError> {
        if let Some(placed) = &self.placed {
            return Ok(placed.clone());
        }
        let instance = &self.at_start();
        let found = method(&self.method)?.place(instance, 0, watch);
        let not_placed = || ScenarioError::NotPlaced { method: self.method.clone() };
        let found = found.ok_or_else(not_placed)?;
        let flow = match &found.pipelines {
            // A request stays in its pipeline.
            Some(pipelines) => {
                let confined = pipelines::confined(instance, pipelines);
                flow::maximum(&confined, &found.placement, Charge::Full)
            }
            None => flow::maximum(instance, &found.placement, Charge::Full),
        };
        Ok(Placed::new(found.placement, flow))
    }

    /// The cluster without the hosts that join later.
    pub(super) fn at_start(&self) -> Instance {
        let lose = |instance: Instance, host| Change::HostLost { host }.apply(&instance);
        late(&self.faults).into_iter().fold(self.resolved.instance.clone(), lose)
    }
}

/// A recorded layout: hosts by their place in the cluster file, with first layer and last + 1. Without
/// weights it carries as much as it can.
#[derive(Debug, Deserialize)]
struct Layout {
    layout: BTreeMap<String, (u32, u32)>,
    #[serde(default)]
    weights: Vec<Weight>,
}

/// Reads a placement: what `thalweg plan --json` prints, or a layout whose `layout` maps places in
/// the cluster file to first layer and last + 1, perhaps with `weights` as plans have them.
///
/// # Errors
///
/// If the text is neither, or is about another cluster or another model.
pub fn read_placement(text: &str, resolved: &Resolved) -> Result<Placed, ScenarioError> {
    let unreadable =
        |error: serde_json::Error| ScenarioError::Placement { message: error.to_string() };
    let value: serde_json::Value = serde_json::from_str(text).map_err(unreadable)?;
    if value.get("layout").is_some() {
        let layout: Layout = serde_json::from_value(value).map_err(unreadable)?;
        let placement = of_layout(&layout, resolved)?;
        let flow = match &layout.weights[..] {
            [] => flow::maximum(&resolved.instance, &placement, Charge::Full),
            weights => flow_of(weights, Charge::Work, &resolved.instance)?,
        };
        return Ok(Placed::new(placement, flow));
    }
    let report: Report = serde_json::from_value(value).map_err(unreadable)?;
    let placement = of_report(&report, resolved)?;
    let flow = flow_of(&report.weights, report.charge.into(), &resolved.instance)?;
    let mut placed = Placed::new(placement, flow);
    for it in &report.placement {
        if let Some(host) = resolved.instance.hosts.iter().position(|host| host.name == it.host) {
            let Held { chunk_tokens, micro_batches, .. } = *it;
            placed.steps[host] = StepBounds { chunk_tokens, micro_batches };
        }
    }
    Ok(placed)
}

/// The weights of a plan, which carry what leaves the gateways.
fn flow_of(weights: &[Weight], charge: Charge, instance: &Instance) -> Result<Flow, ScenarioError> {
    let end = |name: &str| match name {
        SOURCE => Ok(End::Source),
        SINK => Ok(End::Sink),
        host => {
            let found = instance.hosts.iter().position(|it| it.name == host).map(End::Host);
            found.ok_or_else(|| ScenarioError::OtherCluster { host: host.to_owned() })
        }
    };
    let hop = |it: &Weight| {
        Ok(Hop {
            from: end(&it.from)?,
            to: end(&it.to)?,
            position: it.position,
            tokens_per_second: it.tokens_per_second,
        })
    };
    let hops = weights.iter().map(hop).collect::<Result<Vec<_>, ScenarioError>>()?;
    let entering = hops.iter().filter(|it| it.from == End::Source);
    let value = entering.map(|it| it.tokens_per_second).sum();
    Ok(Flow { value, charge, hops, limits: Vec::new(), least_latency: false })
}

fn of_report(report: &Report, resolved: &Resolved) -> Result<Placement, ScenarioError> {
    if report.model != resolved.model_name {
        return Err(ScenarioError::OtherModel {
            found: report.model.clone(),
            wanted: resolved.model_name.clone(),
        });
    }
    let known = |it: &&Held| resolved.instance.hosts.iter().any(|host| host.name == it.host);
    if let Some(stranger) = report.placement.iter().find(|it| !known(it)) {
        return Err(ScenarioError::OtherCluster { host: stranger.host.clone() });
    }
    let empty = || ScenarioError::Placement { message: "a host holds an empty range".to_owned() };
    report.placement_of(&resolved.instance).ok_or_else(empty)
}

fn of_layout(layout: &Layout, resolved: &Resolved) -> Result<Placement, ScenarioError> {
    let instance = &resolved.instance;
    let mut placement: Placement = vec![None; instance.hosts.len()];
    for (place, &(first, end)) in &layout.layout {
        let stranger = || ScenarioError::OtherCluster { host: place.clone() };
        let index: usize = place.parse().map_err(|_| stranger())?;
        let held = placement.get_mut(index).ok_or_else(stranger)?;
        let range = LayerRange::new(first, end);
        *held = Some(range.map_err(|it| ScenarioError::Placement { message: it.to_string() })?);
    }
    let end = placement.iter().flatten().map(|it| it.end()).max().unwrap_or(0);
    if end != instance.layers {
        return Err(ScenarioError::OtherModel {
            found: format!("a model of {end} layers"),
            wanted: format!("{} of {} layers", resolved.model_name, instance.layers),
        });
    }
    Ok(placement)
}
