//! Carries out what the gateway machine decides.

use std::collections::HashMap;
use std::sync::Arc;

use thalweg_core::gateway::{self, Counters, Effect, Gateway};
use thalweg_wire::{Frame, Message};
use tokio::sync::mpsc;

use super::board::Board;
use super::network::Network;
use super::stage::open_frame;
use crate::generate::{Rejection, TokenEvent};
use crate::host::{Keep, Perform};
use crate::metrics::Metrics;

/// A client's stream and the ticket it goes by.
#[derive(Debug)]
pub struct Stream {
    /// Names the stream in the machine.
    pub ticket: u64,
    /// Where tokens go. Has room for all of them.
    pub events: mpsc::Sender<TokenEvent>,
}

/// Where the gateway's effects happen.
#[derive(Debug)]
pub struct GatewayWorld {
    network: Arc<Network>,
    board: Arc<Board>,
    metrics: Arc<Metrics>,
    /// What of the machine's counts the metrics have.
    counted: Counters,
    streams: HashMap<u64, mpsc::Sender<TokenEvent>>,
}

impl GatewayWorld {
    /// Creates the world of a gateway without streams.
    pub fn new(network: Arc<Network>, board: Arc<Board>, metrics: Arc<Metrics>) -> Self {
        Self { network, board, metrics, counted: Counters::default(), streams: HashMap::new() }
    }

    /// Tells a stream. A closed one belongs to a client that left; its cancel is on the way.
    fn tell(&self, ticket: u64, event: TokenEvent) {
        if let Some(events) = self.streams.get(&ticket)
            && let Err(mpsc::error::TrySendError::Full(_)) = events.try_send(event)
        {
            tracing::error!(ticket, "a stream got more tokens than it asked for");
        }
    }
}

impl Keep<Stream> for GatewayWorld {
    fn keep(&mut self, stream: Stream) {
        self.streams.insert(stream.ticket, stream.events);
    }
}

impl Perform<Gateway> for GatewayWorld {
    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::SendOpen { to, open, tokens } => {
                self.board.routed(&open.route);
                self.network.send(to, open_frame(open, &tokens));
            }
            Effect::SendRelease { to, release } => {
                self.network.send(to, Frame::bare(Message::Release(release)));
            }
            Effect::Emit { ticket, sampled, top, finish } => {
                self.tell(ticket, TokenEvent::Token { sampled, top, finish });
                if finish.is_some() {
                    self.streams.remove(&ticket);
                }
            }
            Effect::Reject { ticket, reason } => {
                self.tell(ticket, TokenEvent::Rejected(rejection(reason)));
                self.streams.remove(&ticket);
            }
        }
    }

    fn settled(&mut self, machine: &Gateway) {
        let (before, now) = (self.counted, machine.counters());
        if now != before {
            self.metrics.failovers.inc_by(now.failovers - before.failovers);
            self.metrics.replayed_tokens.inc_by(now.replayed_tokens - before.replayed_tokens);
            self.counted = now;
        }
        self.streams.retain(|_, events| !events.is_closed());
    }
}

fn rejection(reason: gateway::Rejection) -> Rejection {
    match reason {
        gateway::Rejection::Overloaded { retry_after } => Rejection::Overloaded { retry_after },
        gateway::Rejection::NoPlan => Rejection::NoPlan,
        gateway::Rejection::EmptyPrompt => Rejection::EmptyPrompt,
        gateway::Rejection::TooLong { prompt_tokens, context_tokens } => {
            Rejection::TooLong { tokens: u64::from(prompt_tokens), max: u64::from(context_tokens) }
        }
    }
}
