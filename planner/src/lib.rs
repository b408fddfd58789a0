//! Where a model's layers go: a cluster, its links and a workload in, a plan with its proof out.
//!
//! ```text
//! cluster file ── cluster ──▶ Instance ── place::* ──▶ Placement ── flow ──▶ weights, cut
//!  (TOML)         (T_i(k))       │                          │
//!                                └── bound::* ──▶ proof ──▶ report ──▶ verify
//! ```
//!
//! Two models of a host's capacity are in use, and every plan names its own. Under *full charge* a
//! host with `k` layers sustains `T(k)` tokens/s whatever it computes of them; without binding
//! links the maximum flow is then the least coverage of any layer. Under *work charge* a token costs
//! a host the layers it really computes there, which is what happens in a running cluster.
//!
//! The same problem and the same seed give the same plan. The crate is pure apart from the solver;
//! its caller owns clocks, files and threads.

pub mod bound;
pub mod cluster;
pub mod device;
pub mod flow;
pub mod frontier;
pub mod instance;
mod live;
pub mod method;
pub mod place;
pub mod repair;
pub mod report;
pub mod sensitivity;
pub mod solver;
pub mod survive;
pub mod svg;
pub mod verify;

pub use live::{
    Bottleneck, Charge, Excluded, Exclusion, Infeasible, Limit, Outcome, PlanHost, PlanLink,
    Problem, ProblemError, Progress, Reason, Search, Solution, Workload, reweigh,
};
