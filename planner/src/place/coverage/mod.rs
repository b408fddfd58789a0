//! The default method: coverage by annealing, with the configuration bound as its goal.
//!
//! Without binding links the full-charge flow of a placement is its least coverage. Rounds of
//! annealing aim between the best flow found and the bound; where they leave a gap, the next round
//! aims elsewhere. Where links between regions are thin, regions are searched by themselves, together
//! within what their links carry (`joint`), and in blocks (`place::blocks`). All limits count moves
//! and nodes, so that the same seed gives the same plan.

mod anneal;
mod crossings;
mod greedy;
mod ground;
mod intervals;
mod joint;
mod moves;
mod regions;
#[cfg(test)]
mod tests;

use fastrand::Rng;

use crate::Charge;
use crate::bound::{self, work};
use crate::flow;
use crate::instance::{Instance, Placement};
use crate::method::{Found, Method, Progress, Watch};
use crate::place::blocks;
use crate::solver::Effort;
use anneal::{Anneal, Heat};
use ground::{Ground, Seat};
pub use intervals::Intervals;
use regions::{Free, Part};

/// Moves in all, and how many more for each host.
const MOVES: u64 = 40_000_000;
const MOVES_PER_HOST: u64 = 500_000;
/// The same where links between regions bind.
const MOVES_ACROSS: u64 = 20_000_000;
const MOVES_ACROSS_PER_HOST: u64 = 20_000;
/// There, where hosts are few, moves for each host at most: the search in blocks has the time.
const MOVES_ACROSS_FEW: u64 = 100_000;
/// Regions by themselves are first tried with one part in so many of these moves.
const TRIAL: u64 = 4;
/// The interval program follows where it has up to so many columns. It then proves within seconds
/// what the configuration bound leaves open; with some thousands it does not even find the placement.
const COLUMNS_MAX: usize = 400;
/// Nodes of branch and bound that it has.
const NODES_MAX: i32 = 5000;
/// Up to so many hosts the search in blocks, which looks at every link, may find more.
const BLOCKS_HOSTS_MAX: usize = 48;
/// Rounds take these shares of the moves.
const ROUND_SHARES: [f64; 8] = [0.04, 0.06, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2];
/// The first round aims at this fraction of the bound.
const AIM_FIRST: f64 = 0.98;
/// The others aim at the best so far plus these fractions of what is left to the bound.
const AIMS: [f64; 4] = [0.5, 0.25, 0.75, 0.1];
/// Where a round starts, if a typical host gave all the flow by itself; the penalty of a move grows
/// with the square of what the host gives.
const TEMPERATURE_FIRST: f64 = 0.2;
/// Where it ends, as a fraction of where it starts.
const COOLING: f64 = 1e-3;
/// Prices of a held layer that greedy tries, as multiples of that of the work bound: the dearer a
/// layer, the more of them hosts hold.
const GREEDY_PRICES: [f64; 6] = [1.0, 1.25, 1.5, 2.0, 3.0, 5.0];
/// A placement this close to the bound is good enough to stop.
const GAP: f64 = 1e-4;

/// Coverage by annealing, then by the interval program where that leaves a gap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Coverage;

/// The same without the interval program.
#[derive(Clone, Copy, Debug, Default)]
pub struct Annealing;

/// Where annealing begins: every host over the layers least covered so far, the strongest first.
/// Tried for some prices of a held layer, with regions apart and together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Greedy;

impl Method for Greedy {
    fn name(&self) -> &'static str {
        "greedy"
    }

    fn place(&self, instance: &Instance, _: u64, _: &mut Watch<'_>) -> Option<Found> {
        let ground = Ground::new(instance, false);
        let apart: Vec<usize> = instance.hosts.iter().map(|it| it.region).collect();
        let together = vec![0; apart.len()];
        let (price, mut judge) = (price(instance), flow::Judge::new(instance));
        let prices = GREEDY_PRICES.iter().map(|it| it * price);
        let fills = prices.flat_map(|price| [(price, &apart), (price, &together)]);
        let tried = fills.map(|(price, parts)| {
            let placement = ground.placement(&greedy::fill(&ground, price, parts));
            (judge.value(&placement), placement)
        });
        let best = tried.reduce(|best, it| if it.0 > best.0 { it } else { best })?;
        (best.0 > 0.0).then(|| Found::new(best.1))
    }
}

