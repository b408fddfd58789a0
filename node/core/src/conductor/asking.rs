//! Repeats proposals until the log shows them.

use std::collections::BTreeMap;
use std::time::Duration;

use thalweg_wire::{Command, Epoch, HostId};

use crate::machine::Time;

/// What a proposal is about. Two with the same subject need not both be heard.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Ask {
    Serve,
    Register,
    Links,
    Remove(HostId),
    Propose(Epoch),
    Ready(Epoch),
    Activate(Epoch),
}

/// When each proposal that had no effect yet was last made.
#[derive(Debug, Default)]
pub(super) struct Asked {
    at: BTreeMap<Ask, Time>,
}

impl Asked {
    /// Returns those of the `wanted` proposals that are due; forgets all others.
    pub(super) fn due(
        &mut self,
        now: Time,
        retry: Duration,
        wanted: Vec<(Ask, Command)>,
    ) -> Vec<Command> {
        let before = std::mem::take(&mut self.at);
        let mut due = Vec::new();
        for (ask, command) in wanted {
            let waits = before.get(&ask).filter(|&&at| now < at + retry);
            self.at.insert(ask, *waits.unwrap_or(&now));
            if waits.is_none() {
                due.push(command);
            }
        }
        due
    }

    /// When the next proposal is due again.
    pub(super) fn next(&self, retry: Duration) -> Option<Time> {
        self.at.values().map(|&at| at + retry).min()
    }

    /// Whether a proposal was made and had no effect yet.
    pub(super) fn has(&self, ask: Ask) -> bool {
        self.at.contains_key(&ask)
    }
}
