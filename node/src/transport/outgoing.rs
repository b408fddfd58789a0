//! What waits to be sent to one peer: credit decides when, lanes decide in which order.
//!
//! ```text
//! send ──> Outbox (credit) ──> lane of (request, class) ──> writer task ──> one-way stream
//!     └──> control lane ───────────────────────────────> writer task ──> control stream
//! ```
//!
//! Nothing here waits: writers are woken when their lane has something, and take it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use thalweg_core::credit::Outbox;
use thalweg_wire::{Bytes, Class, Credit, Frame, Message, RequestId};
use tokio::sync::Notify;

use super::endpoint::STREAMS_MAX;
use super::framing::Packet;

/// Bytes of one class that may be under way before the receiver grants more. The same on every
/// host, as both ends start from it. Twice what a 1 Gb/s link of 130 ms holds.
pub(super) const CREDIT_WINDOW: Bytes = Bytes::mib(32);
/// Frames of one class that wait for a peer, at most.
pub(super) const FRAMES_MAX: usize = 4096;

/// Names a stream to a peer: frames of one lane arrive in order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum LaneKey {
    /// Everything of class control.
    Control,
    /// One class of one request.
    Request(RequestId, Class),
}

impl LaneKey {
    /// Returns the lane a message belongs to.
    pub(super) fn of(message: &Message) -> Self {
        match (message.class(), message.request()) {
            (Class::Control, _) | (_, None) => Self::Control,
            (class, Some(request)) => Self::Request(request, class),
        }
    }
}

/// What a writer does next.
#[derive(Debug)]
pub(super) enum Next {
    /// Write this.
    Packet(Packet),
    /// Wait to be woken.
    Wait,
    /// Close the stream.
    Close,
}

/// Frames on their way to one peer.
#[derive(Debug)]
pub(super) struct Outgoing {
    outbox: Outbox<(LaneKey, Packet)>,
    lanes: BTreeMap<LaneKey, Lane>,
    fresh: VecDeque<(LaneKey, Arc<Notify>)>,
    waiting: BTreeMap<Class, usize>,
}

#[derive(Debug, Default)]
struct Lane {
    packets: VecDeque<(Class, Packet)>,
    wake: Arc<Notify>,
    closing: bool,
}

