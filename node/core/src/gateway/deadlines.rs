//! When to look at which request again.
//!
//! Each request is noted once, at or before its deadline: one that moves its deadline away, as
//! every token does, is left where it is and noted anew when its time comes.

use std::collections::BTreeSet;

use super::Config;
use super::request::Request;
use crate::machine::Time;

/// Requests by the time they are looked at.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    at: BTreeSet<(Time, u64)>,
}

impl Deadlines {
    /// Makes sure that a request is looked at by its deadline.
    pub(super) fn arm(&mut self, ticket: u64, request: &mut Request, config: &Config) {
        let deadline = request.deadline(config);
        if request.armed_at.is_some_and(|it| it <= deadline) {
            return;
        }
        self.disarm(ticket, request);
        self.at.insert((deadline, ticket));
        request.armed_at = Some(deadline);
    }

    /// Takes a request out.
    pub(super) fn disarm(&mut self, ticket: u64, request: &mut Request) {
        if let Some(at) = request.armed_at.take() {
            self.at.remove(&(at, ticket));
        }
    }

    /// Takes out the tickets that are due.
    pub(super) fn due(&mut self, now: Time) -> Vec<u64> {
        let mut due = Vec::new();
        while let Some(&(at, ticket)) = self.at.first().filter(|it| it.0 <= now) {
            self.at.remove(&(at, ticket));
            due.push(ticket);
        }
        due
    }

    /// When a request is looked at next.
    pub(super) fn next(&self) -> Option<Time> {
        self.at.first().map(|it| it.0)
    }

    /// Number of requests noted.
    pub(super) fn len(&self) -> usize {
        self.at.len()
    }
}
