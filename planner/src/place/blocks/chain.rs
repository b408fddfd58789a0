//! One group of regions as a chain: annealing of coverage and crossings together.
//!
//! Inside a region links do not bind, so that the flow there is the least coverage of a layer; from
//! one region of the chain to the next it is at most what those pairs of hosts carry that can hand
//! a token over. Both take few additions where an exact flow takes thousands, and the smaller of
//! them limits the exact flow, which is therefore only computed where that limit promises more
//! than the best so far.

use fastrand::Rng;
use thalweg_wire::LayerRange;

use super::groups;
use crate::instance::{Instance, Placement};

/// Layers that hosts may start before or end after the block that their region needs: where two
/// regions overlap, more pairs of hosts share a crossing.
const OVERLAP_LAYERS: u32 = 2;
/// Layers that one move shifts a host by, at most.
const SHIFT_LAYERS_MAX: i64 = 4;
/// Temperature at the first move, in units of the squared relative shortfall.
const TEMPERATURE_FIRST: f64 = 0.05;
/// Temperature at the last move.
const TEMPERATURE_LAST: f64 = 2e-5;
/// Moves after which sums are made anew, so that rounding cannot add up.
const MOVES_PER_REFRESH: u32 = 4096;

/// Gets a state that promises more than the best flow so far, with its limit; returns that flow and
/// the state's own, or `None` to end.
pub type Seen<'a> = dyn FnMut(&State, f64) -> Option<(f64, f64)> + 'a;

/// Regions one behind the other, each with its hosts and the layers they may hold.
pub(super) struct Chain<'a> {
    instance: &'a Instance,
    members: Vec<Member>,
    /// Members by place of their region in the chain.
    blocks: Vec<Vec<usize>>,
    /// What shared capacities let through from each block to the next.
    shared: Vec<f64>,
}

/// A host of the chain.
struct Member {
    host: usize,
    /// Place of its region in the chain.
    block: usize,
    /// First layer it may hold.
    first_min: u32,
    /// One past the last layer it may hold.
    end_max: u32,
    /// Layers it holds at most.
    count_max: u32,
}

/// Who holds what in a chain, with what follows from it.
pub(super) struct State {
    ranges: Vec<LayerRange>,
    rates: Vec<f64>,
    /// Tokens/s that the holders of each layer sustain.
    coverage: Vec<f64>,
    /// Tokens/s that pairs of hosts carry from each block to the next.
    crossing: Vec<f64>,
}

/// What a move did, to take it back.
#[derive(Default)]
struct Undo {
    ranges: Vec<(usize, LayerRange)>,
    crossing: Vec<f64>,
}

impl<'a> Chain<'a> {
    /// Lines up `regions`, with room for `target` tokens/s. `None` if no host has room.
    pub fn new(instance: &'a Instance, regions: &[usize], target: f64) -> Option<Self> {
        let room: Vec<u32> = regions
            .iter()
            .map(|&it| groups::layers_at(instance, &[it], target).ceil() as u32)
            .collect();
        let mut members = Vec::new();
        let mut blocks = vec![Vec::new(); regions.len()];
        for (block, &region) in regions.iter().enumerate() {
            let before: u32 = room[..=block].iter().sum();
            let behind: u32 = room[block..].iter().sum();
            let first_min = instance.layers.saturating_sub(behind + OVERLAP_LAYERS);
            let end_max = instance.layers.min(before + OVERLAP_LAYERS);
            for host in groups::hosts_of(instance, &[region]) {
                let most = instance.class(host).rates.count_max();
                let count_max = most.min(end_max.saturating_sub(first_min));
                if count_max > 0 {
                    blocks[block].push(members.len());
                    members.push(Member { host, block, first_min, end_max, count_max });
                }
            }
        }
        let shared = regions.windows(2).map(|it| shared_limit(instance, (it[0], it[1]))).collect();
        (!members.is_empty()).then_some(Self { instance, members, blocks, shared })
    }

    /// A random start.
    pub fn start(&self, rng: &mut Rng) -> State {
        let ranges: Vec<_> = self.members.iter().map(|it| it.random(rng)).collect();
        let mut state = State {
            rates: vec![0.0; ranges.len()],
            coverage: vec![0.0; self.instance.layers as usize],
            crossing: vec![0.0; self.blocks.len() - 1],
            ranges,
        };
        self.refresh(&mut state);
        state
    }

    /// Anneals towards `target` for so many moves.
    pub fn anneal(
        &self,
        state: &mut State,
        (target, moves): (f64, u32),
        rng: &mut Rng,
        seen: &mut Seen<'_>,
    ) {
        let Some((mut floor, _)) = seen(state, state.energy(target).1) else { return };
        let mut energy = f64::INFINITY;
        let cooling = (TEMPERATURE_LAST / TEMPERATURE_FIRST).ln() / f64::from(moves.max(1));
        let mut undo = Undo::default();
        for step in 0..moves {
            let temperature = TEMPERATURE_FIRST * (cooling * f64::from(step)).exp();
            self.vary(state, rng, &mut undo);
            let (mut next, limit) = state.energy(target);
            let luck = energy - temperature * rng.f64().ln();
            // A limit that promises nothing new counts as a flow of nothing, so that the exact flow
            // is what the last, cold moves raise.
            let mut value = 0.0;
            if next <= luck && limit > floor {
                let Some(flows) = seen(state, limit) else { return };
                (floor, value) = flows;
            }
            next += shortfall(value, target);
            if next <= luck {
                energy = next;
            } else {
                self.take_back(state, &mut undo);
            }
            if step % MOVES_PER_REFRESH == 0 {
                self.refresh(state);
            }
        }
    }

