//! Frames to hosts, this one included: what is said to oneself takes the same way in.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::Addr;
use thalweg_core::conductor::Conductor;
use thalweg_core::gateway::{self, Gateway};
use thalweg_core::liveness::{self, Liveness};
use thalweg_core::stage::{self, Stage, TensorId};
use thalweg_wire::{Activations, Frame, HostId, Message};

use super::board::Board;
use super::compute::Rows;
use super::conductor::ConductorWorld;
use super::gateway::GatewayWorld;
use super::life::LifeWorld;
use super::stage::{StageWorld, Tensor};
use crate::host::{Deliver, Entrust, Host, post};
use crate::transport::{Hold, Transport};

/// The stage's actor.
pub type StageHost = Host<Stage, StageWorld>;
/// The gateway's actor.
pub type GatewayHost = Host<Gateway, GatewayWorld>;
/// The actor that knows who is alive.
pub type LifeHost = Host<Liveness, LifeWorld>;

/// The actor that keeps a plan in effect.
pub type ConductorHost = Host<Conductor, ConductorWorld>;

/// The actors of this host.
#[derive(Debug)]
pub struct Actors {
    /// Plans, loads, activates.
    pub conductor: Addr<ConductorHost>,
    /// Computes.
    pub stage: Addr<StageHost>,
    /// Serves this host's API.
    pub gateway: Addr<GatewayHost>,
    /// Counts heartbeats.
    pub life: Addr<LifeHost>,
}

/// The way in and out. Filled in while the process starts; until then frames are dropped, and their
/// senders retry.
#[derive(Debug)]
pub struct Network {
    me: HostId,
    board: Arc<Board>,
    transport: OnceLock<Arc<Transport>>,
    actors: OnceLock<Actors>,
    tensors: AtomicU64,
}

impl Network {
    /// Creates the network of host `me`, without transport and actors.
    pub fn new(me: HostId, board: Arc<Board>) -> Self {
        let tensors = AtomicU64::new(1);
        Self { me, board, transport: OnceLock::new(), actors: OnceLock::new(), tensors }
    }

    /// Connects the actors. Only the first call counts.
    pub fn set_actors(&self, actors: Actors) {
        let _first = self.actors.set(actors);
    }

    /// Connects the transport. Only the first call counts.
    pub fn set_transport(&self, transport: Arc<Transport>) {
        let _first = self.transport.set(transport);
    }

    /// Whether `host` is this one.
    pub fn is_me(&self, host: HostId) -> bool {
        host == self.me
    }

    /// What a host is called.
    pub fn name(&self, host: HostId) -> String {
        self.board.name(host)
    }

    /// The transport, once there is one.
    pub fn transport(&self) -> Option<&Arc<Transport>> {
        self.transport.get()
    }

    /// The actors, once there are any.
    pub fn actors(&self) -> Option<&Actors> {
        self.actors.get()
    }

    /// Returns a handle that no tensor of this process has.
    pub fn tensor_id(&self) -> TensorId {
        TensorId(self.tensors.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends a frame. A peer that is down loses it; liveness and replays deal with that.
    pub fn send(&self, to: HostId, frame: Frame) {
        if to == self.me {
            self.receive(self.me, frame, None);
        } else if let Some(transport) = self.transport.get()
            && let Err(error) = transport.send(to, frame)
        {
            tracing::debug!(%to, %error, "frame not sent");
        }
    }

    /// Hands an arrived frame to the actor it is for.
    ///
    /// `hold` lets the sender go on once it is dropped; it stays with rows until they are computed.
    pub fn receive(&self, from: HostId, frame: Frame, hold: Option<Hold>) {
        let Some(actors) = self.actors.get() else { return };
        let Frame { message, payload } = frame;
        match message {
            Message::Open(open) => {
                let token = |it: &[u8]| u32::from_le_bytes(it.try_into().expect("four bytes"));
                let tokens = payload.chunks_exact(4).map(token).collect();
                post(&actors.stage, Deliver(stage::Event::Open { from, open, tokens }));
            }
            Message::Activations(activations) => {
                if payload.len() as u64 != expected_bytes(&activations) {
                    let bytes = payload.len();
                    tracing::warn!(%from, bytes, ?activations, "activations of a wrong size");
                    return;
                }
                let tensor = self.tensor_id();
                let rows = Rows::Wire(payload);
                post(&actors.stage, Entrust(Tensor { id: tensor, rows, hold }));
                let event = stage::Event::Activations { from, activations, tensor };
                post(&actors.stage, Deliver(event));
            }
            Message::Token(token) => {
                if token.request.gateway == self.me {
                    post(&actors.gateway, Deliver(gateway::Event::Token(token.clone())));
                }
                post(&actors.stage, Deliver(stage::Event::Token(token)));
            }
            Message::Release(it) => post(&actors.stage, Deliver(stage::Event::Release(it))),
            Message::Refuse(it) => post(&actors.gateway, Deliver(gateway::Event::Refuse(it))),
            Message::Heartbeat(beat) => {
                self.board.beat(from, beat);
                post(&actors.life, Deliver(liveness::Event::Heartbeat(from)));
                let load = gateway::Event::Load {
                    host: from,
                    kv_free_tokens: beat.kv_free_tokens,
                    requests: beat.requests,
                    queue_us: beat.queue_us,
                };
                post(&actors.gateway, Deliver(load));
            }
            // The transport answers these itself.
            Message::Hello(_) | Message::HelloAck(_) | Message::Credit(_) => {}
        }
    }
}

/// Returns the size of the payload that a header announces; only F32 is on the wire yet.
fn expected_bytes(it: &Activations) -> u64 {
    u64::from(it.count) * u64::from(it.hidden) * it.dtype.bytes() as u64
}
