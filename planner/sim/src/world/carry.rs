//! Carries effects out, and delivers what arrives.

use thalweg_core::machine::Machine;
use thalweg_core::{gateway, stage};
use thalweg_wire::HostId;

use super::gate::to_nanos;
use super::{Happening, World};
use crate::agenda::Nanos;
use crate::link::Parcel;

impl World<'_> {
    /// Hands a frame to the machines it is for, as the network of a real host does.
    pub(super) fn deliver(&mut self, from: usize, to: usize, parcel: Parcel) {
        let sender = self.id_of(from);
        match parcel {
            Parcel::Open(it) => {
                let (open, tokens) = *it;
                self.tell_stage(to, stage::Event::Open { from: sender, open, tokens });
            }
            Parcel::Activations(activations) => {
                if self.hosts[to].stage.is_some() {
                    let tensor = self.hosts[to].receive_rows();
                    let event = stage::Event::Activations { from: sender, activations, tensor };
                    self.tell_stage(to, event);
                }
            }
            Parcel::Token(token) => {
                if let Some(gate) = self.gate_named(to, token.request.gateway) {
                    self.tell_gate(gate, gateway::Event::Token(token.clone()));
                }
                if to < self.hosts.len() {
                    self.tell_stage(to, stage::Event::Token(token));
                }
            }
            Parcel::Release(release) => self.tell_stage(to, stage::Event::Release(release)),
            Parcel::Refuse(refuse) => {
                self.ledger.refused(refuse.reason);
                if let Some(gate) = self.gate_named(to, refuse.request.gateway) {
                    self.tell_gate(gate, gateway::Event::Refuse(refuse));
                }
            }
            Parcel::Heartbeat(beat) => {
                if let Some(gate) = self.gate_at[to] {
                    self.tell_gate(
                        gate,
                        gateway::Event::Load {
                            host: sender,
                            kv_free_tokens: beat.kv_free_tokens,
                            requests: beat.requests,
                            queue_us: beat.queue_us,
                        },
                    );
                }
            }
        }
    }

    /// Carries out what a stage wants done.
    pub(super) fn settle_stage(&mut self, host: usize) {
        while let Some(effect) = self.hosts[host].stage.as_mut().and_then(Machine::poll_effect) {
            match effect {
                stage::Effect::Step(items) => {
                    let it = &mut self.hosts[host];
                    let takes = it.begin(self.ledger.window, self.now, items);
                    let life = it.life;
                    self.agenda.put(self.now + takes, Happening::StepDone { host, life });
                }
                stage::Effect::SendOpen { to, open, tokens } => {
                    self.send_to(host, to, Parcel::Open(Box::new((open, tokens))));
                }
                stage::Effect::SendActivations { to, activations, tensor: _ } => {
                    self.hosts[host].give_up_rows();
                    self.send_to(host, to, Parcel::Activations(activations));
                }
                stage::Effect::SendToken { to, token } => {
                    self.send_to(host, to, Parcel::Token(token));
                }
                stage::Effect::SendRefuse { to, refuse } => {
                    self.send_to(host, to, Parcel::Refuse(refuse));
                }
                stage::Effect::Drop(_) => self.hosts[host].give_up_rows(),
                stage::Effect::Retired { .. } => {}
            }
        }
        let it = &mut self.hosts[host];
        let life = it.life;
        if let Some(at) = it.rearm() {
            self.agenda.put(at.max(self.now), Happening::StageTimeout { host, life });
        }
    }

    /// Carries out what a gateway wants done.
    pub(super) fn settle_gate(&mut self, gate: usize) {
        let seat = self.gates[gate].seat;
        while let Some(effect) = self.gates[gate].machine.as_mut().and_then(Machine::poll_effect) {
            match effect {
                gateway::Effect::SendOpen { to, open, tokens } => {
                    let (ticket, attempt) = (open.request.counter, open.attempt.0);
                    let most = open.sampling.max_tokens;
                    self.ledger.opened(self.now, ticket, attempt, tokens.len(), most);
                    self.send_to(seat, to, Parcel::Open(Box::new((open, tokens))));
                }
                gateway::Effect::SendRelease { to, release } => {
                    self.send_to(seat, to, Parcel::Release(release));
                }
                gateway::Effect::Emit { ticket, finish, .. } => {
                    let first = self.ledger.told(self.now, ticket, finish);
                    if first && self.newcomers.remove(&ticket) && self.source.next_user() {
                        self.agenda.put(self.now, Happening::Ask { gate, newcomer: true });
                    }
                    if finish.is_some() {
                        self.over(ticket, 0);
                    }
                }
                gateway::Effect::Reject { ticket, reason } => {
                    self.ledger.rejected(ticket);
                    self.over(ticket, self.now + self.asked_to_wait(reason));
                }
            }
        }
        if let Some(at) = self.gates[gate].rearm() {
            self.agenda.put(at.max(self.now), Happening::GateTimeout { gate });
        }
    }

    /// Sends a frame between seats; one to oneself takes no time.
    pub(super) fn send(&mut self, from: usize, to: usize, parcel: Parcel) {
        if from == to {
            self.inbox.push_back((from, to, parcel));
        } else if self.is_up(to) {
            self.wires.send(self.now, from, to, parcel);
        }
    }

    fn send_to(&mut self, from: usize, to: HostId, parcel: Parcel) {
        if let Some(seat) = self.seat_of(to) {
            self.send(from, seat, parcel);
        }
    }

    /// Where a host or the gateway outside stands.
    pub(super) fn seat_of(&self, name: HostId) -> Option<usize> {
        let found = self.seats.binary_search_by_key(&name, |it| it.0);
        found.ok().map(|at| self.seats[at].1)
    }

    /// How long a rejected client waits before it asks again.
    fn asked_to_wait(&self, reason: gateway::Rejection) -> Nanos {
        match reason {
            gateway::Rejection::Overloaded { retry_after } => to_nanos(retry_after),
            _ => to_nanos(self.settings.pack.gateway.retry_after),
        }
    }

    /// The gateway at a seat, if it is the one of that name.
    fn gate_named(&self, seat: usize, name: HostId) -> Option<usize> {
        self.gate_at[seat].filter(|&gate| self.gates[gate].id == name)
    }

    fn id_of(&self, seat: usize) -> HostId {
        match self.hosts.get(seat) {
            Some(host) => host.id,
            None => self.gates[0].id,
        }
    }

    fn is_up(&self, seat: usize) -> bool {
        self.hosts.get(seat).is_none_or(|it| it.stage.is_some())
    }
}
