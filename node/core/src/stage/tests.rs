use std::collections::BTreeSet;

use thalweg_wire::{Candidate, Finish, Hop, Open, Phase, Profile, Release, Route, Sampling};

use super::*;
use crate::fixture::layers;
use crate::policy::Pack;

mod groups;
mod random;
mod scarce;

const ME: HostId = HostId(1);
const GATEWAY: HostId = HostId(8);
const OTHER: HostId = HostId(2);

/// A stage and the tensors its host keeps.
struct Rig {
    stage: Stage,
    tensors: BTreeSet<TensorId>,
    tensors_made: u64,
}

impl Rig {
    /// A host that holds `first..end` of 8 layers, 16 columns, and decodes 2 requests together.
    fn new(first: u32, end: u32) -> Self {
        Self::with(first, end, Pack::THALWEG.stage)
    }

    fn with(first: u32, end: u32, policy: StagePolicy) -> Self {
        let stage = Stage::new(Config {
            me: ME,
            context_tokens: 400,
            hidden: 4,
            dtype: DType::F32,
            idle_after: Duration::from_secs(60),
            policy,
        });
        let mut rig = Self { stage, tensors: BTreeSet::new(), tensors_made: 0 };
        assert_eq!(rig.on(loaded(1, first, end)), []);
        rig
    }

    fn on(&mut self, event: Event) -> Vec<Effect> {
        self.at(0, event)
    }

    /// Handles an event and returns the effects; keeps the books on tensors.
    fn at(&mut self, second: u64, event: Event) -> Vec<Effect> {
        self.stage.handle(Duration::from_secs(second), event);
        self.drain()
    }

    fn drain(&mut self) -> Vec<Effect> {
        let effects: Vec<_> = std::iter::from_fn(|| self.stage.poll_effect()).collect();
        for effect in &effects {
            match effect {
                Effect::Drop(tensor) | Effect::SendActivations { tensor, .. } => {
                    assert!(self.tensors.remove(tensor), "{tensor:?} was given up twice");
                }
                Effect::Step(items) => {
                    for item in items {
                        if let StepInput::Tensor(tensor) = item.input {
                            assert!(self.tensors.remove(&tensor), "{tensor:?} was used twice");
                        }
                    }
                }
                _ => {}
            }
        }
        effects
    }

    fn tensor(&mut self) -> TensorId {
        self.tensors_made += 1;
        let tensor = TensorId(self.tensors_made);
        self.tensors.insert(tensor);
        tensor
    }

    fn rows(&mut self, first_position: u32, count: u32, sample: bool) -> Event {
        let tensor = self.tensor();
        let phase = if count > 1 { Phase::Prefill } else { Phase::Decode };
        let activations = Activations {
            request: id(1),
            attempt: Attempt(0),
            first_position,
            count,
            hidden: 4,
            dtype: DType::F32,
            phase,
            sample,
            step: first_position,
            step_frames: 1,
        };
        Event::Activations { from: OTHER, activations, tensor }
    }

    /// Ends the step that `effects` started, sampling `token` wherever one is wanted.
    fn step_done(&mut self, effects: &[Effect], token: u32) -> Vec<Effect> {
        let outputs = step(effects)
            .iter()
            .map(|item| match item.want {
                Want::Rows => StepOutput::Rows(self.tensor()),
                Want::Nothing => StepOutput::Nothing,
                Want::Sample { .. } => {
                    StepOutput::Sampled { sampled: candidate(token), top: vec![] }
                }
            })
            .collect();
        self.on(Event::StepDone { outputs })
    }
}

const PACE: Pace =
    Pace { batch_max: 2, chunk_tokens: 128, step_us: 0, requests_max: 0, micro_batches: 0 };

fn loaded(epoch: u64, first: u32, end: u32) -> Event {
    Event::Loaded(Loaded {
        epoch: Epoch(epoch),
        layers: layers(first, end),
        kv_blocks: 16 * (end - first),
        pace: PACE,
        profile: Profile::default(),
        first: first == 0,
        last: end == 8,
    })
}

fn candidate(token: u32) -> Candidate {
    Candidate { token, logprob: 0.0 }
}

fn id(counter: u64) -> RequestId {
    RequestId { gateway: GATEWAY, incarnation: 1, counter }
}

fn route(hops: &[(HostId, u32, u32)]) -> Route {
    let hop = |&(host, first, end)| Hop { host, layers: layers(first, end) };
    Route::new(hops.iter().map(hop).collect()).expect("contiguous")
}