    /// Writes what the members hold into a placement of the instance.
    pub fn write(&self, state: &State, placement: &mut Placement) {
        for (member, &range) in self.members.iter().zip(&state.ranges) {
            placement[member.host] = Some(range);
        }
    }

    /// Derives everything anew.
    fn refresh(&self, state: &mut State) {
        state.coverage.fill(0.0);
        for (at, member) in self.members.iter().enumerate() {
            state.rates[at] = self.instance.rate(member.host, state.ranges[at]);
            state.cover(state.ranges[at], state.rates[at]);
        }
        for block in 0..state.crossing.len() {
            state.crossing[block] = self.crossing(state, block);
        }
    }

    /// What the hosts of `block` can hand to those of the next: each pair at most what its link and
    /// its receiver carry, each sender at most what it sustains.
    fn crossing(&self, state: &State, block: usize) -> f64 {
        let sent = |&from: &usize| {
            let end = state.ranges[from].end();
            let takers =
                self.blocks[block + 1].iter().filter(|&&it| state.ranges[it].contains(end));
            let pair = |&to: &usize| {
                let (near, far) = (self.members[from].host, self.members[to].host);
                let wire = self.instance.wire(near, far).map_or(0.0, |it| it.tokens_per_second);
                wire.min(state.rates[to])
            };
            takers.map(pair).sum::<f64>().min(state.rates[from])
        };
        self.blocks[block].iter().map(sent).sum::<f64>().min(self.shared[block])
    }

    /// Makes one random move.
    fn vary(&self, state: &mut State, rng: &mut Rng, undo: &mut Undo) {
        undo.ranges.clear();
        let member = rng.usize(..self.members.len());
        let at = &self.members[member];
        let range = state.ranges[member];
        let (first, end) = (i64::from(range.first()), i64::from(range.end()));
        let one = if rng.bool() { 1 } else { -1 };
        match rng.u32(..10) {
            0..3 => {
                let by = one * rng.i64(1..=SHIFT_LAYERS_MAX);
                self.put(state, member, (first + by, end + by), undo);
            }
            3..5 => self.put(state, member, (first, end + one), undo),
            5..7 => self.put(state, member, (first + one, end), undo),
            7 => {
                let range = at.random(rng);
                self.put(state, member, (range.first().into(), range.end().into()), undo);
            }
            8 => {
                let block = &self.blocks[at.block];
                let other = block[rng.usize(..block.len())];
                let far = state.ranges[other];
                self.put(state, member, (far.first().into(), far.end().into()), undo);
                self.put(state, other, (first, end), undo);
            }
            _ => {
                self.put(state, member, (first, end + one), undo);
                for other in 0..self.members.len() {
                    let far = state.ranges[other];
                    if other != member && far.first() >= range.end() {
                        let (first, end) = (i64::from(far.first()), i64::from(far.end()));
                        self.put(state, other, (first + one, end + one), undo);
                    }
                }
            }
        }
        undo.crossing.clone_from(&state.crossing);
        for block in 0..state.crossing.len() {
            let touched =
                |it: &(usize, LayerRange)| (block..=block + 1).contains(&self.members[it.0].block);
            if undo.ranges.iter().any(touched) {
                state.crossing[block] = self.crossing(state, block);
            }
        }
    }

    /// Lets `member` hold the layers `first..end` if it may.
    fn put(&self, state: &mut State, member: usize, (first, end): (i64, i64), undo: &mut Undo) {
        let at = &self.members[member];
        let (Ok(first), Ok(end)) = (u32::try_from(first), u32::try_from(end)) else { return };
        let Ok(range) = LayerRange::new(first, end) else { return };
        if first >= at.first_min && end <= at.end_max && range.count() <= at.count_max {
            undo.ranges.push((member, state.ranges[member]));
            self.hold(state, member, range);
        }
    }

    fn take_back(&self, state: &mut State, undo: &mut Undo) {
        while let Some((member, range)) = undo.ranges.pop() {
            self.hold(state, member, range);
        }
        state.crossing.clone_from(&undo.crossing);
    }

    fn hold(&self, state: &mut State, member: usize, range: LayerRange) {
        state.cover(state.ranges[member], -state.rates[member]);
        state.ranges[member] = range;
        state.rates[member] = self.instance.rate(self.members[member].host, range);
        state.cover(range, state.rates[member]);
    }
}

impl Member {
    /// Any range it may hold.
    fn random(&self, rng: &mut Rng) -> LayerRange {
        let count = rng.u32(1..=self.count_max);
        let first = rng.u32(self.first_min..=self.end_max - count);
        LayerRange::new(first, first + count).expect("the count is positive")
    }
}

impl State {
    /// Squared relative shortfalls of layers and crossings, and the least of them all, which no
    /// flow exceeds.
    fn energy(&self, target: f64) -> (f64, f64) {
        self.coverage
            .iter()
            .chain(&self.crossing)
            .fold((0.0, f64::INFINITY), |(sum, least), &it| {
                (sum + shortfall(it, target), f64::min(least, it))
            })
    }

    fn cover(&mut self, range: LayerRange, rate: f64) {
        for it in &mut self.coverage[range.first() as usize..range.end() as usize] {
            *it += rate;
        }
    }
}

/// Squared relative shortfall.
fn shortfall(value: f64, target: f64) -> f64 {
    ((target - value) / target).max(0.0).powi(2)
}

/// The least shared capacity on the way from one region to another.
fn shared_limit(instance: &Instance, hop: (usize, usize)) -> f64 {
    let on_the_way = instance.network.shared.iter().filter(|it| it.carries.contains(&hop));
    on_the_way.map(|it| it.tokens_per_second).fold(f64::INFINITY, f64::min)
}
