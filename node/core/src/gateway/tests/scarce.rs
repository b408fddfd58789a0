//! When room, routes or turns are short.

use super::*;

fn load(host: HostId, kv_free_tokens: u64) -> Event {
    Event::Load { host, kv_free_tokens, requests: 0, queue_us: 0 }
}

/// The header of the only open among `effects`.
fn opened(effects: &[Effect]) -> &Open {
    let mut opens = effects.iter().filter_map(|effect| match effect {
        Effect::SendOpen { open, .. } => Some(open),
        _ => None,
    });
    let open = opens.next().expect("a request is opened");
    assert_eq!(opens.next(), None, "two opens");
    open
}

fn asked(ticket: u64, prompt: Vec<u32>, priority: u8, tenant: u64) -> Event {
    let sampling = Sampling { max_tokens: 4, ..Sampling::default() };
    Event::Submit { ticket, prompt, sampling, priority, tenant }
}

fn prompt(tokens: u32) -> Vec<u32> {
    (0..tokens).collect()
}

#[test]
fn a_preempted_request_goes_on_from_its_tokens() {
    let mut gateway = gateway();
    let first = on(&mut gateway, 7, submit(1));
    assert_eq!(opened(&first).arrived_us, 7005, "incarnation and time since the start");
    on(&mut gateway, 8, token(1, 0, 2, None));
    let effects = on(&mut gateway, 9, refuse(1, 0, Refusal::Preempted));
    assert_eq!(effects, released(1, 0, &[ME, B]));
    assert_eq!(gateway.counters().preempted, 1);
    let effects = timeout(&mut gateway, 29);
    assert_eq!(opens(&effects), [(1, C, 3)]);
    assert_eq!(opened(&effects).arrived_us, 7005, "it is as old as before");
    assert_eq!(gateway.counters().failovers, 0, "no host was lost");
}

#[test]
fn what_a_route_computed_is_claimed_on_it() {
    let mut gateway = gateway();
    assert_eq!(opened(&on(&mut gateway, 0, asked(1, prompt(40), 100, 3))).cached_tokens, 0);
    assert_eq!(opened(&on(&mut gateway, 0, asked(2, prompt(40), 100, 3))).cached_tokens, 0);
    on(&mut gateway, 1, token(1, 0, 40, None));
    // Four requests in a row may take the route that holds the prefix.
    let effects = on(&mut gateway, 2, asked(3, prompt(40), 100, 3));
    assert_eq!((opened(&effects).cached_tokens, opened(&effects).route.last().host), (32, B));
    let effects = on(&mut gateway, 2, asked(4, prompt(32), 100, 3));
    assert_eq!(opened(&effects).cached_tokens, 31, "the last token is always computed");
    let effects = on(&mut gateway, 2, asked(5, prompt(40), 100, 4));
    assert_eq!(opened(&effects).cached_tokens, 0, "another tenant's");

    on(&mut gateway, 3, token(2, 0, 40, None));
    let effects = on(&mut gateway, 3, refuse(3, 0, Refusal::PrefixGone));
    let open = opened(&effects);
    assert_eq!((open.attempt, open.cached_tokens), (Attempt(1), 0), "at once, without a claim");
    let effects = on(&mut gateway, 4, asked(6, prompt(40), 100, 3));
    let held_by = (opened(&effects).cached_tokens, opened(&effects).route.last().host);
    assert_eq!(held_by, (32, C), "of B nobody believes it any more");
}

#[test]
fn an_answer_on_two_stages_is_part_of_the_prefix() {
    let mut gateway = gateway();
    on(&mut gateway, 0, asked(1, prompt(30), 100, 0));
    for position in 30..33 {
        on(&mut gateway, 1, token(1, 0, position, None));
    }
    on(&mut gateway, 2, token(1, 0, 33, Some(Finish::Stop)));
    let next: Vec<u32> = prompt(30).into_iter().chain([300, 310, 320, 7, 8, 9]).collect();
    assert_eq!(opened(&on(&mut gateway, 3, asked(2, next, 100, 0))).cached_tokens, 32);
}

