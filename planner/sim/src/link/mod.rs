//! Links between hosts: delay, bandwidth, and what links share.
//!
//! ```text
//! put ─▶ queue per class ─▶ [head: on the line] ─▶ air (latency) ─▶ take
//!                               │ rate: max-min fair over {sender's card, own line, shared lines,
//!                               ▼ receiver's card}
//! ```
//!
//! A pair of hosts has one connection. On it frames of a higher class go first, also when a frame
//! of a lower class is half sent; inside a class the order is kept. Connections share what they run
//! over fairly, whatever they carry: priorities are the sender's, and no network card or sea cable
//! knows them.
//!
//! Where nothing a link runs over can be full, its rate is its own and no other link is looked at.

mod fair;
mod frames;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use thalweg_wire::Class;

use crate::agenda::Nanos;
use fair::Shares;
pub use frames::{FrameSizes, Parcel};

/// Classes, by priority.
pub const CLASSES: usize = 6;

/// Bytes/s above this are cut to it: no sum of them overflows.
const RATE_MAX: f64 = 1e15;

/// A line that links run over: a network card, or a capacity of several links.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LineId(pub u32);

/// A directed link.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LinkId(pub u32);

/// Something a link asks its owner to come back for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Due {
    /// Call [`Links::sent`] then, unless the link's turn changed.
    Sent {
        /// The link.
        link: LinkId,
        /// Which of its turns.
        turn: u32,
    },
    /// Call [`Links::take`] then.
    Arrived {
        /// The link.
        link: LinkId,
    },
}

/// All links of a cluster.
#[derive(Debug, Default)]
pub struct Links {
    links: Vec<Link>,
    shares: Shares,
    /// What the owner is asked to come back for.
    due: Vec<(Nanos, Due)>,
    /// Links whose rate just changed, with the rate before.
    changed: Vec<(LinkId, f64)>,
}

/// What a link carried.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Carried {
    /// Frames that left the near end, by class.
    pub frames: [u64; CLASSES],
    /// Their bytes, by class.
    pub bytes: [f64; CLASSES],
    /// Time with something to send.
    pub busy: Nanos,
}

#[derive(Debug)]
struct Link {
    latency: Nanos,
    queues: [VecDeque<Waiting>; CLASSES],
    waiting: usize,
    /// The class whose first frame is on the line.
    sending: Option<usize>,
    /// Since when it sends at the present rate.
    since: Nanos,
    busy_since: Nanos,
    turn: u32,
    air: VecDeque<(Nanos, Parcel)>,
    carried: Carried,
}

#[derive(Debug)]
struct Waiting {
    bytes: f64,
    bytes_left: f64,
    parcel: Parcel,
}

impl Links {
    /// Adds a line that links may run over, of so many bytes/s.
    pub fn add_line(&mut self, bytes_per_second: f64) -> LineId {
        self.shares.add_line(whole(bytes_per_second))
    }

    /// Adds a link.
    pub fn add(&mut self, bytes_per_second: f64, latency: Nanos, lines: Vec<LineId>) -> LinkId {
        let id = self.shares.add_link(whole(bytes_per_second), lines);
        assert_eq!(id.0 as usize, self.links.len(), "links are added here only");
        self.links.push(Link {
            latency,
            queues: std::array::from_fn(|_| VecDeque::new()),
            waiting: 0,
            sending: None,
            since: 0,
            busy_since: 0,
            turn: 0,
            air: VecDeque::new(),
            carried: Carried::default(),
        });
        id
    }

    /// Bytes/s of a link when it is alone.
    pub fn bytes_per_second(&self, link: LinkId) -> f64 {
        self.shares.capacity_of_link(link) as f64
    }

    /// What a link carried until `now`.
    pub fn carried(&self, link: LinkId, now: Nanos) -> Carried {
        let it = &self.links[link.0 as usize];
        let open = if it.sending.is_some() { now - it.busy_since } else { 0 };
        Carried { busy: it.carried.busy + open, ..it.carried }
    }

    /// Sends a frame of so many bytes.
    pub fn put(&mut self, now: Nanos, link: LinkId, class: Class, bytes: f64, parcel: Parcel) {
        let at = class as usize;
        let it = &mut self.links[link.0 as usize];
        it.queues[at].push_back(Waiting { bytes, bytes_left: bytes, parcel });
        it.waiting += 1;
        match it.sending {
            None => {
                it.busy_since = now;
                self.shares.start(link, &mut self.changed);
                self.next(now, link);
                self.adapt(now);
            }
            Some(sending) if at < sending => {
                let rate = self.shares.rate(link);
                self.progress(now, link, rate);
                self.next(now, link);
            }
            Some(_) => {}
        }
    }

