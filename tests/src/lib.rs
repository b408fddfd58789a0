//! What the cross-crate tests share: a cluster of real host processes on this machine.

pub mod cluster;
