use std::time::Duration;

use thalweg_core::policy::Pack;
use thalweg_core::{conductor, gateway, liveness, stage};
use thalweg_wire::{
    Assignment, Attempt, Bytes, Candidate, DType, End, Epoch, HostId, LayerRange, ModelId,
    ModelShape, Open, Plan, Profile, RequestId, Route, Sampling, Token, Weight,
};

use super::*;

const ME: HostId = HostId(7);
const OTHER: HostId = HostId(8);
const LAYERS: u32 = 4;
const PROMPT: [u32; 20] = [9; 20];

fn setup(tokens_kept: bool) -> Setup {
    let (context_tokens, pack) = (256, Pack::THALWEG);
    let seconds = Duration::from_secs;
    let stage = stage::Config {
        me: ME,
        context_tokens,
        hidden: 8,
        dtype: DType::F32,
        idle_after: seconds(180),
        policy: pack.stage,
    };
    let gateway = gateway::Config {
        me: ME,
        incarnation: 5,
        context_tokens,
        stall_after: seconds(60),
        policy: pack.gateway,
    };
    let liveness = liveness::Config { suspect_after: seconds(1), dead_after: seconds(3) };
    let conductor = conductor::Config {
        me: ME,
        incarnation: 5,
        shape: ModelShape {
            model: ModelId([7; 32]),
            name: "small".into(),
            layers: LAYERS,
            hidden: 8,
            layer_bytes: vec![Bytes::mib(1); LAYERS as usize],
            embedding_bytes: Bytes::mib(1),
            head_bytes: Bytes::mib(1),
            kv_bytes_per_token_layer: Bytes(64),
            context_tokens,
        },
        hosts_expected: 1,
        settle: seconds(1),
        grace: seconds(30),
        retry: seconds(2),
    };
    let version = "0.0.0".into();
    Setup { version, started_us: 1, tokens_kept, stage, gateway, liveness, conductor }
}

/// A host of which only the machines are real.
struct Host {
    setup: Setup,
    stage: Stage,
    gateway: Gateway,
    liveness: Liveness,
    conductor: Conductor,
    journal: Vec<Record>,
}

impl Host {
    fn new() -> Self {
        let setup = setup(true);
        Self {
            stage: Stage::new(setup.stage),
            gateway: Gateway::new(setup.gateway),
            liveness: Liveness::new(setup.liveness),
            conductor: Conductor::new(setup.conductor.clone()),
            setup,
            journal: Vec::new(),
        }
    }

    /// What a host hears that serves one request, and of another host that falls silent.
    fn served() -> Self {
        let mut host = Self::new();
        host.liveness(0, Some(liveness::Event::Heartbeat(OTHER)));
        host.conductor(
            0,
            Some(conductor::Event::Leadership { leader: Some(ME), term: 1, mine: true }),
        );
        host.stage(1, Some(stage::Event::Loaded(loaded())));
        host.gateway(1, Some(gateway::Event::Plan(plan())));
        host.gateway(1, Some(gateway::Event::HostUp(ME)));
        let sampling = Sampling { temperature: 0.0, max_tokens: 2, ..Sampling::default() };
        let (prompt, priority) = (PROMPT.to_vec(), Open::PRIORITY_DEFAULT);
        let submit = gateway::Event::Submit {
            ticket: 3,
            prompt,
            sampling: sampling.clone(),
            priority,
            tenant: 0,
        };
        host.gateway(10, Some(submit));
        let route = Route::new(vec![thalweg_wire::Hop { host: ME, layers: layers() }]);
        let open = Open {
            request: request(),
            attempt: Attempt::default(),
            epoch: Epoch(1),
            route: route.expect("one hop"),
            sampling,
            prompt_tokens: PROMPT.len() as u32,
            arrived_us: 5,
            priority,
            tenant: 0,
            cached_tokens: 0,
        };
        host.stage(11, Some(stage::Event::Open { from: ME, open, tokens: PROMPT.to_vec() }));
        for (at, position) in [(20, 20), (30, 21)] {
            let sampled = Candidate { token: position, logprob: 0.0 };
            let outputs = vec![stage::StepOutput::Sampled { sampled, top: Vec::new() }];
            host.stage(at, Some(stage::Event::StepDone { outputs }));
            host.gateway(at, Some(gateway::Event::Token(token(position))));
        }
        host.liveness(1100, None);
        host.liveness(3100, None);
        host.conductor(3100, None);
        host.journal.push(Record::Closed);
        host
    }

