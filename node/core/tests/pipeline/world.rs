//! Hosts, a network that delays but keeps the order of each stream, and virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use thalweg_core::gateway::{self, Gateway};
use thalweg_core::machine::{Machine, Time};
use thalweg_core::policy::{GatewayPolicy, Pack};
use thalweg_core::stage::{self, Loaded, Pace, Stage, StepItem};
use thalweg_wire::{
    Assignment, Class, DType, End, Epoch, Finish, HostId, LayerRange, Message, ModelId, Open, Plan,
    Profile, Sampling, Weight,
};

use crate::engine::Engine;

const GATEWAY: HostId = HostId(0);
const LAYERS: u32 = 8;
/// Few enough that requests have to wait for room.
const COLUMNS: u32 = 40;

/// What goes wrong beside delays.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub frames_lost_per_thousand: u64,
    pub steps_failed_per_thousand: u64,
}

/// A cluster in one loop.
pub struct World {
    now: Time,
    random: fastrand::Rng,
    faults: Faults,
    gateway: Gateway,
    hosts: BTreeMap<HostId, Host>,
    /// What happens next, by time and order of its making.
    agenda: BTreeMap<(Time, u64), Happening>,
    happenings: u64,
    /// Whether hosts will tell their room.
    beats: bool,
    /// When the latest frame of a stream arrives: streams keep their order.
    streams_busy: BTreeMap<(HostId, HostId, Class), Time>,
    /// Blocks per layer of a host.
    columns: u32,
    plan: Plan,
    clients: BTreeMap<u64, Client>,
    /// Opens of a second or later attempt.
    pub replays: usize,
}

struct Host {
    stage: Stage,
    engine: Engine,
    shards: BTreeSet<Epoch>,
}

#[derive(Default)]
struct Client {
    tokens: Vec<u32>,
    finish: Option<Finish>,
}

enum Happening {
    Frame {
        from: HostId,
        to: HostId,
        message: Message,
        tokens: Vec<u32>,
        rows: Vec<u64>,
    },
    Step {
        host: HostId,
        items: Vec<StepItem>,
    },
    Stage {
        host: HostId,
        event: stage::Event,
    },
    Gateway(gateway::Event),
    /// Every host tells its room.
    Beat,
}

impl World {
    pub fn new(seed: u64, faults: Faults) -> Self {
        let gateway = Gateway::new(gateway::Config {
            me: GATEWAY,
            incarnation: 1,
            context_tokens: 512,
            stall_after: Duration::from_secs(60),
            policy: GatewayPolicy {
                waiting_max: 100,
                patience: Duration::from_secs(10_000),
                ..Pack::THALWEG.gateway
            },
        });
        Self {
            now: Time::ZERO,
            random: fastrand::Rng::with_seed(seed ^ 0xface),
            faults,
            gateway,
            hosts: BTreeMap::new(),
            agenda: BTreeMap::new(),
            happenings: 0,
            beats: false,
            streams_busy: BTreeMap::new(),
            columns: COLUMNS,
            plan: plan(0, 0, &[]),
            clients: BTreeMap::new(),
            replays: 0,
        }
    }

    /// Gives every host that loads from now on room for `columns` columns of its layers.
    pub fn columns(&mut self, columns: u32) {
        self.columns = columns;
    }

    fn random(&mut self, range: Range<u64>) -> u64 {
        self.random.u64(range)
    }

    /// Loads a plan's layers, then brings it into effect, host by host and in any order.
    pub fn load(&mut self, epoch: u64, stages: &[(HostId, LayerRange)]) {
        for &(id, layers) in stages {
            self.gateway.handle(self.now, gateway::Event::HostUp(id));
            let host = self.hosts.entry(id).or_insert_with(|| host(id));
            host.shards.insert(Epoch(epoch));
            let loaded = Loaded {
                epoch: Epoch(epoch),
                layers,
                kv_blocks: self.columns * layers.count(),
                pace: pace(3),
                profile: Profile::default(),
                first: layers.first() == 0,
                last: layers.end() == LAYERS,
            };
            host.stage.handle(self.now, stage::Event::Loaded(loaded));
        }
        self.activate(plan(epoch, self.columns, stages));
    }

