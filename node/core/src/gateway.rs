//! Brings requests of this host's API through the cluster, whatever happens to its hosts.
//!
//! ```text
//!  Submit --> waiting ---- a route has room ----> running ---- finish ----> (gone)
//!                ^                                   |
//!                +-- refused, host down, stalled ----+     attempt + 1, tokens so far kept
//! ```
//!
//! The text cannot differ between attempts: a draw depends on seed and position only, and a replay
//! starts from the prompt and every token the client already has. Tokens of an older attempt and
//! tokens of a position already seen are ignored, so none is lost and none is told twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thalweg_wire::{
    Candidate, Epoch, Finish, HostId, Open, Plan, Refusal, Refuse, Release, RequestId, Sampling,
    Token,
};

use self::hosts::Hosts;
use self::request::{Arrival, Asked, Request, Running, State, Waiting};
use crate::machine::{Machine, Time};
use crate::router::Router;

mod hosts;
mod request;
#[cfg(test)]
mod tests;

/// Routes that may lose a request without a token in between, before it is given up. Losses of
/// hosts do not count: they end with the hosts.
const LOSSES_MAX: u32 = 8;
/// Full checks of the invariants in a release build: one every so many events.
const CHECK_EVERY_EVENTS: u64 = 1024;

/// What a gateway knows from the start.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// This host.
    pub me: HostId,
    /// Start of this process, in microseconds since 1970.
    pub incarnation: u64,
    /// Longest sequence served, in tokens.
    pub context_tokens: u32,
    /// Requests that may wait for a route at most; more are rejected.
    pub waiting_max: usize,
    /// How long a request may wait for a route.
    pub patience: Duration,
    /// Silence on a route after which the request is replayed. Far above the time of a long
    /// prompt on a busy cluster: it only finds what no host noticed.
    pub stall_after: Duration,
    /// What rejected clients are told to wait.
    pub retry_after: Duration,
}

/// What the machine wants to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A client asks. Tickets grow: older requests go first, and none is used twice in the life
    /// of the process. `max_tokens` is lowered to what the plan has room for.
    Submit {
        /// Names the client's stream.
        ticket: u64,
        /// Token ids; at least one.
        prompt: Vec<u32>,
        /// How to sample, checked.
        sampling: Sampling,
        /// Larger goes first; see [`Open::PRIORITY_DEFAULT`].
        priority: u8,
        /// Whose request it is; zero is nobody's.
        tenant: u64,
    },
    /// The client left, or has what it needs.
    Cancel {
        /// Which stream.
        ticket: u64,
    },
    /// A token was sampled. Requests of other gateways are ignored.
    Token(Token),
    /// A stage refused.
    Refuse(Refuse),
    /// A plan is active.
    Plan(Plan),
    /// A host can be given work.
    HostUp(HostId),
    /// A host should get no new work, but keeps what it has.
    HostSuspect(HostId),
    /// A host was given up.
    HostDown(HostId),
    /// A host told how much room it has.
    Load {
        /// Who.
        host: HostId,
        /// KV tokens it could still take.
        kv_free_tokens: u64,
        /// Requests it works on.
        requests: u32,
        /// Time until rows that arrive now would be computed, in microseconds.
        queue_us: u64,
    },
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Open a request at its first stage.
    SendOpen {
        /// First stage; may be this host.
        to: HostId,
        /// The header.
        open: Open,
        /// The payload.
        tokens: Vec<u32>,
    },
    /// Free a request at one stage of its route.
    SendRelease {
        /// The stage; may be this host.
        to: HostId,
        /// Which request.
        release: Release,
    },
    /// Tell the client a token. After one with `finish` nothing more comes for the ticket.
    Emit {
        /// Which stream.
        ticket: u64,
        /// The token, with its log probability if one was asked for.
        sampled: Candidate,
        /// The most likely tokens, if asked for.
        top: Vec<Candidate>,
        /// Set on the last token.
        finish: Option<Finish>,
    },
    /// Tell the client that there will be nothing more.
    Reject {
        /// Which stream.
        ticket: u64,
        /// Why.
        reason: Rejection,
    },
}

/// Why a request was not, or not fully, served.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Rejection {
    /// Too many wait already, or it waited too long.
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// No plan is active.
    NoPlan,
    /// There is nothing to continue.
    EmptyPrompt,
    /// The prompt leaves no room for a token.
    TooLong {
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// Tokens of prompt and answer together, at most.
        context_tokens: u32,
    },
}

/// The requests of one host's API.
#[derive(Debug)]
pub struct Gateway {
    config: Config,
    plan: Option<Plan>,
    router: Router,
    hosts: Hosts,
    /// By ticket.
    requests: BTreeMap<u64, Request>,
    /// Tickets that wait for a route.
    waiting: BTreeSet<u64>,
    effects: VecDeque<Effect>,
    events: u64,
}

