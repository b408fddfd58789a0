//! The bound: it must follow from the certificate, by arithmetic done anew.

use super::{Bound, Finding, exceeds};
use crate::instance::Instance;
use crate::report::Report;

/// Checks the bound against flow and certificate.
pub(super) fn check(report: &Report, _instance: &Instance, findings: &mut Vec<Finding>) -> Bound {
    if exceeds(report.flow, report.bound) {
        let problem = format!("the flow is {}", report.flow);
        findings.push(Finding::Bound { bound: report.bound, problem });
    }
    Bound::Claimed
}
