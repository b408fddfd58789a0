//! When blocks, time or turns are short.

use thalweg_wire::CurvePoint;

use super::*;
use crate::policy::{Growth, Pacing, Prefill};

/// On demand, without anything left free.
const TIGHT: StagePolicy =
    StagePolicy { growth: Growth::OnDemand { headroom: 0.0 }, ..Pack::THALWEG.stage };

/// Opens with another header.
fn opened(event: Event, change: impl FnOnce(&mut Open)) -> Event {
    let Event::Open { from, mut open, tokens } = event else { panic!("an open") };
    change(&mut open);
    Event::Open { from, open, tokens }
}

/// A host that holds all layers, `columns` columns of them, and decodes 8 requests together.
fn small(columns: u32, policy: StagePolicy) -> Rig {
    with_pace(columns, policy, Pace { batch_max: 8, ..PACE }, Profile::default())
}

fn with_pace(columns: u32, policy: StagePolicy, pace: Pace, profile: Profile) -> Rig {
    let mut rig = Rig::with(0, 8, policy);
    let epoch = Epoch(1);
    assert_eq!(rig.on(Event::Retire { epoch }), [Effect::Retired { epoch }]);
    let (layers, first, last) = (layers(0, 8), true, true);
    let kv_blocks = columns * 8;
    let loaded = Loaded { epoch, layers, kv_blocks, pace, profile, first, last };
    assert_eq!(rig.on(Event::Loaded(loaded)), []);
    rig
}

/// Counters of the requests of the step.
fn in_step(effects: &[Effect], rig: &Rig) -> Vec<u64> {
    assert!(!step(effects).is_empty());
    let parts = &rig.stage.flight.as_ref().expect("a step runs").parts;
    parts.iter().map(|it| it.request.counter).collect()
}

#[test]
fn the_youngest_of_the_least_important_gives_way() {
    let mut rig = small(4, TIGHT);
    rig.on(opened(open(1, &ALONE, 15, 49), |it| it.priority = 50));
    for counter in 2..=4 {
        rig.on(open(counter, &ALONE, 15, 49));
    }
    let mut effects = rig.on(Event::StepFailed);
    assert_eq!(refusals(&effects), [(id(1), Refusal::Gap)]);
    rig.on(opened(open(1, &ALONE, 15, 49), |it| (it.attempt, it.priority) = (Attempt(1), 50)));
    // All four hold a column; each needs another for its second token.
    let mut given_way = Vec::new();
    while rig.stage.requests() > 1 {
        effects = rig.step_done(&effects, 5);
        given_way.extend(refusals(&effects));
    }
    let expected = [1, 4, 3].map(|it| (id(it), Refusal::Preempted));
    assert_eq!(given_way, expected);
    assert_eq!(rig.stage.counters().preemptions, 3);
    assert_eq!(in_step(&effects, &rig), [2], "the oldest goes on to its end");
    while rig.stage.requests() > 0 {
        effects = rig.step_done(&effects, 5);
        assert_eq!(refusals(&effects), []);
    }
    assert_eq!(sent_tokens(&effects), [(GATEWAY, 63, 5, Some(Finish::Length))]);
}

#[test]
fn without_preemption_whoever_needs_a_block_gives_way() {
    let mut rig = small(2, StagePolicy { preemption: false, ..TIGHT });
    let mut effects = rig.on(open(1, &ALONE, 16, 8));
    rig.on(open(2, &ALONE, 8, 8));
    effects = rig.step_done(&effects, 5);
    assert_eq!(refusals(&effects), [(id(1), Refusal::Preempted)]);
    assert_eq!(in_step(&effects, &rig), [2]);
}

#[test]
fn a_request_opens_only_beside_headroom() {
    let growth = Growth::OnDemand { headroom: 0.25 };
    let mut rig = small(8, StagePolicy { growth, ..Pack::THALWEG.stage });
    rig.on(open(1, &ALONE, 64, 8));
    assert_eq!(refusals(&rig.on(open(2, &ALONE, 33, 8))), [(id(2), Refusal::NoRoom)]);
    assert_eq!(refusals(&rig.on(open(3, &ALONE, 32, 8))), []);
    let mut rig = small(8, StagePolicy { growth, ..Pack::THALWEG.stage });
    assert_eq!(refusals(&rig.on(open(1, &ALONE, 120, 8))), [], "alone it may have all");
    let mut rig = small(8, StagePolicy { growth: Growth::WorstCase, ..Pack::THALWEG.stage });
    rig.on(open(1, &ALONE, 1, 96));
    assert_eq!(refusals(&rig.on(open(2, &ALONE, 1, 32))), [(id(2), Refusal::NoRoom)]);
}

