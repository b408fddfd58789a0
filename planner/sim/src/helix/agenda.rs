//! What is to happen, in order of time and, at one time, of being entered.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Something that happens. Numbers are indices of queries, links, hosts; a sender is a host or, past
/// the last host, the gateway.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Event {
    /// An iteration of a query begins at the gateway.
    Issue { query: u32 },
    /// A sender looks what it can send.
    Transmit { sender: u32 },
    /// The last byte has left; the line is free.
    Sent { link: u32, query: u32 },
    /// The last byte has arrived.
    Arrived { link: u32, query: u32 },
    /// The gateway takes what has arrived.
    Gather,
    /// A host starts a step unless it is in one.
    Execute { host: u32 },
    /// A host's step ends.
    Executed { host: u32 },
}

/// Events to come. Times are in seconds and never negative, so that their bits sort like they do.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    now: f64,
    entered: u64,
    /// Events of now that were entered now. They spare the heap, and come after all that were
    /// entered earlier.
    due: VecDeque<(u64, Event)>,
    later: BinaryHeap<Reverse<(u64, u64, Event)>>,
}

impl Agenda {
    /// The time of the last event taken.
    pub fn now(&self) -> f64 {
        self.now
    }

    /// Events entered so far.
    pub fn entered(&self) -> u64 {
        self.entered
    }

    /// Lets time pass up to `time`. All earlier events have been taken.
    pub fn pass(&mut self, time: f64) {
        debug_assert!(self.due.is_empty() && time >= self.now, "an event was left behind");
        self.now = time;
    }

    /// Enters an event that happens at once, after all others of this time.
    pub fn enter(&mut self, event: Event) {
        self.due.push_back((self.entered, event));
        self.entered += 1;
    }

    /// Enters an event of a later time.
    pub fn enter_at(&mut self, time: f64, event: Event) {
        debug_assert!(time >= self.now, "{event:?} at {time} is in the past of {}", self.now);
        self.later.push(Reverse((time.to_bits(), self.entered, event)));
        self.entered += 1;
    }

    /// Takes the next event before `end`.
    pub fn take(&mut self, end: f64) -> Option<Event> {
        let due = self.due.front().map(|it| (self.now.to_bits(), it.0));
        let later = self.later.peek().map(|Reverse((time, entered, _))| (*time, *entered));
        match (due, later) {
            (Some(due), later) if self.now < end && later.is_none_or(|it| due < it) => {
                self.due.pop_front().map(|it| it.1)
            }
            (_, Some((time, _))) if f64::from_bits(time) < end => {
                self.now = f64::from_bits(time);
                self.later.pop().map(|it| it.0.2)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_time_come_in_the_order_entered() {
        let mut agenda = Agenda::default();
        let execute = |host| Event::Execute { host };
        agenda.enter_at(2.0, execute(0));
        agenda.enter_at(1.0, execute(1));
        agenda.enter_at(1.0, execute(2));
        assert_eq!(agenda.take(1.0), None);
        assert_eq!(agenda.take(5.0), Some(execute(1)));
        agenda.enter(execute(3));
        agenda.enter_at(1.0, execute(4));
        let order: Vec<_> = std::iter::from_fn(|| agenda.take(2.0)).collect();
        assert_eq!(order, [execute(2), execute(3), execute(4)]);
        assert_eq!((agenda.now(), agenda.entered()), (1.0, 5));
        assert_eq!(agenda.take(2.5), Some(execute(0)));
        assert_eq!((agenda.take(f64::INFINITY), agenda.now()), (None, 2.0));
    }
}
