//! Independent asymmetric pipelines found by search, as in HexGen (ICML 2024).
//!
//! A genetic search over orders of hosts; dynamic programming cuts each order into pipelines and
//! splits the layers within each (`pipelines::cut`). Tensor parallelism between machines is left
//! out: links of a few Gb/s do not carry it, and inside a machine it is part of its profile.

use super::pipelines;
use super::separate::{by_region, by_speed};
use crate::instance::Instance;
use crate::method::{Found, Method, Watch};

/// Orders that live at once.
const POPULATION: usize = 32;
/// Children of a generation.
const CHILDREN: usize = 32;
/// Generations without a better order after which the search ends.
const GENERATIONS_STALE_MAX: u64 = 60;
/// Orders that compete to become a parent.
const TOURNAMENT: usize = 3;

/// A genetic search over independent pipelines.
#[derive(Clone, Copy, Debug)]
pub struct Hexgen {
    /// Generations at most.
    pub generations_max: u64,
}

impl Default for Hexgen {
    fn default() -> Self {
        Self { generations_max: 400 }
    }
}

#[derive(Clone)]
struct Individual {
    order: Vec<usize>,
    flow: f64,
}

impl Method for Hexgen {
    fn name(&self) -> &'static str {
        "hexgen"
    }

    fn place(&self, instance: &Instance, seed: u64, watch: &mut Watch<'_>) -> Option<Found> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut population = first_orders(instance, &mut rng);
        let (mut best, mut stale) = (0.0, 0);
        for generation in 0..self.generations_max {
            population.sort_by(|a, b| super::by_descending(a.flow, b.flow));
            population.truncate(POPULATION);
            let leader = population.first()?.flow;
            stale = if leader > best { 0 } else { stale + 1 };
            best = leader;
            let enough = stale > GENERATIONS_STALE_MAX || population[0].order.len() < 2;
            if enough || watch(super::progress(best, generation)).is_break() {
                break;
            }
            for _ in 0..CHILDREN {
                let child = child(&population, &mut rng);
                population.push(Individual::new(instance, child));
            }
        }
        let winner = population.into_iter().reduce(|a, b| if b.flow > a.flow { b } else { a })?;
        pipelines::found(instance, pipelines::cut(instance, &winner.order))
    }
}

impl Individual {
    fn new(instance: &Instance, order: Vec<usize>) -> Self {
        let flow = pipelines::cut(instance, &order).iter().map(|it| it.flow).sum();
        Self { order, flow }
    }
}

/// Hosts by region, by speed, and at random, so that the search neither starts blind nor narrow.
fn first_orders(instance: &Instance, rng: &mut fastrand::Rng) -> Vec<Individual> {
    let usable = |it: &usize| instance.class(*it).rates.count_max() > 0;
    let hosts: Vec<usize> = (0..instance.hosts.len()).filter(usable).collect();
    let mut orders = vec![by_region(instance, hosts.clone()), by_speed(instance, hosts.clone())];
    while orders.len() < POPULATION {
        let mut order = hosts.clone();
        rng.shuffle(&mut order);
        orders.push(order);
    }
    orders.into_iter().map(|it| Individual::new(instance, it)).collect()
}

/// Crosses two parents, then changes the order a little.
fn child(population: &[Individual], rng: &mut fastrand::Rng) -> Vec<usize> {
    let mother = parent(population, rng);
    let mut order =
        if rng.bool() { cross(mother, parent(population, rng), rng) } else { mother.to_vec() };
    for _ in 0..rng.usize(1..=3) {
        mutate(&mut order, rng);
    }
    order
}

fn parent<'a>(population: &'a [Individual], rng: &mut fastrand::Rng) -> &'a [usize] {
    // Survivors come first and sorted, so that the least index is the best.
    let survivors = population.len().min(POPULATION);
    let drawn = (0..TOURNAMENT).map(|_| rng.usize(0..survivors)).min().unwrap_or(0);
    &population[drawn].order
}

/// Order crossover: a stretch of one parent, the rest in the order of the other.
fn cross(mother: &[usize], father: &[usize], rng: &mut fastrand::Rng) -> Vec<usize> {
    let (start, end) = stretch(mother.len(), rng);
    let kept = &mother[start..end];
    let taken: std::collections::BTreeSet<usize> = kept.iter().copied().collect();
    let mut rest = father.iter().copied().filter(|it| !taken.contains(it));
    let mut order: Vec<usize> = rest.by_ref().take(start).collect();
    order.extend_from_slice(kept);
    order.extend(rest);
    order
}

fn mutate(order: &mut Vec<usize>, rng: &mut fastrand::Rng) {
    match rng.u8(0..4) {
        0 => {
            let (a, b) = (rng.usize(0..order.len()), rng.usize(0..order.len()));
            order.swap(a, b);
        }
        1 => {
            let (start, end) = stretch(order.len(), rng);
            order[start..end].reverse();
        }
        2 => {
            let host = order.remove(rng.usize(0..order.len()));
            order.insert(rng.usize(0..=order.len()), host);
        }
        _ => {
            let (start, end) = stretch(order.len(), rng);
            let moved: Vec<usize> = order.drain(start..end).collect();
            let at = rng.usize(0..=order.len());
            order.splice(at..at, moved);
        }
    }
}

fn stretch(length: usize, rng: &mut fastrand::Rng) -> (usize, usize) {
    let (a, b) = (rng.usize(0..=length), rng.usize(0..=length));
    (a.min(b), a.max(b))
}
