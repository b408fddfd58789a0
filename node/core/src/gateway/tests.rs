use std::time::Duration;

use thalweg_wire::{Attempt, Candidate, Finish, HostId, Open, Refusal, Refuse, Sampling};

use super::*;
use crate::fixture::plan;
use crate::policy::{GatewayPolicy, Growth, Pack};

mod random;
mod scarce;

const ME: HostId = HostId(1);
const B: HostId = HostId(2);
const C: HostId = HostId(3);

fn config() -> Config {
    Config {
        me: ME,
        incarnation: 5,
        context_tokens: 100,
        stall_after: Duration::from_secs(60),
        policy: GatewayPolicy {
            waiting_max: 2,
            patience: Duration::from_secs(30),
            retry_after: Duration::from_secs(1),
            growth: Growth::OnDemand { headroom: 0.0 },
            ..Pack::THALWEG.gateway
        },
    }
}

/// First half on this host, second half on B or C.
fn halves(epoch: u64) -> Event {
    Event::Plan(plan(epoch, 1, &[(ME, 0, 4), (B, 4, 8), (C, 4, 8)]))
}

/// A gateway with a plan and all hosts up.
fn gateway() -> Gateway {
    let mut gateway = Gateway::new(config());
    for event in [Event::HostUp(B), Event::HostUp(C), halves(1)] {
        assert_eq!(on(&mut gateway, 0, event), []);
    }
    gateway
}

/// Handles an event at a time in milliseconds.
fn on(gateway: &mut Gateway, ms: u64, event: Event) -> Vec<Effect> {
    gateway.handle(Duration::from_millis(ms), event);
    std::iter::from_fn(|| gateway.poll_effect()).collect()
}

fn timeout(gateway: &mut Gateway, ms: u64) -> Vec<Effect> {
    gateway.handle_timeout(Duration::from_millis(ms));
    std::iter::from_fn(|| gateway.poll_effect()).collect()
}

fn submit(ticket: u64) -> Event {
    let sampling = Sampling { max_tokens: 4, ..Sampling::default() };
    Event::Submit {
        ticket,
        prompt: vec![10, 11],
        sampling,
        priority: Open::PRIORITY_DEFAULT,
        tenant: 0,
    }
}

fn request(ticket: u64) -> RequestId {
    RequestId { gateway: ME, incarnation: 5, counter: ticket }
}

fn candidate(token: u32) -> Candidate {
    Candidate { token, logprob: 0.0 }
}

fn token(ticket: u64, attempt: u32, position: u32, finish: Option<Finish>) -> Event {
    Event::Token(Token {
        request: request(ticket),
        attempt: Attempt(attempt),
        position,
        sampled: candidate(position * 10),
        top: vec![],
        finish,
    })
}

fn refuse(ticket: u64, attempt: u32, reason: Refusal) -> Event {
    Event::Refuse(Refuse { request: request(ticket), attempt: Attempt(attempt), reason })
}

fn emit(ticket: u64, position: u32, finish: Option<Finish>) -> Effect {
    Effect::Emit { ticket, sampled: candidate(position * 10), top: vec![], finish }
}

fn released(ticket: u64, attempt: u32, hosts: &[HostId]) -> Vec<Effect> {
    let release = Release { request: request(ticket), attempt: Attempt(attempt) };
    hosts.iter().map(|&to| Effect::SendRelease { to, release }).collect()
}

/// Attempt, last host and number of tokens of every open among `effects`.
fn opens(effects: &[Effect]) -> Vec<(u32, HostId, usize)> {
    let opens = effects.iter().filter_map(|effect| match effect {
        Effect::SendOpen { to, open, tokens } => {
            assert_eq!(*to, open.route.first().host);
            Some((open.attempt.0, open.route.last().host, tokens.len()))
        }
        _ => None,
    });
    opens.collect()
}

fn rejection(effects: &[Effect]) -> Option<Rejection> {
    effects.iter().find_map(|effect| match effect {
        Effect::Reject { reason, .. } => Some(*reason),
        _ => None,
    })
}

