//! A part of a cluster as the search sees it: some hosts, and what they have to cover.

use thalweg_wire::LayerRange;

use crate::instance::Instance;

/// Demands are raised by this fraction, which is far more than sums are off by.
const MARGIN: f64 = 1e-9;

/// Shortfalls below this are rounding; what demands are raised by makes up for it.
pub(super) const NO_SHORTFALL: f64 = 1e-10;

/// Layers that a host holds: from the first to before the end, none if both are the same.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Seat {
    pub first: u32,
    pub end: u32,
}

/// Hosts that together have to cover a demand, and what each holds. Hosts are counted by their
/// place in `hosts`; rates are shares of the largest demand.
pub(super) struct Ground {
    pub layers: u32,
    /// Hosts, as in the instance.
    pub hosts: Vec<usize>,
    /// What they hold.
    pub held: Vec<Seat>,
    /// Whether they may hold something else.
    pub free: Vec<bool>,
    /// What they have to cover, layer by layer.
    pub demand: Vec<f64>,
    /// Kind of each host.
    kind: Vec<u32>,
    kinds: Vec<Kind>,
}

/// Hosts of one class under one policy.
struct Kind {
    count_max: u32,
    /// By count: in the middle, with the first layer, with the last, with both.
    rates: [Vec<f64>; 4],
}

impl Seat {
    /// Layers held.
    pub fn count(self) -> u32 {
        self.end - self.first
    }

    pub fn contains(self, layer: u32) -> bool {
        (self.first..self.end).contains(&layer)
    }

    /// Layers in here that are not in `from`.
    pub fn beyond(self, from: Self) -> u32 {
        self.count() - self.end.min(from.end).saturating_sub(self.first.max(from.first))
    }

    pub fn range(self) -> Option<LayerRange> {
        LayerRange::new(self.first, self.end).ok()
    }

    /// The layers held, as indices.
    pub fn span(self) -> std::ops::Range<usize> {
        self.first as usize..self.end as usize
    }
}

impl From<Option<LayerRange>> for Seat {
    fn from(range: Option<LayerRange>) -> Self {
        range.map_or(Self::default(), |it| Self { first: it.first(), end: it.end() })
    }
}

impl Ground {
    /// `hosts` that hold `held` and have to cover `demand` tokens/s, layer by layer.
    pub fn new(
        instance: &Instance,
        hosts: Vec<usize>,
        held: &[Option<LayerRange>],
        demand: &[f64],
    ) -> Self {
        let scale = 1.0 / demand.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let mut keys = Vec::new();
        let (mut kind, mut kinds) = (Vec::new(), Vec::new());
        for &host in &hosts {
            let at = &instance.hosts[host];
            let key = (at.class, at.may_be_first, at.may_be_last);
            let place = keys.iter().position(|it| *it == key).unwrap_or_else(|| {
                keys.push(key);
                kinds.push(Kind::new(instance, host, scale));
                keys.len() - 1
            });
            kind.push(place as u32);
        }
        Self {
            layers: instance.layers,
            held: hosts.iter().map(|&it| held[it].into()).collect(),
            free: kind.iter().map(|&it| kinds[it as usize].count_max > 0).collect(),
            demand: demand.iter().map(|it| it * scale * (1.0 + MARGIN)).collect(),
            hosts,
            kind,
            kinds,
        }
    }

    /// Layers that fit on a host at most.
    pub fn count_max(&self, host: usize) -> u32 {
        self.kinds[self.kind[host] as usize].count_max
    }

    /// Rate of a host on a seat; zero if it does not fit there or may not be there.
    #[inline]
    pub fn rate(&self, host: usize, seat: Seat) -> f64 {
        let ends = usize::from(seat.first == 0) + 2 * usize::from(seat.end == self.layers);
        let table = &self.kinds[self.kind[host] as usize].rates[ends];
        table.get(seat.count() as usize).copied().unwrap_or(0.0)
    }

    /// Layers to load, all hosts together.
    pub fn loads(&self, seats: &[Seat]) -> u32 {
        seats.iter().zip(&self.held).map(|(seat, held)| seat.beyond(*held)).sum()
    }

    /// What is covered beyond the demand, layer by layer; below zero where it falls short.
    pub fn slack(&self, seats: &[Seat]) -> Vec<f64> {
        let mut slack: Vec<f64> = self.demand.iter().map(|it| -it).collect();
        for (host, &seat) in seats.iter().enumerate() {
            let rate = self.rate(host, seat);
            slack[seat.span()].iter_mut().for_each(|it| *it += rate);
        }
        slack
    }
}

impl Kind {
    /// What `host` can do, in units of `1 / scale` tokens/s.
    fn new(instance: &Instance, host: usize, scale: f64) -> Self {
        let layers = instance.layers;
        let count_max = instance.class(host).rates.count_max().min(layers);
        let rate = |first: Option<u32>, count: u32| {
            let range = first.and_then(|it| LayerRange::new(it, it + count).ok());
            range.map_or(0.0, |it| instance.rate(host, it) * scale)
        };
        let table = |first: &dyn Fn(u32) -> Option<u32>| -> Vec<f64> {
            (0..=count_max).map(|count| rate(first(count), count)).collect()
        };
        let rates = [
            table(&|count| (count + 1 < layers).then_some(1)),
            table(&|count| (count < layers).then_some(0)),
            table(&|count| (count < layers).then(|| layers - count)),
            table(&|count| (count == layers).then_some(0)),
        ];
        Self { count_max, rates }
    }
}
