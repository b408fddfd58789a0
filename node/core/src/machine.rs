//! The one shape of every state machine in this workspace.

use std::time::Duration;

/// A point in time, measured from a start the host chooses: process start, or zero in a simulation.
pub type Time = Duration;

/// Protocol logic without I/O: events go in, effects come out, time is an argument.
///
/// A host calls [`handle`](Self::handle) for each event and
/// [`handle_timeout`](Self::handle_timeout) once [`next_timeout`](Self::next_timeout) has passed.
/// After either call it drains [`poll_effect`](Self::poll_effect) and carries the effects out.
/// Time never runs backwards.
///
/// There are two hosts: the actor in `node`, and the virtual world in `sim`.
pub trait Machine {
    /// Something that happened outside.
    type Event;
    /// Something the host must do.
    type Effect;

    /// Takes in one event.
    fn handle(&mut self, now: Time, event: Self::Event);

    /// Acts on every deadline at or before `now`, so that the next one is later. A spurious call
    /// does nothing.
    fn handle_timeout(&mut self, now: Time);

    /// Returns the next thing to do, in the order the machine decided on them.
    fn poll_effect(&mut self) -> Option<Self::Effect>;

    /// Returns when [`handle_timeout`](Self::handle_timeout) is next due.
    fn next_timeout(&self) -> Option<Time>;
}
