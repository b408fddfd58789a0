//! One machine, replayed.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use thalweg_core::machine::Time;

use super::ReplayError;
use super::outcome::{Replayed, Skip, Trouble, words};
use super::record::{Did, Recorded, Seen, What};

/// A machine and what it did last.
#[derive(Debug)]
pub(super) struct Player<M: Recorded> {
    machine: M,
    /// Why it is not replayed, or not any more.
    skip: Option<Skip>,
    heard_at: Time,
    /// What it heard of last, until its effects are compared with the host's.
    open: Option<Heard<M>>,
    replayed: u64,
    skipped: u64,
    compared: u64,
}

#[derive(Debug)]
struct Heard<M: Recorded> {
    sequence: u64,
    at: Time,
    what: What<M::Event>,
    did: Did,
    effects: Vec<M::Effect>,
}

impl<M: Recorded> Player<M> {
    /// Creates a player of a machine that was just created.
    pub(super) fn new(machine: M, tokens_kept: bool) -> Self {
        let blind = M::PART.sees_tokens() && !tokens_kept;
        Self {
            machine,
            skip: blind.then_some(Skip::NoTokens),
            heard_at: Time::ZERO,
            open: None,
            replayed: 0,
            skipped: 0,
            compared: 0,
        }
    }

    /// Lets the machine hear of event number `sequence`.
    pub(super) fn hear(
        &mut self,
        sequence: u64,
        seen: Seen<M::Event>,
    ) -> Result<Option<Trouble>, ReplayError> {
        let (part, Seen { at, what }) = (M::PART, seen);
        if at < self.heard_at {
            let before = self.heard_at;
            return Err(ReplayError::Backwards { sequence, part, at, before });
        }
        self.heard_at = at;
        if matches!(what, What::TooLarge) && self.skip.is_none() {
            self.skip = Some(Skip::TooLarge { sequence });
        }
        if self.skip.is_some() {
            self.skipped += 1;
            return Ok(None);
        }
        if self.open.is_some() {
            return Err(ReplayError::Unsettled { sequence, part });
        }
        self.replayed += 1;
        let handled = catch_unwind(AssertUnwindSafe(|| self.handle(at, &what)));
        match handled {
            Ok((did, effects)) => {
                self.open = Some(Heard { sequence, at, what, did, effects });
                Ok(None)
            }
            Err(panic) => {
                let (at_seconds, event) = (at.as_secs_f64(), words(&what));
                let message = message(panic.as_ref());
                Ok(Some(Trouble::Violated { sequence, part, at_seconds, event, message }))
            }
        }
    }

    /// Does what the actor of a host does.
    fn handle(&mut self, now: Time, what: &What<M::Event>) -> (Did, Vec<M::Effect>) {
        match what {
            What::Event(event) => self.machine.handle(now, event.clone()),
            What::Timeout => self.machine.handle_timeout(now),
            What::TooLarge => {}
        }
        let (mut did, mut effects) = (Did::NOTHING, Vec::new());
        while let Some(effect) = self.machine.poll_effect() {
            did.push(&effect);
            effects.push(effect);
        }
        self.machine.check_after(now, what);
        (did, effects)
    }

    /// Compares the effects of what the machine heard of last with those of the host.
    /// `sequence` is the number of events so far.
    pub(super) fn compare(
        &mut self,
        sequence: u64,
        host: Did,
    ) -> Result<Option<Trouble>, ReplayError> {
        let part = M::PART;
        if self.skip.is_some() {
            self.open = None;
            return Ok(None);
        }
        let heard = self.open.take().ok_or(ReplayError::OfNothing { sequence, part })?;
        self.compared += 1;
        if heard.did == host {
            return Ok(None);
        }
        Ok(Some(Trouble::Diverged {
            sequence: heard.sequence,
            part,
            at_seconds: heard.at.as_secs_f64(),
            event: words(&heard.what),
            host,
            replay: heard.did,
            effects: words(&heard.effects),
        }))
    }

    /// What was done so far.
    pub(super) fn replayed(&self) -> Replayed {
        Replayed {
            machine: M::PART,
            replayed: self.replayed,
            compared: self.compared,
            skipped: self.skipped,
            skip: self.skip,
        }
    }
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a text").to_owned()
}