#[test]
fn a_claimed_prefix_is_not_computed_again() {
    let mut rig = small(8, TIGHT);
    let effects = rig.on(open(1, &ALONE, 32, 2));
    let effects = rig.step_done(&effects, 5);
    rig.step_done(&effects, 5);
    assert_eq!(rig.stage.requests(), 0);
    let effects = rig.on(opened(open(2, &ALONE, 40, 2), |it| it.cached_tokens = 32));
    assert_eq!(rows_of(&effects), [(32, 8)]);
    let counters = rig.stage.counters();
    assert_eq!((counters.prefix_queried_tokens, counters.prefix_hit_tokens), (72, 32));
    // A claim of all but the last token: its column is written again, so it must not be shared.
    rig.on(opened(open(3, &ALONE, 32, 2), |it| it.cached_tokens = 31));
    let effects = rig.step_done(&effects, 5);
    assert_eq!(rows_of(&effects), [(40, 1), (31, 1)]);
    let copies: Vec<usize> = step(&effects).iter().map(|it| it.copies.len()).collect();
    assert_eq!(copies, [0, 8], "a block of each layer");

    for (counter, cached, tenant) in [(4, 16, 1), (5, 33, 0), (6, 40, 0)] {
        let claim = |it: &mut Open| (it.cached_tokens, it.tenant) = (cached, tenant);
        let refused = refusals(&rig.on(opened(open(counter, &ALONE, 40, 2), claim)));
        assert_eq!(refused, [(id(counter), Refusal::PrefixGone)], "{cached} of tenant {tenant}");
    }
}

#[test]
fn only_what_is_computed_can_be_claimed() {
    let mut rig = small(40, TIGHT);
    let effects = rig.on(open(1, &ALONE, 150, 2));
    let claim =
        |counter, cached| opened(open(counter, &ALONE, 150, 2), |it| it.cached_tokens = cached);
    assert_eq!(refusals(&rig.on(claim(2, 16))), [(id(2), Refusal::PrefixGone)], "it only runs");
    rig.step_done(&effects, 5);
    assert_eq!(
        refusals(&rig.on(claim(3, 144))),
        [(id(3), Refusal::PrefixGone)],
        "128 are computed"
    );
    assert_eq!(refusals(&rig.on(claim(4, 128))), []);
}

#[test]
fn later_stages_start_behind_the_prefix_too() {
    let mut rig = Rig::new(4, 8);
    rig.on(open(1, &LAST, 20, 4));
    let rows = rig.rows(0, 20, true);
    let effects = rig.on(rows);
    rig.step_done(&effects, 5);
    rig.on(release(1, 0));
    let again = |it: &mut Open| (it.attempt, it.cached_tokens) = (Attempt(1), 16);
    assert_eq!(rig.on(opened(open(1, &LAST, 20, 4), again)), []);
    let mut rows = rig.rows(16, 4, true);
    if let Event::Activations { activations, .. } = &mut rows {
        activations.attempt = Attempt(1);
    }
    let effects = rig.on(rows);
    assert_eq!(step(&effects)[0].first_position, 16);
}

#[test]
fn chunks_are_cut_to_the_time_of_a_step() {
    let point = |tokens, seconds| CurvePoint { tokens, seconds };
    // 8 layers: 0.8 ms per prompt token, 4 ms per decode row.
    let profile =
        Profile { prefill: vec![point(10, 1e-3)], decode: vec![point(1, 5e-4)], head_seconds: 0.0 };
    let pace = Pace {
        batch_max: 8,
        chunk_tokens: 100,
        step_us: 48_000,
        requests_max: 0,
        micro_batches: 0,
    };
    let mut rig = with_pace(40, TIGHT, pace, profile);
    let mut effects = rig.on(open(1, &ALONE, 30, 60));
    rig.on(open(2, &ALONE, 200, 4));
    effects = rig.step_done(&effects, 5);
    assert_eq!(rows_of(&effects), [(30, 1), (0, 55)], "44 ms are left beside one row");
    for counter in 3..=12 {
        rig.on(open(counter, &ALONE, 1, 60));
    }
    effects = rig.step_done(&effects, 5);
    assert_eq!(rows_of(&effects)[1], (55, 55), "older than the prompts that came since");
    let whole = StagePolicy { prefill: Prefill::Whole, ..TIGHT };
    let mut rig = with_pace(40, whole, pace, Profile::default());
    let effects = rig.on(open(1, &ALONE, 200, 60));
    assert_eq!(rows_of(&effects), [(0, 200)]);
    for counter in 2..=4 {
        rig.on(open(counter, &ALONE, 60, 4));
    }
    let effects = rig.step_done(&effects, 5);
    assert_eq!(rows_of(&effects), [(200, 1), (0, 60)], "a second would be above the bound");
}