fn open(counter: u64, hops: &[(HostId, u32, u32)], prompt: u32, max_tokens: u32) -> Event {
    let route = route(hops);
    let at = route.index_of(ME).unwrap_or(0);
    let from = if at == 0 { GATEWAY } else { route.hops()[at - 1].host };
    let sampling = Sampling { max_tokens, stop_tokens: vec![99], ..Sampling::default() };
    let open = Open {
        request: id(counter),
        attempt: Attempt(0),
        epoch: Epoch(1),
        route,
        sampling,
        prompt_tokens: prompt,
        arrived_us: counter,
        priority: Open::PRIORITY_DEFAULT,
        tenant: 0,
        cached_tokens: 0,
    };
    Event::Open { from, open, tokens: (0..prompt).collect() }
}

fn token(position: u32, finish: Option<Finish>) -> Event {
    let sampled = candidate(7);
    let (request, attempt) = (id(1), Attempt(0));
    Event::Token(Token { request, attempt, position, sampled, top: vec![], finish })
}

fn release(counter: u64, attempt: u32) -> Event {
    Event::Release(Release { request: id(counter), attempt: Attempt(attempt) })
}

/// The items of the only step among `effects`.
fn step(effects: &[Effect]) -> &[StepItem] {
    let mut steps = effects.iter().filter_map(|effect| match effect {
        Effect::Step(items) => Some(items),
        _ => None,
    });
    let items = steps.next().expect("a step was started");
    assert_eq!(steps.next(), None, "two steps at once");
    items
}

/// Position and number of tokens of every item of the step.
fn rows_of(effects: &[Effect]) -> Vec<(u32, usize)> {
    let count = |item: &StepItem| match &item.input {
        StepInput::Tokens(tokens) => tokens.len(),
        StepInput::Tensor(_) => 0,
    };
    step(effects).iter().map(|item| (item.first_position, count(item))).collect()
}

fn sent_tokens(effects: &[Effect]) -> Vec<(HostId, u32, u32, Option<Finish>)> {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::SendToken { to, token } => {
            Some((*to, token.position, token.sampled.token, token.finish))
        }
        _ => None,
    });
    sent.collect()
}

fn refusals(effects: &[Effect]) -> Vec<(RequestId, Refusal)> {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::SendRefuse { to, refuse } => {
            assert_eq!(*to, refuse.request.gateway);
            Some((refuse.request, refuse.reason))
        }
        _ => None,
    });
    sent.collect()
}

const ALONE: [(HostId, u32, u32); 1] = [(ME, 0, 8)];
const FIRST: [(HostId, u32, u32); 2] = [(ME, 0, 4), (OTHER, 4, 8)];
const LAST: [(HostId, u32, u32); 2] = [(OTHER, 0, 4), (ME, 4, 8)];

#[test]
fn a_single_stage_feeds_itself_until_the_last_token() {
    let mut rig = Rig::new(0, 8);
    let effects = rig.on(open(1, &ALONE, 3, 2));
    let [item] = step(&effects) else { panic!("one request") };
    assert_eq!(item.input, StepInput::Tokens(vec![0, 1, 2]));
    assert_eq!(item.blocks.len(), 8, "3 tokens need one column of 8 layers");
    assert!(
        matches!(&item.want, Want::Sample { history, prompt_tokens: 3, .. } if history.len() == 3)
    );

    let effects = rig.step_done(&effects, 41);
    assert_eq!(sent_tokens(&effects), [(GATEWAY, 3, 41, None)]);
    let [item] = step(&effects) else { panic!("one request") };
    assert_eq!((item.first_position, &item.input), (3, &StepInput::Tokens(vec![41])));
    assert_eq!(rig.on(token(3, None)), [], "its own token, looped back, is known");

    let effects = rig.step_done(&effects, 42);
    assert_eq!(sent_tokens(&effects), [(GATEWAY, 4, 42, Some(Finish::Length))]);
    assert_eq!(rig.stage.kv_free_tokens(), 256);
    assert_eq!(rig.on(release(1, 0)), []);
}

#[test]
fn a_stop_token_and_the_context_end_a_request() {
    let mut rig = Rig::new(0, 8);
    let effects = rig.on(open(1, &ALONE, 3, 200));
    let effects = rig.step_done(&effects, 99);
    assert_eq!(sent_tokens(&effects), [(GATEWAY, 3, 99, Some(Finish::Stop))]);

    let mut rig = Rig::new(0, 8);
    rig.stage.config.context_tokens = 4;
    let effects = rig.on(open(1, &ALONE, 3, 200));
    let effects = rig.step_done(&effects, 5);
    assert_eq!(sent_tokens(&effects), [(GATEWAY, 3, 5, Some(Finish::Length))]);
}

