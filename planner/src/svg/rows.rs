//! Which hosts are which rows, and where these stand.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_wire::LayerRange;

use super::{TOP, covered, is_tight};
use crate::instance::Instance;
use crate::report::{Limiting, Report, SINK, SOURCE};

/// Above this many hosts those that hold the same share a row.
const SINGLE_HOSTS_MAX: usize = 64;
/// Rows at most; those that carry least are left out.
const ROWS_MAX: usize = 240;
/// Pixels that all rows together take, as long as they stay legible.
const HEIGHT: f64 = 1100.0;
/// Pixels from row to row, at most and at least.
const STEP: (f64, f64) = (22.0, 5.0);
/// Rows closer than this have no text.
const TEXT_STEP_MIN: f64 = 8.0;

/// One host, or several that hold the same.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub name: String,
    pub machine: String,
    pub region: usize,
    pub range: LayerRange,
    /// Tokens/s its hosts sustain, charged in full.
    pub rate: f64,
    /// Tokens/s through them.
    pub through: f64,
    /// What they compute, as a share of what they could.
    busy: f64,
    /// Whether one of them limits the plan, as part of the cut or on a tight layer.
    pub limits: bool,
    /// Where it is drawn.
    pub y: f64,
    hosts: usize,
}

/// Ends of a ribbon, rows by index; `None` is the gateways.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Ends {
    pub from: Option<usize>,
    pub to: Option<usize>,
    pub position: u32,
}

/// What a ribbon carries.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ribbon {
    pub rate: f64,
    pub limits: bool,
}

/// All rows, by region and first layer.
pub(super) struct Rows {
    pub list: Vec<Row>,
    pub ribbons: BTreeMap<Ends, Ribbon>,
    /// Pixels from row to row.
    pub step: f64,
    /// Whether rows stand for several hosts.
    pub grouped: bool,
    /// Rows that are not drawn.
    pub left_out: usize,
    /// Hosts that hold nothing.
    pub idle: usize,
    /// Whether links from or to the gateways limit the plan.
    pub source_limits: bool,
    pub sink_limits: bool,
}

impl Row {
    /// What is used of the hosts: 1 if they compute all the time.
    pub fn used(&self) -> f64 {
        self.busy
    }
}

impl Rows {
    pub fn new(report: &Report, instance: &Instance) -> Self {
        let limiting = Limits::new(report);
        let grouped = report.placement.len() > SINGLE_HOSTS_MAX;
        let (mut list, of) = gather(report, instance, &limiting, grouped);
        let through = through(report);
        for (host, &at) in &of {
            let (passed, work) = through.get(host.as_str()).copied().unwrap_or_default();
            list[at].through += passed;
            let share = match report.charge {
                crate::report::ChargeName::FullCharge => passed,
                crate::report::ChargeName::WorkCharge => work,
            };
            list[at].busy += share;
        }
        let tight: Vec<bool> =
            covered(report, instance).into_iter().map(|it| is_tight(it, report)).collect();
        for row in &mut list {
            let (first, end) = (row.range.first() as usize, row.range.end() as usize);
            row.limits |= tight.get(first..end).is_some_and(|it| it.contains(&true));
            row.busy = if row.rate > 0.0 { row.busy / row.rate } else { 0.0 };
        }
        let (list, moved) = arranged(list, instance.regions.len());
        let left_out = moved.iter().filter(|it| it.is_none()).count();
        let row = |name: &str| of.get(name).and_then(|&at| moved[at]);
        let mut ribbons: BTreeMap<Ends, Ribbon> = BTreeMap::new();
        for weight in &report.weights {
            let (from, to) = (row(&weight.from), row(&weight.to));
            let missing =
                |end: Option<usize>, name: &str, gateway| end.is_none() && name != gateway;
            if missing(from, &weight.from, SOURCE) || missing(to, &weight.to, SINK) {
                continue;
            }
            let ribbon = ribbons.entry(Ends { from, to, position: weight.position }).or_default();
            ribbon.rate += weight.tokens_per_second;
            ribbon.limits |= limiting.links.contains(&(weight.from.as_str(), weight.to.as_str()));
        }
        let regions: BTreeSet<usize> = list.iter().map(|it| it.region).collect();
        let step = (HEIGHT / (list.len() + regions.len()).max(1) as f64).clamp(STEP.1, STEP.0);
        let mut rows = Self {
            list,
            ribbons,
            step,
            grouped,
            left_out,
            idle: instance.hosts.len().saturating_sub(report.placement.len()),
            source_limits: limiting.links.iter().any(|it| it.0 == SOURCE),
            sink_limits: limiting.links.iter().any(|it| it.1 == SINK),
        };
        rows.place();
        rows
    }

    /// Pixels from the first row to the last, with a name of so many for each region.
    pub fn height(&self, region: f64) -> f64 {
        self.list.len() as f64 * self.step + self.regions().count() as f64 * region
    }

