use std::collections::BTreeMap;

use proptest::prelude::*;
use thalweg_wire::Finish;

use super::*;
use crate::stage::request::Rank;

/// Something that may happen, sensible or not.
#[derive(Clone, Debug)]
enum Act {
    Open { counter: u64, attempt: u32, hops: usize, prompt: u32, max_tokens: u32, claim: u32 },
    Rows { counter: u64, attempt: u32, first_position: u32, count: u32, sample: bool, phase: Phase },
    Token { counter: u64, attempt: u32, position: u32, finish: bool },
    Release { counter: u64, attempt: u32 },
    StepDone { token: u32 },
    StepFailed,
    HostDown(u64),
    Kept,
    Retire,
}

fn any_act() -> impl Strategy<Value = Act> {
    let request = || (1_u64..5, 0_u32..3);
    prop_oneof![
        4 => (
            request(),
            0_usize..4,
            prop::sample::select(vec![1, 16, 32, 33, 80, 149]),
            1_u32..40,
            prop::sample::select(vec![0, 0, 15, 16, 31, 32, 64, 79]),
        )
            .prop_map(|((counter, attempt), hops, prompt, max_tokens, claim)| Act::Open {
                counter, attempt, hops, prompt, max_tokens, claim,
            }),
        6 => (
            request(),
            prop::sample::select(vec![0, 16, 128, 150]),
            0_u32..150,
            any::<bool>(),
            prop::sample::select(vec![Phase::Prefill, Phase::Prefill, Phase::Decode]),
        )
            .prop_map(|((counter, attempt), first_position, count, sample, phase)| Act::Rows {
                counter, attempt, first_position, count, sample, phase,
            }),
        4 => (request(), 1_u32..160, any::<bool>()).prop_map(
            |((counter, attempt), position, finish)| Act::Token {
                counter, attempt, position, finish,
            }
        ),
        2 => request().prop_map(|(counter, attempt)| Act::Release { counter, attempt }),
        8 => (90_u32..100).prop_map(|token| Act::StepDone { token }),
        1 => Just(Act::StepFailed),
        1 => (2_u64..9).prop_map(Act::HostDown),
        1 => Just(Act::Kept),
        1 => Just(Act::Retire),
    ]
}

impl Rig {
    /// Plays one act. `running` is the step that runs, if one does.
    fn play(&mut self, act: Act, running: &mut Vec<Effect>) {
        let before: BTreeMap<RequestId, Rank> =
            self.stage.requests.iter().map(|(_, it)| (it.id, it.rank)).collect();
        let routes: [&[_]; 4] = [&ALONE, &FIRST, &LAST, &[(OTHER, 0, 3), (ME, 3, 8)]];
        let effects = match act {
            Act::Open { counter, attempt, hops, prompt, max_tokens, claim } => {
                let mut event = open(counter, routes[hops], prompt, max_tokens);
                if let Event::Open { open, .. } = &mut event {
                    open.attempt = Attempt(attempt);
                    open.cached_tokens = claim;
                    open.priority = counter as u8 % 2;
                    open.tenant = counter / 3;
                }
                self.on(event)
            }
            Act::Rows { counter, attempt, first_position, count, sample, phase } => {
                let mut event = self.rows(first_position, count, sample);
                if let Event::Activations { activations, .. } = &mut event {
                    activations.request = id(counter);
                    activations.attempt = Attempt(attempt);
                    activations.phase = phase;
                }
                self.on(event)
            }
            Act::Token { counter, attempt, position, finish } => {
                let mut event = token(position, finish.then_some(Finish::Stop));
                if let Event::Token(token) = &mut event {
                    token.request = id(counter);
                    token.attempt = Attempt(attempt);
                }
                self.on(event)
            }
            Act::Release { counter, attempt } => self.on(release(counter, attempt)),
            Act::StepDone { token } if !running.is_empty() => {
                let step = std::mem::take(running);
                self.step_done(&step, token)
            }
            Act::StepFailed if !running.is_empty() => {
                running.clear();
                self.on(Event::StepFailed)
            }
            Act::StepDone { .. } | Act::StepFailed => Vec::new(),
            Act::HostDown(host) => self.on(Event::HostDown(HostId(host))),
            Act::Kept => self.on(Event::Kept { epoch: Epoch(1), from: Epoch(2), pace: PACE }),
            Act::Retire => self.on(Event::Retire { epoch: Epoch(1) }),
        };
        for (id, reason) in refusals(&effects) {
            let first = before.values().min() == before.get(&id);
            assert!(reason != Refusal::Preempted || !first, "the first of all gave way");
        }
        if effects.iter().any(|it| matches!(it, Effect::Step(_))) {
            assert!(running.is_empty(), "two steps at once");
            *running = effects;
        }
    }
}

proptest! {
    /// Whatever arrives in whatever order: the invariants hold after each event, and once all
    /// requests are released every block is free and every tensor was given up once.
    #[test]
    fn nothing_leaks(acts in prop::collection::vec(any_act(), 0..120)) {
        let mut rig = Rig::new(0, 8);
        rig.on(Event::Kept { epoch: Epoch(2), from: Epoch(1), pace: PACE });
        let mut running = Vec::new();
        for act in acts {
            rig.play(act, &mut running);
        }
        (1..5).for_each(|counter| rig.play(Act::Release { counter, attempt: 9 }, &mut running));
        rig.play(Act::StepDone { token: 0 }, &mut running);
        prop_assert_eq!(rig.stage.requests(), 0);
        prop_assert_eq!(rig.stage.kv_free_tokens(), 256);
        prop_assert!(rig.tensors.is_empty(), "{:?} leaked", rig.tensors);
        prop_assert!(running.is_empty());
    }
}
