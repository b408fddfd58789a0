//! The formulation of Helix (ASPLOS 2025, section 4), solved by HiGHS.
//!
//! A baseline, and a proof on small clusters: its relaxation says so little that a bound closes
//! on about ten hosts only. Every host that can hold a layer holds at least one, as in the paper;
//! a host without use costs no flow.
//!
//! It ends when it is solved or when `watch` says so: whoever calls it sets the time.

mod model;

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use self::model::Model;
use crate::instance::{Instance, Placement};
use crate::method::{Found, Method, Progress, Watch};
use crate::solver::{Answer, Effort, Point};

/// Tokens/s below which a flow is the solver's rounding.
const FLOW_MIN: f64 = 1e-3;

/// The mixed-integer program of Helix. Partial inference is on or off as the instance says.
#[derive(Default)]
pub struct Milp {
    /// Links that each host, and the gateways, keep at least: the fastest ones. A link stays if
    /// either end keeps it. `None` keeps all.
    pub links_max: Option<usize>,
    /// Adds the constraints that say when a validity binary *must* be one. The optimum is the same
    /// without them, as the artifact's own runs are.
    pub redundant: bool,
    /// Methods that are tried first; the best of their placements is the start.
    pub hints: Vec<Box<dyn Method>>,
    /// Nodes of branch and bound at most.
    pub nodes_max: Option<i32>,
}

impl Method for Milp {
    fn name(&self) -> &'static str {
        match (self.links_max, self.hints.is_empty()) {
            (Some(_), _) => "milp-pruned",
            (None, false) => "milp-hinted",
            (None, true) => "milp",
        }
    }

    fn place(&self, instance: &Instance, seed: u64, watch: &mut Watch<'_>) -> Option<Found> {
        let placements = self.hints.iter().filter_map(|hint| {
            hint.place(instance, seed, &mut |_| ControlFlow::Continue(())).map(|it| it.placement)
        });
        let placements: Vec<Placement> = placements.collect();
        self.place_from(instance, &placements, seed, watch)
    }
}

impl Milp {
    /// As [`Method::place`], beginning with the best of these placements.
    pub fn place_from(
        &self,
        instance: &Instance,
        starts: &[Placement],
        seed: u64,
        watch: &mut Watch<'_>,
    ) -> Option<Found> {
        let model = Model::new(instance, self.links_max, self.redundant);
        let starts = starts.iter().filter_map(|it| model.start(it));
        let start =
            starts.reduce(|best, next| if next.objective > best.objective { next } else { best });
        let effort = Effort {
            nodes_max: self.nodes_max,
            // Solved to the last digit that matters: 1e-4 is HiGHS' own gap as well as Gurobi's.
            gap: Some(1e-4),
            seed: Some((seed & u64::from(u32::MAX)) as u32),
            start: start.as_ref().map(|it| it.values.clone()),
            ..Effort::default()
        };
        let answer = model.program.maximise_watched(&effort, &mut |step| {
            let moves = step.iterations;
            watch(Progress { flow: step.objective.max(0.0), bound: step.bound, moves })
        });
        let (Answer::Optimal(point) | Answer::Feasible(point)) = answer else {
            return start.and_then(|it| self.found(&model, &it, None));
        };
        let bound = point.bound.is_finite().then_some(point.bound);
        self.found(&model, &point, bound)
    }

    fn found(&self, model: &Model, point: &Point, bound: Option<f64>) -> Option<Found> {
        // Of a pruned graph, only the pruned graph's flows are bounded.
        let bound = bound.filter(|_| self.links_max.is_none());
        let placement = model.placement(&point.values);
        (point.objective > FLOW_MIN).then_some(Found { placement, bound, pipelines: None })
    }
}
