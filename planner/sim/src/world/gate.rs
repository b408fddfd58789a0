//! A gateway of a world.

use thalweg_core::gateway::{self, Gateway};
use thalweg_core::machine::{Machine, Time};
use thalweg_wire::{HostId, Open, Sampling};

use crate::agenda::Nanos;
use crate::workload::Ask;

/// A gateway.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) id: HostId,
    /// Where it stands: a host, or outside of all.
    pub(super) seat: usize,
    /// `None` once it is dead.
    pub(super) machine: Option<Gateway>,
    /// When it is looked after next.
    pub(super) armed: Option<Nanos>,
}

impl Gate {
    /// Requests that wait for a route.
    pub(super) fn waiting(&self) -> usize {
        self.machine.as_ref().map_or(0, Gateway::waiting)
    }

    /// Requests on a route.
    pub(super) fn running(&self) -> usize {
        self.machine.as_ref().map_or(0, Gateway::running)
    }

    /// Requests it knows.
    pub(super) fn requests(&self) -> usize {
        self.waiting() + self.running()
    }

    /// When it must be looked after, if that is earlier than it will be anyway.
    pub(super) fn rearm(&mut self) -> Option<Nanos> {
        rearm(self.machine.as_ref()?.next_timeout(), &mut self.armed)
    }
}

/// A machine's deadline, if the machine is not looked after by then anyway.
pub(super) fn rearm(deadline: Option<Time>, armed: &mut Option<Nanos>) -> Option<Nanos> {
    let deadline = to_nanos(deadline?);
    let sooner = armed.is_none_or(|armed| deadline < armed);
    sooner.then(|| *armed.insert(deadline))
}

/// What a gateway is told when a client asks.
pub(super) fn submit(ticket: u64, ask: &Ask) -> gateway::Event {
    let sampling =
        Sampling { max_tokens: ask.length.output, seed: ask.serial, ..Sampling::default() };
    gateway::Event::Submit {
        ticket,
        prompt: ask.prompt(),
        sampling,
        priority: Open::PRIORITY_DEFAULT,
        tenant: 0,
    }
}

/// A time or a span of time as the world counts it.
pub(super) fn to_nanos(time: Time) -> Nanos {
    Nanos::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}
