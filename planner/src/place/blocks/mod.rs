//! Search over region blocks where links between regions bind.
//!
//! Where a link between regions carries less than a host computes, almost every random placement
//! crosses regions on one thin pair of hosts, and a search that knows only whole flows never gets
//! away from there. So regions come first: those that can hold the model alone do so, the others
//! are chained into groups (`groups`); in a chain each region has a block of layers, and hosts
//! are annealed inside their region's block (`chain`). Where two blocks overlap by a few layers,
//! several hosts of one region hand over to several of the next, which is how thin links carry
//! more than one of them does.

mod chain;
mod groups;
#[cfg(test)]
mod tests;

use fastrand::Rng;

use crate::instance::{Instance, Network, Pairs, Placement};
use crate::method::{Found, Progress, Watch};

use crate::bound::network;
use crate::flow::Judge;
use chain::Chain;

/// Exact flows in one run of annealing, times hosts, at most: with a thousand hosts a flow takes
/// milliseconds.
const EXACT_HOSTS_PER_RUN: u32 = 5_000_000;
/// Orders of the regions of a chain that are tried, at most.
const ORDERS_MAX: usize = 24;
/// Moves of one run of annealing, for each host.
const MOVES_PER_HOST: u32 = 8192;
/// Moves of one run at most: a run must end before its caller wonders.
const MOVES_MAX: u32 = 4_000_000;
/// Runs of annealing for a chain of several regions.
const RUNS_OF_CHAIN: u32 = 400;
/// Runs for a region of its own, where links do not bind.
const RUNS_OF_REGION: u32 = 12;
/// How far above the best flow the next run aims, as shares of what is left to the limit.
const AIMS: [f64; 3] = [0.3, 0.6, 1.0];
/// Where the first run aims, as a share of the limit.
const AIM_FIRST: f64 = 0.75;
/// A flow this close to the limit ends the search.
const CLOSE: f64 = 1.0 - 1e-4;

/// Searches for a placement, region by region. `None` if none with a positive flow was found.
///
/// The same instance and seed give the same placement unless `watch` ends the search. It is for
/// instances where links between regions bind; elsewhere it finds less than a search without
/// blocks.
pub fn search(instance: &Instance, seed: u64, watch: &mut Watch<'_>) -> Option<Found> {
    let mut placement = vec![None; instance.hosts.len()];
    let (mut flow, mut moves) = (0.0, 0);
    for group in groups::split(instance) {
        let (part, hosts) = only(instance, &group);
        let mut unshared = part.clone();
        unshared.network.shared.clear();
        let mut search = Search::new(&part, &unshared, group, seed);
        let mut ended = false;
        while !ended && search.run() {
            let progress = Progress {
                flow: flow + search.flow,
                bound: f64::INFINITY,
                moves: moves + search.moves,
            };
            ended = watch(progress).is_break();
        }
        for (&host, &range) in hosts.iter().zip(&search.best) {
            // A host that gives nothing there holds nothing.
            placement[host] = range.filter(|&it| instance.rate(host, it) > 0.0);
        }
        flow += search.flow;
        moves += search.moves;
    }
    (flow > 0.0).then(|| Found::new(placement))
}

/// The search for one group.
struct Search<'a> {
    instance: &'a Instance,
    /// Knows shared capacities, which may make it slow.
    judge: Judge<'a>,
    /// Does not know them.
    links: Judge<'a>,
    rng: Rng,
    /// Orders of the regions to try, with the best flow seen in each.
    orders: Vec<(Vec<usize>, f64)>,
    /// No flow is above this.
    limit: f64,
    runs: u32,
    moves: u64,
    flow: f64,
    best: Placement,
}

impl<'a> Search<'a> {
    fn new(instance: &'a Instance, unshared: &'a Instance, regions: Vec<usize>, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        Self {
            instance,
            judge: Judge::new(instance),
            links: Judge::new(unshared),
            limit: limit(instance, &regions),
            orders: orders(regions, &mut rng),
            rng,
            runs: 0,
            moves: 0,
            flow: 0.0,
            best: vec![None; instance.hosts.len()],
        }
    }

