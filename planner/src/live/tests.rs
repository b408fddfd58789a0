//! Instances with known answers, brute force, and random clusters.

mod brute;
mod cluster;
mod known;
mod random;
