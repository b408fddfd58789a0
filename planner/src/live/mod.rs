//! The planner of a running cluster: measured profiles and links in, the next epoch's plan out.
//!
//! ```text
//! Problem ── Search::new ──▶ Search ── step(moves) ──▶ Progress     (no clock: moves are counted)
//!                              │
//!                              └── best() ──▶ Outcome::Planned(Solution) ── into_plan ──▶ wire::Plan
//!                                           └ Outcome::Infeasible(..)      an answer, with numbers
//!
//! Starts   exact chains, copies, whole models      (chain)
//! Anneal   coverage of every layer towards a target (anneal, maxflow where links bind)
//! Polish   the work-charge flow over routes judges each neighbour (routes, score)
//! Weights  the same flow hop by hop, with duals (work: good_lp and HiGHS, nowhere else)
//! ```
//!
//! Two models of a host's capacity are in use, and every [`Solution`] names its own ([`Charge`]).
//! Under *full charge* a host with `k` layers sustains `T(k)` tokens/s whatever it computes of them;
//! the flow is then a plain maximum flow, and without binding links the least coverage of any layer.
//! Under *work charge* a token costs a host the layers it really computes there, which is what
//! happens; the flow is a linear program, and its solution is what the router's weights are.
//!
//! The same problem and the same seed give the same plan. The crate is pure apart from the solver.

mod anneal;
mod bound;
mod capacity;
mod chain;
mod diagnose;
mod full;
mod instance;
mod maxflow;
mod network;
mod outcome;
mod polish;
mod problem;
mod reweigh;
mod routes;
mod score;
mod search;
mod solution;
mod work;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use instance::Instance as Prepared;
pub use outcome::{Excluded, Exclusion, Infeasible, Outcome, Reason};
pub use problem::{PlanHost, PlanLink, Problem, ProblemError, Workload};
pub use reweigh::reweigh;
pub use search::{Progress, Search};
pub use solution::{Bottleneck, Charge, Limit, Solution};