impl Gateway {
    /// Creates a gateway without a plan.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            plan: None,
            router: Router::default(),
            hosts: Hosts::new(config.me),
            requests: BTreeMap::new(),
            waiting: BTreeSet::new(),
            effects: VecDeque::new(),
            events: 0,
        }
    }

    /// Requests that wait for a route.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Requests on a route.
    pub fn running(&self) -> usize {
        self.requests.len() - self.waiting.len()
    }

    /// Number of the plan that new requests follow; zero before the first.
    pub fn epoch(&self) -> Epoch {
        self.plan.as_ref().map_or(Epoch::default(), |plan| plan.epoch)
    }

    /// Asserts what must hold between events.
    ///
    /// # Panics
    ///
    /// If a request waits twice or not at all, or is on a route over a lost host.
    pub fn check(&self) {
        for (ticket, request) in &self.requests {
            let waits = self.waiting.contains(ticket);
            match &request.state {
                State::Waiting(_) => assert!(waits, "request {ticket} is forgotten"),
                State::Running(Running { route, .. }) => {
                    assert!(!waits, "request {ticket} waits and runs");
                    let known = route.hops().iter().all(|hop| self.hosts.is_known(hop.host));
                    assert!(known, "request {ticket} is on a lost host");
                }
            }
        }
        assert!(self.waiting.iter().all(|ticket| self.requests.contains_key(ticket)));
    }

    fn submit(&mut self, now: Time, ticket: u64, request: Asked) {
        match self.fit(&request.prompt, request.sampling.clone()) {
            Ok(sampling) => {
                let arrived_us = self.wall_us(now);
                let request = Request::new(now, arrived_us, Asked { sampling, ..request });
                let before = self.requests.insert(ticket, request);
                assert!(before.is_none(), "ticket {ticket} was used twice");
                self.waiting.insert(ticket);
            }
            Err(reason) => return self.effects.push_back(Effect::Reject { ticket, reason }),
        }
        self.dispatch(now);
        if self.waiting.len() > self.config.waiting_max && self.waiting.contains(&ticket) {
            self.reject(ticket);
        }
    }

    /// Time of day, in microseconds since 1970: machines count from the start of the process.
    fn wall_us(&self, now: Time) -> u64 {
        let since_start = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.config.incarnation.saturating_add(since_start)
    }

    /// Lowers `max_tokens` to what context and plan have room for, if that is anything.
    fn fit(&self, prompt: &[u32], mut sampling: Sampling) -> Result<Sampling, Rejection> {
        if prompt.is_empty() {
            return Err(Rejection::EmptyPrompt);
        }
        let plan = self.plan.as_ref().ok_or(Rejection::NoPlan)?;
        let room = u32::try_from(hosts::room_of(plan)).unwrap_or(u32::MAX);
        let context_tokens = self.config.context_tokens.min(room);
        let prompt_tokens = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        if prompt_tokens >= context_tokens {
            return Err(Rejection::TooLong { prompt_tokens, context_tokens });
        }
        sampling.max_tokens = sampling.max_tokens.min(context_tokens - prompt_tokens);
        Ok(sampling)
    }

    /// Starts waiting requests, oldest first. One that pauses lets others pass; one for which
    /// there is no room does not, or a long request would wait for ever behind short ones.
    fn dispatch(&mut self, now: Time) {
        let candidates: Vec<u64> = self.waiting.iter().copied().collect();
        for ticket in candidates {
            let request = self.requests.get_mut(&ticket).expect("waiting requests are at hand");
            let need = request.kv_tokens();
            let since = match request.state {
                State::Waiting(Waiting { paused_until: None, since }) => since,
                _ => continue,
            };
            let Some(route) = self.router.route(|host| self.hosts.has_room(host, need)) else {
                return;
            };
            self.hosts.take(&route, need);
            self.waiting.remove(&ticket);
            let open = Open {
                request: id(&self.config, ticket),
                attempt: request.attempt,
                epoch: self.plan.as_ref().expect("routes come from a plan").epoch,
                route: route.clone(),
                sampling: request.sampling.clone(),
                prompt_tokens: request.prompt_tokens,
                arrived_us: request.arrived_us,
                priority: request.priority,
                tenant: request.tenant,
                cached_tokens: 0,
            };
            let to = route.first().host;
            request.state = State::Running(Running { route, since, heard_at: now });
            let tokens = request.tokens.clone();
            self.effects.push_back(Effect::SendOpen { to, open, tokens });
        }
    }

    fn token(&mut self, now: Time, token: Token) {
        let Some(ticket) = self.ticket_of(token.request) else { return };
        let request = self.requests.get_mut(&ticket).expect("just looked up");
        match request.arrived(now, &token) {
            Arrival::New => {}
            Arrival::Known => return,
            Arrival::Gap => return self.lost(now, ticket),
        }
        let Token { sampled, top, finish, .. } = token;
        self.effects.push_back(Effect::Emit { ticket, sampled, top, finish });
        if finish.is_some() {
            self.end(ticket);
            self.room_freed(now);
        }
    }

    fn refused(&mut self, now: Time, refuse: Refuse) {
        let Some(ticket) = self.ticket_of(refuse.request) else { return };
        let request = self.requests.get_mut(&ticket).expect("just looked up");
        let State::Running(Running { since, .. }) = request.state else { return };
        if request.attempt != refuse.attempt {
            return;
        }
        if refuse.reason == Refusal::Gap {
            return self.lost(now, ticket);
        }
        let pause = request.next_pause();
        self.again(now, ticket, since, Some(pause));
    }

    /// Replays a request whose frames or stage were lost on the way, a few times.
    fn lost(&mut self, now: Time, ticket: u64) {
        let request = self.requests.get_mut(&ticket).expect("the caller has it");
        request.losses += 1;
        if request.losses > LOSSES_MAX {
            return self.reject(ticket);
        }
        let pause = request.next_pause();
        self.again(now, ticket, now, Some(pause));
    }

    /// Takes a request off its route, to be replayed on another with the tokens so far.
    fn again(&mut self, now: Time, ticket: u64, since: Time, pause: Option<Duration>) {
        self.release(ticket);
        let request = self.requests.get_mut(&ticket).expect("the caller has it");
        request.attempt.0 += 1;
        let paused_until = pause.map(|pause| now + pause);
        request.state = State::Waiting(Waiting { since, paused_until });
        self.waiting.insert(ticket);
    }

    /// Frees what the stages hold of a request. Lost hosts hold nothing.
    fn release(&mut self, ticket: u64) {
        let request = &self.requests[&ticket];
        let State::Running(Running { route, .. }) = &request.state else { return };
        let release = Release { request: id(&self.config, ticket), attempt: request.attempt };
        let reachable = route.hops().iter().filter(|hop| self.hosts.is_known(hop.host));
        let sends = reachable.map(|hop| Effect::SendRelease { to: hop.host, release });
        self.effects.extend(sends);
        self.hosts.give_back(route, request.kv_tokens());
    }

    fn end(&mut self, ticket: u64) {
        self.release(ticket);
        self.waiting.remove(&ticket);
        self.requests.remove(&ticket);
    }

    fn reject(&mut self, ticket: u64) {
        self.end(ticket);
        let reason = Rejection::Overloaded { retry_after: self.config.retry_after };
        self.effects.push_back(Effect::Reject { ticket, reason });
    }

    fn host_down(&mut self, now: Time, host: HostId) {
        self.hosts.lost(host);
        let on_route = |request: &Request| match &request.state {
            State::Running(running) => running.route.index_of(host).is_some(),
            State::Waiting(_) => false,
        };
        let hit: Vec<u64> =
            self.requests.iter().filter(|(_, it)| on_route(it)).map(|(&it, _)| it).collect();
        for ticket in hit {
            self.again(now, ticket, now, None);
        }
        self.dispatch(now);
    }

    fn take_plan(&mut self, now: Time, plan: Plan) {
        if plan.epoch <= self.epoch() {
            return;
        }
        self.router = Router::new(&plan);
        self.plan = Some(plan);
        self.hosts.forget_room();
        self.room_freed(now);
    }

    /// Tries everything that waits: what it was refused for may be over.
    fn room_freed(&mut self, now: Time) {
        for ticket in &self.waiting {
            let request = self.requests.get_mut(ticket).expect("waiting requests are at hand");
            request.unpause();
        }
        self.dispatch(now);
    }

    fn timed_out(&mut self, now: Time, ticket: u64) {
        let Config { patience, stall_after, .. } = self.config;
        let request = self.requests.get_mut(&ticket).expect("the caller has it");
        match &request.state {
            State::Waiting(it) if it.since + patience <= now => self.reject(ticket),
            State::Waiting(it) if it.paused_until.is_some_and(|until| until <= now) => {
                request.unpause();
            }
            State::Running(it) if it.heard_at + stall_after <= now => self.lost(now, ticket),
            _ => {}
        }
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
                self.dispatch(now);
            }
            // A host that stalls may miss its own heartbeats; whoever can say so is alive.
            Event::HostSuspect(host) | Event::HostDown(host) if host == self.config.me => {}
            Event::HostSuspect(host) => self.hosts.suspect(host),
            Event::HostDown(host) => self.host_down(now, host),
            Event::Load { host, kv_free_tokens, .. } => {
                self.hosts.told(host, kv_free_tokens);
                self.dispatch(now);
            }
        }
        self.checked();
    }

    fn handle_timeout(&mut self, now: Time) {
        let deadline = |it: &Request| it.deadline(&self.config);
        let due: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, it)| deadline(it) <= now)
            .map(|(&ticket, _)| ticket)
            .collect();
        for ticket in due {
            self.timed_out(now, ticket);
        }
        self.dispatch(now);
        self.checked();
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn next_timeout(&self) -> Option<Time> {
        self.requests.values().map(|it| it.deadline(&self.config)).min()
    }
}
