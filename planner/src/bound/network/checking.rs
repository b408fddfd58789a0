//! Re-checks network bounds, with code that shares nothing with what finds them: covers by branch
//! and bound on exact rates in place of a grid, capacities host by host in place of regions.

use super::{NetworkProof, NetworkReason};
use crate::bound::Price;
use crate::instance::Instance;

/// What two ways to add the same numbers may differ by.
const ROUNDING: f64 = 1e-9;
/// Branches looked at before a proof counts as too large to check.
const BRANCHES_MAX: u32 = 20_000_000;

/// Why a proof does not convince.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Doubt {
    /// The certificate names regions, shared capacities, classes or numbers that make no sense.
    #[error("the certificate does not fit the cluster")]
    Malformed,
    /// One of its numbers is not what the cluster says.
    #[error("a number of the certificate is wrong")]
    Wrong,
    /// Its numbers hold, but they do not add up to the bound.
    #[error("the certificate does not prove its bound")]
    Short,
    /// Too many covers to look at.
    #[error("the certificate is too large to check")]
    TooLarge,
}

/// Checks that `proof` holds for every placement of `instance` under full charge.
///
/// # Errors
///
/// What is wrong with it.
pub fn check(instance: &Instance, proof: &NetworkProof) -> Result<(), Doubt> {
    if !(proof.value >= 0.0 && proof.value.is_finite()) {
        return Err(Doubt::Malformed);
    }
    let limit = match &proof.reason {
        NetworkReason::Enter => ends(instance, |it| instance.hosts[it].may_be_first, true),
        NetworkReason::Leave => ends(instance, |it| instance.hosts[it].may_be_last, false),
        NetworkReason::Sides { near, near_alone, far_alone, shared_out, shared_back } => {
            alone(instance, *near_alone, |it| near.contains(&it))?;
            alone(instance, *far_alone, |it| !near.contains(&it))?;
            let out = crossing(instance, near, true, shared_out)?;
            let back = crossing(instance, near, false, shared_back)?;
            near_alone + far_alone + out.max(back)
        }
        NetworkReason::Thin { prices, costs } => {
            let prices = prices_of(instance, prices)?;
            covers(instance, proof.value, &prices, costs)?;
            return thin(instance, proof.value, &prices, costs);
        }
    };
    if limit <= proof.value * (1.0 + ROUNDING) { Ok(()) } else { Err(Doubt::Short) }
}

fn ends(instance: &Instance, allowed: impl Fn(usize) -> bool, first: bool) -> f64 {
    let network = &instance.network;
    let wires = if first { &network.enter } else { &network.leave };
    let mut total = 0.0;
    for host in (0..instance.hosts.len()).filter(|it| allowed(*it)) {
        let rates = &instance.class(host).rates;
        let rate = (1..=rates.count_max()).map(|it| rates.most(it)).fold(0.0, f64::max);
        total += wires[host].map_or(0.0, |it| it.tokens_per_second.min(rate));
    }
    total
}

/// Checks that the hosts of some regions do at most `limit` tokens/s by themselves.
fn alone(instance: &Instance, limit: f64, inside: impl Fn(usize) -> bool) -> Result<(), Doubt> {
    let flow = if limit > 0.0 { limit * (1.0 + ROUNDING) } else { f64::MIN_POSITIVE };
    let mut layers = 0.0;
    for host in instance.hosts.iter().filter(|it| inside(it.region)) {
        let rates = &instance.classes[host.class].rates;
        let worth = (1..=rates.count_max())
            .map(|count| f64::from(count) * rates.most(count).min(flow) / flow)
            .fold(0.0, f64::max);
        layers += worth;
    }
    if limit >= 0.0 && layers < f64::from(instance.layers) { Ok(()) } else { Err(Doubt::Wrong) }
}

/// Capacity from the near side to the far one, or back.
fn crossing(
    instance: &Instance,
    near: &[usize],
    outwards: bool,
    shared: &[usize],
) -> Result<f64, Doubt> {
    let side = |host: usize| near.contains(&instance.hosts[host].region) == outwards;
    let mut total = 0.0;
    let mut carried = Vec::new();
    for (at, &index) in shared.iter().enumerate() {
        let line = instance.network.shared.get(index).ok_or(Doubt::Malformed)?;
        if shared[..at].contains(&index) {
            return Err(Doubt::Malformed);
        }
        total += line.tokens_per_second;
        carried.extend(&line.carries);
    }
    for from in (0..instance.hosts.len()).filter(|&it| side(it)) {
        for to in (0..instance.hosts.len()).filter(|&it| !side(it)) {
            let pair = (instance.hosts[from].region, instance.hosts[to].region);
            if !carried.contains(&pair) {
                total += instance.wire(from, to).map_or(0.0, |it| it.tokens_per_second);
            }
        }
    }
    Ok(total)
}

/// Price of each host.
fn prices_of(instance: &Instance, prices: &[Price]) -> Result<Vec<f64>, Doubt> {
    let named = prices.iter().zip(&instance.classes).all(|(it, class)| it.class == class.name);
    let sensible = prices.iter().all(|it| it.price >= 0.0 && it.price.is_finite());
    if !(named && sensible && prices.len() == instance.classes.len()) {
        return Err(Doubt::Malformed);
    }
    Ok(instance.hosts.iter().map(|it| prices[it.class].price).collect())
}

