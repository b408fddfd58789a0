//! What one peer may still send, and how consuming its frames gives it credit again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Weak;

use thalweg_core::credit::Inbox;
use thalweg_wire::{Bytes, Class, Credit, Kind};

use super::error::LinkError;
use super::link::Link;
use super::outgoing::CREDIT_WINDOW;

/// Bytes of one class that are under way or held if the peer keeps to its credits, plus one.
const TAKEN_MAX: Bytes = Bytes(CREDIT_WINDOW.0 + credit_cost_max());

/// The largest cost of a single frame.
const fn credit_cost_max() -> u64 {
    Kind::Activations.payload_bytes_max() + Kind::Activations.header_bytes_max() as u64
}

/// The receiver's side of the credits of one link.
#[derive(Debug)]
pub(super) struct Incoming {
    inbox: Inbox,
    /// Bytes received and not granted again, by class.
    taken: BTreeMap<Class, u64>,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Self { inbox: Inbox::new(CREDIT_WINDOW), taken: BTreeMap::new() }
    }

    /// Admits a frame before memory is set aside for it.
    ///
    /// A peer that keeps to its credits sends only while its balance is above zero, so at any time
    /// less than a window and one frame is under way, in whatever order its streams arrive.
    pub(super) fn admit(&mut self, class: Class, bytes: Bytes) -> Result<(), LinkError> {
        if !class.needs_credit() {
            return Ok(());
        }
        let taken = self.taken.entry(class).or_insert(0);
        let after = *taken + bytes.0;
        if after >= TAKEN_MAX.0 {
            let excess = Bytes(after - TAKEN_MAX.0 + 1);
            return Err(LinkError::Overdraft { class, excess });
        }
        *taken = after;
        Ok(())
    }

    /// Notes that a frame was consumed. Returns the grant that is due.
    pub(super) fn consumed(&mut self, class: Class, bytes: Bytes) -> Option<Credit> {
        let credit = self.inbox.consumed(class, bytes.0)?;
        let taken = self.taken.get_mut(&class).expect("admitted before it was consumed");
        *taken -= credit.bytes.0;
        Some(credit)
    }
}

/// A received frame's claim on the sender's credit. Dropping it says that the frame was consumed,
/// and lets the sender send as much again; whoever keeps the frame's payload waiting keeps this
/// beside it.
pub struct Hold {
    claim: Option<(Weak<Link>, Class, Bytes)>,
}

impl Hold {
    pub(super) fn new(link: Weak<Link>, class: Class, bytes: Bytes) -> Self {
        Self { claim: class.needs_credit().then_some((link, class, bytes)) }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some((link, class, bytes)) = self.claim.take()
            && let Some(link) = link.upgrade()
        {
            link.consumed(class, bytes);
        }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let claim = self.claim.as_ref().map(|(_, class, bytes)| (class, bytes));
        f.debug_tuple("Hold").field(&claim).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_beyond_its_credit_is_caught() {
        let mut incoming = Incoming::new();
        let small = Bytes(CREDIT_WINDOW.0 - 1);
        let large = Bytes(credit_cost_max());
        // Sent in the order small, large; received the other way round.
        incoming.admit(Class::Prefill, large).expect("the balance was above zero");
        incoming.admit(Class::Prefill, small).expect("the balance was a window");
        let error = incoming.admit(Class::Prefill, Bytes(1)).expect_err("no balance is left");
        assert!(matches!(error, LinkError::Overdraft { class: Class::Prefill, .. }), "{error}");
        incoming.admit(Class::Decode, large).expect("classes have their own windows");
        let credit = incoming.consumed(Class::Prefill, small).expect("more than half a window");
        assert_eq!(credit.bytes, small);
        incoming.admit(Class::Prefill, small).expect("granted again");
    }
}