impl Outgoing {
    pub(super) fn new() -> Self {
        Self {
            outbox: Outbox::new(CREDIT_WINDOW, FRAMES_MAX),
            lanes: BTreeMap::new(),
            fresh: VecDeque::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// Queues a frame whose cost in credit is `bytes`. Returns how many wait if there is no room.
    pub(super) fn push(
        &mut self,
        key: LaneKey,
        class: Class,
        bytes: u64,
        packet: Packet,
    ) -> Result<(), usize> {
        let waiting = self.waiting.get(&class).copied().unwrap_or(0);
        if waiting >= FRAMES_MAX || self.lanes.len() >= STREAMS_MAX as usize {
            return Err(waiting);
        }
        self.outbox.push(class, bytes, (key, packet)).map_err(|full| full.frames)?;
        self.release();
        Ok(())
    }

    /// Takes in the peer's grant.
    pub(super) fn grant(&mut self, credit: Credit) {
        self.outbox.grant(credit);
        self.release();
    }

    /// Moves what may be sent into its lane, and wakes the lane's writer.
    fn release(&mut self) {
        while let Some((class, (key, packet))) = self.outbox.pop() {
            let fresh = &mut self.fresh;
            let lane = self.lanes.entry(key).or_insert_with(|| {
                let lane = Lane::default();
                fresh.push_back((key, Arc::clone(&lane.wake)));
                lane
            });
            lane.packets.push_back((class, packet));
            lane.closing = false;
            lane.wake.notify_one();
            *self.waiting.entry(class).or_insert(0) += 1;
        }
    }

    /// Takes a lane that has no writer yet.
    pub(super) fn take_fresh(&mut self) -> Option<(LaneKey, Arc<Notify>)> {
        self.fresh.pop_front()
    }

    /// Says what the writer of `key` does next.
    pub(super) fn next(&mut self, key: LaneKey) -> Next {
        let Some(lane) = self.lanes.get_mut(&key) else { return Next::Close };
        match lane.packets.pop_front() {
            Some((class, packet)) => {
                let waiting = self.waiting.get_mut(&class).expect("counted when it was queued");
                *waiting -= 1;
                Next::Packet(packet)
            }
            None if lane.closing => Next::Close,
            None => Next::Wait,
        }
    }

    /// Forgets a lane whose stream was closed. Returns whether its writer is done; if not, a frame
    /// came meanwhile and needs a new stream.
    pub(super) fn retire(&mut self, key: LaneKey) -> Retired {
        match self.lanes.get(&key) {
            Some(lane) if !lane.packets.is_empty() => Retired::Reopen,
            _ => {
                self.lanes.remove(&key);
                Retired::Done
            }
        }
    }

    /// Closes the streams of a request once what waits in their lanes is written.
    pub(super) fn close_request(&mut self, request: RequestId) {
        let first = LaneKey::Request(request, Class::Control);
        let last = LaneKey::Request(request, Class::Weights);
        for lane in self.lanes.range_mut(first..=last).map(|(_, lane)| lane) {
            lane.closing = true;
            lane.wake.notify_one();
        }
    }

    /// Frames that wait, for credit or for their writer.
    pub(super) fn queued(&self) -> usize {
        self.outbox.queued() + self.waiting.values().sum::<usize>()
    }
}

/// What becomes of a writer whose stream was closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Retired {
    /// Nothing is left to write.
    Done,
    /// Something came meanwhile.
    Reopen,
}

/// Encodes a frame for the control stream, whose messages have no payload and always fit.
pub(super) fn control_packet(message: Message) -> Packet {
    Packet::new(Frame::bare(message)).expect("control messages are within their limits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_wire::{Attempt, Release};

    fn request(counter: u64) -> RequestId {
        RequestId { counter, ..RequestId::default() }
    }

    fn packet() -> Packet {
        control_packet(Message::Release(Release { request: request(1), attempt: Attempt(0) }))
    }

    #[test]
    fn a_lane_closes_only_when_it_is_empty() {
        let mut outgoing = Outgoing::new();
        let key = LaneKey::Request(request(1), Class::Decode);
        outgoing.push(key, Class::Decode, 1, packet()).expect("room");
        outgoing.close_request(request(1));
        outgoing.close_request(request(2));
        assert!(matches!(outgoing.next(key), Next::Packet(_)));
        assert!(matches!(outgoing.next(key), Next::Close));
        outgoing.push(key, Class::Decode, 1, packet()).expect("room");
        assert_eq!(outgoing.retire(key), Retired::Reopen);
        assert!(matches!(outgoing.next(key), Next::Packet(_)));
        assert_eq!(outgoing.retire(key), Retired::Done);
        assert_eq!(outgoing.queued(), 0);
    }

    #[test]
    fn classes_without_credit_are_bounded_too() {
        let mut outgoing = Outgoing::new();
        let key = LaneKey::Request(request(1), Class::Token);
        for _ in 0..FRAMES_MAX {
            outgoing.push(key, Class::Token, 1, packet()).expect("below the limit");
        }
        assert_eq!(outgoing.push(key, Class::Token, 1, packet()), Err(FRAMES_MAX));
        let other = LaneKey::Request(request(1), Class::Decode);
        outgoing.push(other, Class::Decode, 1, packet()).expect("another class has room");
    }

    #[test]
    fn a_lane_is_handed_to_one_writer() {
        let mut outgoing = Outgoing::new();
        let key = LaneKey::Request(request(1), Class::Token);
        outgoing.push(key, Class::Token, 1, packet()).expect("room");
        outgoing.push(key, Class::Token, 1, packet()).expect("room");
        assert_eq!(outgoing.take_fresh().map(|(fresh, _)| fresh), Some(key));
        assert!(outgoing.take_fresh().is_none());
    }
}