/// Checks that no cover by `n` hosts or more costs less than `costs[n - 1]`.
fn covers(instance: &Instance, flow: f64, prices: &[f64], costs: &[f64]) -> Result<(), Doubt> {
    let ascending = costs.windows(2).all(|it| it[0] <= it[1]);
    if !(costs.len() >= 2 && costs[0] > 0.0 && costs.iter().all(|it| it.is_finite()) && ascending) {
        return Err(Doubt::Malformed);
    }
    let mut items: Vec<(f64, f64)> = Vec::new();
    for (host, &price) in prices.iter().enumerate() {
        let rates = &instance.class(host).rates;
        for count in 1..=rates.count_max() {
            let item = (rates.most(count), price / f64::from(count));
            if item.0 > 0.0 && !items.contains(&item) {
                items.push(item);
            }
        }
    }
    if items.iter().any(|it| it.1 <= 0.0) {
        // A host for nothing covers for nothing, as often as it is used.
        return Err(Doubt::Wrong);
    }
    items.sort_by(|a, b| (b.0 / b.1).total_cmp(&(a.0 / a.1)));
    let cheapest = items.iter().map(|it| it.1).fold(f64::INFINITY, f64::min);
    let mut branches = BRANCHES_MAX;
    for (hosts, cost) in (1_u32..).zip(costs) {
        let budget = cost * (1.0 - ROUNDING);
        let rest = Rest { rate: flow, hosts, budget };
        match cheaper(&items, cheapest, rest, &mut branches) {
            None => return Err(Doubt::TooLarge),
            Some(true) => return Err(Doubt::Wrong),
            Some(false) => {}
        }
    }
    Ok(())
}

/// What a cover still needs, and has to spend.
#[derive(Clone, Copy)]
struct Rest {
    rate: f64,
    hosts: u32,
    budget: f64,
}

/// Whether hosts out of `items`, best rate for the price first, do what is left for less than the
/// budget. `None` if it takes too long to know.
fn cheaper(items: &[(f64, f64)], cheapest: f64, rest: Rest, branches: &mut u32) -> Option<bool> {
    *branches = branches.checked_sub(1)?;
    if rest.rate <= 0.0 {
        return Some(f64::from(rest.hosts) * cheapest < rest.budget);
    }
    for (at, &(rate, price)) in items.iter().enumerate() {
        if rest.rate >= rate / price * rest.budget {
            // Nor do those behind it reach the rate with this budget.
            break;
        }
        let after = Rest {
            rate: rest.rate - rate,
            hosts: rest.hosts.saturating_sub(1),
            budget: rest.budget - price,
        };
        if after.budget > 0.0 && cheaper(&items[at..], cheapest, after, branches)? {
            return Some(true);
        }
    }
    Some(false)
}

/// Adds up what crossings cost at least, and what there is to pay them.
fn thin(instance: &Instance, flow: f64, prices: &[f64], costs: &[f64]) -> Result<(), Doubt> {
    let layers = f64::from(instance.layers);
    let mut link = 0.0_f64;
    for from in 0..instance.hosts.len() {
        for to in 0..instance.hosts.len() {
            if instance.hosts[from].region != instance.hosts[to].region {
                link = link.max(instance.wire(from, to).map_or(0.0, |it| it.tokens_per_second));
            }
        }
    }
    let excess = |hosts: usize| costs[hosts.clamp(1, costs.len()) - 1] - costs[0];
    let links = |near: usize, far: usize| {
        let unknown = near >= costs.len() || far >= costs.len();
        if unknown && near * far > 0 { f64::INFINITY } else { (near * far) as f64 }
    };
    // Hosts of the last pure layer, hosts of a mixed layer on this side and on others, if there is
    // one, and hosts of the next pure layer.
    let counts = || 1..=costs.len();
    let mut crossing = 2.0 * excess(2);
    for (last, next) in counts().flat_map(|last| counts().map(move |next| (last, next))) {
        for (here, there) in (0..=costs.len()).flat_map(|a| (0..=costs.len()).map(move |b| (a, b)))
        {
            let direct = here == 0 && there == 0;
            if !direct && (here == 0 || there == 0) {
                continue;
            }
            let carried =
                if direct { links(last, next) } else { links(last, there) + links(here, next) };
            if carried * link >= flow * (1.0 - ROUNDING) || carried.is_infinite() {
                let mixed = if direct { 0.0 } else { excess(here + there) };
                crossing = crossing.min(excess(last) + excess(next) + mixed);
            }
        }
    }
    let slack = prices.iter().sum::<f64>() - costs[0] * layers;
    for mixed in 0..=instance.layers {
        let crossings = regions_needed(instance, prices, layers - f64::from(mixed), costs[0]) - 1.0;
        let crossed = if crossings >= 1.0 { crossing * (crossings / 2.0).max(1.0) } else { 0.0 };
        if crossed.max(f64::from(mixed) * excess(2)) <= slack + ROUNDING * layers {
            return Err(Doubt::Short);
        }
    }
    Ok(())
}

/// The fewest regions with room for so many pure layers.
fn regions_needed(instance: &Instance, prices: &[f64], pure: f64, cost: f64) -> f64 {
    let worth = |region: usize| -> f64 {
        let hosts = prices.iter().zip(&instance.hosts).filter(|it| it.1.region == region);
        hosts.map(|it| it.0 / cost).sum::<f64>() * (1.0 + ROUNDING) + ROUNDING
    };
    let mut rooms: Vec<f64> = (0..instance.regions.len()).map(worth).collect();
    rooms.sort_by(f64::total_cmp);
    let (mut left, mut regions) = (pure, 0.0);
    while left > 0.0
        && let Some(room) = rooms.pop()
    {
        left -= room;
        regions += 1.0;
    }
    regions
}
