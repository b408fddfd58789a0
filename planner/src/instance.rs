//! A problem in numbers: what every placement method, flow and bound computes on.
//!
//! Hosts are indices; hosts that are alike share a [`Class`], which is what keeps bounds and large
//! searches independent of how many there are. Rates are tokens per second, prompt and output
//! tokens together.

use thalweg_wire::LayerRange;

use crate::device::Device;

/// What each host holds, by index; `None` for a host that holds nothing.
pub type Placement = Vec<Option<LayerRange>>;

/// A cluster, a model and a workload, ready for computing.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Layers of the model.
    pub layers: u32,
    /// Kinds of hosts.
    pub classes: Vec<Class>,
    /// Hosts, in the order of the cluster file.
    pub hosts: Vec<Host>,
    /// Names of the regions that hosts refer to.
    pub regions: Vec<String>,
    /// What joins the hosts.
    pub network: Network,
    /// Whether a token may enter a host in the middle of its range (partial inference). Without it
    /// a hop needs the far end to start exactly where the near end stops.
    pub partial: bool,
    /// Weights of one layer, in bytes; what a repair has to move.
    pub layer_bytes: f64,
}

/// Hosts that compute alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Machine type, as in the cluster file.
    pub name: String,
    /// What it sustains, by what it holds.
    pub rates: Rates,
    /// Curves and KV memory behind the rates, where they are known; the closed-loop estimate needs
    /// them, flows do not.
    pub device: Option<Device>,
}

/// `T(k)`: tokens/s that a host sustains when charged all its layers for every token.
///
/// Holding the first layer also means the embedding, and the last one the head, so that there are
/// four tables. Index `k` is the number of layers; what does not fit is missing or zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    tables: [Vec<f64>; 4],
}

/// A host.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Unique name.
    pub name: String,
    /// Index into [`Instance::classes`].
    pub class: usize,
    /// Index into [`Instance::regions`].
    pub region: usize,
    /// Whether policy lets it hold the first layer.
    pub may_be_first: bool,
    /// Whether policy lets it hold the last layer.
    pub may_be_last: bool,
    /// Activations per second its network card takes in.
    pub nic_in: f64,
    /// Activations per second its network card sends out.
    pub nic_out: f64,
    /// Price, in dollars per hour; zero where unknown.
    pub price_per_hour: f64,
    /// Bytes/s at which it can load weights.
    pub load_bytes_per_second: f64,
}

/// A directed link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wire {
    /// Tokens (as activations, or as ids beside source and sink) it carries in a second.
    pub tokens_per_second: f64,
    /// One-way delay, in seconds.
    pub latency_seconds: f64,
}

/// Every directed link, and what links share.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Links between hosts.
    pub pairs: Pairs,
    /// From the gateways to each host.
    pub enter: Vec<Option<Wire>>,
    /// From each host back to the gateways.
    pub leave: Vec<Option<Wire>>,
    /// Capacities that several links draw on.
    pub shared: Vec<Shared>,
}

/// Links between hosts: by region, or one by one.
#[derive(Clone, Debug, PartialEq)]
pub enum Pairs {
    /// `[from region * regions + to region]`: each pair of hosts has a link of its own like this.
    ByRegion(Vec<Option<Wire>>),
    /// `[from * hosts + to]`.
    Each(Vec<Option<Wire>>),
}

/// A capacity that several links draw on: a region-to-region line, a provider's egress.
#[derive(Clone, Debug, PartialEq)]
pub struct Shared {
    /// What the operator calls it.
    pub name: String,
    /// Activations per second, all links together.
    pub tokens_per_second: f64,
    /// The pairs (from region, to region) whose links draw on it.
    pub carries: Vec<(usize, usize)>,
}

impl Rates {
    /// The same rates wherever the layers lie; `by_count[k]` for `k` layers, `by_count[0]` unused.
    pub fn uniform(by_count: Vec<f64>) -> Self {
        Self { tables: std::array::from_fn(|_| by_count.clone()) }
    }

