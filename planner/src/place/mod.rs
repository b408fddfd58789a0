//! Placement methods.

pub mod blocks;
pub mod coverage;
pub mod hexgen;
pub mod homogeneous;
pub mod milp;
pub mod petals;
pub mod separate;
pub mod swarm;
