//! Rates of links that run over common lines: max-min fair (Bertsekas and Gallager, Data Networks,
//! 6.5.2), and only where something changed.
//!
//! A line that could carry all its active links at their own rates holds nobody back. A link whose
//! lines are all like that runs at its own rate, and its start and stop change nothing else. Where a
//! line is *tight*, the links joined to it by tight lines are filled anew: all rates grow alike until
//! a link reaches its own or a line is full.

use super::{LineId, LinkId};

/// Capacities of links and lines, and the rates that follow.
#[derive(Debug, Default)]
pub(super) struct Shares {
    links: Vec<Share>,
    lines: Vec<Line>,
    /// Marks what the present search has seen.
    stamp: u64,
}

#[derive(Debug)]
struct Share {
    capacity: u64,
    lines: Vec<LineId>,
    active: bool,
    /// Bytes/s while active.
    rate: f64,
    seen: u64,
    settled: bool,
}

#[derive(Debug)]
struct Line {
    capacity: u64,
    /// What its active links would take if they could.
    demand: u64,
    active: Vec<LinkId>,
    seen: u64,
    /// Capacity that links with a settled rate leave.
    left: f64,
    /// Links without a settled rate.
    open: u32,
}

/// Links whose rate changed, with the rate before.
pub(super) type Changed = Vec<(LinkId, f64)>;

impl Shares {
    pub(super) fn add_line(&mut self, capacity: u64) -> LineId {
        let id = LineId(u32::try_from(self.lines.len()).expect("fewer lines than that"));
        self.lines.push(Line {
            capacity,
            demand: 0,
            active: Vec::new(),
            seen: 0,
            left: 0.0,
            open: 0,
        });
        id
    }

    pub(super) fn add_link(&mut self, capacity: u64, lines: Vec<LineId>) -> LinkId {
        let id = LinkId(u32::try_from(self.links.len()).expect("fewer links than that"));
        let rate = capacity as f64;
        self.links.push(Share { capacity, lines, active: false, rate, seen: 0, settled: false });
        id
    }

    pub(super) fn capacity_of_link(&self, link: LinkId) -> u64 {
        self.links[link.0 as usize].capacity
    }

    pub(super) fn capacity_of_line(&self, line: LineId) -> u64 {
        self.lines[line.0 as usize].capacity
    }

    /// Bytes/s of an active link.
    pub(super) fn rate(&self, link: LinkId) -> f64 {
        self.links[link.0 as usize].rate
    }

    /// A link begins to send. Lists the others whose rates change.
    pub(super) fn start(&mut self, link: LinkId, changed: &mut Changed) {
        let share = &mut self.links[link.0 as usize];
        share.active = true;
        share.rate = share.capacity as f64;
        for &line in &share.lines {
            let line = &mut self.lines[line.0 as usize];
            line.demand += share.capacity;
            line.active.push(link);
        }
        if self.is_held_back(link) {
            let group = self.group(&[link]);
            self.fill(group, changed);
            changed.retain(|it| it.0 != link);
        }
    }

    /// A link has nothing left to send.
    pub(super) fn stop(&mut self, link: LinkId, changed: &mut Changed) {
        let group = if self.is_held_back(link) { self.group(&[link]) } else { Vec::new() };
        let share = &mut self.links[link.0 as usize];
        share.active = false;
        for &line in &share.lines {
            let line = &mut self.lines[line.0 as usize];
            line.demand -= share.capacity;
            line.active.retain(|&it| it != link);
        }
        self.fill(group, changed);
    }

    /// A link's own capacity changes.
    pub(super) fn set_link(&mut self, link: LinkId, capacity: u64, changed: &mut Changed) {
        if !self.links[link.0 as usize].active {
            self.links[link.0 as usize].capacity = capacity;
            return;
        }
        let mut group = self.group(&[link]);
        let share = &mut self.links[link.0 as usize];
        for &line in &share.lines {
            let line = &mut self.lines[line.0 as usize];
            line.demand = line.demand - share.capacity + capacity;
        }
        share.capacity = capacity;
        group.extend(self.group(&group.clone()));
        self.fill(group, changed);
    }