    /// Brings a plan into effect whose layers the hosts that are left already hold.
    pub fn keep(&mut self, epoch: u64, from: u64) {
        let left = self.plan.assignments.iter().filter(|it| self.hosts.contains_key(&it.host));
        let stages: Vec<_> = left.map(|it| (it.host, it.layers)).collect();
        for (id, _) in &stages {
            let (epoch, from) = (Epoch(epoch), Epoch(from));
            let kept = stage::Event::Kept { epoch, from, pace: pace(2) };
            self.hosts.get_mut(id).expect("filtered").stage.handle(self.now, kept);
        }
        self.activate(plan(epoch, self.columns, &stages));
    }

    fn activate(&mut self, plan: Plan) {
        let before = std::mem::replace(&mut self.plan, plan.clone());
        if before.epoch == Epoch(0) {
            return self.gateway.handle(self.now, gateway::Event::Plan(plan));
        }
        self.later(Happening::Gateway(gateway::Event::Plan(plan)));
        let ids: Vec<HostId> = self.hosts.keys().copied().collect();
        for host in ids {
            let event = stage::Event::Retire { epoch: before.epoch };
            self.later(Happening::Stage { host, event });
        }
    }

    /// Ends a host; the others notice a while later.
    pub fn kill(&mut self, dead: HostId) {
        self.hosts.remove(&dead).expect("it lives");
        self.later(Happening::Gateway(gateway::Event::HostDown(dead)));
        let ids: Vec<HostId> = self.hosts.keys().copied().collect();
        for host in ids {
            self.later(Happening::Stage { host, event: stage::Event::HostDown(dead) });
        }
    }

    pub fn submit(&mut self, ticket: u64, prompt: Vec<u32>, sampling: Sampling) {
        self.clients.insert(ticket, Client::default());
        let priority = Open::PRIORITY_DEFAULT + self.random(0..2) as u8;
        let tenant = self.random(0..2);
        let submit = gateway::Event::Submit { ticket, prompt, sampling, priority, tenant };
        self.later(Happening::Gateway(submit));
    }

    pub fn cancel(&mut self, ticket: u64) {
        self.later(Happening::Gateway(gateway::Event::Cancel { ticket }));
    }

    /// What the client of a ticket read.
    pub fn stream(&self, ticket: u64) -> &[u32] {
        &self.clients[&ticket].tokens
    }

    /// What all stages that live counted.
    pub fn counted(&self) -> stage::Counters {
        let all = self.hosts.values().map(|it| it.stage.counters());
        all.fold(stage::Counters::default(), |sum, it| stage::Counters {
            preemptions: sum.preemptions + it.preemptions,
            prefix_queried_tokens: sum.prefix_queried_tokens + it.prefix_queried_tokens,
            prefix_hit_tokens: sum.prefix_hit_tokens + it.prefix_hit_tokens,
        })
    }

    pub fn shards_held(&self) -> usize {
        self.hosts.values().map(|it| it.shards.len()).sum()
    }

    /// Asserts that nobody holds anything of a request.
    pub fn assert_empty(&self) {
        assert_eq!((self.gateway.waiting(), self.gateway.running()), (0, 0));
        for (id, host) in &self.hosts {
            assert_eq!(host.stage.requests(), 0, "requests on host {id}");
            assert_eq!(host.engine.tensors(), 0, "tensors on host {id}");
        }
    }

    /// Runs until nothing is left to happen.
    pub fn run(&mut self) {
        self.run_until(Duration::MAX);
    }

    /// Runs for a quarter of a second at most.
    pub fn run_a_while(&mut self) {
        let time = Duration::from_millis(self.random(0..250));
        self.run_until(self.now + time);
    }

