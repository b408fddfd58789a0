//! What the machines of this process saw, in order: enough to replay an incident as a test.
//!
//! A ring of bounded size. Events carry handles, never tensors; token ids are zeroed unless asked
//! for, because they are the users' text.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use thalweg_core::machine::Time;
use thalweg_core::{conductor, gateway, liveness, stage};

/// Entries kept; the oldest goes first. At 100 events/s this is about ten minutes.
const ENTRIES_MAX: usize = 65_536;

/// An event that can be written down.
pub trait Journaled: Clone + Serialize {
    /// Replaces token ids by zeros, keeping their number.
    fn redact(&mut self);
}

/// What one machine saw at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Counts the entries of this process from zero.
    pub sequence: u64,
    /// Time since the start of the process.
    pub at: Time,
    /// Which machine.
    pub machine: &'static str,
    /// The event, encoded, or nothing for a timeout.
    pub event: Option<Vec<u8>>,
}

/// The ring of entries.
#[derive(Debug)]
pub struct Journal {
    keep_tokens: bool,
    /// Wall-clock time at which the process started, in microseconds since 1970.
    anchor_us: u64,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    next: u64,
    entries: VecDeque<Entry>,
}

impl Journal {
    /// Creates an empty journal. With `keep_tokens`, token ids are kept as they are.
    pub fn new(keep_tokens: bool) -> Self {
        Self { keep_tokens, anchor_us: wall_clock_us(), ring: Mutex::default() }
    }

    /// Start of the process by the wall clock, in microseconds since 1970. No decision uses it.
    pub fn anchor_us(&self) -> u64 {
        self.anchor_us
    }

    /// Notes an event.
    pub fn event<E: Journaled>(&self, at: Time, machine: &'static str, event: &E) {
        let bytes = if self.keep_tokens {
            thalweg_wire::encode(event)
        } else {
            let mut event = event.clone();
            event.redact();
            thalweg_wire::encode(&event)
        };
        // An event too large to encode (a huge prompt) leaves an empty entry, so that the gap shows.
        self.push(at, machine, Some(bytes.unwrap_or_default()));
    }

    /// Notes that a deadline passed.
    pub fn timeout(&self, at: Time, machine: &'static str) {
        self.push(at, machine, None);
    }

    /// Returns what is kept, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.entries.iter().cloned().collect()
    }

    fn push(&self, at: Time, machine: &'static str, event: Option<Vec<u8>>) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.entries.len() == ENTRIES_MAX {
            ring.entries.pop_front();
        }
        let sequence = ring.next;
        ring.next += 1;
        ring.entries.push_back(Entry { sequence, at, machine, event });
    }
}

/// Returns the wall-clock time in microseconds since 1970, for incarnations and anchors.
pub fn wall_clock_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl Journaled for stage::Event {
    fn redact(&mut self) {
        match self {
            Self::Open { tokens, .. } => tokens.fill(0),
            Self::Token(token) => {
                token.sampled.token = 0;
                token.top.clear();
            }
            _ => {}
        }
    }
}

impl Journaled for gateway::Event {
    fn redact(&mut self) {
        match self {
            Self::Submit { prompt, .. } => prompt.fill(0),
            Self::Token(token) => {
                token.sampled.token = 0;
                token.top.clear();
            }
            _ => {}
        }
    }
}

impl Journaled for conductor::Event {
    fn redact(&mut self) {}
}

impl Journaled for liveness::Event {
    fn redact(&mut self) {}
}
