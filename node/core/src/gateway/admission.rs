//! From a client's wish to a request on a route.

use std::sync::Arc;

use thalweg_wire::{Open, Route, Sampling};

use super::hosts::{self, Seen};
use super::prefixes::Held;
use super::request::{Asked, Request, Running, State, Turn, Waiting};
use super::{Effect, Gateway, Rejection, id};
use crate::machine::Time;

impl Gateway {
    pub(super) fn submit(&mut self, now: Time, ticket: u64, request: Asked) {
        let sampling = match self.fit(&request.prompt, request.sampling.clone()) {
            Ok(sampling) => sampling,
            Err(reason) => return self.effects.push_back(Effect::Reject { ticket, reason }),
        };
        let arrived_us = self.wall_us(now);
        let place = self.queue.put(request.priority, request.tenant, arrived_us, ticket);
        let asked = Asked { sampling, ..request };
        let mut request = Request::new(now, Turn::Queued(place), arrived_us, asked);
        self.deadlines.arm(ticket, &mut request, &self.config);
        let before = self.requests.insert(ticket, request);
        assert!(before.is_none(), "ticket {ticket} was used twice");
        // One that goes before the first may fit where that does not.
        self.blocked &= self.queue.peek() != Some(&ticket);
        self.dispatch(now);
        let waits = |it: &Request| matches!(it.state, State::Waiting(_));
        if self.waiting() > self.config.policy.waiting_max && waits(&self.requests[&ticket]) {
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
        let (plan, _) = self.plan.as_ref().ok_or(Rejection::NoPlan)?;
        let room = u32::try_from(hosts::room_of(plan)).unwrap_or(u32::MAX);
        let context_tokens = self.config.context_tokens.min(room);
        let prompt_tokens = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        if prompt_tokens >= context_tokens {
            return Err(Rejection::TooLong { prompt_tokens, context_tokens });
        }
        sampling.max_tokens = sampling.max_tokens.min(context_tokens - prompt_tokens);
        Ok(sampling)
    }

    /// Starts waiting requests in turn. One that pauses lets others pass; one for which there is
    /// no room does not, or a long request would wait for ever behind short ones.
    pub(super) fn dispatch(&mut self, now: Time) {
        while !self.blocked
            && let Some(&ticket) = self.queue.peek()
        {
            let request = self.requests.get_mut(&ticket).expect("waiting requests are at hand");
            let held = match self.config.policy.affinity && request.claims {
                true => self.prefixes.find(request.hashes(request.known_tokens())),
                false => Held::default(),
            };
            let tokens = request.kv_tokens(self.config.policy.growth);
            let seen = Seen { hosts: &self.hosts, tokens, held: &held };
            let route = self.plan.as_mut().and_then(|(_, router)| router.route(&seen));
            match route {
                Some(route) => {
                    self.queue.take();
                    self.start(now, ticket, route, &held, tokens);
                }
                None => self.blocked = true,
            }
        }
    }

    /// Opens a request on a route.
    fn start(&mut self, now: Time, ticket: u64, route: Route, held: &Held, tokens: u64) {
        let request = self.requests.get_mut(&ticket).expect("the caller has it");
        let State::Waiting(Waiting { since, .. }) = request.state else { return };
        self.hosts.take(&route, tokens);
        let known = request.known_tokens();
        // The row of the last token is what the first step is for.
        let cached_tokens = held.tokens_of_all(&route).min(known - 1);
        let open = Open {
            request: id(&self.config, ticket),
            attempt: request.attempt,
            epoch: self.plan.as_ref().expect("routes come from a plan").0.epoch,
            route: route.clone(),
            sampling: request.sampling.clone(),
            prompt_tokens: request.prompt_tokens,
            arrived_us: request.arrived_us,
            priority: request.priority,
            tenant: request.tenant,
            cached_tokens,
        };
        let to = route.first().host;
        request.state = State::Running(Running {
            route: Arc::new(route),
            opened_tokens: known,
            claimed_tokens: cached_tokens,
            counted_tokens: tokens,
            opened_at: now,
            since,
            heard_at: now,
        });
        self.deadlines.arm(ticket, request, &self.config);
        let tokens = request.tokens.clone();
        self.effects.push_back(Effect::SendOpen { to, open, tokens });
    }
}
