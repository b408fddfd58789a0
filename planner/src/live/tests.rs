//! Instances with known answers, brute force, and random clusters.

mod brute;
pub(crate) mod cluster;
mod known;
pub(crate) mod random;