#[test]
fn a_held_prefix_needs_no_room() {
    let mut gateway = gateway();
    on(&mut gateway, 0, Event::HostDown(C));
    on(&mut gateway, 0, asked(1, prompt(40), 100, 0));
    on(&mut gateway, 1, token(1, 0, 40, None));
    on(&mut gateway, 2, load(B, 16));
    assert_eq!(opens(&on(&mut gateway, 3, asked(2, (50..90).collect(), 100, 0))), []);
    on(&mut gateway, 4, Event::Cancel { ticket: 2 });
    on(&mut gateway, 5, load(B, 16));
    assert_eq!(opens(&on(&mut gateway, 6, asked(3, prompt(40), 100, 0))).len(), 1);
}

#[test]
fn what_was_under_way_waits_for_room_but_not_for_hosts() {
    let mut gateway = gateway();
    for ticket in 1..=2 {
        on(&mut gateway, 0, submit(ticket));
        on(
            &mut gateway,
            1,
            refuse(ticket, 0, [Refusal::NoRoom, Refusal::Preempted][ticket as usize - 1]),
        );
    }
    for host in [B, C] {
        on(&mut gateway, 2, load(host, 0));
    }
    timeout(&mut gateway, 21);
    assert_eq!(gateway.waiting(), 2);
    let effects = timeout(&mut gateway, 30_001);
    assert_eq!(rejection(&effects), OVERLOADED);
    assert_eq!((effects.len(), gateway.waiting()), (1, 1), "only the one that never began");
    on(&mut gateway, 30_002, Event::HostDown(B));
    on(&mut gateway, 30_002, Event::HostSuspect(C));
    assert_eq!(rejection(&timeout(&mut gateway, 60_001)), OVERLOADED, "nobody holds the end");
}

#[test]
fn busy_and_full_hosts_are_not_used() {
    let mut config = config();
    config.policy.queue_max = Duration::from_millis(500);
    let mut gateway = Gateway::new(config);
    let Event::Plan(mut plan) = halves(1) else { panic!("a plan") };
    plan.assignments.iter_mut().for_each(|it| it.requests_max = 2);
    for event in [Event::HostUp(B), Event::HostUp(C), Event::Plan(plan)] {
        on(&mut gateway, 0, event);
    }
    let busy =
        |host, requests, queue_us| Event::Load { host, kv_free_tokens: 1000, requests, queue_us };
    on(&mut gateway, 0, busy(B, 0, 500_001));
    assert_eq!(opens(&on(&mut gateway, 1, submit(1))), [(0, C, 2)]);
    on(&mut gateway, 2, busy(C, 2, 0));
    assert_eq!(opens(&on(&mut gateway, 3, submit(2))), [], "C has as many as it may");
    assert_eq!(opens(&on(&mut gateway, 4, busy(B, 0, 500_000))), [(0, B, 2)]);
    assert_eq!(opens(&on(&mut gateway, 5, submit(3))), [], "this host counts for itself");
}

#[test]
fn the_important_go_first_and_tenants_take_turns() {
    let mut config = config();
    config.policy.waiting_max = 9;
    let mut gateway = Gateway::new(config);
    on(&mut gateway, 0, halves(1));
    for (ticket, priority, tenant) in [(1, 100, 7), (2, 100, 7), (3, 100, 8), (4, 101, 7)] {
        assert_eq!(on(&mut gateway, ticket, asked(ticket, prompt(2), priority, tenant)), []);
    }
    let effects = on(&mut gateway, 9, Event::HostUp(B));
    let order: Vec<u64> = effects
        .iter()
        .map(|effect| match effect {
            Effect::SendOpen { open, .. } => open.request.counter,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(order, [4, 1, 3, 2]);
}
