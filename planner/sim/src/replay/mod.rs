//! The machines of a real host again, fed what they heard of, at the times they heard of it.
//!
//! ```text
//! journal:  Setup | Stage(at, event) | Did(effects, digest) | Gateway(at, event) | ... | Closed
//!             |          |                   |
//!          create      handle ── effects ── equal?
//!             '── machine ──── check()
//! ```
//!
//! A machine decides by its configuration, its events and their times alone, so that a replay does
//! what the host did. Where it does not, the program changed, the journal is not what the host
//! wrote, or a machine depends on something else: a bug.
//!
//! Token ids matter to decisions: stages and gateways know cached prefixes by hashes of them.
//! A journal without token ids therefore replays the liveness machine and the conductor only. A
//! stand-in for each id would keep the decisions, but a text of stand-ins is a cipher that gives in
//! to counting words.

mod outcome;
mod player;
mod record;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use thalweg_core::conductor::Conductor;
use thalweg_core::gateway::Gateway;
use thalweg_core::liveness::Liveness;
use thalweg_core::machine::Time;
use thalweg_core::stage::Stage;

pub use outcome::{Outcome, Replayed, Skip, Trouble};
use player::Player;
pub use record::{Did, Part, Record, Recorded, Seen, Setup, What};

/// A journal that no host wrote.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReplayError {
    /// The liveness machine cannot be created.
    #[error(
        "hosts are given up after {dead_after:?}, before they are suspected after {suspect_after:?}"
    )]
    Patience {
        /// Silence after which a host is suspected.
        suspect_after: Time,
        /// Silence after which it is given up.
        dead_after: Time,
    },
    /// Time runs backwards.
    #[error("event {sequence} of the {part} is at {at:?}, but an earlier one was at {before:?}")]
    Backwards {
        /// Events before it in the journal.
        sequence: u64,
        /// Whose.
        part: Part,
        /// When it was.
        at: Time,
        /// When the one before was.
        before: Time,
    },
    /// A machine heard of something before it was through with what was before.
    #[error("event {sequence} of the {part} came before the effects of the one before were noted")]
    Unsettled {
        /// Events before it in the journal.
        sequence: u64,
        /// Whose.
        part: Part,
    },
    /// Effects of no event.
    #[error("after {sequence} events effects of the {part} are noted that follow from none")]
    OfNothing {
        /// Events so far.
        sequence: u64,
        /// Whose.
        part: Part,
    },
    /// The journal goes on after its end.
    #[error("the journal goes on after it was closed with {sequence} events")]
    AfterEnd {
        /// Events before the end.
        sequence: u64,
    },
}

/// A replay under way.
#[derive(Debug)]
pub struct Replay {
    setup: Setup,
    stage: Player<Stage>,
    gateway: Player<Gateway>,
    liveness: Player<Liveness>,
    conductor: Player<Conductor>,
    /// Events so far.
    sequence: u64,
    /// When the first and the last of them were.
    span: Option<(Time, Time)>,
    closed: bool,
    trouble: Option<Trouble>,
}

impl Replay {
    /// Creates the machines as the host did.
    ///
    /// # Errors
    ///
    /// If no host can be set up like that.
    pub fn new(setup: Setup) -> Result<Self, ReplayError> {
        let patience = setup.liveness;
        let (suspect_after, dead_after) = (patience.suspect_after, patience.dead_after);
        if suspect_after >= dead_after {
            return Err(ReplayError::Patience { suspect_after, dead_after });
        }
        let kept = setup.tokens_kept;
        Ok(Self {
            stage: Player::new(Stage::new(setup.stage), kept),
            gateway: Player::new(Gateway::new(setup.gateway), kept),
            liveness: Player::new(Liveness::new(patience), kept),
            conductor: Player::new(Conductor::new(setup.conductor.clone()), kept),
            setup,
            sequence: 0,
            span: None,
            closed: false,
            trouble: None,
        })
    }

    /// Takes in the next record; breaks if nothing after it can be replayed, which the
    /// [outcome](Self::outcome) explains.
    ///
    /// A panic of a machine is part of the outcome. The program's panic hook is called before, and
    /// must let the thread go on.
    ///
    /// # Errors
    ///
    /// If no host wrote this journal.
    pub fn feed(&mut self, record: Record) -> Result<ControlFlow<()>, ReplayError> {
        if self.closed {
            return Err(ReplayError::AfterEnd { sequence: self.sequence });
        }
        let sequence = self.sequence;
        let trouble = match record {
            Record::Stage(seen) => self.at(seen.at).stage.hear(sequence, seen)?,
            Record::Gateway(seen) => self.at(seen.at).gateway.hear(sequence, seen)?,
            Record::Liveness(seen) => self.at(seen.at).liveness.hear(sequence, seen)?,
            Record::Conductor(seen) => self.at(seen.at).conductor.hear(sequence, seen)?,
            Record::Did(Part::Stage, did) => self.stage.compare(sequence, did)?,
            Record::Did(Part::Gateway, did) => self.gateway.compare(sequence, did)?,
            Record::Did(Part::Liveness, did) => self.liveness.compare(sequence, did)?,
            Record::Did(Part::Conductor, did) => self.conductor.compare(sequence, did)?,
            Record::Closed => {
                self.closed = true;
                None
            }
        };
        self.trouble = trouble;
        let on = self.trouble.is_none();
        Ok(if on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }

    /// Returns what came of it so far.
    pub fn outcome(&self) -> Outcome {
        let (first, last) = self.span.unwrap_or_default();
        Outcome {
            version: self.setup.version.clone(),
            tokens_kept: self.setup.tokens_kept,
            events: self.sequence,
            seconds: last.saturating_sub(first).as_secs_f64(),
            machines: vec![
                self.stage.replayed(),
                self.gateway.replayed(),
                self.liveness.replayed(),
                self.conductor.replayed(),
            ],
            closed: self.closed,
            trouble: self.trouble.clone(),
        }
    }

    /// Counts an event. Machines have threads of their own, so that times of different ones may be
    /// out of order.
    fn at(&mut self, at: Time) -> &mut Self {
        self.sequence += 1;
        let (first, last) = self.span.unwrap_or((at, at));
        self.span = Some((first.min(at), last.max(at)));
        self
    }
}