    /// Regions with their rows.
    pub fn regions(&self) -> impl Iterator<Item = (usize, &[Row])> {
        self.list.chunk_by(|a, b| a.region == b.region).map(|it| (it[0].region, it))
    }

    pub fn bar_height(&self) -> f64 {
        (self.step * 0.78).max(self.step - 4.0)
    }

    /// Zero if rows are too close for text.
    pub fn text_size(&self) -> f64 {
        if self.step < TEXT_STEP_MIN { 0.0 } else { (self.step * 0.6).min(12.5) }
    }

    fn place(&mut self) {
        let mut y = TOP;
        let mut region = None;
        for row in &mut self.list {
            if region != Some(row.region) {
                region = Some(row.region);
                y += super::REGION;
            }
            row.y = y;
            y += self.step;
        }
    }
}

/// What limits the plan, by name.
struct Limits<'a> {
    hosts: BTreeSet<&'a str>,
    links: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Limits<'a> {
    fn new(report: &'a Report) -> Self {
        let mut limits = Self { hosts: BTreeSet::new(), links: BTreeSet::new() };
        for it in &report.limits {
            match it {
                Limiting::Host { host } => limits.hosts.extend([host.as_str()]),
                Limiting::Link { from, to } => limits.links.extend([(from.as_str(), to.as_str())]),
                Limiting::Shared { .. } => {}
            }
        }
        limits
    }
}

/// Tokens/s through each host, and passes through its whole range per second that these amount to.
fn through(report: &Report) -> BTreeMap<&str, (f64, f64)> {
    let ranges: BTreeMap<&str, (u32, u32)> =
        report.placement.iter().map(|it| (it.host.as_str(), (it.first, it.end))).collect();
    let mut through: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for weight in &report.weights {
        let Some(&(first, end)) = ranges.get(weight.to.as_str()) else { continue };
        let layers = f64::from(end.saturating_sub(first).max(1));
        let behind = f64::from(end.saturating_sub(weight.position));
        let sums = through.entry(&weight.to).or_default();
        sums.0 += weight.tokens_per_second;
        sums.1 += weight.tokens_per_second * behind / layers;
    }
    through
}

/// Rows in the order of hosts, and the row of each host.
fn gather(
    report: &Report,
    instance: &Instance,
    limits: &Limits<'_>,
    grouped: bool,
) -> (Vec<Row>, BTreeMap<String, usize>) {
    let known: BTreeMap<&str, usize> =
        instance.hosts.iter().enumerate().map(|(at, it)| (it.name.as_str(), at)).collect();
    let mut list: Vec<Row> = Vec::new();
    let mut of = BTreeMap::new();
    let mut alike: BTreeMap<(usize, &str, u32, u32), usize> = BTreeMap::new();
    for held in &report.placement {
        let host = known.get(held.host.as_str()).copied();
        let range = LayerRange::new(held.first, held.end).ok();
        let (Some(host), Some(range)) = (host, range) else { continue };
        let region = instance.hosts[host].region;
        let class = instance.class(host);
        let key = (region, class.name.as_str(), held.first, held.end);
        let at = match alike.get(&key).filter(|_| grouped) {
            Some(&at) => at,
            None => {
                alike.insert(key, list.len());
                list.push(Row {
                    name: held.host.clone(),
                    machine: class.name.clone(),
                    region,
                    range,
                    rate: 0.0,
                    through: 0.0,
                    busy: 0.0,
                    limits: false,
                    y: 0.0,
                    hosts: 0,
                });
                list.len() - 1
            }
        };
        let row = &mut list[at];
        row.rate += instance.rate(host, range);
        row.limits |= limits.hosts.contains(held.host.as_str());
        row.hosts += 1;
        if row.hosts > 1 {
            row.name = format!("{} hosts", row.hosts);
        }
        of.insert(held.host.clone(), at);
    }
    (list, of)
}

/// Sorts rows, regions by where their layers lie, and leaves out those that carry least. Returns
/// where each row went.
fn arranged(list: Vec<Row>, regions: usize) -> (Vec<Row>, Vec<Option<usize>>) {
    let mut centers = vec![(0.0, 0.0); regions];
    for row in &list {
        let weight = f64::from(row.range.count());
        centers[row.region].0 += weight * f64::from(row.range.first() + row.range.end());
        centers[row.region].1 += weight;
    }
    let center = |row: &Row| centers[row.region].0 / centers[row.region].1;
    let mut order: Vec<usize> = (0..list.len()).collect();
    order.sort_by(|&a, &b| list[b].through.total_cmp(&list[a].through));
    order.truncate(ROWS_MAX);
    order.sort_by(|&a, &b| {
        let (a, b) = (&list[a], &list[b]);
        let by_region = center(a).total_cmp(&center(b)).then(a.region.cmp(&b.region));
        by_region.then((a.range.first(), a.range.end()).cmp(&(b.range.first(), b.range.end())))
    });
    let mut moved = vec![None; list.len()];
    order.iter().enumerate().for_each(|(to, &from)| moved[from] = Some(to));
    (order.into_iter().map(|at| list[at].clone()).collect(), moved)
}
