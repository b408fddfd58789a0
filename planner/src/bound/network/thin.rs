//! Thin crossings: prices that leave no room for the hosts which crossings need.

use super::knapsack::{Cover, Knapsack};
use super::{GAIN_MIN, NetworkProof, NetworkReason};
use crate::bound::Price;
use crate::instance::{Instance, Pairs};
use crate::solver::{Answer, Effort, Program};

/// Covers are told apart by up to so many hosts; more count as many as it takes.
const HOSTS_MAX: usize = 6;
/// Relative width at which the bisection ends.
const WIDTH: f64 = 2e-5;
/// Steps down from the given bound to an unprovable flow; each halves the flow.
const HALVINGS_MAX: u32 = 20;
/// Linear programs for one flow at most; then it counts as not refuted.
const ROUNDS_MAX: usize = 60;
/// A cover that costs less than it must by this much refutes its prices.
const TOLERANCE: f64 = 1e-7;
/// By how much the excesses must be too large: far more than sums are off by.
const MARGIN: f64 = 1e-6;

/// Prices with the costs of covers that go with them.
type Refutation = (Vec<f64>, Vec<f64>);

/// What is asked about, with the covers found so far; most of them serve for other flows, too.
struct Search<'a> {
    instance: &'a Instance,
    /// Tokens/s on the widest link between regions.
    link: f64,
    any: Vec<Cover>,
    /// By two hosts at least.
    several: Vec<Cover>,
}

/// Proves a bound below `below`. `None` if crossings do not limit there.
pub(super) fn prove(instance: &Instance, below: f64) -> Option<NetworkProof> {
    let link = widest_crossing(instance)?;
    let mut search = Search { instance, link, any: Vec::new(), several: Vec::new() };
    let mut high = below * (1.0 - GAIN_MIN);
    let mut best = search.refute(high)?;
    let mut low = high / 2.0;
    for _ in 0..HALVINGS_MAX {
        let Some(lower) = search.refute(low) else { break };
        (best, high, low) = (lower, low, low / 2.0);
    }
    while high - low > WIDTH * high {
        let middle = f64::midpoint(low, high);
        match search.refute(middle) {
            Some(refutation) => (best, high) = (refutation, middle),
            None => low = middle,
        }
    }
    let (prices, costs) = best;
    let price = |(at, price)| Price { class: instance.classes[at as usize].name.clone(), price };
    let prices = (0_u32..).zip(prices).map(price).collect();
    Some(NetworkProof { value: high, reason: NetworkReason::Thin { prices, costs } })
}

/// Most tokens/s on a link between hosts of different regions. `None` if no two regions have hosts.
fn widest_crossing(instance: &Instance) -> Option<f64> {
    let regions = instance.regions.len();
    let mut occupied = vec![false; regions];
    instance.hosts.iter().for_each(|it| occupied[it.region] = true);
    if occupied.iter().filter(|it| **it).count() < 2 {
        return None;
    }
    let rate = |from: usize, to: usize| match &instance.network.pairs {
        Pairs::ByRegion(table) => table[from * regions + to],
        Pairs::Each(_) => instance.wire(from, to),
    };
    let crossing = |&(from, to): &(usize, usize)| match &instance.network.pairs {
        Pairs::ByRegion(_) => from != to && occupied[from] && occupied[to],
        Pairs::Each(_) => instance.hosts[from].region != instance.hosts[to].region,
    };
    let count = match &instance.network.pairs {
        Pairs::ByRegion(_) => regions,
        Pairs::Each(_) => instance.hosts.len(),
    };
    let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
    let rates = pairs.filter(crossing).filter_map(|(from, to)| rate(from, to));
    Some(rates.map(|it| it.tokens_per_second).fold(0.0, f64::max))
}

