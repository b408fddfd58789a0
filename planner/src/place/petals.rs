//! The greedy rule of Petals: each host takes the weakest stretch of layers.
//!
//! Hosts come in a random order. Each takes as many layers as fit, at the start whose window of
//! current throughputs per layer, sorted, is the smallest in lexicographic order. In a swarm that
//! runs, hosts also move when the worst layer would gain enough by it (`rebalance`).

use std::cmp::Ordering;

use thalweg_wire::LayerRange;

use super::range;
use crate::instance::{Instance, Placement};
use crate::method::{Found, Method, Watch};

/// A host moves if the worst layer now has less than this part of what it would have after all
/// have moved as they like (Petals' default).
const BALANCE_QUALITY: f64 = 0.75;

/// Part of a host's throughput that it gives up when it looks at its own layers, so that staying
/// wins ties (Petals' own value).
const TIE: f64 = 1e-3;

/// Rounds of moves at most; Petals' rule has no end of its own.
const ROUNDS_MAX: usize = 100;

/// Each host takes the weakest stretch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Petals {
    /// Whether hosts move once all have joined, as in the real system; the Helix artifact's rule
    /// leaves them where they are.
    pub rebalance: bool,
}

impl Method for Petals {
    fn name(&self) -> &'static str {
        if self.rebalance { "petals-rebalanced" } else { "petals" }
    }

    fn place(&self, instance: &Instance, seed: u64, watch: &mut Watch<'_>) -> Option<Found> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut order: Vec<usize> = (0..instance.hosts.len()).collect();
        rng.shuffle(&mut order);
        let mut swarm = Swarm::new(instance);
        for &host in &order {
            swarm.join(host);
        }
        if self.rebalance {
            swarm.rebalance(&mut rng, watch);
        }
        let whole = swarm.throughput.iter().all(|&it| it > 0.0);
        whole.then_some(Found::new(swarm.placement))
    }
}

#[derive(Clone)]
struct Swarm<'a> {
    instance: &'a Instance,
    placement: Placement,
    /// Of each layer: the sum over its holders.
    throughput: Vec<f64>,
}

impl<'a> Swarm<'a> {
    fn new(instance: &'a Instance) -> Self {
        let throughput = vec![0.0; instance.layers as usize];
        Self { instance, placement: vec![None; instance.hosts.len()], throughput }
    }

    fn join(&mut self, host: usize) {
        let most = self.instance.class(host).rates.count_max().min(self.instance.layers);
        let counts = (1..=most).rev();
        self.placement[host] = counts.into_iter().find_map(|count| self.best(host, count));
        self.add(host, 1.0);
    }

    /// The weakest window of `count` layers that the host can hold; the first of equals.
    fn best(&self, host: usize, count: u32) -> Option<LayerRange> {
        let starts = 0..=self.instance.layers - count;
        let windows = starts.filter_map(|first| {
            let range = range(first, first + count)?;
            (self.instance.rate(host, range) > 0.0).then(|| (self.sorted(range), range))
        });
        windows.min_by(|a, b| lexicographic(&a.0, &b.0)).map(|it| it.1)
    }

    fn sorted(&self, range: LayerRange) -> Vec<f64> {
        let mut window = self.throughput[range.first() as usize..range.end() as usize].to_vec();
        window.sort_by(f64::total_cmp);
        window
    }

    fn add(&mut self, host: usize, factor: f64) {
        let Some(range) = self.placement[host] else { return };
        let rate = self.instance.rate(host, range) * factor;
        let held = &mut self.throughput[range.first() as usize..range.end() as usize];
        held.iter_mut().for_each(|it| *it += rate);
    }

    fn worst(&self) -> f64 {
        self.throughput.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Moves a host to where it would join now. Returns whether that is elsewhere.
    fn settle(&mut self, host: usize) -> bool {
        let Some(before) = self.placement[host] else { return false };
        self.add(host, -(1.0 + TIE));
        let after = self.best(host, before.count());
        self.add(host, TIE);
        self.placement[host] = after.or(Some(before));
        self.add(host, 1.0);
        after.is_some_and(|it| it != before)
    }

    /// Each host in turn moves if that lets the whole swarm improve enough.
    fn rebalance(&mut self, rng: &mut fastrand::Rng, watch: &mut Watch<'_>) {
        for round in 0..ROUNDS_MAX {
            let mut moved = false;
            for host in 0..self.placement.len() {
                if self.should_move(host, &mut rng.fork()) {
                    moved |= self.settle(host);
                }
            }
            let progress = super::progress(self.worst(), round as u64);
            if !moved || watch(progress).is_break() {
                return;
            }
        }
    }

    /// Petals' `should_choose_other_blocks`: imagines that all others move too.
    fn should_move(&self, host: usize, rng: &mut fastrand::Rng) -> bool {
        let mut imagined = self.clone();
        imagined.add(host, -(1.0 + TIE));
        let needed = self.worst() > TIE && imagined.worst() <= 0.0;
        imagined.add(host, 1.0 + TIE);
        if needed || !imagined.settle(host) {
            return false;
        }
        let mut order: Vec<usize> = (0..self.placement.len()).collect();
        for _ in 0..ROUNDS_MAX {
            rng.shuffle(&mut order);
            let moves = order.iter().filter(|&&it| imagined.settle(it)).count();
            if moves == 0 {
                break;
            }
        }
        let (now, then) = (self.worst(), imagined.worst());
        then >= now && then > TIE && now / then < BALANCE_QUALITY - TIE
    }
}

fn lexicographic(a: &[f64], b: &[f64]) -> Ordering {
    let differing = a.iter().zip(b).map(|(a, b)| a.total_cmp(b)).find(|it| it.is_ne());
    differing.unwrap_or(Ordering::Equal)
}
