//! The best combination of ranges that a search met: an integer program.
//!
//! Annealing meets the ranges of good repairs long before it has all of them at once. One binary
//! variable for each host and range, with the loads as costs, puts them together: HiGHS takes a
//! fraction of a second for a thousand or two of them.

use std::ops::ControlFlow;

use super::ground::{Ground, Seat};
use crate::solver::{Answer, Effort, Program};

/// Loads of a host up to which all its ranges that overlap what it holds take part.
const LOADS_NEAR: u32 = 2;

/// Simplex iterations after which HiGHS ends with what it has.
const ITERATIONS_MAX: u64 = 30_000;

/// A host on a seat.
type Choice = (usize, Seat);

/// Seats of fewer loads than `best`, made of those `met` and those near what hosts hold. `None` if
/// there are none, or none is found in time.
pub(super) fn fewer_loads(
    ground: &Ground,
    best: Option<&[Seat]>,
    met: impl Iterator<Item = Choice>,
) -> Option<Vec<Seat>> {
    let choices = choices(ground, best, met);
    let mut program = Program::default();
    let mut layers = vec![Vec::new(); ground.layers as usize];
    let mut hosts = vec![Vec::new(); ground.hosts.len()];
    for &(host, seat) in &choices {
        let column = program.add_integer(-f64::from(seat.beyond(ground.held[host])), 1.0);
        hosts[host].push((column, 1.0));
        for layer in seat.first..seat.end {
            // What is above the demand helps nobody; without it the relaxation is tighter.
            let demand = ground.demand[layer as usize];
            layers[layer as usize].push((column, ground.rate(host, seat).min(demand)));
        }
    }
    for (entries, &demand) in layers.into_iter().zip(&ground.demand) {
        program.constrain(demand, entries, f64::INFINITY);
    }
    for entries in hosts {
        program.constrain(f64::NEG_INFINITY, entries, 1.0);
    }
    let start = best.map(|best| {
        choices.iter().map(|it| f64::from(u8::from(best[it.0] == it.1))).collect()
    });
    let effort = Effort { start, gap: Some(1e-3), ..Effort::default() };
    let answer = program.maximise_watched(&effort, &mut |step| {
        if step.iterations < ITERATIONS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let (Answer::Optimal(point) | Answer::Feasible(point)) = answer else { return None };
    let mut seats = vec![Seat::default(); ground.hosts.len()];
    for (choice, _) in choices.iter().zip(&point.values).filter(|it| *it.1 > 0.5) {
        seats[choice.0] = choice.1;
    }
    let covered = ground.slack(&seats).iter().all(|it| *it >= -1e-10);
    covered.then_some(seats)
}

/// Choices without those that another one of the host covers at no more loads and no lower rate.
fn choices(
    ground: &Ground,
    best: Option<&[Seat]>,
    met: impl Iterator<Item = Choice>,
) -> Vec<Choice> {
    let best = best.into_iter().flatten().copied().enumerate().filter(|it| it.1.count() > 0);
    let near = (0..ground.hosts.len()).flat_map(|host| near(ground, host));
    let mut all: Vec<Choice> = near.chain(met).collect();
    all.sort_unstable_by_key(|it| (it.0, it.1.first, it.1.end));
    all.dedup();
    let held = |host: usize| ground.held[host];
    let rate = |it: &Choice| ground.rate(it.0, it.1).min(1.0);
    let covers = |a: &Choice, b: &Choice| {
        a.1 != b.1
            && a.1.first <= b.1.first
            && a.1.end >= b.1.end
            && a.1.beyond(held(a.0)) <= b.1.beyond(held(b.0))
            && rate(a) >= rate(b)
    };
    let mut kept: Vec<Choice> = all
        .chunk_by(|a, b| a.0 == b.0)
        .flat_map(|of_host| {
            of_host.iter().filter(|it| !of_host.iter().any(|other| covers(other, it)))
        })
        .copied()
        .collect();
    kept.extend(best);
    kept.sort_unstable_by_key(|it| (it.0, it.1.first, it.1.end));
    kept.dedup();
    kept
}

/// Ranges of a host that overlap what it holds, with few loads; only that if it may not change.
fn near(ground: &Ground, host: usize) -> Vec<Choice> {
    let held = ground.held[host];
    if held.count() == 0 || !ground.free[host] {
        return if held.count() == 0 { Vec::new() } else { vec![(host, held)] };
    }
    let firsts = held.first.saturating_sub(LOADS_NEAR)..held.end;
    let seats = firsts.flat_map(|first| {
        let ends = first.max(held.first) + 1..=(held.end + LOADS_NEAR).min(ground.layers);
        ends.map(move |end| Seat { first, end })
    });
    let fits = |it: &Seat| it.beyond(held) <= LOADS_NEAR && ground.rate(host, *it) > 0.0;
    seats.filter(fits).map(|it| (host, it)).collect()
}
