//! Columns and rows, in the paper's letters.
//!
//! ```text
//! s_i  first layer of host i       b_ik  host i holds k layers      e_i = s_i + sum_k k b_ik
//! f_uv tokens/s on link u -> v     d_uv  the link may be used       c1, c2  halves of d (partial)
//!
//! maximise  sum_i f_source,i
//! sum_k b_ik = 1                            every host holds something
//! e_i <= L
//! sum_u f_ui = sum_v f_iv <= sum_k T_i(k) b_ik
//! f_uv <= cap_uv d_uv
//! source -> i    s_i <= L (1 - d)
//! i -> sink      L d <= e_i
//! i -> j         e_i = s_j where d = 1                              (whole hosts only)
//! i -> j         2 d <= c1 + c2,  (L+1)(1 - c1) >= s_j - e_i,  e_j - e_i >= 1 - (L+1)(1 - c2)
//! ```
//!
//! Beyond the paper: policy, shared capacities, and rates that differ where a host holds the first
//! or the last layer. `cap` is at most what either end computes, because a solver takes 1e-6 for
//! zero, and a millionth of a fast link is a flow worth having.

use std::collections::BTreeSet;

use thalweg_wire::LayerRange;

use super::super::{by_descending, range};
use crate::instance::{Instance, Placement};
use crate::solver::{Answer, Column, Effort, Point, Program};

/// Minus infinity, for rows without a least value.
const NONE: f64 = f64::NEG_INFINITY;

/// The program of an instance, and where its columns are.
pub(super) struct Model<'a> {
    /// The program itself.
    pub(super) program: Program,
    instance: &'a Instance,
    redundant: bool,
    hosts: Vec<Option<Holder>>,
    links: Vec<Link>,
}

/// Columns of a host.
struct Holder {
    start: usize,
    /// `b_ik` for `k` from 1.
    counts: Vec<usize>,
    /// Whether it holds the first layer, whether the last; only where that changes its rate.
    ends: Option<(usize, usize)>,
}

impl Holder {
    /// Entries of `factor · e_i`.
    fn end(&self, factor: f64) -> Vec<(usize, f64)> {
        let counts = (1_u32..).zip(&self.counts).map(|(k, &it)| (it, factor * f64::from(k)));
        std::iter::once((self.start, factor)).chain(counts).collect()
    }
}

/// Factors with their columns.
type Entries = Vec<(usize, f64)>;
/// A constraint: least value, factors with their columns, largest value.
type Bounds = (f64, Entries, f64);

/// Columns of a directed link; `None` at an end is the gateways.
struct Link {
    from: Option<usize>,
    to: Option<usize>,
    flow: usize,
    valid: usize,
    halves: Option<(usize, usize)>,
}

impl<'a> Model<'a> {
    pub(super) fn new(instance: &'a Instance, links_max: Option<usize>, redundant: bool) -> Self {
        let program = Program::default();
        let hosts = Vec::new();
        let mut model = Self { program, instance, redundant, hosts, links: Vec::new() };
        for host in 0..instance.hosts.len() {
            let holder = model.holder(host);
            model.hosts.push(holder);
        }
        for (from, to, capacity) in links(instance, links_max) {
            model.link(from, to, capacity);
        }
        model.capacities();
        model.shared();
        model
    }

    /// What the columns say each host holds.
    pub(super) fn placement(&self, values: &[f64]) -> Placement {
        let read = |holder: &Holder| {
            let first = values[holder.start].round() as u32;
            let count = (1..).zip(&holder.counts).find(|it| values[*it.1] > 0.5)?.0;
            range(first, first + count)
        };
        self.hosts.iter().map(|it| it.as_ref().and_then(read)).collect()
    }

    /// The best point that has this placement, a value for every column. Hosts that hold nothing
    /// are given a layer, since the program asks for it. `None` if it does not fit the program.
    pub(super) fn start(&self, placement: &Placement) -> Option<Point> {
        let mut program = self.program.clone();
        let mut ends = vec![None; self.hosts.len()];
        for (host, holder) in self.hosts.iter().enumerate() {
            let Some(holder) = holder else { continue };
            let held = placement[host].or_else(|| self.anything(host))?;
            ends[host] = Some((held.first(), held.end()));
            fix(&mut program.columns[holder.start], f64::from(held.first()));
            for (count, &column) in (1..).zip(&holder.counts) {
                fix(&mut program.columns[column], is(count == held.count()));
            }
            if let Some((first, last)) = holder.ends {
                fix(&mut program.columns[first], is(held.first() == 0));
                fix(&mut program.columns[last], is(held.end() == self.instance.layers));
            }
        }
        for link in &self.links {
            let near = link.from.and_then(|it| ends[it]);
            let far = link.to.and_then(|it| ends[it]);
            let (first, second) = self.halves(near, far);
            fix(&mut program.columns[link.valid], is(first && second));
            if let Some((one, two)) = link.halves {
                fix(&mut program.columns[one], is(first));
                fix(&mut program.columns[two], is(second));
            }
        }
        match program.maximise(&Effort::default()) {
            Answer::Optimal(point) => Some(point),
            _ => None,
        }
    }