#[test]
fn the_first_stage_cuts_long_prompts_and_waits_for_tokens() {
    let mut rig = Rig::new(0, 4);
    let mut effects = rig.on(open(1, &FIRST, 200, 4));
    assert!(
        matches!(&effects[0], Effect::SendOpen { to: OTHER, tokens, .. } if tokens.len() == 200)
    );
    let mut chunks = Vec::new();
    for _ in 0..2 {
        chunks.extend(rows_of(&effects));
        effects = rig.step_done(&effects, 0);
        let Effect::SendActivations { to: OTHER, activations, .. } = &effects[0] else {
            panic!("rows go on")
        };
        let sampled = activations.first_position + activations.count == 200;
        assert_eq!((activations.sample, activations.phase), (sampled, Phase::Prefill));
    }
    assert_eq!(chunks, [(0, 128), (128, 72)]);
    assert_eq!(effects.len(), 1, "nothing to do before the token comes");

    let effects = rig.on(token(200, None));
    assert_eq!(rows_of(&effects), [(200, 1)]);
    let effects = rig.step_done(&effects, 0);
    assert!(matches!(
        &effects[..],
        [Effect::SendActivations {
            activations: Activations { phase: Phase::Decode, sample: true, .. },
            ..
        }]
    ));
    assert_eq!(rig.on(token(200, None)), [], "known");
    assert_eq!(refusals(&rig.on(token(203, None))), [(id(1), Refusal::Gap)]);
    assert_eq!(rig.stage.requests(), 0);
}

#[test]
fn the_last_stage_samples_for_gateway_and_first_stage() {
    let mut rig = Rig::new(4, 8);
    assert_eq!(rig.on(open(1, &LAST, 20, 4)), []);
    let rows = rig.rows(0, 16, false);
    let effects = rig.on(rows);
    assert_eq!(step(&effects)[0].want, Want::Nothing);
    let rows = rig.rows(16, 4, true);
    assert_eq!(rig.on(rows), [], "a step runs");
    let effects = rig.step_done(&effects, 0);
    assert!(matches!(step(&effects)[0].want, Want::Sample { .. }));
    let effects = rig.step_done(&effects, 5);
    assert_eq!(sent_tokens(&effects), [(OTHER, 20, 5, None), (GATEWAY, 20, 5, None)]);
    let rows = rig.rows(20, 1, true);
    let effects = rig.on(rows);
    let effects = rig.step_done(&effects, 99);
    assert_eq!(sent_tokens(&effects), [(GATEWAY, 21, 99, Some(Finish::Stop))]);
    assert!(rig.tensors.is_empty());
}

#[test]
fn duplicates_are_dropped_and_gaps_refused() {
    let mut rig = Rig::new(4, 8);
    rig.on(open(1, &LAST, 20, 4));
    let rows = rig.rows(0, 16, false);
    rig.on(rows);
    let rows = rig.rows(0, 16, false);
    assert!(matches!(rig.on(rows)[..], [Effect::Drop(_)]));
    let rows = rig.rows(17, 3, true);
    let effects = rig.on(rows);
    assert_eq!(refusals(&effects), [(id(1), Refusal::Gap)]);
    assert_eq!(rig.stage.kv_free_tokens(), 256, "free while the step still runs");
    let rows = rig.rows(20, 1, true);
    assert!(matches!(rig.on(rows)[..], [Effect::Drop(_)]), "the request ended: no second refusal");
    assert_eq!(rig.on(Event::StepDone { outputs: vec![StepOutput::Nothing] }), []);
    assert!(rig.tensors.is_empty());
}

#[test]
fn rows_of_an_unknown_request_are_refused() {
    let mut rig = Rig::new(4, 8);
    let rows = rig.rows(0, 16, false);
    let effects = rig.on(rows);
    assert!(matches!(effects[0], Effect::Drop(_)));
    assert_eq!(refusals(&effects), [(id(1), Refusal::Gap)]);
}

#[test]
fn a_release_may_overtake_the_open() {
    let mut rig = Rig::new(4, 8);
    assert_eq!(rig.on(release(1, 0)), []);
    assert_eq!(rig.on(open(1, &LAST, 20, 4)), []);
    assert_eq!(rig.stage.requests(), 0);
}

#[test]
fn a_newer_attempt_takes_the_place_of_the_older() {
    let mut rig = Rig::new(0, 4);
    let effects = rig.on(open(1, &FIRST, 20, 4));
    let Event::Open { from, mut open, tokens } = open(1, &FIRST, 20, 4) else { unreachable!() };
    open.attempt = Attempt(1);
    let second = rig.on(Event::Open { from, open, tokens });
    assert!(matches!(second[..], [Effect::SendOpen { .. }]));
    let effects = rig.step_done(&effects, 0);
    assert!(matches!(effects[0], Effect::Drop(_)), "rows of the older attempt");
    assert_eq!(rows_of(&effects), [(0, 20)]);
    assert_eq!(rig.on(token(20, None)), [], "a token of the older attempt");
    assert_eq!(rig.on(release(1, 0)), []);
    assert_eq!(rig.stage.requests(), 1, "the release was of the older attempt");
}

