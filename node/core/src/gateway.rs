//! Brings requests of this host's API through the cluster, whatever happens to its hosts.
//!
//! ```text
//!  Submit --> queued ---- a route has room ----> running ---- finish ----> (gone)
//!              ^  ^                                 |
//!              |  +-- host down, prefix gone -------+     attempt + 1, tokens so far kept
//!              +-- paused <-- refused, preempted, --+
//!                             stalled
//! ```
//!
//! The text cannot differ between attempts: a draw depends on seed and position only, and a replay
//! starts from the prompt and every token the client already has. Tokens of an older attempt and
//! tokens of a position already seen are ignored, so none is lost and none is told twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use thalweg_wire::{Epoch, Plan, Release, RequestId, Token};

use self::deadlines::Deadlines;
pub use self::event::{Config, Effect, Event, Rejection};
use self::hosts::Hosts;
use self::prefixes::Prefixes;
use self::request::{Arrival, Asked, Request, Running, State, Turn, Waiting};
use crate::fair::FairQueue;
use crate::machine::{Machine, Time};
use crate::router::Router;

mod admission;
mod deadlines;
mod event;
mod hosts;
mod prefixes;
mod replay;
mod request;
#[cfg(test)]
mod tests;

/// Hops of a route at most on which every stage knows every token: the first and the last do.
const KNOWING_HOPS_MAX: usize = 2;
/// Full checks of the invariants in a release build: one every so many events.
const CHECK_EVERY_EVENTS: u64 = 1024;

/// What a gateway counted since it was created.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Generations that went on elsewhere because a host or frames were lost.
    pub failovers: u64,
    /// Tokens computed again for that reason.
    pub replayed_tokens: u64,
    /// Requests that gave way to older ones because KV ran out, and were replayed.
    pub preempted: u64,
}

/// The requests of one host's API.
#[derive(Debug)]
pub struct Gateway {
    config: Config,
    plan: Option<(Plan, Router)>,
    hosts: Hosts,
    prefixes: Prefixes,
    /// By ticket.
    requests: BTreeMap<u64, Request>,
    /// Tickets that wait for a route.
    queue: FairQueue<u64>,
    /// Tickets that pause before they wait again.
    paused: BTreeSet<u64>,
    /// Whether there is no route for the first of the queue until something changes.
    blocked: bool,
    deadlines: Deadlines,
    counters: Counters,
    effects: VecDeque<Effect>,
    events: u64,
}