const OVERLOADED: Option<Rejection> =
    Some(Rejection::Overloaded { retry_after: Duration::from_secs(1) });

#[test]
fn tokens_are_told_once_and_in_order() {
    let mut gateway = gateway();
    assert_eq!(opens(&on(&mut gateway, 0, submit(1))), [(0, B, 2)]);
    assert_eq!(on(&mut gateway, 1, token(1, 0, 2, None)), [emit(1, 2, None)]);
    assert_eq!(on(&mut gateway, 2, token(1, 0, 2, None)), [], "known");
    assert_eq!(on(&mut gateway, 2, token(1, 7, 3, None)), [], "of no attempt of ours");
    assert_eq!(on(&mut gateway, 2, token(9, 0, 3, None)), [], "of no request of ours");
    let effects = on(&mut gateway, 3, token(1, 0, 3, Some(Finish::Stop)));
    assert_eq!(effects[0], emit(1, 3, Some(Finish::Stop)));
    assert_eq!(effects[1..], released(1, 0, &[ME, B]));
    assert_eq!(on(&mut gateway, 4, token(1, 0, 4, None)), [], "over");
    assert_eq!(gateway.next_timeout(), None);
}

#[test]
fn a_lost_host_means_a_replay_of_the_tokens_so_far() {
    let mut gateway = gateway();
    on(&mut gateway, 0, submit(1));
    on(&mut gateway, 1, token(1, 0, 2, None));
    let effects = on(&mut gateway, 2, Event::HostDown(B));
    assert_eq!(effects[..1], released(1, 0, &[ME]));
    assert_eq!(opens(&effects), [(1, C, 3)]);
    assert_eq!(on(&mut gateway, 3, token(1, 0, 3, None)), [], "of the older attempt");
    assert_eq!(on(&mut gateway, 3, token(1, 1, 3, None)), [emit(1, 3, None)]);
}

#[test]
fn requests_wait_for_a_plan_that_covers_the_model() {
    let mut gateway = gateway();
    on(&mut gateway, 0, submit(1));
    on(&mut gateway, 1, Event::HostDown(C));
    let effects = on(&mut gateway, 2, Event::HostDown(B));
    assert_eq!(opens(&effects), []);
    assert_eq!(gateway.waiting(), 1);
    assert_eq!(on(&mut gateway, 3, Event::Plan(plan(1, 1, &[(ME, 0, 8)]))), [], "not newer");
    let effects = on(&mut gateway, 4, Event::Plan(plan(2, 1, &[(ME, 0, 8)])));
    assert_eq!(opens(&effects), [(1, ME, 2)]);
}

#[test]
fn a_suspect_keeps_its_work_but_gets_no_more() {
    let mut gateway = gateway();
    on(&mut gateway, 0, submit(1));
    assert_eq!(on(&mut gateway, 1, Event::HostSuspect(B)), []);
    for ticket in 2..5 {
        assert_eq!(opens(&on(&mut gateway, 2, submit(ticket)))[0].1, C);
    }
    assert_eq!(on(&mut gateway, 3, token(1, 0, 2, None)).len(), 1);
}

#[test]
fn nobody_gives_itself_up() {
    let mut gateway = gateway();
    on(&mut gateway, 0, submit(1));
    assert_eq!(on(&mut gateway, 1, Event::HostSuspect(ME)), []);
    assert_eq!(on(&mut gateway, 2, Event::HostDown(ME)), []);
    assert_eq!(opens(&on(&mut gateway, 3, submit(2))).len(), 1);
    assert_eq!(gateway.running(), 2);
}

