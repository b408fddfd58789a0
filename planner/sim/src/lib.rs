//! Simulators of clusters.
//!
//! `helix` is the event model of the Helix artifact, for comparison under the rules of the paper. The
//! twin, a virtual clock and virtual links around the machines of `thalweg-core`, is not there yet.

pub mod helix;