impl Search<'_> {
    /// Finds prices that show that no placement reaches `flow`.
    fn refute(&mut self, flow: f64) -> Option<Refutation> {
        if flow <= self.link {
            return None;
        }
        let knapsack = Knapsack::new(self.instance, flow);
        for _ in 0..ROUNDS_MAX {
            let (prices, excess, worth) = self.propose(flow)?;
            // More than twice the excess of two hosts is never charged for one crossing.
            if worth > f64::from(self.instance.layers) {
                return None;
            }
            let [first, second] = <[Cover; 2]>::try_from(knapsack.cheapest(&prices, 2)?).ok()?;
            let poor = [first.cost < 1.0 - TOLERANCE, second.cost < 1.0 + excess - TOLERANCE];
            if poor == [false, false] {
                let covers = knapsack.cheapest(&prices, HOSTS_MAX)?;
                let costs: Vec<f64> = covers.iter().map(|it| it.cost).collect();
                let proved = refutes(self.instance, &prices, &costs, flow / self.link);
                return proved.then_some((prices, costs));
            }
            self.any.extend(poor[0].then_some(first));
            self.several.extend(poor[1].then_some(second));
        }
        None
    }

    /// Prices at which every known cover of `flow` costs 1, those of several hosts an excess more,
    /// such that all hosts cost as little as possible, less twice that excess. Returns prices,
    /// excess and that worth.
    fn propose(&self, flow: f64) -> Option<(Vec<f64>, f64, f64)> {
        let mut program = Program::default();
        for class in 0..self.instance.classes.len() {
            let count = self.instance.hosts.iter().filter(|it| it.class == class).count();
            // A price of all layers is more than any proof needs.
            program.add(-(count as f64), f64::from(self.instance.layers));
        }
        let excess = program.add(2.0, 1.0);
        let several = self.several.iter().map(|it| (it, -1.0));
        for (cover, of_excess) in self.any.iter().map(|it| (it, 0.0)).chain(several) {
            if cover.rate >= flow {
                let shares = cover.shares.iter().copied().enumerate();
                let entries = shares.chain([(excess, of_excess)]).filter(|it| it.1 != 0.0);
                program.constrain(1.0, entries.collect(), f64::INFINITY);
            }
        }
        let Answer::Optimal(mut point) = program.maximise(&Effort::default()) else { return None };
        let excess = point.values.pop()?;
        Some((point.values, excess, -point.objective))
    }
}

/// Whether the excesses that crossings need are more than the hosts can pay.
fn refutes(instance: &Instance, prices: &[f64], costs: &[f64], links_needed: f64) -> bool {
    let layers = f64::from(instance.layers);
    let excess: Vec<f64> = costs.iter().map(|it| it - costs[0]).collect();
    let mut worth = vec![0.0; instance.regions.len()];
    instance.hosts.iter().for_each(|it| worth[it.region] += prices[it.class]);
    let budget = worth.iter().sum::<f64>() - costs[0] * layers + MARGIN;
    let mut rooms: Vec<f64> = worth.iter().map(|it| it / costs[0] + MARGIN).collect();
    rooms.sort_by(|a, b| b.total_cmp(a));
    let crossing = crossing(&excess, links_needed);
    (0..=instance.layers).all(|mixed| {
        let pure = layers - f64::from(mixed);
        let mut held = 0.0;
        let regions = rooms.iter().take_while(|it| {
            let needed = held < pure;
            held += **it;
            needed
        });
        let crossings = match regions.count() {
            0 | 1 => 0.0,
            several => ((several - 1) as f64 / 2.0).max(1.0),
        };
        (crossings * crossing).max(f64::from(mixed) * excess[1]) > budget
    })
}

/// The least excess of a crossing. `excess[n - 1]` is that of `n` hosts; as many as there are
/// entries count as any number.
fn crossing(excess: &[f64], links_needed: f64) -> f64 {
    let of = |hosts: usize| excess[hosts.min(excess.len()) - 1];
    let many = |hosts: usize| if hosts >= excess.len() { f64::INFINITY } else { hosts as f64 };
    let all = || 1..=excess.len();
    let mut least = 2.0 * of(2);
    for (near, far) in all().flat_map(|near| all().map(move |far| (near, far))) {
        if many(near) * many(far) >= links_needed {
            least = least.min(of(near) + of(far));
        }
        for (stay, go) in all().flat_map(|stay| all().map(move |go| (stay, go))) {
            if many(near) * many(go) + many(stay) * many(far) >= links_needed {
                least = least.min(of(near) + of(far) + of(stay + go));
            }
        }
    }
    least
}
