//! What regions hand over to each other, where hosts of all regions are annealed together.
//!
//! Inside a region links do not bind. From one region to another a link carries little, but each
//! pair of hosts has one of its own. Let the hosts of a region that begin at a position sustain
//! `D` tokens/s more than those that end there. If they are to have work, `D` must come from
//! elsewhere: over one link from each host of another region that ends there to each of them.
//! Likewise, what the hosts of a region that end somewhere sustain beyond those that begin must
//! find its way to hosts of other regions that begin there. What is more than these links carry is
//! an *excess*, as bad as a layer that as much is missing in.
//!
//! That is no bound: tokens may also enter a host in the middle of its range, and where a region has
//! more than it needs, not all of it has to move. The exact flow judges what comes out.

use super::ground::Seat;
use crate::instance::Instance;

/// Positions that a change of two hosts touches at most: both ends of both, before and after.
const TOUCHED_MAX: usize = 8;

/// A host that changes seats, with what it sustains on either, as fractions of the target.
#[derive(Clone, Copy, Default)]
pub(super) struct Shift {
    pub host: usize,
    pub from: (Seat, f64),
    pub to: (Seat, f64),
}

/// Beginnings and ends of ranges by position and region.
pub(super) struct Crossings {
    layers: u32,
    regions: usize,
    /// Region of each host.
    region: Vec<usize>,
    /// Tokens/s of the mean link into and out of each region.
    links: Vec<(f64, f64)>,
    /// The same as fractions of the target, and only as far as they are counted on.
    counted: Vec<(f64, f64)>,
    /// `[position * regions + region]`.
    sides: Vec<Side>,
    /// Sum of the squared excesses at each position.
    excess: Vec<f64>,
}

/// Hosts of a region at a position.
#[derive(Clone, Copy, Default)]
struct Side {
    /// What those that begin sustain, less what those that end do.
    rise: f64,
    begin: f64,
    end: f64,
}

/// Positions that a change touches, with their excesses before.
#[derive(Default)]
struct Touched {
    positions: [(usize, f64); TOUCHED_MAX],
    count: usize,
}

impl Crossings {
    pub fn new(instance: &Instance) -> Self {
        let regions = instance.regions.len();
        let positions = instance.layers as usize + 1;
        Self {
            layers: instance.layers,
            regions,
            region: instance.hosts.iter().map(|it| it.region).collect(),
            links: mean_links(instance),
            counted: Vec::new(),
            sides: vec![Side::default(); positions * regions],
            excess: vec![0.0; positions],
        }
    }

    /// Counts anew, with rates as fractions of `target`. Of every link the share `trust` is counted
    /// on: flows that cross without need use the same links.
    pub fn recount(
        &mut self,
        (target, trust): (f64, f64),
        seats: impl Iterator<Item = (Seat, f64)>,
    ) {
        let factor = trust / target;
        self.counted = self.links.iter().map(|it| (it.0 * factor, it.1 * factor)).collect();
        self.sides.fill(Side::default());
        for (host, (seat, rate)) in seats.enumerate() {
            self.add(self.region[host], seat, rate, 1.0);
        }
        for position in 0..self.excess.len() {
            self.excess[position] = self.squared(position);
        }
    }

    /// The largest excess at one position, at most.
    pub fn worst(&self) -> f64 {
        self.excess.iter().copied().fold(0.0, f64::max).sqrt()
    }

    /// Makes a change unless that adds more than `worse_max` to the squared excesses. Says whether.
    pub fn attempt(&mut self, shifts: &[Shift], worse_max: f64) -> bool {
        let mut touched = Touched::default();
        for shift in shifts {
            for seat in [shift.from.0, shift.to.0] {
                touched.note(seat.first as usize, &self.excess);
                touched.note(seat.end() as usize, &self.excess);
            }
        }
        let before = touched.before();
        if -before > worse_max {
            return false;
        }
        self.shift(shifts, 1.0);
        let positions = || touched.positions[..touched.count].iter();
        for &(position, _) in positions() {
            self.excess[position] = self.squared(position);
        }
        let worse = positions().map(|it| self.excess[it.0]).sum::<f64>() - before;
        if worse > worse_max {
            self.shift(shifts, -1.0);
            positions().for_each(|it| self.excess[it.0] = it.1);
            return false;
        }
        true
    }

    fn shift(&mut self, shifts: &[Shift], sign: f64) {
        for it in shifts {
            let region = self.region[it.host];
            self.add(region, it.from.0, it.from.1, -sign);
            self.add(region, it.to.0, it.to.1, sign);
        }
    }

    /// Adds `sign` hosts.
    fn add(&mut self, region: usize, seat: Seat, rate: f64, sign: f64) {
        let begin = &mut self.sides[seat.first as usize * self.regions + region];
        begin.rise += sign * rate;
        begin.begin += sign;
        let end = &mut self.sides[seat.end() as usize * self.regions + region];
        end.rise -= sign * rate;
        end.end += sign;
    }

