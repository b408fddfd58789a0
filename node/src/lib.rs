//! The Thalweg host: actors, transport, consensus, HTTP API and command line around the machines.
//!
//! One process runs one host. Who starts whom:
//!
//! ```text
//! main ── serve ─┬─ transport   QUIC to every peer; frames in, frames out
//!                ├─ consensus   elects the planner, replicates the registry
//!                ├─ conductor   actor: what to plan, load, activate
//!                ├─ stage       actor: batches; feeds the compute thread that owns the tensors
//!                ├─ gateway     actor: requests, routes, replays
//!                └─ http        OpenAI-compatible API
//! ```
//!
//! Decisions are made in `thalweg-core`; this crate carries them out.

pub mod cli;
pub mod config;
pub mod consensus;
pub mod generate;
pub mod host;
pub mod http;
pub mod journal;
pub mod local;
pub mod metrics;
pub mod quota;
pub mod serve;
pub mod transport;
