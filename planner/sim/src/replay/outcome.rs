//! What came of a replay.

use std::fmt;

use serde::Serialize;

use super::record::{Did, Part};

/// Characters of an event or its effects in words at most; the rest of a prompt tells nobody more.
const WORDS_CHARS_MAX: usize = 600;

/// What came of a replay.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Version of the program that wrote the journal.
    pub version: String,
    /// Whether the journal holds token ids.
    pub tokens_kept: bool,
    /// Events read.
    pub events: u64,
    /// Time from the first to the last of them on the host.
    pub seconds: f64,
    /// Of every machine.
    pub machines: Vec<Replayed>,
    /// Whether the host closed the journal, so that nothing is missing at the end.
    pub closed: bool,
    /// Where the replay ended early.
    pub trouble: Option<Trouble>,
}

/// How much of a machine was replayed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Replayed {
    /// Which machine.
    pub machine: Part,
    /// Events that it was fed.
    pub replayed: u64,
    /// Of these, events whose effects were compared with the host's; all but the last one of a host
    /// that was killed.
    pub compared: u64,
    /// Events that it was not fed.
    pub skipped: u64,
    /// Why.
    pub skip: Option<Skip>,
}

/// Why a machine was not fed its events.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// Its decisions depend on token ids, which the journal does not hold.
    NoTokens,
    /// One of them was too large for the journal.
    TooLarge {
        /// Events before it in the journal.
        sequence: u64,
    },
}

/// Why a replay ended early.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// The machine did something else than on the host.
    Diverged {
        /// Events before it in the journal.
        sequence: u64,
        /// Whose event.
        part: Part,
        /// Time since the start of the process.
        at_seconds: f64,
        /// The event in words.
        event: String,
        /// What the host's machine did.
        host: Did,
        /// What the replay's did.
        replay: Did,
        /// The same in words.
        effects: String,
    },
    /// Something that must hold did not.
    Violated {
        /// Events before it in the journal.
        sequence: u64,
        /// Whose event.
        part: Part,
        /// Time since the start of the process.
        at_seconds: f64,
        /// The event in words.
        event: String,
        /// What did not hold.
        message: String,
    },
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTokens => f.write_str("the journal holds no token ids"),
            Self::TooLarge { sequence } => write!(f, "event {sequence} was too large to keep"),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diverged { sequence, part, at_seconds, event, host, replay, effects } => write!(
                f,
                "event {sequence}, of the {part} at {at_seconds:.6} s, had other effects\n\
                 event:  {event}\nhost:   {host}\nreplay: {replay}: {effects}"
            ),
            Self::Violated { sequence, part, at_seconds, event, message } => write!(
                f,
                "event {sequence}, of the {part} at {at_seconds:.6} s, broke what must hold: \
                 {message}\nevent:  {event}"
            ),
        }
    }
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} effects, digest {:016x}", self.effects, self.digest)
    }
}

/// Says something in words, cut short.
pub(super) fn words(it: &impl fmt::Debug) -> String {
    let text = format!("{it:?}");
    match text.char_indices().nth(WORDS_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