    /// The two conditions for using a link between hosts that hold so.
    fn halves(&self, near: Option<(u32, u32)>, far: Option<(u32, u32)>) -> (bool, bool) {
        match (near, far) {
            (Some((_, end)), Some((first, far_end))) if self.instance.partial => {
                (first <= end, end < far_end)
            }
            (Some((_, end)), Some((first, _))) => (first == end, true),
            (None, Some((first, _))) => (first == 0, true),
            (Some((_, end)), None) => (end == self.instance.layers, true),
            (None, None) => (false, false),
        }
    }

    /// The fewest layers that the host can hold, where it can hold them first.
    fn anything(&self, host: usize) -> Option<LayerRange> {
        let layers = self.instance.layers;
        let most = self.instance.class(host).rates.count_max().min(layers);
        let ranges = (1..=most).flat_map(|count| {
            (0..=layers - count).filter_map(move |first| range(first, first + count))
        });
        ranges.into_iter().find(|&it| self.instance.rate(host, it) > 0.0)
    }

    fn binary(&mut self) -> usize {
        self.program.add_integer(0.0, 1.0)
    }

    /// Columns of a host and what it may hold; `None` if it can hold nothing.
    fn holder(&mut self, host: usize) -> Option<Holder> {
        self.anything(host)?;
        let (layers, at) = (f64::from(self.instance.layers), &self.instance.hosts[host]);
        let most = self.instance.class(host).rates.count_max().min(self.instance.layers);
        let start = self.program.add_integer(0.0, layers - 1.0);
        let counts: Vec<usize> = (0..most).map(|_| self.binary()).collect();
        let sum = counts.iter().map(|&it| (it, 1.0)).collect();
        self.program.constrain(1.0, sum, 1.0);
        let ends = ends_matter(self.instance, host).then(|| (self.binary(), self.binary()));
        let holder = Holder { start, counts, ends };
        let last = if at.may_be_last { layers } else { layers - 1.0 };
        self.program.constrain(NONE, holder.end(1.0), last);
        self.program.columns[start].lower = if at.may_be_first { 0.0 } else { 1.0 };
        if let Some((first, last)) = ends {
            // `first` is one exactly where s = 0, `last` exactly where e = L.
            self.program.constrain(1.0, vec![(start, 1.0), (first, 1.0)], f64::INFINITY);
            let first = vec![(start, 1.0), (first, layers - 1.0)];
            self.program.constrain(NONE, first, layers - 1.0);
            let not_yet = joined(holder.end(1.0), vec![(last, -1.0)]);
            self.program.constrain(NONE, not_yet, layers - 1.0);
            let reached = joined(holder.end(1.0), vec![(last, -layers)]);
            self.program.constrain(0.0, reached, f64::INFINITY);
        }
        Some(holder)
    }

    fn link(&mut self, from: Option<usize>, to: Option<usize>, capacity: f64) {
        let known = |it: Option<usize>| it.is_none_or(|host| self.hosts[host].is_some());
        if !known(from) || !known(to) {
            return;
        }
        let worth = if from.is_none() { 1.0 } else { 0.0 };
        let flow = self.program.add(worth, capacity);
        let valid = self.binary();
        self.program.constrain(NONE, vec![(flow, 1.0), (valid, -capacity)], 0.0);
        let inner = from.is_some() && to.is_some();
        let halves = (inner && self.instance.partial).then(|| (self.binary(), self.binary()));
        let link = Link { from, to, flow, valid, halves };
        self.validity(&link);
        self.links.push(link);
    }

    /// When `d` may be one and, redundantly, when it must be.
    fn validity(&mut self, link: &Link) {
        let layers = f64::from(self.instance.layers);
        let holder = |it: Option<usize>| it.and_then(|host| self.hosts[host].as_ref());
        let valid = link.valid;
        let (may, must) = match (holder(link.from), holder(link.to), link.halves) {
            (None, Some(far), _) => (
                vec![(NONE, vec![(far.start, 1.0), (valid, layers)], layers)],
                vec![(1.0, vec![(far.start, 1.0), (valid, 1.0)], f64::INFINITY)],
            ),
            (Some(near), None, _) => (
                vec![(0.0, joined(near.end(1.0), vec![(valid, -layers)]), f64::INFINITY)],
                vec![(NONE, joined(near.end(1.0), vec![(valid, 1.0 - layers)]), layers - 1.0)],
            ),
            (Some(near), Some(far), None) => {
                let gap = joined(near.end(-1.0), vec![(far.start, 1.0)]);
                let least = joined(gap.clone(), vec![(valid, -layers)]);
                let most = joined(gap, vec![(valid, layers)]);
                (vec![(-layers, least, f64::INFINITY), (NONE, most, layers)], vec![])
            }
            (Some(near), Some(far), Some(halves)) => partial_rows(layers, near, far, valid, halves),
            (None, None, _) => return,
        };
        let must = must.into_iter().filter(|_| self.redundant);
        for (lower, entries, upper) in may.into_iter().chain(must) {
            self.program.constrain(lower, entries, upper);
        }
    }

