//! Bounds what is in flight between two hosts, by bytes that the receiver grants.
//!
//! ```text
//! sender: push --> [lane of the class] --(balance above zero)--> pop --> wire
//!                        ^                                         |
//!                     Credit <---- grant when half consumed ---- receiver
//! ```
//!
//! A frame goes out while the balance of its class is above zero, and may take it below zero by
//! its own size: so a frame larger than the window passes too, alone. Both sides start with the
//! same window on every connection.

use std::collections::{BTreeMap, VecDeque};

use thalweg_wire::{Bytes, Class, Credit};

/// Frames on their way to one peer, by class.
///
/// `T` is the frame or a handle to it; the outbox only looks at sizes.
#[derive(Debug)]
pub struct Outbox<T> {
    window: i64,
    frames_max: usize,
    lanes: BTreeMap<Class, Lane<T>>,
}

#[derive(Debug)]
struct Lane<T> {
    balance: i64,
    frames: VecDeque<(i64, T)>,
}

/// The lane already holds as many frames as it may.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{class:?} queue to the peer holds {frames} frames, its limit")]
pub struct Full {
    /// Which lane.
    pub class: Class,
    /// Frames in it.
    pub frames: usize,
}

impl<T> Outbox<T> {
    /// Creates an outbox that may send `window` bytes of each class before the first grant, and
    /// queues `frames_max` frames of each class.
    pub fn new(window: Bytes, frames_max: usize) -> Self {
        Self { window: signed(window.0), frames_max, lanes: BTreeMap::new() }
    }

    /// Queues a frame of `bytes` bytes.
    ///
    /// # Errors
    ///
    /// If the lane is full. The frame is lost, so its request must be given up.
    pub fn push(&mut self, class: Class, bytes: u64, frame: T) -> Result<(), Full> {
        let frames_max = self.frames_max;
        let lane = self.lane(class);
        if lane.frames.len() >= frames_max {
            return Err(Full { class, frames: frames_max });
        }
        lane.frames.push_back((signed(bytes), frame));
        Ok(())
    }

    /// Takes in a grant of the peer. Classes without credit ignore it.
    pub fn grant(&mut self, credit: Credit) {
        let window = self.window;
        let lane = self.lane(credit.class);
        lane.balance = lane.balance.saturating_add(signed(credit.bytes.0)).min(window);
    }

    /// Takes the next frame that may be sent: highest priority first, in order within a class.
    pub fn pop(&mut self) -> Option<(Class, T)> {
        let (&class, lane) = self
            .lanes
            .iter_mut()
            .filter(|(class, lane)| {
                !lane.frames.is_empty() && (!class.needs_credit() || lane.balance > 0)
            })
            .max_by_key(|(class, _)| class.priority())?;
        let (bytes, frame) = lane.frames.pop_front().expect("filtered for a frame");
        if class.needs_credit() {
            lane.balance -= bytes;
        }
        Some((class, frame))
    }

    /// Starts over on a new connection: full windows, nothing queued. Returns what was queued.
    pub fn reset(&mut self) -> Vec<T> {
        std::mem::take(&mut self.lanes)
            .into_values()
            .flat_map(|lane| lane.frames.into_iter().map(|(_, frame)| frame))
            .collect()
    }

    /// Frames queued over all classes.
    pub fn queued(&self) -> usize {
        self.lanes.values().map(|lane| lane.frames.len()).sum()
    }

    fn lane(&mut self, class: Class) -> &mut Lane<T> {
        let balance = self.window;
        self.lanes.entry(class).or_insert_with(|| Lane { balance, frames: VecDeque::new() })
    }
}

/// What one peer may still send, seen from the receiver.
#[derive(Debug)]
pub struct Inbox {
    window: i64,
    consumed: BTreeMap<Class, i64>,
}

impl Inbox {
    /// Creates an inbox whose peer started with `window`.
    pub fn new(window: Bytes) -> Self {
        Self { window: signed(window.0), consumed: BTreeMap::new() }
    }

    /// Notes that a frame of `bytes` bytes was consumed. Returns the grant to send, once half a
    /// window has come together: a grant per frame would double the number of frames.
    pub fn consumed(&mut self, class: Class, bytes: u64) -> Option<Credit> {
        if !class.needs_credit() {
            return None;
        }
        let consumed = self.consumed.entry(class).or_insert(0);
        *consumed = consumed.saturating_add(signed(bytes));
        if *consumed < self.window / 2 {
            return None;
        }
        let bytes = Bytes(u64::try_from(std::mem::take(consumed)).expect("sums of sizes"));
        Some(Credit { class, bytes })
    }

    /// Starts over on a new connection.
    pub fn reset(&mut self) {
        self.consumed.clear();
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_for_credit_but_never_on_control_or_token() {
        let mut outbox = Outbox::new(Bytes(100), 8);
        for (class, name) in [(Class::Decode, "a"), (Class::Decode, "b"), (Class::Token, "t")] {
            outbox.push(class, 100, name).expect("below the limit");
        }
        assert_eq!(outbox.pop(), Some((Class::Token, "t")));
        assert_eq!(outbox.pop(), Some((Class::Decode, "a")));
        assert_eq!(outbox.pop(), None);
        outbox.grant(Credit { class: Class::Decode, bytes: Bytes(50) });
        assert_eq!(outbox.pop(), Some((Class::Decode, "b")));
        outbox.push(Class::Decode, 1, "c").expect("below the limit");
        outbox.grant(Credit { class: Class::Decode, bytes: Bytes(50) });
        assert_eq!(outbox.pop(), None, "b overdrew the balance by 50");
    }

    #[test]
    fn a_full_lane_says_so() {
        let mut outbox = Outbox::new(Bytes(0), 1);
        outbox.push(Class::Prefill, 1, ()).expect("empty");
        let full = outbox.push(Class::Prefill, 1, ()).expect_err("one frame is the limit");
        assert_eq!(full.to_string(), "Prefill queue to the peer holds 1 frames, its limit");
        assert_eq!(outbox.reset().len(), 1);
        assert_eq!(outbox.queued(), 0);
    }

    proptest! {
        /// Whatever the sizes: all frames pass in order, and no more than a window and a frame
        /// is ever on the way.
        #[test]
        fn nothing_is_stuck_and_nothing_floods(sizes in prop::collection::vec(1_u64..300, 1..50)) {
            let window = Bytes(200);
            let mut outbox = Outbox::new(window, sizes.len());
            let mut inbox = Inbox::new(window);
            for (index, &size) in sizes.iter().enumerate() {
                outbox.push(Class::Prefill, size, index).expect("the limit is their number");
            }
            let mut wire = VecDeque::new();
            let mut next = 0;
            while next < sizes.len() {
                while let Some((_, index)) = outbox.pop() {
                    wire.push_back(index);
                }
                let in_flight: u64 = wire.iter().map(|&index| sizes[index]).sum();
                prop_assert!(in_flight < window.0 + 300);
                let index = wire.pop_front().expect("a frame may always be sent or is under way");
                prop_assert_eq!(index, next);
                next += 1;
                if let Some(credit) = inbox.consumed(Class::Prefill, sizes[index]) {
                    outbox.grant(credit);
                }
            }
        }
    }
}