#[test]
fn refusals_say_why() {
    let mut rig = Rig::new(0, 8);
    let wrong = [(ME, 0, 4), (OTHER, 4, 8)];
    let cases = [
        (open(1, &ALONE, 10, 247), Refusal::NoRoom),
        (open(2, &[(OTHER, 0, 8)], 3, 2), Refusal::WrongLayers),
        (open(3, &[(ME, 0, 7)], 3, 2), Refusal::WrongLayers),
    ];
    for (counter, (event, reason)) in (1..).zip(cases) {
        assert_eq!(refusals(&rig.on(event)), [(id(counter), reason)]);
    }
    assert_eq!(refusals(&rig.on(open(4, &wrong, 3, 2))), [], "a part of its layers will do");
    rig.on(Event::Retire { epoch: Epoch(1) });
    assert_eq!(refusals(&rig.on(open(5, &ALONE, 3, 2))), [(id(5), Refusal::StaleEpoch)]);
}

#[test]
fn decode_goes_first_up_to_the_pacing_bound() {
    let mut rig = Rig::new(0, 8);
    let mut effects = rig.on(open(1, &ALONE, 8, 16));
    for counter in 2..=4 {
        assert_eq!(rig.on(open(counter, &ALONE, 8, 16)), []);
    }
    effects = rig.step_done(&effects, 5);
    // Request 1 decodes beside the prompts of the others; then two of four decode at a time.
    assert_eq!(rows_of(&effects), [(8, 1), (0, 8), (0, 8), (0, 8)]);
    effects = rig.step_done(&effects, 5);
    assert_eq!(rows_of(&effects), [(9, 1), (8, 1)]);
    effects = rig.step_done(&effects, 5);
    assert_eq!(rows_of(&effects), [(8, 1), (8, 1)]);
    assert_eq!(rig.on(open(5, &ALONE, 120, 5)), []);
    effects = rig.step_done(&effects, 5);
    assert_eq!(rows_of(&effects), [(10, 1), (9, 1), (0, 120)], "a long prompt stops nobody");
}

#[test]
fn retired_layers_go_once_their_requests_end() {
    let mut rig = Rig::new(0, 8);
    let effects = rig.on(open(1, &ALONE, 3, 8));
    assert_eq!(rig.on(loaded(2, 0, 8)), []);
    assert_eq!(rig.on(Event::Kept { epoch: Epoch(3), from: Epoch(1), pace: PACE }), []);
    assert_eq!(rig.on(Event::Retire { epoch: Epoch(1) }), [], "epoch 3 uses them");
    assert_eq!(rig.on(Event::Retire { epoch: Epoch(3) }), [], "a request uses them");
    assert_eq!(rig.on(release(1, 0)), [], "a step uses them");
    let effects = rig.step_done(&effects, 5);
    assert_eq!(effects, [Effect::Retired { epoch: Epoch(1) }]);
    let effects = rig.on(Event::Retire { epoch: Epoch(2) });
    assert_eq!(effects, [Effect::Retired { epoch: Epoch(2) }]);
}

#[test]
fn a_lost_host_frees_its_requests() {
    let mut rig = Rig::new(0, 4);
    let effects = rig.on(open(1, &FIRST, 3, 8));
    assert_eq!(rig.on(Event::HostDown(HostId(5))), []);
    assert_eq!(rig.on(Event::HostDown(ME)), [], "nobody gives itself up");
    assert_eq!(refusals(&rig.on(Event::HostDown(OTHER))), [(id(1), Refusal::Gap)]);
    rig.on(open(2, &FIRST, 3, 8));
    assert_eq!(rig.on(Event::HostDown(GATEWAY)), [], "nobody is left to be told");
    assert!(matches!(rig.step_done(&effects, 0)[..], [Effect::Drop(_)]));
    assert_eq!(rig.stage.kv_free_tokens(), 256);
}

#[test]
fn a_failed_step_is_refused_and_an_idle_request_is_freed() {
    let mut rig = Rig::new(0, 8);
    rig.on(open(1, &ALONE, 3, 8));
    assert_eq!(refusals(&rig.on(Event::StepFailed)), [(id(1), Refusal::Gap)]);

    let mut rig = Rig::new(4, 8);
    rig.at(5, open(1, &LAST, 20, 4));
    assert_eq!(rig.stage.next_timeout(), Some(Duration::from_secs(65)));
    rig.stage.handle_timeout(Duration::from_secs(64));
    assert_eq!(rig.drain(), []);
    rig.stage.handle_timeout(Duration::from_secs(65));
    assert_eq!(refusals(&rig.drain()), [(id(1), Refusal::Gap)]);
    assert_eq!(rig.stage.next_timeout(), None);
}