    fn stage(&mut self, at_ms: u64, event: Option<stage::Event>) {
        hear(&mut self.stage, &mut self.journal, at_ms, event);
    }

    fn gateway(&mut self, at_ms: u64, event: Option<gateway::Event>) {
        hear(&mut self.gateway, &mut self.journal, at_ms, event);
    }

    fn liveness(&mut self, at_ms: u64, event: Option<liveness::Event>) {
        hear(&mut self.liveness, &mut self.journal, at_ms, event);
    }

    fn conductor(&mut self, at_ms: u64, event: Option<conductor::Event>) {
        hear(&mut self.conductor, &mut self.journal, at_ms, event);
    }
}

fn hear<M: Recorded>(
    machine: &mut M,
    journal: &mut Vec<Record>,
    at_ms: u64,
    event: Option<M::Event>,
) {
    let at = Duration::from_millis(at_ms);
    let what = event.clone().map_or(What::Timeout, What::Event);
    journal.push(M::record(Seen { at, what }));
    match event {
        Some(event) => machine.handle(at, event),
        None => machine.handle_timeout(at),
    }
    let mut did = Did::NOTHING;
    while let Some(effect) = machine.poll_effect() {
        did.push(&effect);
    }
    journal.push(Record::Did(M::PART, did));
}

fn layers() -> LayerRange {
    LayerRange::new(0, LAYERS).expect("there are layers")
}

const fn request() -> RequestId {
    RequestId { gateway: ME, incarnation: 5, counter: 3 }
}

fn token(position: u32) -> Token {
    Token {
        request: request(),
        attempt: Attempt::default(),
        position,
        sampled: Candidate { token: position, logprob: 0.0 },
        top: Vec::new(),
        finish: (position == 21).then_some(thalweg_wire::Finish::Length),
    }
}

fn assignment() -> Assignment {
    Assignment {
        host: ME,
        layers: layers(),
        kv_tokens: 1024,
        batch_max: 4,
        chunk_tokens: 128,
        step_us: 0,
        requests_max: 0,
        micro_batches: 0,
    }
}

fn loaded() -> stage::Loaded {
    stage::Loaded {
        epoch: Epoch(1),
        layers: layers(),
        kv_blocks: 64 * LAYERS,
        pace: stage::Pace::from(&assignment()),
        profile: Profile::default(),
        first: true,
        last: true,
    }
}

fn plan() -> Plan {
    let weight = |from| Weight { from, to: End::Host(ME), tokens_per_second: 1.0 };
    Plan {
        epoch: Epoch(1),
        term: 1,
        model: ModelId([7; 32]),
        layers: LAYERS,
        weights: vec![weight(End::Source)],
        assignments: vec![assignment()],
        flow: 1.0,
        bound: 1.0,
        bottleneck: String::new(),
    }
}

/// Replays what went through the codec, as a file does.
fn replay(setup: &Setup, journal: &[Record]) -> Result<Outcome, ReplayError> {
    let mut replay = Replay::new(coded(setup))?;
    for record in journal {
        if replay.feed(coded(record))?.is_break() {
            break;
        }
    }
    Ok(replay.outcome())
}

fn coded<T: serde::Serialize + serde::de::DeserializeOwned>(it: &T) -> T {
    thalweg_wire::decode(&thalweg_wire::encode(it).expect("small")).expect("just encoded")
}

#[test]
fn what_a_host_did_is_done_again() {
    let host = Host::served();
    let outcome = replay(&host.setup, &host.journal).expect("a host wrote it");
    assert_eq!(outcome.trouble, None);
    assert!(outcome.closed);
    assert!((outcome.seconds - 3.1).abs() < 1e-9, "{}", outcome.seconds);
    let counts = |it: &Replayed| (it.machine, it.replayed, it.compared, it.skipped);
    let counts: Vec<_> = outcome.machines.iter().map(counts).collect();
    let expected = [
        (Part::Stage, 4, 4, 0),
        (Part::Gateway, 5, 5, 0),
        (Part::Liveness, 3, 3, 0),
        (Part::Conductor, 2, 2, 0),
    ];
    assert_eq!(counts, expected);
    assert_eq!(outcome.events, 14);
    // The script is worth replaying only if it makes the machines do something.
    let effects = host.journal.iter().map(|it| match it {
        Record::Did(_, did) => did.effects,
        _ => 0,
    });
    assert!(effects.sum::<u32>() >= 12);
}