impl Method for Coverage {
    fn name(&self) -> &'static str {
        "coverage"
    }

    fn place(&self, instance: &Instance, seed: u64, watch: &mut Watch<'_>) -> Option<Found> {
        let annealed = Annealing.place(instance, seed, watch);
        let ground = Ground::new(instance, false);
        if !instance.partial
            || flow::links_bind(instance)
            || intervals::columns(&ground) > COLUMNS_MAX
        {
            // Coverage is not all that limits a flow, or the program is too large.
            return annealed;
        }
        let bound = match annealed.as_ref().and_then(|it| it.bound) {
            Some(bound) => bound,
            None => bound::prove(instance, Charge::Full).value,
        };
        let seats = annealed.as_ref().map(|it| ground.seats(&it.placement));
        let flow = seats.as_ref().map_or(0.0, |it| ground.least_coverage(it));
        if flow >= bound * (1.0 - GAP) {
            return annealed;
        }
        let effort = Effort { nodes_max: Some(NODES_MAX), ..Effort::default() };
        let mut watch = |it: Progress| watch(Progress { flow: it.flow.max(flow), ..it });
        let solved = intervals::solve(&ground, bound, seats.as_deref(), effort, &mut watch);
        let Some((best, bound)) = solved else { return annealed };
        let placement = match annealed {
            Some(found) if flow >= best.flow => found.placement,
            _ => best.placement,
        };
        (flow.max(best.flow) > 0.0).then(|| Found { bound: Some(bound), ..Found::new(placement) })
    }
}

impl Method for Annealing {
    fn name(&self) -> &'static str {
        "annealing"
    }

    fn place(&self, instance: &Instance, seed: u64, watch: &mut Watch<'_>) -> Option<Found> {
        let bound = bound::prove(instance, Charge::Full).value;
        let placement = match regions::free(instance) {
            Free::Everywhere => {
                let moves_max = MOVES + MOVES_PER_HOST * instance.hosts.len() as u64;
                search(instance, moves_max, seed, watch)?.placement
            }
            Free::Inside(parts) => across(instance, &parts, bound, seed, watch)?,
            Free::Nowhere => {
                let mut watch = |it: Progress| watch(Progress { bound, ..it });
                blocks::search(instance, seed, &mut watch)?.placement
            }
        };
        Some(Found { bound: Some(bound), ..Found::new(placement) })
    }
}

/// Searches where links bind between regions only: each region by itself if all can hold the model,
/// all together, and where hosts are few, in blocks. Returns the best.
fn across(
    instance: &Instance,
    parts: &[Part],
    bound: f64,
    seed: u64,
    watch: &mut Watch<'_>,
) -> Option<Placement> {
    let hosts = instance.hosts.len() as u64;
    let moves = (MOVES_ACROSS + MOVES_ACROSS_PER_HOST * hosts).min(MOVES_ACROSS_FEW * hosts);
    let (mut best, mut done) = (Best::nothing(instance), 0);
    let mut take = |search: &mut dyn FnMut(&mut Watch<'_>) -> Option<Best>| {
        let before = best.flow;
        let mut watch = |it: Progress| {
            watch(Progress { flow: it.flow.max(before), bound, moves: done + it.moves })
        };
        let Some(found) = search(&mut watch) else { return 0.0 };
        let flow = found.flow;
        done += found.moves;
        if flow > before {
            best = found;
        }
        flow
    };
    let mut apart = 0.0;
    if parts.iter().all(Part::holds_all) {
        apart = take(&mut |watch| Some(alone(instance, parts, moves / TRIAL, seed, watch)));
    }
    let together = take(&mut |watch| joint::search(instance, (bound, moves), seed, watch));
    if apart > together {
        take(&mut |watch| Some(alone(instance, parts, moves, seed, watch)));
    }
    if instance.hosts.len() <= BLOCKS_HOSTS_MAX {
        take(&mut |watch| {
            let placement = blocks::search(instance, seed, watch)?.placement;
            Some(Best { flow: flow::value(instance, &placement), placement, moves: 0 })
        });
    }
    (best.flow > 0.0).then_some(best.placement)
}

