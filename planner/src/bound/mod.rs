//! Proved limits on the flow of every placement.

pub mod configuration;
pub mod network;
pub mod work;
