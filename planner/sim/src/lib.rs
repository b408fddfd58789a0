//! The twin: a virtual clock, virtual links and virtual devices around the machines of
//! `thalweg-core`. What serves on real hosts is simulated here, not a copy of it.
//!
//! ```text
//! Instance, Placement, flow ── plan ──▶ Plan ──┐
//! curves ── compute ──▶ step times ────────────┤
//! links  ── link ────▶ max-min fair rates ─────┼──▶ world ──▶ outcome
//! workload ──▶ requests ───────────────────────┤
//! faults, replan ──────────────────────────────┘
//! ```
//!
//! The same arguments give the same outcome, to the byte. `helix` is the event model of the Helix
//! artifact, for comparison under the rules of the paper.

pub mod agenda;
pub mod compute;
pub mod helix;
pub mod ledger;
pub mod link;
pub mod outcome;
pub mod plan;
pub mod replay;
pub mod scenario;
pub mod workload;
pub mod world;