    /// Rates of ranges in the middle, with the first layer, with the last, and with both.
    pub fn new(middle: Vec<f64>, first: Vec<f64>, last: Vec<f64>, both: Vec<f64>) -> Self {
        Self { tables: [middle, first, last, both] }
    }

    /// Tokens/s of a holder of `range` of a model of `layers`; zero if it does not fit.
    pub fn of(&self, range: LayerRange, layers: u32) -> f64 {
        let first = usize::from(range.first() == 0);
        let last = usize::from(range.end() == layers);
        let table = &self.tables[first + 2 * last];
        table.get(range.count() as usize).copied().unwrap_or(0.0)
    }

    /// The most that `count` layers anywhere give; zero if they fit nowhere.
    pub fn most(&self, count: u32) -> f64 {
        let at = |table: &Vec<f64>| table.get(count as usize).copied().unwrap_or(0.0);
        self.tables.iter().map(at).fold(0.0, f64::max)
    }

    /// Layers that fit at most.
    pub fn count_max(&self) -> u32 {
        let longest = self.tables.iter().map(Vec::len).max().unwrap_or(0);
        (1..longest as u32).rev().find(|&count| self.most(count) > 0.0).unwrap_or(0)
    }

    /// No rate above `limit`, as when the network card is slower than the machine.
    pub fn capped(&self, limit: f64) -> Self {
        Self {
            tables: self.tables.clone().map(|it| it.iter().map(|rate| rate.min(limit)).collect()),
        }
    }

    /// The same rates where `allowed` takes the number of layers, and nothing elsewhere.
    pub fn only(&self, allowed: impl Fn(u32) -> bool) -> Self {
        let mut tables = self.tables.clone();
        for table in &mut tables {
            for (rate, _) in table.iter_mut().zip(0..).filter(|it| !allowed(it.1)) {
                *rate = 0.0;
            }
        }
        Self { tables }
    }

    /// Multiplies every rate, as when the machine is slower than measured.
    pub fn scaled(&self, factor: f64) -> Self {
        Self { tables: self.tables.clone().map(|it| it.iter().map(|rate| rate * factor).collect()) }
    }
}

impl Instance {
    /// Class of a host.
    pub fn class(&self, host: usize) -> &Class {
        &self.classes[self.hosts[host].class]
    }

    /// `T` of `host` holding `range`: zero if it does not fit or policy forbids it.
    pub fn rate(&self, host: usize, range: LayerRange) -> f64 {
        let at = &self.hosts[host];
        let allowed =
            (range.first() > 0 || at.may_be_first) && (range.end() < self.layers || at.may_be_last);
        if allowed { self.classes[at.class].rates.of(range, self.layers) } else { 0.0 }
    }

    /// The link from one host to another, if there is one.
    pub fn wire(&self, from: usize, to: usize) -> Option<Wire> {
        match &self.network.pairs {
            Pairs::ByRegion(table) => {
                let (near, far) = (self.hosts[from].region, self.hosts[to].region);
                table[near * self.regions.len() + far]
            }
            Pairs::Each(table) => table[from * self.hosts.len() + to],
        }
    }

    /// Layers the hosts can hold together, at most.
    pub fn layers_held_max(&self) -> u64 {
        let most = |it: &Host| u64::from(self.classes[it.class].rates.count_max());
        self.hosts.iter().map(most).sum()
    }

    /// Full-charge coverage of every layer: the sum of `T` over the hosts that hold it. Without
    /// binding links the least of it is the maximum flow.
    pub fn coverage(&self, placement: &[Option<LayerRange>]) -> Vec<f64> {
        let mut coverage = vec![0.0; self.layers as usize];
        for (host, range) in placement.iter().enumerate() {
            let Some(range) = *range else { continue };
            let rate = self.rate(host, range);
            coverage[range.first() as usize..range.end() as usize]
                .iter_mut()
                .for_each(|it| *it += rate);
        }
        coverage
    }
}