    /// Anneals once. False if there is no use in going on.
    fn run(&mut self) -> bool {
        let chained = self.orders.first().is_some_and(|it| it.0.len() > 1);
        let runs_max = if chained { RUNS_OF_CHAIN } else { RUNS_OF_REGION };
        if self.runs == runs_max || self.flow >= self.limit * CLOSE {
            return false;
        }
        let order = self.next_order();
        self.runs += 1;
        let aim = AIMS[self.rng.usize(..AIMS.len())];
        let target = (self.flow + (self.limit - self.flow) * aim).max(self.limit * AIM_FIRST);
        let Some(chain) = Chain::new(self.instance, &self.orders[order].0, target) else {
            return true;
        };
        let hosts = u32::try_from(self.instance.hosts.len()).unwrap_or(u32::MAX);
        let moves = MOVES_PER_HOST.saturating_mul(hosts).min(MOVES_MAX);
        let mut state = chain.start(&mut self.rng);
        let mut placement = vec![None; self.instance.hosts.len()];
        let mut best_here = self.orders[order].1;
        let mut exact_left = EXACT_HOSTS_PER_RUN / hosts.max(1);
        chain.anneal(&mut state, (target, moves), &mut self.rng, &mut |state, limit| {
            exact_left = exact_left.checked_sub(1)?;
            chain.write(state, &mut placement);
            let mut value = self.links.value(&placement).min(limit);
            if value > self.flow {
                value = self.judge.value(&placement);
            }
            best_here = f64::max(best_here, value);
            if value > self.flow {
                self.flow = value;
                self.best.clone_from(&placement);
            }
            Some((self.flow, value))
        });
        self.orders[order].1 = best_here;
        self.moves += u64::from(moves);
        true
    }

    /// Each order once, then every other time the best of them.
    fn next_order(&mut self) -> usize {
        let count = self.orders.len();
        if (self.runs as usize) < count || self.runs.is_multiple_of(2) {
            return self.rng.usize(..count);
        }
        let flow = |at: &usize| self.orders[*at].1;
        (0..count).max_by(|a, b| flow(a).total_cmp(&flow(b))).unwrap_or(0)
    }
}

/// What hosts and links allow at most.
fn limit(instance: &Instance, regions: &[usize]) -> f64 {
    let estimate = groups::estimate(instance, regions);
    network::prove(instance, estimate).map_or(estimate, |it| it.value)
}

/// Orders of `regions`: all of them if they are few, else random ones.
fn orders(regions: Vec<usize>, rng: &mut Rng) -> Vec<(Vec<usize>, f64)> {
    let mut orders = vec![Vec::new()];
    for region in &regions {
        let longer = |order: &Vec<usize>| {
            let with = |at: usize| {
                let mut order = order.clone();
                order.insert(at, *region);
                order
            };
            (0..=order.len()).map(with).collect::<Vec<_>>()
        };
        orders = orders.iter().flat_map(longer).collect();
        rng.shuffle(&mut orders);
        orders.truncate(ORDERS_MAX);
    }
    orders.into_iter().map(|it| (it, 0.0)).collect()
}

/// The instance with the hosts of `regions` only, and which hosts they are.
fn only(instance: &Instance, regions: &[usize]) -> (Instance, Vec<usize>) {
    let hosts: Vec<usize> = groups::hosts_of(instance, regions).collect();
    let network = &instance.network;
    let pairs = match &network.pairs {
        Pairs::ByRegion(table) => Pairs::ByRegion(table.clone()),
        Pairs::Each(_) => {
            let pair = |&from| hosts.iter().map(move |&to| instance.wire(from, to));
            Pairs::Each(hosts.iter().flat_map(pair).collect())
        }
    };
    let part = Instance {
        hosts: hosts.iter().map(|&it| instance.hosts[it].clone()).collect(),
        network: Network {
            pairs,
            enter: hosts.iter().map(|&it| network.enter[it]).collect(),
            leave: hosts.iter().map(|&it| network.leave[it]).collect(),
            shared: network.shared.clone(),
        },
        ..instance.clone()
    };
    (part, hosts)
}