    fn run_until(&mut self, end: Time) {
        self.settle();
        loop {
            if !self.beats && self.gateway.waiting() > 0 {
                self.beats = true;
                self.put(self.now + Duration::from_millis(200), Happening::Beat);
            }
            let next = self.agenda.first_key_value().map(|(&(at, _), _)| at);
            let timers = self.hosts.values().filter_map(|it| it.stage.next_timeout());
            let timer = timers.chain(self.gateway.next_timeout()).min();
            let Some(at) = next.into_iter().chain(timer).min().filter(|&at| at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            if next == Some(at) {
                let (_, happening) = self.agenda.pop_first().expect("just seen");
                self.happen(happening);
            } else {
                self.gateway.handle_timeout(self.now);
                self.hosts.values_mut().for_each(|it| it.stage.handle_timeout(self.now));
            }
            self.settle();
        }
        if end != Duration::MAX {
            self.now = end;
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Frame { from, to, message, tokens, rows } => {
                self.deliver(from, to, message, tokens, rows);
            }
            Happening::Gateway(event) => self.gateway.handle(self.now, event),
            Happening::Beat => self.beat(),
            Happening::Stage { host, event } => self.tell(host, event),
            Happening::Step { host, items } => self.step(host, items),
        }
    }

    /// Every host tells its room, which the gateway hears a while later.
    fn beat(&mut self) {
        self.beats = false;
        let load = |(&host, it): (&HostId, &Host)| gateway::Event::Load {
            host,
            kv_free_tokens: it.stage.kv_free_tokens(),
            requests: it.stage.requests() as u32,
            queue_us: it.stage.queue_us(),
        };
        let loads: Vec<_> = self.hosts.iter().map(load).collect();
        loads.into_iter().for_each(|it| self.later(Happening::Gateway(it)));
    }

    fn step(&mut self, host: HostId, items: Vec<StepItem>) {
        let fails = self.random(0..1000) < self.faults.steps_failed_per_thousand;
        let Some(it) = self.hosts.get_mut(&host) else { return };
        let outputs = it.engine.step(&items);
        drop(items);
        if fails {
            for output in outputs {
                if let stage::StepOutput::Rows(tensor) = output {
                    it.engine.remove(tensor);
                }
            }
            return self.tell(host, stage::Event::StepFailed);
        }
        self.tell(host, stage::Event::StepDone { outputs });
    }

    fn tell(&mut self, host: HostId, event: stage::Event) {
        if let Some(host) = self.hosts.get_mut(&host) {
            host.stage.handle(self.now, event);
        }
    }

    fn deliver(
        &mut self,
        from: HostId,
        to: HostId,
        message: Message,
        tokens: Vec<u32>,
        rows: Vec<u64>,
    ) {
        let Some(host) = self.hosts.get_mut(&to) else { return };
        match message {
            Message::Open(open) => self.tell(to, stage::Event::Open { from, open, tokens }),
            Message::Activations(activations) => {
                let tensor = host.engine.insert(rows);
                self.tell(to, stage::Event::Activations { from, activations, tensor });
            }
            Message::Token(token) => {
                if to == GATEWAY {
                    self.gateway.handle(self.now, gateway::Event::Token(token.clone()));
                }
                self.tell(to, stage::Event::Token(token));
            }
            Message::Release(release) => self.tell(to, stage::Event::Release(release)),
            Message::Refuse(refuse) => {
                self.gateway.handle(self.now, gateway::Event::Refuse(refuse));
            }
            other => panic!("no machine sends {other:?}"),
        }
    }

    /// Carries out what every machine wants done.
    fn settle(&mut self) {
        while let Some(effect) = self.gateway.poll_effect() {
            self.perform_gateway(effect);
        }
        let ids: Vec<HostId> = self.hosts.keys().copied().collect();
        for id in ids {
            while let Some(effect) =
                self.hosts.get_mut(&id).expect("hosts die elsewhere").stage.poll_effect()
            {
                self.perform_stage(id, effect);
            }
        }
    }

    fn perform_gateway(&mut self, effect: gateway::Effect) {
        match effect {
            gateway::Effect::SendOpen { to, open, tokens } => {
                self.replays += usize::from(open.attempt.0 > 0);
                self.send(GATEWAY, to, Message::Open(open), tokens, Vec::new());
            }
            gateway::Effect::SendRelease { to, release } => {
                self.send(GATEWAY, to, Message::Release(release), Vec::new(), Vec::new());
            }
            gateway::Effect::Emit { ticket, sampled, finish, .. } => {
                let client = self.clients.get_mut(&ticket).expect("submitted");
                assert_eq!(client.finish, None, "a token after the last");
                client.tokens.push(sampled.token);
                client.finish = finish;
            }
            gateway::Effect::Reject { ticket, reason } => panic!("{ticket}: {reason:?}"),
        }
    }

    fn perform_stage(&mut self, id: HostId, effect: stage::Effect) {
        let host = self.hosts.get_mut(&id).expect("it just spoke");
        match effect {
            stage::Effect::Step(items) => self.later(Happening::Step { host: id, items }),
            stage::Effect::SendOpen { to, open, tokens } => {
                self.send(id, to, Message::Open(open), tokens, Vec::new());
            }
            stage::Effect::SendActivations { to, activations, tensor } => {
                let rows = host.engine.remove(tensor);
                assert_eq!(rows.len(), activations.count as usize);
                self.send(id, to, Message::Activations(activations), Vec::new(), rows);
            }
            stage::Effect::SendToken { to, token } => {
                self.send(id, to, Message::Token(token), Vec::new(), Vec::new());
            }
            stage::Effect::SendRefuse { to, refuse } => {
                self.send(id, to, Message::Refuse(refuse), Vec::new(), Vec::new());
            }
            stage::Effect::Drop(tensor) => drop(host.engine.remove(tensor)),
            stage::Effect::Retired { epoch } => assert!(host.shards.remove(&epoch)),
        }
    }

    /// Sends a frame. Control frames are never lost: their loss ends the link.
    fn send(
        &mut self,
        from: HostId,
        to: HostId,
        message: Message,
        tokens: Vec<u32>,
        rows: Vec<u64>,
    ) {
        let class = message.class();
        let lost = self.random(0..1000) < self.faults.frames_lost_per_thousand;
        if lost && class != Class::Control && from != to {
            return;
        }
        let delay = Duration::from_micros(self.random(50..40_000));
        let busy = self.streams_busy.entry((from, to, class)).or_default();
        *busy = (self.now + delay).max(*busy + Duration::from_micros(1));
        let at = *busy;
        self.put(at, Happening::Frame { from, to, message, tokens, rows });
    }

    /// Lets something happen within the next 60 ms.
    fn later(&mut self, happening: Happening) {
        let delay = Duration::from_micros(self.random(100..60_000));
        self.put(self.now + delay, happening);
    }

    fn put(&mut self, at: Time, happening: Happening) {
        self.happenings += 1;
        self.agenda.insert((at, self.happenings), happening);
    }
}

fn host(me: HostId) -> Host {
    let stage = Stage::new(stage::Config {
        me,
        context_tokens: 512,
        hidden: 1,
        dtype: DType::F32,
        idle_after: Duration::from_secs(300),
        policy: Pack::THALWEG.stage,
    });
    Host { stage, engine: Engine::default(), shards: BTreeSet::new() }
}

fn pace(batch_max: u32) -> Pace {
    Pace { batch_max, chunk_tokens: 128, step_us: 0, requests_max: 0, micro_batches: 0 }
}

/// A plan with the same flow over every hop that fits.
fn plan(epoch: u64, columns: u32, stages: &[(HostId, LayerRange)]) -> Plan {
    let kv_tokens = u64::from(columns) * 16;
    let assign = |&(host, layers)| Assignment {
        host,
        layers,
        kv_tokens,
        batch_max: 3,
        chunk_tokens: 128,
        step_us: 0,
        requests_max: 0,
        micro_batches: 0,
    };
    let assignments: Vec<_> = stages.iter().map(assign).collect();
    let ends = assignments.iter().map(|it| (End::Host(it.host), it.layers.end()));
    let mut weights = Vec::new();
    for (from, at) in [(End::Source, 0)].into_iter().chain(ends) {
        for next in assignments.iter().filter(|it| it.layers.contains(at)) {
            weights.push(Weight { from, to: End::Host(next.host), tokens_per_second: 1.0 });
        }
    }
    Plan {
        epoch: Epoch(epoch),
        term: 1,
        model: ModelId::default(),
        layers: LAYERS,
        assignments,
        weights,
        flow: 1.0,
        bound: 1.0,
        bottleneck: String::new(),
    }
}
