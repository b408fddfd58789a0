//! What happens next: a heap of happenings, ordered by time and, at the same time, by when they were
//! put in.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A point of virtual time, in nanoseconds since the start.
pub type Nanos = u64;

/// Nanoseconds of a second.
pub const SECOND: Nanos = 1_000_000_000;

/// Seconds as nanoseconds, rounded to the nearest; what is negative counts as zero.
pub fn nanos(seconds: f64) -> Nanos {
    (seconds * SECOND as f64).round() as Nanos
}

/// Nanoseconds as seconds.
pub fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / SECOND as f64
}

/// Happenings to come.
#[derive(Debug)]
pub struct Agenda<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    sequence: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Agenda<T> {
    /// An agenda without a happening.
    pub fn new() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0 }
    }

    /// Lets `what` happen at `at`, after all that was put in for the same time.
    pub fn put(&mut self, at: Nanos, what: T) {
        self.sequence += 1;
        self.heap.push(Reverse(Entry { at, sequence: self.sequence, what }));
    }

    /// Takes the next happening out.
    pub fn take(&mut self) -> Option<(Nanos, T)> {
        self.heap.pop().map(|Reverse(it)| (it.at, it.what))
    }

    /// When the next happening is due.
    pub fn next_at(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse(it)| it.at)
    }
}

#[derive(Debug)]
struct Entry<T> {
    at: Nanos,
    sequence: u64,
    what: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_first_and_ties_in_order() {
        let mut agenda = Agenda::new();
        for (at, what) in [(5, 'c'), (3, 'a'), (5, 'd'), (4, 'b')] {
            agenda.put(at, what);
        }
        assert_eq!(agenda.next_at(), Some(3));
        let order: Vec<_> = std::iter::from_fn(|| agenda.take()).collect();
        assert_eq!(order, [(3, 'a'), (4, 'b'), (5, 'c'), (5, 'd')]);
        assert_eq!((nanos(1.5), seconds(250_000_000)), (1_500_000_000, 0.25));
        assert_eq!(nanos(-1.0), 0);
    }
}