#[test]
fn pacing_follows_the_requests_that_decode() {
    let mut rig = Rig::with(4, 8, TIGHT);
    rig.on(Event::Kept { epoch: Epoch(2), from: Epoch(1), pace: Pace { batch_max: 8, ..PACE } });
    // Ten requests over two stages, with a slack of a quarter: 6.25, rounded up.
    let shard = rig.stage.shards.held_mut(Epoch(1));
    shard.decode_share = 10 * (1 << 31);
    assert_eq!(shard.decode_max(TIGHT.pacing), 7);
    assert_eq!(shard.decode_max(Pacing::Unbounded), 8);
    shard.decode_share = 1 << 20;
    assert_eq!(shard.decode_max(TIGHT.pacing), 1);
    shard.decode_share = 100 << 32;
    assert_eq!(shard.decode_max(TIGHT.pacing), 8, "never above the plan's");
    shard.decode_share = 0;
}

#[test]
fn as_many_requests_as_the_plan_says() {
    let pace = Pace { requests_max: 1, ..PACE };
    let mut rig = with_pace(8, TIGHT, pace, Profile::default());
    rig.on(open(1, &ALONE, 3, 2));
    assert_eq!(refusals(&rig.on(open(2, &ALONE, 3, 2))), [(id(2), Refusal::NoRoom)]);
    rig.on(release(1, 0));
    let again = opened(open(2, &ALONE, 3, 2), |it| it.attempt = Attempt(1));
    assert_eq!(refusals(&rig.on(again)), []);
}

#[test]
fn one_that_finds_no_room_is_not_passed_for_ever() {
    let mut rig = small(8, TIGHT);
    rig.on(open(2, &ALONE, 40, 80));
    let long = |attempt| opened(open(1, &ALONE, 100, 8), |it| it.attempt = Attempt(attempt));
    let short = |counter| open(counter, &ALONE, 8, 8);
    for attempt in 0..3 {
        assert_eq!(refusals(&rig.on(short(3 + u64::from(attempt)))), [], "there is room for short");
        rig.on(release(3 + u64::from(attempt), 0));
        assert_eq!(refusals(&rig.on(long(attempt))), [(id(1), Refusal::NoRoom)]);
    }
    assert_eq!(refusals(&rig.on(short(9))), [(id(9), Refusal::NoRoom)], "kept for the older one");
    rig.on(release(2, 0));
    assert_eq!(refusals(&rig.on(long(3))), [], "it is free now");
    assert_eq!(refusals(&rig.on(short(10))), [], "and the claim is over");
}

#[test]
fn a_claim_on_room_ends_if_nobody_comes() {
    let mut rig = small(8, TIGHT);
    rig.on(open(2, &ALONE, 40, 80));
    for attempt in 0..3 {
        rig.on(opened(open(1, &ALONE, 100, 8), |it| it.attempt = Attempt(attempt)));
    }
    assert_eq!(refusals(&rig.at(1, open(3, &ALONE, 8, 8))), [(id(3), Refusal::NoRoom)]);
    assert_eq!(refusals(&rig.at(2, open(4, &ALONE, 8, 8))), []);
}

#[test]
fn a_flood_of_important_prompts_stops_nobody_for_ever() {
    let pace = Pace { batch_max: 8, chunk_tokens: 16, ..PACE };
    let mut rig = with_pace(60, TIGHT, pace, Profile::default());
    let mut effects = rig.on(open(1, &ALONE, 16, 1));
    for counter in 2..=4 {
        rig.on(opened(open(counter, &ALONE, 16, 1), |it| it.priority = 200));
    }
    rig.on(opened(open(5, &ALONE, 16, 1), |it| it.priority = 0));
    let mut steps = 0;
    while !in_step(&effects, &rig).contains(&5) {
        steps += 1;
        // Three wait before it: it is its turn within four times that, and its own four.
        assert!(steps <= 16, "it waits and waits");
        for nth in 0..2 {
            let counter = 100 + 2 * steps + nth;
            rig.on(opened(open(counter, &ALONE, 16, 1), |it| it.priority = 200));
        }
        effects = rig.step_done(&effects, 5);
    }
    assert!(steps > 2, "the important went first");
}

#[test]
fn important_prompts_go_first_and_tenants_take_turns() {
    let pace = Pace { batch_max: 8, chunk_tokens: 16, ..PACE };
    let mut rig = with_pace(40, TIGHT, pace, Profile::default());
    let effects = rig.on(open(1, &ALONE, 16, 1));
    for (counter, priority, tenant) in [(2, 100, 1), (3, 100, 1), (4, 100, 2), (5, 200, 1)] {
        let header = |it: &mut Open| (it.priority, it.tenant) = (priority, tenant);
        rig.on(opened(open(counter, &ALONE, 16, 1), header));
    }
    let mut order = Vec::new();
    let mut effects = rig.step_done(&effects, 5);
    while rig.stage.requests() > 0 {
        order.extend(in_step(&effects, &rig));
        effects = rig.step_done(&effects, 5);
    }
    assert_eq!(order, [5, 2, 3, 4], "the fourth turn is of whoever waits longest");
}
