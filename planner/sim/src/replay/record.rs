//! What a journal says, record by record.

use std::fmt;

use serde::{Deserialize, Serialize};
use thalweg_core::conductor::{self, Conductor};
use thalweg_core::gateway::{self, Gateway};
use thalweg_core::liveness::{self, Liveness};
use thalweg_core::machine::{Machine, Time};
use thalweg_core::stage::{self, Stage};

/// What the machines of a process were created with: the first record.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Setup {
    /// Version of the program.
    pub version: String,
    /// Start of the process by its clock on the wall, in microseconds since 1970. No decision uses it.
    pub started_us: u64,
    /// Whether token ids are as they were. Otherwise they are zeros, and nothing was noted of what
    /// machines did that see them.
    pub tokens_kept: bool,
    /// Of the stage.
    pub stage: stage::Config,
    /// Of the gateway.
    pub gateway: gateway::Config,
    /// Of the liveness machine.
    pub liveness: liveness::Config,
    /// Of the conductor.
    pub conductor: conductor::Config,
}

/// A machine of a process, of which there is one of each.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The [`Stage`].
    Stage,
    /// The [`Gateway`].
    Gateway,
    /// The [`Liveness`] machine.
    Liveness,
    /// The [`Conductor`].
    Conductor,
}

impl Part {
    /// Whether its events and effects hold token ids, which are the users' text.
    pub const fn sees_tokens(self) -> bool {
        matches!(self, Self::Stage | Self::Gateway)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stage => "stage",
            Self::Gateway => "gateway",
            Self::Liveness => "liveness",
            Self::Conductor => "conductor",
        })
    }
}

/// One record after the [`Setup`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[expect(clippy::large_enum_variant, reason = "one at a time is read, and none is kept")]
pub enum Record {
    /// The stage is about to hear of something.
    Stage(Seen<stage::Event>),
    /// The gateway is.
    Gateway(Seen<gateway::Event>),
    /// The liveness machine is.
    Liveness(Seen<liveness::Event>),
    /// The conductor is.
    Conductor(Seen<conductor::Event>),
    /// A machine did what followed from what it last heard of.
    Did(Part, Did),
    /// The process was told to stop: nothing is missing at the end.
    Closed,
}

/// What a machine heard of, and when.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Seen<E> {
    /// Time since the start of the process.
    pub at: Time,
    /// What it was.
    pub what: What<E>,
}

/// What a machine hears of.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum What<E> {
    /// An event.
    Event(E),
    /// A deadline passed.
    Timeout,
    /// An event too large for a record, such as a huge prompt: the machine cannot be replayed from
    /// here on.
    TooLarge,
}

/// The effects that followed from an event, in a few bytes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Did {
    /// How many.
    pub effects: u32,
    /// FNV-1a over their encodings in order. One too large to encode counts as empty.
    pub digest: u64,
}

/// Start value and factor of FNV-1a in 64 bits.
const FNV: (u64, u64) = (0xcbf2_9ce4_8422_2325, 0x0100_0000_01b3);

impl Did {
    /// No effect.
    pub const NOTHING: Self = Self { effects: 0, digest: FNV.0 };

    /// Takes in the next effect.
    pub fn push<F: Serialize>(&mut self, effect: &F) {
        let bytes = thalweg_wire::encode(effect).unwrap_or_default();
        let mix = |digest: u64, byte: &u8| (digest ^ u64::from(*byte)).wrapping_mul(FNV.1);
        // The length keeps apart what would be the same bytes in a row.
        let length = (bytes.len() as u64).to_le_bytes();
        self.digest = length.iter().chain(&bytes).fold(self.digest, mix);
        self.effects += 1;
    }
}

/// A machine whose events are written down.
pub trait Recorded: Machine<Event: Clone + fmt::Debug, Effect: fmt::Debug + Serialize> {
    /// Which one it is.
    const PART: Part;

    /// Returns the record of what it hears of.
    fn record(seen: Seen<Self::Event>) -> Record;

    /// Asserts what must hold after what happened at `now`.
    ///
    /// # Panics
    ///
    /// If it does not hold.
    fn check_after(&self, now: Time, what: &What<Self::Event>);
}

impl Recorded for Stage {
    const PART: Part = Part::Stage;

    fn record(seen: Seen<stage::Event>) -> Record {
        Record::Stage(seen)
    }

    fn check_after(&self, _now: Time, _what: &What<stage::Event>) {
        self.check();
    }
}

impl Recorded for Gateway {
    const PART: Part = Part::Gateway;

    fn record(seen: Seen<gateway::Event>) -> Record {
        Record::Gateway(seen)
    }

    fn check_after(&self, _now: Time, _what: &What<gateway::Event>) {
        self.check();
    }
}

impl Recorded for Liveness {
    const PART: Part = Part::Liveness;

    fn record(seen: Seen<liveness::Event>) -> Record {
        Record::Liveness(seen)
    }

    fn check_after(&self, now: Time, what: &What<liveness::Event>) {
        // Between deadlines a host may be silent for longer than it may be at one.
        if matches!(what, What::Timeout) {
            self.check(now);
        }
    }
}

impl Recorded for Conductor {
    const PART: Part = Part::Conductor;

    fn record(seen: Seen<conductor::Event>) -> Record {
        Record::Conductor(seen)
    }

    fn check_after(&self, _now: Time, _what: &What<conductor::Event>) {
        self.check();
    }
}