impl Gateway {
    /// Creates a gateway without a plan.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            plan: None,
            hosts: Hosts::new(config.me, &config.policy),
            prefixes: Prefixes::default(),
            requests: BTreeMap::new(),
            queue: FairQueue::default(),
            paused: BTreeSet::new(),
            blocked: false,
            deadlines: Deadlines::default(),
            counters: Counters::default(),
            effects: VecDeque::new(),
            events: 0,
        }
    }

    /// Requests that wait for a route.
    pub fn waiting(&self) -> usize {
        self.queue.len() + self.paused.len()
    }

    /// Requests on a route.
    pub fn running(&self) -> usize {
        self.requests.len() - self.waiting()
    }

    /// Number of the plan that new requests follow; zero before the first.
    pub fn epoch(&self) -> Epoch {
        self.plan.as_ref().map_or(Epoch::default(), |(plan, _)| plan.epoch)
    }

    /// What was counted so far.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Asserts what must hold between events.
    ///
    /// # Panics
    ///
    /// If a request waits twice or not at all, is on a route over a lost host, or is not looked at
    /// by its deadline.
    pub fn check(&self) {
        let mut queued = 0;
        for (ticket, request) in &self.requests {
            let deadline = request.deadline(&self.config);
            let armed = request.armed_at.is_some_and(|at| at <= deadline);
            assert!(armed, "request {ticket} would wait for ever");
            match &request.state {
                State::Waiting(Waiting { turn: Turn::Queued(_), .. }) => queued += 1,
                State::Waiting(Waiting { turn: Turn::Paused(_), .. }) => {
                    assert!(self.paused.contains(ticket), "request {ticket} is forgotten");
                }
                State::Running(Running { route, .. }) => {
                    let known = route.hops().iter().all(|hop| self.hosts.is_known(hop.host));
                    assert!(known, "request {ticket} is on a lost host");
                }
            }
        }
        assert_eq!(self.queue.len(), queued, "a request waits twice or not at all");
        let paused = |ticket| self.requests.get(ticket).is_some_and(Request::is_paused);
        assert!(self.paused.iter().all(paused), "a request that is not paused seems so");
        assert_eq!(self.deadlines.len(), self.requests.len(), "a deadline of nobody");
    }

    fn token(&mut self, now: Time, token: Token) {
        let Some(ticket) = self.ticket_of(token.request) else { return };
        let request = self.requests.get_mut(&ticket).expect("just looked up");
        match request.arrived(now, &token) {
            Arrival::New => {}
            Arrival::Known => return,
            Arrival::Gap => return self.lost(now, ticket),
        }
        let Token { position, sampled, top, finish, .. } = token;
        self.learn(now, ticket, position, finish.is_some());
        self.effects.push_back(Effect::Emit { ticket, sampled, top, finish });
        if finish.is_some() {
            self.end(ticket);
            self.room_freed(now);
        }
    }

    /// Learns from a token that its route answered, and which prefixes it holds now.
    fn learn(&mut self, now: Time, ticket: u64, position: u32, over: bool) {
        let request = self.requests.get_mut(&ticket).expect("the caller has it");
        let State::Running(running) = &request.state else { return };
        let first = position == running.opened_tokens;
        if !first && !over {
            return;
        }
        let (route, opened_at) = (Arc::clone(&running.route), running.opened_at);
        if first && let Some((_, router)) = &mut self.plan {
            router.answered(&route, now.saturating_sub(opened_at));
        }
        if self.config.policy.affinity {
            // All before the token was computed; stages in between know the tokens of the open only.
            let everywhere = route.hops().len() <= KNOWING_HOPS_MAX;
            let shared = if everywhere { position } else { running.opened_tokens };
            self.prefixes.note(request.hashes(shared), &route);
        }
    }

    /// Frees what the stages hold of a request. Lost hosts hold nothing.
    fn release(&mut self, ticket: u64) {
        let request = &self.requests[&ticket];
        let State::Running(Running { route, counted_tokens, .. }) = &request.state else { return };
        let release = Release { request: id(&self.config, ticket), attempt: request.attempt };
        let reachable = route.hops().iter().filter(|hop| self.hosts.is_known(hop.host));
        let sends = reachable.map(|hop| Effect::SendRelease { to: hop.host, release });
        self.effects.extend(sends);
        self.hosts.give_back(route, *counted_tokens);
        self.blocked = false;
    }

    fn end(&mut self, ticket: u64) {
        self.release(ticket);
        self.paused.remove(&ticket);
        let request = self.requests.remove(&ticket);
        let mut request = request.expect("the caller has it");
        if let State::Waiting(Waiting { turn: Turn::Queued(place), .. }) = request.state {
            self.queue.remove(place);
            self.blocked = false;
        }
        self.deadlines.disarm(ticket, &mut request);
    }

    fn reject(&mut self, ticket: u64) {
        self.end(ticket);
        let reason = Rejection::Overloaded { retry_after: self.config.policy.retry_after };
        self.effects.push_back(Effect::Reject { ticket, reason });
    }

    fn take_plan(&mut self, now: Time, plan: Plan) {
        if plan.epoch <= self.epoch() {
            return;
        }
        self.hosts.plan(&plan);
        self.prefixes.clear();
        let router = Router::new(&plan, &self.config.policy);
        self.plan = Some((plan, router));
        self.room_freed(now);
    }

    /// Tries everything that waits: what it was refused for may be over.
    fn room_freed(&mut self, now: Time) {
        for ticket in std::mem::take(&mut self.paused) {
            self.unpause(ticket);
        }
        self.blocked = false;
        self.dispatch(now);
    }

    /// The ticket of a request, if it is one of this process that is not over.
    fn ticket_of(&self, request: RequestId) -> Option<u64> {
        let ticket = request.counter;
        let ours = request == id(&self.config, ticket);
        (ours && self.requests.contains_key(&ticket)).then_some(ticket)
    }

    fn checked(&mut self) {
        self.events += 1;
        if cfg!(debug_assertions) || self.events.is_multiple_of(CHECK_EVERY_EVENTS) {
            self.check();
        }
    }
}

/// A ticket numbers its request.
const fn id(config: &Config, ticket: u64) -> RequestId {
    RequestId { gateway: config.me, incarnation: config.incarnation, counter: ticket }
}

impl Machine for Gateway {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Submit { ticket, prompt, sampling, priority, tenant } => {
                self.submit(now, ticket, Asked { prompt, sampling, priority, tenant });
            }
            Event::Cancel { ticket } => {
                if self.requests.contains_key(&ticket) {
                    self.end(ticket);
                    self.room_freed(now);
                }
            }
            Event::Token(token) => self.token(now, token),
            Event::Refuse(refuse) => self.refused(now, refuse),
            Event::Plan(plan) => self.take_plan(now, plan),
            Event::HostUp(host) => {
                self.hosts.trust(host);
                if let Some((plan, _)) = &self.plan {
                    self.hosts.plan_of(host, plan);
                }
                self.blocked = false;
                self.dispatch(now);
            }
            // A host that stalls may miss its own heartbeats; whoever can say so is alive.
            Event::HostSuspect(host) | Event::HostDown(host) if host == self.config.me => {}
            Event::HostSuspect(host) => self.hosts.suspect(host),
            Event::HostDown(host) => self.host_down(now, host),
            Event::Load { host, kv_free_tokens, requests, queue_us } => {
                self.hosts.told(host, kv_free_tokens, requests, queue_us);
                self.blocked = false;
                self.dispatch(now);
            }
        }
        self.checked();
    }

    fn handle_timeout(&mut self, now: Time) {
        for ticket in self.deadlines.due(now) {
            self.timed_out(now, ticket);
        }
        self.dispatch(now);
        self.checked();
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn next_timeout(&self) -> Option<Time> {
        self.deadlines.next()
    }
}
