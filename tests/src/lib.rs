//! What the cross-crate tests share: a cluster of real host processes on this machine.

pub mod client;
pub mod cluster;
pub mod golden;
pub mod half_core;
pub mod official;
pub mod planning;
