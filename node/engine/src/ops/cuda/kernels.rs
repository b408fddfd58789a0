//! Kernels: what runs on the device. They know buffers of numbers, no tensor.
//!
//! A *cube* is a block of units that share memory and can wait for each other; a *plane* of it is the
//! units that run in step and add up values without memory: 32 on NVIDIA's GPUs, one on processors.

pub(super) mod append;
pub(super) mod attend;
pub(super) mod expand;
pub(super) mod gate;
pub(super) mod multiply;
pub(super) mod norm;

use std::f32::consts::LOG2_E;

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use crate::exp::{HIGHEST, LN_2_HIGH, LN_2_LOW, LOWEST, POLYNOMIAL, ROUNDER};

/// The sum over the units of a plane, in each of them.
#[cube]
fn plane_total(value: f32, #[comptime] lanes: usize) -> f32 {
    let mut total = value;
    if comptime!(lanes > 1) {
        total = plane_sum(value);
    }
    total
}

/// The largest value of the units of a plane, in each of them.
#[cube]
fn plane_largest(value: f32, #[comptime] lanes: usize) -> f32 {
    let mut largest = value;
    if comptime!(lanes > 1) {
        largest = plane_max(value);
    }
    largest
}

/// The sum over `team` neighbouring units of a plane, a power of two, in each of them.
#[cube]
fn team_total(value: f32, #[comptime] team: usize) -> f32 {
    let mut total = value;
    #[unroll]
    for step in 0..comptime!(team.trailing_zeros()) {
        total += plane_shuffle_xor(total, comptime!(1u32 << step));
    }
    total
}

/// `e^x`, as [`exp`](crate::exp::exp). The function of the language needs NVIDIA's library of mathematics
/// where the program runs, which comes with the CUDA toolkit and not with the driver.
#[cube]
fn exponential(x: f32) -> f32 {
    let x = clamp_nan(x, LOWEST, HIGHEST);
    let shifted = fma(x, LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    let r = fma(n, comptime!(-LN_2_LOW), fma(n, comptime!(-LN_2_HIGH), x));
    let mut power = f32::new(comptime!(POLYNOMIAL[0]));
    #[unroll]
    for it in 0..5usize {
        power = fma(power, r, f32::new(comptime!(POLYNOMIAL[it + 1])));
    }
    let power = fma(power, r * r, r) + 1.0;
    let exponent = u32::reinterpret(shifted) - comptime!(ROUNDER.to_bits() - 127);
    power * f32::reinterpret(exponent << 23)
}