    /// A line's capacity changes.
    pub(super) fn set_line(&mut self, line: LineId, capacity: u64, changed: &mut Changed) {
        self.lines[line.0 as usize].capacity = capacity;
        let group = self.group(&self.lines[line.0 as usize].active.clone());
        self.fill(group, changed);
    }

    fn is_held_back(&self, link: LinkId) -> bool {
        self.links[link.0 as usize].lines.iter().any(|it| self.lines[it.0 as usize].is_tight())
    }

    /// The links joined to `seeds` by tight lines, seeds first.
    fn group(&mut self, seeds: &[LinkId]) -> Vec<LinkId> {
        self.stamp += 1;
        let stamp = self.stamp;
        let mut group = Vec::new();
        let mut queue: Vec<LinkId> = seeds.to_vec();
        while let Some(link) = queue.pop() {
            let share = &mut self.links[link.0 as usize];
            if std::mem::replace(&mut share.seen, stamp) == stamp {
                continue;
            }
            group.push(link);
            for &line in &share.lines {
                let line = &mut self.lines[line.0 as usize];
                if line.is_tight() && std::mem::replace(&mut line.seen, stamp) != stamp {
                    queue.extend(&line.active);
                }
            }
        }
        group
    }

    /// Settles the rates of a group that shares no tight line with any other link.
    fn fill(&mut self, mut group: Vec<LinkId>, changed: &mut Changed) {
        group.retain(|it| self.links[it.0 as usize].active);
        group.sort_unstable_by_key(|it| (self.links[it.0 as usize].capacity, *it));
        group.dedup();
        let lines = self.open_lines(&group);
        let mut slowest = 0;
        loop {
            while slowest < group.len() && self.links[group[slowest].0 as usize].settled {
                slowest += 1;
            }
            let Some(&link) = group.get(slowest) else { return };
            let capacity = self.links[link.0 as usize].capacity as f64;
            let full = self.fullest(&lines);
            match full.filter(|it| it.1 < capacity) {
                None => self.settle(link, capacity, changed),
                Some((line, rate)) => {
                    for link in self.lines[line.0 as usize].active.clone() {
                        if !self.links[link.0 as usize].settled {
                            self.settle(link, rate, changed);
                        }
                    }
                }
            }
        }
    }

    /// The tight lines of a group, with all their capacity left.
    fn open_lines(&mut self, group: &[LinkId]) -> Vec<LineId> {
        self.stamp += 1;
        let mut lines = Vec::new();
        for link in group {
            let share = &mut self.links[link.0 as usize];
            share.settled = false;
            for &id in &share.lines {
                let line = &mut self.lines[id.0 as usize];
                if line.is_tight() && std::mem::replace(&mut line.seen, self.stamp) != self.stamp {
                    line.left = line.capacity as f64;
                    line.open = u32::try_from(line.active.len()).expect("fewer links than that");
                    lines.push(id);
                }
            }
        }
        lines
    }

    /// The line whose open links get least, and how much that is.
    fn fullest(&self, lines: &[LineId]) -> Option<(LineId, f64)> {
        let share = |id: &LineId| {
            let line = &self.lines[id.0 as usize];
            (line.open > 0).then(|| (*id, line.left.max(0.0) / f64::from(line.open)))
        };
        lines.iter().filter_map(share).min_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn settle(&mut self, link: LinkId, rate: f64, changed: &mut Changed) {
        let share = &mut self.links[link.0 as usize];
        share.settled = true;
        let before = std::mem::replace(&mut share.rate, rate);
        if before.total_cmp(&rate).is_ne() {
            changed.push((link, before));
        }
        for &line in &share.lines {
            let line = &mut self.lines[line.0 as usize];
            line.left -= rate;
            line.open = line.open.saturating_sub(1);
        }
    }
}

impl Line {
    fn is_tight(&self) -> bool {
        self.demand > self.capacity
    }
}