    /// What enters a host leaves it, and is no more than it computes with what it holds, nor than
    /// its network card takes in or sends out.
    fn capacities(&mut self) {
        let hosts = self.hosts.len();
        let (mut entering, mut leaving) = (vec![Vec::new(); hosts], vec![Vec::new(); hosts]);
        let (mut received, mut sent) = (vec![Vec::new(); hosts], vec![Vec::new(); hosts]);
        for link in &self.links {
            let inner = link.from.is_some() && link.to.is_some();
            if let Some(to) = link.to {
                entering[to].push((link.flow, 1.0));
                received[to].extend(inner.then_some((link.flow, 1.0)));
            }
            if let Some(from) = link.from {
                leaving[from].push((link.flow, -1.0));
                sent[from].extend(inner.then_some((link.flow, 1.0)));
            }
        }
        for host in 0..hosts {
            let Some(holder) = &self.hosts[host] else { continue };
            let flow = std::mem::take(&mut entering[host]);
            let kept = joined(flow.clone(), std::mem::take(&mut leaving[host]));
            self.program.constrain(0.0, kept, 0.0);
            for (entries, upper) in computed(self.instance, host, holder) {
                self.program.constrain(NONE, joined(flow.clone(), entries), upper);
            }
            let (at, most) = (&self.instance.hosts[host], rate_max(self.instance, host));
            for (card, flows) in [(at.nic_in, &mut received), (at.nic_out, &mut sent)] {
                if card < most {
                    self.program.constrain(NONE, std::mem::take(&mut flows[host]), card);
                }
            }
        }
    }

    /// Capacities that several links draw on.
    fn shared(&mut self) {
        for shared in &self.instance.network.shared {
            let region = |host: usize| self.instance.hosts[host].region;
            let draws = |link: &&Link| match (link.from, link.to) {
                (Some(from), Some(to)) => shared.carries.contains(&(region(from), region(to))),
                _ => false,
            };
            let entries = self.links.iter().filter(draws).map(|it| (it.flow, 1.0)).collect();
            self.program.constrain(NONE, entries, shared.tokens_per_second);
        }
    }
}

/// The conditions of partial inference: those that allow a link, those that force it open.
fn partial_rows(
    layers: f64,
    near: &Holder,
    far: &Holder,
    valid: usize,
    (first, second): (usize, usize),
) -> (Vec<Bounds>, Vec<Bounds>) {
    let beyond = layers + 1.0;
    let gap = joined(near.end(-1.0), vec![(far.start, 1.0)]);
    let further = joined(far.end(1.0), near.end(-1.0));
    let with = |entries: &Entries, column, factor| joined(entries.clone(), vec![(column, factor)]);
    let may = vec![
        (NONE, with(&gap, first, beyond), beyond),
        (-layers, with(&further, second, -beyond), f64::INFINITY),
        (NONE, vec![(valid, 2.0), (first, -1.0), (second, -1.0)], 0.0),
    ];
    let must = vec![
        (1.0, with(&gap, first, beyond), f64::INFINITY),
        (NONE, with(&further, second, -beyond), 0.0),
        (NONE, vec![(first, 1.0), (second, 1.0), (valid, -1.0)], 1.0),
    ];
    (may, must)
}