/// Searches every region by itself; their flows add up.
fn alone(
    instance: &Instance,
    parts: &[Part],
    moves_max: u64,
    seed: u64,
    watch: &mut Watch<'_>,
) -> Best {
    let mut best = Best::nothing(instance);
    for part in parts {
        let (flow, moves) = (best.flow, best.moves);
        let mut watch_part =
            |it: Progress| watch(Progress { flow: flow + it.flow, moves: moves + it.moves, ..it });

        let moves_max = moves_max / parts.len() as u64;
        let found = search(&part.instance, moves_max, seed, &mut watch_part);
        let Some(found) = found else { continue };
        for (&host, range) in part.hosts.iter().zip(found.placement) {
            best.placement[host] = range;
        }
        best.flow += found.flow;
        best.moves += found.moves;
    }
    best
}

/// What a search came to.
struct Best {
    placement: Placement,
    flow: f64,
    moves: u64,
}

impl Best {
    fn nothing(instance: &Instance) -> Self {
        Self { placement: vec![None; instance.hosts.len()], flow: 0.0, moves: 0 }
    }
}

/// Anneals until the best flow is close to the bound, or all moves are made.
fn search(instance: &Instance, moves_max: u64, seed: u64, watch: &mut Watch<'_>) -> Option<Best> {
    let bound = bound::prove(instance, Charge::Full).value;
    let ground = Ground::new(instance, false);
    let seats = greedy::fill(&ground, price(instance), &vec![0; instance.hosts.len()]);
    let share = share(&ground, &seats, bound);
    if bound <= 0.0 || share <= 0.0 {
        return None;
    }
    let mut rng = Rng::with_seed(seed);
    let mut anneal = Anneal::new(instance, &ground, seats, bound * AIM_FIRST);
    let mut moves = 0;
    'rounds: for (round, length) in
        ROUND_SHARES.iter().map(|it| (it * moves_max as f64) as u64).enumerate()
    {
        let aim = AIMS[round % AIMS.len()];
        if round > 0 {
            anneal.aim_between(bound, aim);
        }
        let first = TEMPERATURE_FIRST * share * share;
        let mut heat = Heat::new(first, first * COOLING, length);
        while !heat.is_cold() {
            moves += anneal.run(&mut heat, &mut rng);
            if anneal.is_there() {
                anneal.aim_between(bound, aim);
            }
            let progress = Progress { flow: anneal.best(), bound, moves };
            if watch(progress).is_break() || anneal.best() >= bound * (1.0 - GAP) {
                break 'rounds;
            }
        }
    }
    let placement = ground.placement(anneal.best_seats());
    (anneal.best() > 0.0).then(|| Best { placement, flow: anneal.best(), moves })
}

/// What holding a layer more is worth, so that the hosts hold the model at all.
fn price(instance: &Instance) -> f64 {
    match work::prove(instance).reason {
        bound::Reason::Work { price } => price,
        _ => 0.0,
    }
}

/// What a host gives, as a fraction of the bound, on average over those that have a seat.
fn share(ground: &Ground, seats: &[Seat], bound: f64) -> f64 {
    let rates: Vec<f64> = seats
        .iter()
        .enumerate()
        .filter(|it| it.1.count > 0)
        .map(|(host, seat)| (ground.rate(host, *seat) / bound).min(1.0))
        .collect();
    if rates.is_empty() { 0.0 } else { rates.iter().sum::<f64>() / rates.len() as f64 }
}
