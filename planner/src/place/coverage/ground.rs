//! An instance as the search sees it: rates in flat tables, hosts that are alike in one group.

use thalweg_wire::LayerRange;

use crate::instance::{Instance, Placement};

/// Where a host lies: its first layer, and how many it holds; zero if none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Seat {
    pub first: u32,
    pub count: u32,
}

/// What the search knows of an instance.
pub(super) struct Ground {
    pub layers: u32,
    pub groups: Vec<Group>,
    /// Group of each host.
    pub group: Vec<usize>,
}

/// Hosts that can take each other's place: of one class, under one policy.
pub(super) struct Group {
    /// Hosts, as in the instance.
    pub hosts: Vec<usize>,
    /// Layers that fit at most.
    pub count_max: u32,
    /// By count: in the middle, with the first layer, with the last, with both.
    rates: [Vec<f64>; 4],
}

impl Seat {
    /// The seat of `count` layers from `first`, unless it leaves the model.
    pub fn within(layers: u32, first: i64, count: i64) -> Option<Self> {
        let (first, count) = (u32::try_from(first).ok()?, u32::try_from(count).ok()?);
        (count > 0 && count <= layers && first <= layers - count).then_some(Self { first, count })
    }

    /// One past the last layer.
    pub fn end(self) -> u32 {
        self.first + self.count
    }

    /// The layers it covers, as indices.
    pub fn span(self) -> std::ops::Range<usize> {
        self.first as usize..self.end() as usize
    }
}

impl Ground {
    /// With `by_region` hosts of different regions are not alike.
    pub fn new(instance: &Instance, by_region: bool) -> Self {
        let mut keys = Vec::new();
        let mut ground = Self { layers: instance.layers, groups: Vec::new(), group: Vec::new() };
        for (index, host) in instance.hosts.iter().enumerate() {
            let region = if by_region { host.region } else { 0 };
            let key = (host.class, host.may_be_first, host.may_be_last, region);
            let at = keys.iter().position(|it| *it == key).unwrap_or_else(|| {
                keys.push(key);
                ground.groups.push(Group::new(instance, index));
                keys.len() - 1
            });
            ground.groups[at].hosts.push(index);
            ground.group.push(at);
        }
        ground
    }

    /// Group of a host.
    pub fn of(&self, host: usize) -> &Group {
        &self.groups[self.group[host]]
    }

    /// Tokens/s of a host on a seat; zero if it does not fit there or may not be there.
    #[inline]
    pub fn rate(&self, host: usize, seat: Seat) -> f64 {
        self.of(host).rate(seat, self.layers)
    }

    /// The seats of a placement.
    pub fn seats(&self, placement: &Placement) -> Vec<Seat> {
        let seat = |it: LayerRange| Seat { first: it.first(), count: it.count() };
        placement.iter().map(|it| it.map_or(Seat::default(), seat)).collect()
    }

    /// Least coverage of any layer, in tokens/s.
    pub fn least_coverage(&self, seats: &[Seat]) -> f64 {
        let mut cover = vec![0.0; self.layers as usize];
        for (host, seat) in seats.iter().enumerate() {
            let rate = self.rate(host, *seat);
            cover[seat.span()].iter_mut().for_each(|it| *it += rate);
        }
        cover.into_iter().reduce(f64::min).unwrap_or(0.0)
    }

    /// The placement of these seats. A host that gives nothing on its seat holds nothing.
    pub fn placement(&self, seats: &[Seat]) -> Placement {
        let range = |(host, seat): (usize, &Seat)| {
            let range = LayerRange::new(seat.first, seat.end()).ok();
            range.filter(|_| self.rate(host, *seat) > 0.0)
        };
        seats.iter().enumerate().map(range).collect()
    }
}

impl Group {
    /// The group of a host, still without any.
    fn new(instance: &Instance, host: usize) -> Self {
        let layers = instance.layers;
        let class = instance.hosts[host].class;
        let count_max = instance.classes[class].rates.count_max().min(layers);
        let rate = |first: u32, count: u32| {
            LayerRange::new(first, first + count).map_or(0.0, |it| instance.rate(host, it))
        };
        let table = |at: &dyn Fn(u32) -> Option<u32>| {
            (0..=count_max).map(|count| at(count).map_or(0.0, |it| rate(it, count))).collect()
        };
        let rates = [
            table(&|count| (count + 1 < layers).then_some(1)),
            table(&|count| (count < layers).then_some(0)),
            table(&|count| (count < layers).then(|| layers - count)),
            table(&|count| (count == layers).then_some(0)),
        ];
        let fits = |&it: &u32| rates.iter().any(|table: &Vec<f64>| table[it as usize] > 0.0);
        let count_max = (1..=count_max).rev().find(fits).unwrap_or(0);
        Self { hosts: Vec::new(), count_max, rates }
    }

    /// Tokens/s on a seat in a model of `layers`.
    #[inline]
    pub fn rate(&self, seat: Seat, layers: u32) -> f64 {
        let ends = usize::from(seat.first == 0) + 2 * usize::from(seat.end() == layers);
        self.rates[ends].get(seat.count as usize).copied().unwrap_or(0.0)
    }

    /// The seats that its hosts can take in a model of `layers`, with the rates there.
    pub fn seats(&self, layers: u32) -> impl Iterator<Item = (Seat, f64)> {
        let firsts = move |count| (0..=layers - count).map(move |first| Seat { first, count });
        let seats = (1..=self.count_max).flat_map(firsts);
        seats.map(move |it| (it, self.rate(it, layers))).filter(|it| it.1 > 0.0)
    }
}