    /// Sum of the squared excesses of all regions at a position. Where the model begins and ends
    /// nothing crosses.
    fn squared(&self, position: usize) -> f64 {
        if position == 0 || position == self.layers as usize {
            return 0.0;
        }
        let sides = &self.sides[position * self.regions..][..self.regions];
        let (begin, end) =
            sides.iter().fold((0.0, 0.0), |sum, it| (sum.0 + it.begin, sum.1 + it.end));
        let squared = |(side, &(into, out)): (&Side, &(f64, f64))| {
            let carried = if side.rise > 0.0 {
                into * side.begin * (end - side.end)
            } else {
                out * side.end * (begin - side.begin)
            };
            let over = (side.rise.abs() - carried).max(0.0);
            over * over
        };
        sides.iter().zip(&self.counted).map(squared).sum()
    }
}

impl Touched {
    fn note(&mut self, position: usize, excess: &[f64]) {
        if self.positions[..self.count].iter().all(|it| it.0 != position) {
            self.positions[self.count] = (position, excess[position]);
            self.count += 1;
        }
    }

    fn before(&self) -> f64 {
        self.positions[..self.count].iter().map(|it| it.1).sum()
    }
}

/// Tokens/s of the mean link from hosts of other regions to those of each region, and back; a
/// link that is missing counts as zero.
fn mean_links(instance: &Instance) -> Vec<(f64, f64)> {
    let mut sums = vec![(0.0, 0.0, 0.0); instance.regions.len()];
    let region = |host: usize| instance.hosts[host].region;
    let hosts = 0..instance.hosts.len();
    for (from, to) in hosts.clone().flat_map(|from| hosts.clone().map(move |to| (from, to))) {
        if region(from) != region(to) {
            let rate = instance.wire(from, to).map_or(0.0, |it| it.tokens_per_second);
            sums[region(to)].0 += rate;
            sums[region(from)].1 += rate;
            sums[region(from)].2 += 1.0;
        }
    }
    // There are as many pairs into a region as out of it.
    sums.iter().map(|it| (it.0 / f64::max(it.2, 1.0), it.1 / f64::max(it.2, 1.0))).collect()
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::bound::tests::instance as alike;
    use crate::instance::Pairs;

    /// Three regions of four hosts each, a link of `link` tokens/s for each pair between them.
    fn three_regions(link: f64) -> Instance {
        let mut instance = alike(6, &[(12, vec![8.0, 4.0, 2.0])]);
        instance.regions = ["a", "b", "c"].map(str::to_owned).to_vec();
        let Pairs::ByRegion(wires) = &instance.network.pairs else { unreachable!() };
        let wire = wires[0].expect("hosts are linked");
        let across = crate::instance::Wire { tokens_per_second: link, ..wire };
        let pair = |at: usize| Some(if at.is_multiple_of(4) { wire } else { across });
        instance.network.pairs = Pairs::ByRegion((0..9).map(pair).collect());
        instance.hosts.iter_mut().enumerate().for_each(|(at, it)| it.region = at % 3);
        instance
    }

    /// One host of region 0 ends at position 1 with 8 tokens/s, one of region 1 holds the rest of the
    /// model: a link of 3 leaves an excess of 5 on either side.
    #[test]
    fn an_excess_is_what_a_link_does_not_carry() {
        let mut crossings = Crossings::new(&three_regions(3.0));
        let seats = [(0, 1), (1, 5)].map(|(first, count)| (Seat { first, count }, 8.0));
        crossings.recount((1.0, 1.0), seats.into_iter());
        assert!((crossings.worst() - 50_f64.sqrt()).abs() < 1e-9);
        // A link as wide as the host leaves none.
        crossings.links.iter_mut().for_each(|it| *it = (8.0, 8.0));
        crossings.recount((1.0, 1.0), seats.into_iter());
        assert!(crossings.worst() < 1e-9);
    }

    #[test]
    fn changes_one_by_one_are_as_counting_anew() {
        let instance = three_regions(0.5);
        let mut rng = Rng::with_seed(3);
        let draw = |rng: &mut Rng| {
            let count = rng.u32(1..=3);
            (Seat { first: rng.u32(0..=6 - count), count }, 8.0 / f64::from(count))
        };
        let mut seats: Vec<_> = (0..12).map(|_| draw(&mut rng)).collect();
        let mut crossings = Crossings::new(&instance);
        crossings.recount((1.0, 1.0), seats.iter().copied());
        let (mut made, mut refused) = (0, 0);
        for _ in 0..500 {
            let host = rng.usize(..12);
            let other = (host + rng.usize(1..12)) % 12;
            let shifts =
                [host, other].map(|it| Shift { host: it, from: seats[it], to: draw(&mut rng) });
            let shifts = &shifts[..rng.usize(1..=2)];
            let before: f64 = crossings.excess.iter().sum();
            let allowed = rng.f64() * 20.0 - 5.0;
            let may = crossings.attempt(shifts, allowed);
            let mut after = seats.clone();
            shifts.iter().for_each(|it| after[it.host] = it.to);
            let mut anew = Crossings::new(&instance);
            anew.recount((1.0, 1.0), after.iter().copied());
            let worse = anew.excess.iter().sum::<f64>() - before;
            assert_eq!(may, worse <= allowed, "{worse} of {allowed}");
            if may {
                seats = after;
                made += 1;
            } else {
                refused += 1;
            }
            let mut anew = Crossings::new(&instance);
            anew.recount((1.0, 1.0), seats.iter().copied());
            let pairs = crossings.excess.iter().zip(&anew.excess);
            assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-9));
        }
        assert!(made > 50 && refused > 50, "{made} made, {refused} refused");
    }
}