#[test]
fn a_refused_request_pauses_and_tries_again_at_once_when_room_is_freed() {
    let mut gateway = gateway();
    on(&mut gateway, 0, submit(1));
    on(&mut gateway, 0, submit(2));
    let effects = on(&mut gateway, 10, refuse(2, 0, Refusal::NoRoom));
    assert_eq!(effects, released(2, 0, &[ME, C]));
    assert_eq!(gateway.next_timeout(), Some(Duration::from_millis(30)));
    assert_eq!(on(&mut gateway, 11, refuse(2, 0, Refusal::NoRoom)), [], "said before");
    assert_eq!(opens(&timeout(&mut gateway, 30)).len(), 1);
    on(&mut gateway, 31, refuse(2, 1, Refusal::NoRoom));
    let effects = on(&mut gateway, 32, Event::Cancel { ticket: 1 });
    assert_eq!(effects[..2], released(1, 0, &[ME, B]));
    assert_eq!(opens(&effects)[0].0, 2, "third attempt of request 2");
}

#[test]
fn room_told_by_hosts_is_respected() {
    let mut gateway = gateway();
    let load =
        |host, kv_free_tokens| Event::Load { host, kv_free_tokens, requests: 0, queue_us: 0 };
    on(&mut gateway, 0, load(B, 16));
    on(&mut gateway, 0, load(C, 8));
    assert_eq!(opens(&on(&mut gateway, 1, submit(1))), [(0, B, 2)]);
    assert_eq!(on(&mut gateway, 1, submit(2)), [], "B is counted as full");
    assert_eq!(opens(&on(&mut gateway, 2, load(C, 32))), [(0, C, 2)]);
}

#[test]
fn too_many_and_too_patient_requests_are_rejected() {
    let mut gateway = gateway();
    on(&mut gateway, 0, Event::HostSuspect(B));
    on(&mut gateway, 0, Event::HostDown(C));
    assert_eq!(on(&mut gateway, 0, submit(1)), []);
    assert_eq!(on(&mut gateway, 1, submit(2)), []);
    assert_eq!(rejection(&on(&mut gateway, 2, submit(3))), OVERLOADED);
    assert_eq!(gateway.next_timeout(), Some(Duration::from_secs(30)));
    assert_eq!(rejection(&timeout(&mut gateway, 30_000)), OVERLOADED);
    assert_eq!((gateway.waiting(), gateway.running()), (1, 0));
}

#[test]
fn impossible_requests_are_rejected_with_the_numbers() {
    let mut gateway = Gateway::new(config());
    assert_eq!(rejection(&on(&mut gateway, 0, submit(1))), Some(Rejection::NoPlan));
    on(&mut gateway, 0, halves(1));
    let long = |ticket, count| Event::Submit {
        ticket,
        prompt: vec![1; count],
        sampling: Sampling::default(),
        priority: Open::PRIORITY_DEFAULT,
        tenant: 0,
    };
    let effects = on(&mut gateway, 0, long(2, 100));
    let too_long = Rejection::TooLong { prompt_tokens: 100, context_tokens: 100 };
    assert_eq!(rejection(&effects), Some(too_long));
    assert_eq!(rejection(&on(&mut gateway, 0, long(3, 0))), Some(Rejection::EmptyPrompt));
    on(&mut gateway, 0, Event::HostUp(B));
    let effects = on(&mut gateway, 0, long(4, 90));
    let Effect::SendOpen { open, .. } = &effects[0] else { panic!("it fits") };
    assert_eq!(open.sampling.max_tokens, 10, "lowered to the context");
}

#[test]
fn a_silent_route_is_replayed_and_finally_given_up() {
    let mut gateway = gateway();
    on(&mut gateway, 0, submit(1));
    let mut attempts = 0;
    while let Some(deadline) = gateway.next_timeout() {
        gateway.handle_timeout(deadline);
        assert!(gateway.next_timeout().is_none_or(|next| next > deadline));
        let effects: Vec<_> = std::iter::from_fn(|| gateway.poll_effect()).collect();
        attempts += opens(&effects).len();
        if gateway.next_timeout().is_none() {
            assert_eq!(rejection(&effects), OVERLOADED);
        }
    }
    assert_eq!(attempts, 8);
}
