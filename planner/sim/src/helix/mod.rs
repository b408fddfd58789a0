//! The event model and the schedulers of the Helix artifact (ASPLOS 2025, repository
//! Thesys-lab/Helix-ASPLOS25), for comparison under the rules of the paper.
//!
//! ```text
//! Scenario ── check ──▶ run ◀── agenda
//!                        │
//!     policy ◀──▶ network, stages, queries
//!                        │
//!                        └──▶ Outcome
//! ```
//!
//! The rules, where they differ from what a real cluster does: a host works on one layer at a time,
//! and batches are formed anew for each; the time of a step is that of its prompts plus that of its
//! decodes, whatever their context; every iteration travels from the gateway through all hosts and
//! back; a transmission reserves its share of line and network cards; KV memory is never short, or
//! the run ends; offline, whatever the KV estimate refuses is dropped.

mod agenda;
mod arrivals;
mod check;
mod error;
mod mersenne;
mod network;
mod outcome;
mod policy;
mod run;
mod scenario;
mod stage;
mod steps;
#[cfg(test)]
mod tests;
mod topology;
mod world;

pub use arrivals::draw_arrivals;
pub use error::HelixError;
pub use outcome::{Latency, Outcome, Record};
pub use run::simulate;
pub use scenario::{
    Arrival, End, Helix, Host, Length, Lengths, Link, Policy, Scenario, WhenFull, Window, Work,
};
pub use topology::{plan_links, swarm_links};