/// Rows `entries of -T_i(k) b_ik <= upper` that a host's flow is added to; four of them where the
/// rates depend on which end of the model it holds, each slack but where it applies.
fn computed(instance: &Instance, host: usize, holder: &Holder) -> Vec<(Entries, f64)> {
    let layers = instance.layers;
    let with_rates = |place: &dyn Fn(u32) -> Option<LayerRange>| {
        let rate = |k: u32| place(k).map_or(0.0, |it| instance.rate(host, it));
        (1_u32..).zip(&holder.counts).map(|(k, &it)| (it, -rate(k))).collect::<Entries>()
    };
    let middle = |k: u32| range(1, 1 + k).filter(|it| it.end() < layers);
    let first = |k: u32| range(0, k).filter(|it| it.end() < layers);
    let last = |k: u32| range(layers.checked_sub(k)?, layers).filter(|it| it.first() > 0);
    let both = |k: u32| range(0, k).filter(|it| it.end() == layers);
    let Some((is_first, is_last)) = holder.ends else {
        let anywhere = |k: u32| {
            let places = [middle(k), first(k), last(k), both(k)];
            places.into_iter().flatten().find(|&it| instance.rate(host, it) > 0.0)
        };
        return vec![(with_rates(&anywhere), 0.0)];
    };
    let slack = rate_max(instance, host);
    // The row holds where `first` and `last` are as given; elsewhere it has slack.
    let row = |entries: Entries, at_first: bool, at_last: bool| {
        let factor = |at: bool| if at { slack } else { -slack };
        let upper = slack * f64::from(u8::from(at_first) + u8::from(at_last));
        (joined(entries, vec![(is_first, factor(at_first)), (is_last, factor(at_last))]), upper)
    };
    vec![
        row(with_rates(&middle), false, false),
        row(with_rates(&first), true, false),
        row(with_rates(&last), false, true),
        row(with_rates(&both), true, true),
    ]
}

/// Whether a host's rate depends on more than how many layers it holds. Policy does not count: it
/// bounds the first and the last layer instead.
fn ends_matter(instance: &Instance, host: usize) -> bool {
    let (rates, layers) = (&instance.class(host).rates, instance.layers);
    (1..=rates.count_max().min(layers)).any(|k| {
        let ranges = [range(0, k), range(1, k + 1), range(layers - k, layers)];
        let fitting = ranges.into_iter().flatten().filter(|it| it.end() <= layers);
        let bits: BTreeSet<u64> = fitting.map(|it| rates.of(it, layers).to_bits()).collect();
        bits.len() > 1
    })
}

/// The most a host computes, however many layers it holds.
fn rate_max(instance: &Instance, host: usize) -> f64 {
    let rates = &instance.class(host).rates;
    (1..=rates.count_max()).map(|it| rates.most(it)).fold(0.0, f64::max)
}

/// Directed links with their capacities, pruned; `None` is the gateways.
fn links(
    instance: &Instance,
    links_max: Option<usize>,
) -> Vec<(Option<usize>, Option<usize>, f64)> {
    let hosts = instance.hosts.len();
    let most: Vec<f64> = (0..hosts).map(|it| rate_max(instance, it)).collect();
    let network = &instance.network;
    let mut all = Vec::new();
    for near in 0..hosts {
        let enter = network.enter[near].filter(|_| instance.hosts[near].may_be_first);
        all.extend(enter.map(|it| (None, Some(near), it.tokens_per_second)));
        for far in (0..hosts).filter(|&it| it != near) {
            let wire = instance.wire(near, far);
            all.extend(wire.map(|it| (Some(near), Some(far), it.tokens_per_second)));
        }
        let leave = network.leave[near].filter(|_| instance.hosts[near].may_be_last);
        all.extend(leave.map(|it| (Some(near), None, it.tokens_per_second)));
    }
    let kept = links_max.map(|count| best(&all, hosts, count));
    let open = |it: &(usize, _)| kept.as_ref().is_none_or(|kept| kept.contains(&it.0));
    let capped = |(near, far, capacity): (Option<usize>, Option<usize>, f64)| {
        let ends = near.into_iter().chain(far).map(|it| most[it]);
        (near, far, ends.fold(capacity, f64::min))
    };
    all.into_iter().enumerate().filter(open).map(|it| capped(it.1)).collect()
}

/// The `count` fastest links into and out of each host and the gateways; of equals those of the
/// last hosts, as in the artifact. Links of the gateways are for the gateways to choose.
fn best(
    all: &[(Option<usize>, Option<usize>, f64)],
    hosts: usize,
    count: usize,
) -> BTreeSet<usize> {
    let mut kept = BTreeSet::new();
    for end in (0..hosts).map(Some).chain([None]) {
        for outward in [false, true] {
            let far = |link: usize| if outward { all[link].1 } else { all[link].0 };
            let near = |link: usize| if outward { all[link].0 } else { all[link].1 };
            let chosen = |it: &usize| near(*it) == end && (end.is_none() || far(*it).is_some());
            let mut own: Vec<usize> = (0..all.len()).filter(chosen).collect();
            own.sort_by(|&a, &b| by_descending(all[a].2, all[b].2).then(far(b).cmp(&far(a))));
            kept.extend(own.into_iter().take(count));
        }
    }
    kept
}

fn joined(mut entries: Entries, more: Entries) -> Entries {
    entries.extend(more);
    entries
}

/// One where it is so.
fn is(it: bool) -> f64 {
    f64::from(u8::from(it))
}

fn fix(column: &mut Column, value: f64) {
    (column.lower, column.upper, column.integer) = (value, value, false);
}