#[test]
fn a_changed_event_is_found_at_its_number() {
    let mut host = Host::served();
    let open = host.journal.iter_mut().find_map(|it| match it {
        Record::Stage(Seen { what: What::Event(stage::Event::Open { tokens, .. }), .. }) => {
            Some(tokens)
        }
        _ => None,
    });
    open.expect("the script has one")[3] = 77;
    let outcome = replay(&host.setup, &host.journal).expect("in order");
    let Some(Trouble::Diverged { sequence, part, event, host, replay, .. }) = outcome.trouble
    else {
        panic!("{outcome:?}");
    };
    assert_eq!((sequence, part), (6, Part::Stage));
    assert!(event.contains("77") && host.effects == replay.effects, "{event}");
    assert!(host.digest != replay.digest && !outcome.closed);
}

#[test]
fn a_change_of_what_was_set_up_is_found() {
    let mut host = Host::served();
    host.setup.liveness.suspect_after = Duration::from_millis(1200);
    let outcome = replay(&host.setup, &host.journal).expect("in order");
    let Some(Trouble::Diverged { part, host, replay, .. }) = outcome.trouble else {
        panic!("{outcome:?}");
    };
    assert_eq!((part, host.effects, replay.effects), (Part::Liveness, 1, 0));
}

#[test]
fn a_machine_that_cannot_go_on_is_an_answer() {
    let mut host = Host::served();
    host.journal.pop();
    let (at, what) = (Duration::from_secs(4), What::Event(stage::Event::StepFailed));
    host.journal.push(Record::Stage(Seen { at, what }));
    let outcome = replay(&host.setup, &host.journal).expect("in order");
    let Some(Trouble::Violated { sequence, part, message, .. }) = outcome.trouble else {
        panic!("{outcome:?}");
    };
    assert_eq!((sequence, part), (14, Part::Stage));
    assert!(message.contains("a step ends once"), "{message}");
}

#[test]
fn without_token_ids_those_who_see_them_are_left_out() {
    let host = Host::served();
    let outcome = replay(&setup(false), &host.journal).expect("in order");
    assert_eq!(outcome.trouble, None);
    let [stage, gateway, liveness, conductor] = outcome.machines[..] else { panic!("four") };
    assert_eq!((stage.skip, stage.replayed, stage.skipped), (Some(Skip::NoTokens), 0, 4));
    assert_eq!((gateway.skip, gateway.replayed), (Some(Skip::NoTokens), 0));
    assert_eq!((liveness.compared, conductor.compared), (3, 2));
}

#[test]
fn after_a_gap_only_that_machine_is_left_out() {
    let mut host = Host::served();
    let at = host.journal.iter().position(|it| matches!(it, Record::Gateway(_)));
    let at = at.expect("the script has one");
    let Record::Gateway(seen) = &mut host.journal[at] else { panic!("just found") };
    seen.what = What::TooLarge;
    let outcome = replay(&host.setup, &host.journal).expect("in order");
    assert_eq!(outcome.trouble, None);
    let gateway = outcome.machines[1];
    assert_eq!(gateway.skip, Some(Skip::TooLarge { sequence: 3 }));
    assert_eq!((gateway.replayed, gateway.skipped, outcome.machines[0].compared), (0, 5, 4));
}

#[test]
fn records_out_of_order_are_refused() {
    let host = Host::served();
    let mut swapped = host.journal.clone();
    swapped.swap(0, 1);
    let part = Part::Liveness;
    let refused = replay(&host.setup, &swapped);
    assert_eq!(refused, Err(ReplayError::OfNothing { sequence: 0, part }));

    let mut unsettled = host.journal.clone();
    unsettled.retain(|it| !matches!(it, Record::Did(Part::Liveness, _)));
    let refused = replay(&host.setup, &unsettled);
    assert_eq!(refused, Err(ReplayError::Unsettled { sequence: 11, part }));

    let mut late = host.journal.clone();
    let Record::Liveness(seen) = &mut late[0] else { panic!("the script begins so") };
    seen.at = Duration::from_secs(9);
    let refused = replay(&host.setup, &late).expect_err("backwards");
    assert!(matches!(refused, ReplayError::Backwards { sequence: 11, .. }), "{refused}");

    let mut beyond = host.journal.clone();
    beyond.push(Record::Closed);
    assert_eq!(replay(&host.setup, &beyond), Err(ReplayError::AfterEnd { sequence: 14 }));

    let mut setup = host.setup;
    setup.liveness.dead_after = Duration::ZERO;
    assert!(matches!(replay(&setup, &[]), Err(ReplayError::Patience { .. })));
}