    /// The frame on a link's line has left. Does nothing if the turn is over.
    pub fn sent(&mut self, now: Nanos, link: LinkId, turn: u32) {
        let it = &mut self.links[link.0 as usize];
        if it.turn != turn {
            return;
        }
        let class = it.sending.expect("a link with a turn sends");
        let Waiting { bytes, parcel, .. } =
            it.queues[class].pop_front().expect("the head of a class that is sent");
        it.waiting -= 1;
        it.carried.frames[class] += 1;
        it.carried.bytes[class] += bytes;
        // A shorter delay than before does not let frames overtake.
        let at = (now + it.latency).max(it.air.back().map_or(0, |it| it.0));
        it.air.push_back((at, parcel));
        self.due.push((at, Due::Arrived { link }));
        if it.waiting > 0 {
            self.next(now, link);
            return;
        }
        it.sending = None;
        it.turn = it.turn.wrapping_add(1);
        it.carried.busy += now - it.busy_since;
        self.shares.stop(link, &mut self.changed);
        self.adapt(now);
    }

    /// Takes the frame that arrives at the far end.
    pub fn take(&mut self, link: LinkId) -> Parcel {
        self.links[link.0 as usize].air.pop_front().expect("each frame arrives once").1
    }

    /// Drops everything a link holds: an end of it died. What was in the air still counts as taken.
    pub fn cut(&mut self, now: Nanos, link: LinkId) {
        let it = &mut self.links[link.0 as usize];
        it.queues.iter_mut().for_each(VecDeque::clear);
        it.waiting = 0;
        if it.sending.take().is_some() {
            it.turn = it.turn.wrapping_add(1);
            it.carried.busy += now - it.busy_since;
            self.shares.stop(link, &mut self.changed);
            self.adapt(now);
        }
    }

    /// Gives a link another bandwidth.
    pub fn set_rate(&mut self, now: Nanos, link: LinkId, bytes_per_second: f64) {
        self.shares.set_link(link, whole(bytes_per_second), &mut self.changed);
        self.adapt(now);
    }

    /// Gives a shared line another capacity.
    pub fn set_line(&mut self, now: Nanos, line: LineId, bytes_per_second: f64) {
        self.shares.set_line(line, whole(bytes_per_second), &mut self.changed);
        self.adapt(now);
    }

    /// Capacity of a shared line.
    pub fn line_bytes_per_second(&self, line: LineId) -> f64 {
        self.shares.capacity_of_line(line) as f64
    }

    /// What the owner must come back for, in the order it was decided.
    pub fn drain_due(&mut self) -> impl Iterator<Item = (Nanos, Due)> + '_ {
        self.due.drain(..)
    }

    /// Starts or goes on with the first frame of the highest class.
    fn next(&mut self, now: Nanos, link: LinkId) {
        let rate = self.shares.rate(link);
        let it = &mut self.links[link.0 as usize];
        let class = it.queues.iter().position(|it| !it.is_empty()).expect("something waits");
        it.sending = Some(class);
        it.since = now;
        it.turn = it.turn.wrapping_add(1);
        let head = it.queues[class].front().expect("not empty");
        let ends = now + duration(head.bytes_left, rate);
        self.due.push((ends, Due::Sent { link, turn: it.turn }));
    }

    /// Counts what was sent at `rate` since the link's last turn began.
    fn progress(&mut self, now: Nanos, link: LinkId, rate: f64) {
        let it = &mut self.links[link.0 as usize];
        let Some(head) = it.sending.and_then(|class| it.queues[class].front_mut()) else { return };
        let sent = (now - it.since) as f64 * rate / 1e9;
        head.bytes_left = (head.bytes_left - sent).max(0.0);
        it.since = now;
    }

    /// Follows rates that changed.
    fn adapt(&mut self, now: Nanos) {
        let mut changed = std::mem::take(&mut self.changed);
        for (link, before) in changed.drain(..) {
            self.progress(now, link, before);
            self.next(now, link);
        }
        self.changed = changed;
    }
}

/// Time that `bytes` take, rounded up.
fn duration(bytes: f64, bytes_per_second: f64) -> Nanos {
    (bytes / bytes_per_second * 1e9).ceil() as Nanos
}

/// Bytes/s as an integer of at least one.
fn whole(bytes_per_second: f64) -> u64 {
    bytes_per_second.clamp(1.0, RATE_MAX).round() as u64
}
