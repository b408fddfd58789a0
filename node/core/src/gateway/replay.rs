//! What happens to requests that lose their route.

use std::sync::Arc;
use std::time::Duration;

use thalweg_wire::{HostId, Refusal, Refuse};

use super::request::{Request, State, Turn, Waiting};
use super::{Config, Gateway};
use crate::fair::{FairQueue, Place};
use crate::kv::{BLOCK_TOKENS, columns_for};
use crate::machine::Time;

/// Routes that may lose a request without a token in between, before it is given up. Losses of
/// hosts do not count: they end with the hosts.
const LOSSES_MAX: u32 = 8;

impl Gateway {
    pub(super) fn refused(&mut self, now: Time, refuse: Refuse) {
        let Some(ticket) = self.ticket_of(refuse.request) else { return };
        let request = self.requests.get_mut(&ticket).expect("just looked up");
        let State::Running(running) = &mut request.state else { return };
        if request.attempt != refuse.attempt {
            return;
        }
        let since = running.since;
        match refuse.reason {
            Refusal::Gap => return self.lost(now, ticket),
            Refusal::PrefixGone => {
                let (route, claimed) = (Arc::clone(&running.route), running.claimed_tokens);
                request.claims = false;
                let claimed = columns_for(claimed) * BLOCK_TOKENS;
                self.prefixes.forget(request.hashes(claimed), &route);
                self.again(now, ticket, since, None);
                return self.dispatch(now);
            }
            Refusal::Preempted => {
                self.counters.preempted += 1;
                request.under_way = true;
                let pause = request.next_pause();
                self.again(now, ticket, now, Some(pause));
            }
            Refusal::NoRoom | Refusal::StaleEpoch | Refusal::WrongLayers => {
                // Its hosts are fuller than they seemed; how full they tell with the next beat.
                running.counted_tokens = 0;
                let pause = request.next_pause();
                self.again(now, ticket, since, Some(pause));
            }
        }
        self.dispatch(now);
    }

    /// Replays a request whose frames or stage were lost on the way, a few times.
    pub(super) fn lost(&mut self, now: Time, ticket: u64) {
        let request = self.requests.get_mut(&ticket).expect("the caller has it");
        request.losses += 1;
        if request.losses > LOSSES_MAX {
            return self.reject(ticket);
        }
        let pause = request.next_pause();
        self.failed_over(ticket);
        self.again(now, ticket, now, Some(pause));
    }

    /// Counts a generation that goes on elsewhere.
    fn failed_over(&mut self, ticket: u64) {
        let request = &self.requests[&ticket];
        if request.known_tokens() > request.prompt_tokens {
            self.counters.failovers += 1;
            self.counters.replayed_tokens += u64::from(request.known_tokens());
        }
    }

    /// Takes a request off its route, to be replayed on another with the tokens so far.
    pub(super) fn again(&mut self, now: Time, ticket: u64, since: Time, pause: Option<Duration>) {
        self.release(ticket);
        let request = self.requests.get_mut(&ticket).expect("the caller has it");
        request.attempt.0 += 1;
        let turn = match pause {
            Some(pause) => {
                self.paused.insert(ticket);
                Turn::Paused(now + pause)
            }
            None => Turn::Queued(queue_up(&mut self.queue, ticket, request)),
        };
        request.state = State::Waiting(Waiting { since, turn });
        self.deadlines.arm(ticket, request, &self.config);
    }

    pub(super) fn host_down(&mut self, now: Time, host: HostId) {
        self.hosts.lost(host);
        let on_route = |request: &Request| match &request.state {
            State::Running(running) => running.route.index_of(host).is_some(),
            State::Waiting(_) => false,
        };
        let hit: Vec<u64> =
            self.requests.iter().filter(|(_, it)| on_route(it)).map(|(&it, _)| it).collect();
        for ticket in hit {
            self.failed_over(ticket);
            self.again(now, ticket, now, None);
        }
        self.dispatch(now);
    }

    /// Whether there are hosts for every layer, room or not.
    fn covered(&mut self) -> bool {
        let hosts = &self.hosts;
        self.plan.as_mut().is_some_and(|(_, router)| router.covers(|it| hosts.is_trusted(it)))
    }

    fn restart_patience(&mut self, now: Time, ticket: u64) {
        let request = self.requests.get_mut(&ticket).expect("the caller has it");
        if let State::Waiting(waiting) = &mut request.state {
            waiting.since = now;
        }
    }

    /// Lets a paused request wait for its turn.
    pub(super) fn unpause(&mut self, ticket: u64) {
        self.paused.remove(&ticket);
        let request = self.requests.get_mut(&ticket).expect("waiting requests are at hand");
        let place = queue_up(&mut self.queue, ticket, request);
        if let State::Waiting(waiting) = &mut request.state {
            waiting.turn = Turn::Queued(place);
        }
        // It may go before the first, for which there is no room.
        self.blocked &= self.queue.peek() != Some(&ticket);
    }

    pub(super) fn timed_out(&mut self, now: Time, ticket: u64) {
        let Config { stall_after, policy, .. } = self.config;
        let request = self.requests.get_mut(&ticket).expect("the caller has it");
        request.armed_at = None;
        let under_way = request.under_way;
        match &request.state {
            State::Waiting(it) if it.since.saturating_add(policy.patience) <= now => {
                if !(under_way && self.covered()) {
                    return self.reject(ticket);
                }
                self.restart_patience(now, ticket);
            }
            State::Waiting(Waiting { turn: Turn::Paused(until), .. }) if *until <= now => {
                self.unpause(ticket);
            }
            State::Running(it) if it.heard_at.saturating_add(stall_after) <= now => {
                return self.lost(now, ticket);
            }
            _ => {}
        }
        let request = self.requests.get_mut(&ticket).expect("it was not rejected");
        self.deadlines.arm(ticket, request, &self.config);
    }
}

/// Puts a request where it waits for its turn.
fn queue_up(queue: &mut FairQueue<u64>, ticket: u64, request: &Request) -> Place {
    queue.put(request.priority, request.tenant, request.arrived_us, ticket)
}
