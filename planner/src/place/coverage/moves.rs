//! Moves of the annealing: what changes between a placement and its neighbours.

use fastrand::Rng;

use super::ground::{Ground, Seat};

/// Layers by which a host shifts at most.
const SHIFT_LAYERS_MAX: i64 = 4;
/// Layers by which a host grows or shrinks at most.
const RESIZE_LAYERS_MAX: i64 = 2;

/// New seats of one host or two.
pub(super) struct Change {
    seats: [(usize, Seat); 2],
    hosts: usize,
}

/// Which hosts start at a layer: who follows whom.
pub(super) struct Starts {
    /// Hosts with a seat, in no order; only they move.
    hosts: Vec<usize>,
    by_layer: Vec<Vec<usize>>,
    /// Place of each host in its list.
    place: Vec<usize>,
}

impl Change {
    fn one(host: usize, seat: Seat) -> Self {
        Self { seats: [(host, seat); 2], hosts: 1 }
    }

    fn two(one: (usize, Seat), other: (usize, Seat)) -> Self {
        Self { seats: [one, other], hosts: 2 }
    }

    /// Each host with its new seat.
    #[inline]
    pub fn seats(&self) -> &[(usize, Seat)] {
        &self.seats[..self.hosts]
    }
}

impl Starts {
    pub fn new(ground: &Ground, seats: &[Seat]) -> Self {
        let mut starts = Self {
            hosts: Vec::new(),
            by_layer: vec![Vec::new(); ground.layers as usize + 1],
            place: vec![0; seats.len()],
        };
        for (host, seat) in seats.iter().enumerate().filter(|it| it.1.count > 0) {
            starts.hosts.push(host);
            starts.push(host, seat.first);
        }
        starts
    }

    /// Notes that a host moved.
    pub fn seat(&mut self, host: usize, from: Seat, to: Seat) {
        if from.first == to.first {
            return;
        }
        let list = &mut self.by_layer[from.first as usize];
        let place = self.place[host];
        list.swap_remove(place);
        if let Some(&moved) = list.get(place) {
            self.place[moved] = place;
        }
        self.push(host, to.first);
    }

    fn push(&mut self, host: usize, first: u32) {
        let list = &mut self.by_layer[first as usize];
        self.place[host] = list.len();
        list.push(host);
    }

    /// Draws a change; `None` if the draw leads nowhere: outside of the model, or to a seat that a
    /// host cannot take.
    pub fn draw(&self, ground: &Ground, seats: &[Seat], rng: &mut Rng) -> Option<Change> {
        let host = self.hosts[rng.usize(0..self.hosts.len())];
        let seat = seats[host];
        let (first, count) = (i64::from(seat.first), i64::from(seat.count));
        let within = |first, count| Seat::within(ground.layers, first, count);
        let change = match rng.u32(0..16) {
            0..3 => Change::one(host, within(first + by(SHIFT_LAYERS_MAX, rng), count)?),
            3..5 => Change::one(host, within(first, count + by(RESIZE_LAYERS_MAX, rng))?),
            5..7 => {
                let by = by(RESIZE_LAYERS_MAX, rng);
                Change::one(host, within(first + by, count - by)?)
            }
            7 => Change::one(host, jump(ground, host, rng)),
            8..10 => {
                let other = self.other(ground, host, rng)?;
                Change::two((host, seats[other]), (other, seat))
            }
            10 => {
                let other = self.other(ground, host, rng)?;
                let (far, theirs) = (i64::from(seats[other].first), i64::from(seats[other].count));
                Change::two((host, within(far, count)?), (other, within(first, theirs)?))
            }
            11..13 => {
                let other = self.follower(seat, rng)?;
                let theirs = i64::from(seats[other].count);
                Change::two((host, within(first + theirs, count)?), (other, within(first, theirs)?))
            }
            _ => {
                let other = self.follower(seat, rng)?;
                let (by, theirs) = (by(RESIZE_LAYERS_MAX, rng), i64::from(seats[other].count));
                let next = within(first + count + by, theirs - by)?;
                Change::two((host, within(first, count + by)?), (other, next))
            }
        };
        change.seats().iter().all(|&(host, seat)| ground.rate(host, seat) > 0.0).then_some(change)
    }

    /// A host of another group.
    fn other(&self, ground: &Ground, host: usize, rng: &mut Rng) -> Option<usize> {
        let other = self.hosts[rng.usize(0..self.hosts.len())];
        (ground.group[other] != ground.group[host]).then_some(other)
    }

    /// A host that starts where a seat ends.
    fn follower(&self, seat: Seat, rng: &mut Rng) -> Option<usize> {
        rng.choice(&self.by_layer[seat.end() as usize]).copied()
    }
}

/// One to `most`, up or down.
fn by(most: i64, rng: &mut Rng) -> i64 {
    let by = rng.i64(1..=most);
    if rng.bool() { by } else { -by }
}

/// Any seat.
fn jump(ground: &Ground, host: usize, rng: &mut Rng) -> Seat {
    let count = rng.u32(1..=ground.of(host).count_max.max(1));
    Seat { first: rng.u32(0..=ground.layers - count), count }
}
