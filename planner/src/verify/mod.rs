//! Re-checks a printed plan with code of its own: feasibility, flow, and the proof of the bound.
//!
//! Nothing here calls the search, the flow or the bound modules: a mistake there must not excuse
//! itself. What is taken on trust is the instance, as read from the cluster file.

mod carrying;
mod covers;
mod placing;
mod proving;
#[cfg(test)]
mod tests;

use crate::instance::Instance;
use crate::report::{Report, gap};

/// Sums and capacities may differ by this share: weights are printed sums of rounded numbers.
pub(super) const TOLERANCE: f64 = 1e-6;

/// A plan that holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Hosts that hold layers.
    pub hosts: usize,
    /// Hops that carry something.
    pub hops: usize,
    /// What became of the bound.
    pub bound: Bound,
}

/// What became of a bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bound {
    /// It follows from the certificate.
    Proved,
    /// There is nothing to check it by.
    Claimed,
}

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    /// The plan is for another model.
    #[error("the plan is for model \"{plan}\", the cluster resolves to \"{cluster}\"")]
    Model {
        /// Model of the plan.
        plan: String,
        /// Model of the cluster.
        cluster: String,
    },
    /// The plan and the instance disagree on partial inference.
    #[error("the plan and the cluster differ on partial inference")]
    Partial,
    /// A figure that is no number, or negative.
    #[error("{what} is {value}, not a number of at least 0")]
    Figure {
        /// Which.
        what: String,
        /// What it says.
        value: f64,
    },
    /// A host that the cluster lacks.
    #[error("{what} names \"{host}\", which is not in the cluster")]
    UnknownHost {
        /// Where.
        what: &'static str,
        /// The name.
        host: String,
    },
    /// A host that is placed twice.
    #[error("{host} is placed twice")]
    PlacedTwice {
        /// Who.
        host: String,
    },
    /// A range without a layer, or beyond the model.
    #[error("{host} holds {first}..{end}, not a range within the {layers} layers")]
    Range {
        /// Who.
        host: String,
        /// First layer.
        first: u32,
        /// Last layer + 1.
        end: u32,
        /// Layers of the model.
        layers: u32,
    },
    /// A range that does not fit into memory.
    #[error("{host} cannot hold {first}..{end}: at most {most} layers fit")]
    Memory {
        /// Who.
        host: String,
        /// First layer.
        first: u32,
        /// Last layer + 1.
        end: u32,
        /// Layers that fit.
        most: u32,
    },
    /// A range that policy forbids.
    #[error("policy does not let {host} hold the {end} layer")]
    Policy {
        /// Who.
        host: String,
        /// "first" or "last".
        end: &'static str,
    },
    /// A hop that the ranges or the links do not allow.
    #[error("weight {from} -> {to} at {position}: {problem}")]
    Hop {
        /// Near end.
        from: String,
        /// Far end.
        to: String,
        /// Layers behind it.
        position: u32,
        /// Why not.
        problem: &'static str,
    },
    /// A host that passes on another amount than it receives.
    #[error("{host} receives {received} tokens/s and passes on {passed}")]
    Conservation {
        /// Who.
        host: String,
        /// In.
        received: f64,
        /// Out.
        passed: f64,
    },
    /// Something carries more than it can.
    #[error("{what} carries {carried} tokens/s, at most {capacity} fit")]
    Capacity {
        /// Host, card, link or shared capacity.
        what: String,
        /// What the weights make it carry.
        carried: f64,
        /// What it can.
        capacity: f64,
    },
    /// The weights do not add up to the flow.
    #[error("the plan claims a flow of {claimed} tokens/s, its weights carry {carried}")]
    Value {
        /// The plan's flow.
        claimed: f64,
        /// What leaves the source.
        carried: f64,
    },
    /// The bound contradicts the flow or the proof.
    #[error("the bound of {bound} tokens/s does not hold: {problem}")]
    Bound {
        /// The plan's bound.
        bound: f64,
        /// Why not.
        problem: String,
    },
    /// The gap does not follow from flow and bound.
    #[error("the plan claims a gap of {claimed}; flow and bound give {real}")]
    Gap {
        /// The plan's gap.
        claimed: f64,
        /// The true one.
        real: f64,
    },
}

/// Checks a plan against the cluster it is for, resolved for the plan's
/// [`model`](Report::model) and [`partial_inference`](Report::partial_inference).
///
/// # Errors
///
/// Everything that does not hold. Where the placement itself is wrong, the weights are not looked
/// at.
pub fn verify(
    report: &Report,
    instance: &Instance,
    model_name: &str,
) -> Result<Verdict, Vec<Finding>> {
    let mut findings = Vec::new();
    if report.model != model_name {
        let (plan, cluster) = (report.model.clone(), model_name.to_owned());
        findings.push(Finding::Model { plan, cluster });
    }
    if report.partial_inference != instance.partial {
        findings.push(Finding::Partial);
    }
    figures(report, &mut findings);
    match placing::check(report, instance, &mut findings) {
        Some(placement) if findings.is_empty() => {
            carrying::check(report, instance, &placement, &mut findings);
        }
        _ => {}
    }
    let bound = proving::check(report, instance, &mut findings);
    if findings.is_empty() {
        Ok(Verdict { hosts: report.placement.len(), hops: report.weights.len(), bound })
    } else {
        Err(findings)
    }
}

/// Flow, bound and gap must be numbers that go together.
fn figures(report: &Report, findings: &mut Vec<Finding>) {
    let figures = [("flow", report.flow), ("bound", report.bound)];
    for (what, value) in figures {
        if !(value >= 0.0 && value.is_finite()) {
            findings.push(Finding::Figure { what: what.to_owned(), value });
        }
    }
    let real = gap(report.flow, report.bound);
    // A gap that is no number is not near either.
    let near = (real - report.gap).abs() <= TOLERANCE;
    if !near {
        findings.push(Finding::Gap { claimed: report.gap, real });
    }
}

/// Whether `carried` exceeds `capacity` by more than rounding.
pub(super) fn exceeds(carried: f64, capacity: f64) -> bool {
    carried > capacity * (1.0 + TOLERANCE)
}
