use proptest::prelude::*;

use super::*;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Hosts, a log all agree on, and everything that is under way.
struct World {
    hosts: Vec<Host>,
    log: Vec<Command>,
    leader: Option<usize>,
    term: u64,
    now: Time,
}

struct Host {
    conductor: Conductor,
    /// Entries of the log it has seen; `None` while it is down.
    applied: Option<usize>,
    incarnation: u64,
    search: Option<PlanTask>,
    loads: Vec<Epoch>,
    /// Layers as its stage would hold them: by plan.
    held: BTreeMap<Epoch, Assignment>,
}

#[derive(Clone, Debug)]
enum Act {
    /// A host sees the next entry of the log.
    Apply(usize),
    /// A host's search or load ends.
    Work(usize),
    Kill(usize),
    Start(usize),
    Elect(usize),
    Wait(u64),
    /// The proposals a host makes next are lost.
    LoseProposals(usize),
}

fn any_act() -> impl Strategy<Value = Act> {
    let host = || 0..NAMES.len();
    prop_oneof![
        9 => host().prop_map(Act::Apply),
        5 => host().prop_map(Act::Work),
        1 => host().prop_map(Act::Kill),
        2 => host().prop_map(Act::Start),
        1 => host().prop_map(Act::Elect),
        4 => (1_u64..3000).prop_map(Act::Wait),
        1 => host().prop_map(Act::LoseProposals),
    ]
}

impl World {
    fn new() -> Self {
        let host = |name: &&str| Host {
            conductor: Conductor::new(config(name, 0)),
            applied: None,
            incarnation: 0,
            search: None,
            loads: Vec::new(),
            held: BTreeMap::new(),
        };
        let hosts = NAMES.iter().map(host).collect();
        Self { hosts, log: Vec::new(), leader: None, term: 0, now: Time::ZERO }
    }

    fn play(&mut self, act: Act) {
        match act {
            Act::Apply(at) => self.apply(at),
            Act::Work(at) => self.work(at),
            Act::Kill(at) => self.kill(at),
            Act::Start(at) => self.start(at),
            Act::Elect(at) => self.elect(at),
            Act::Wait(ms) => self.wait(Duration::from_millis(ms)),
            Act::LoseProposals(at) => {
                let host = &mut self.hosts[at];
                if host.applied.is_some() {
                    host.conductor.handle_timeout(self.now);
                    self.perform(at, |_| {});
                }
            }
        }
    }

    fn on(&mut self, at: usize, event: Event) {
        if self.hosts[at].applied.is_some() {
            self.hosts[at].conductor.handle(self.now, event);
            self.settle(at);
        }
    }

    /// Carries out what a host wants; its proposals reach the log if there is a leader.
    fn settle(&mut self, at: usize) {
        let mut log = Vec::new();
        self.perform(at, |command| log.push(command));
        if self.leader.is_some() {
            self.log.extend(log);
        }
    }

    fn perform(&mut self, at: usize, mut propose: impl FnMut(Command)) {
        let leads = self.leader == Some(at);
        let host = &mut self.hosts[at];
        while let Some(effect) = host.conductor.poll_effect() {
            match effect {
                Effect::Propose(command) => propose(command),
                Effect::StartPlan(task) => {
                    assert!(leads, "only the leader plans");
                    host.search = Some(task);
                }
                Effect::Load { epoch, assignment, .. } => {
                    assert!(host.held.insert(epoch, assignment).is_none());
                    host.loads.push(epoch);
                }
                Effect::Keep { epoch, from, .. } => {
                    assert!(!host.loads.contains(&from), "{from} still loads");
                    let assignment = host.held[&from];
                    assert!(host.held.insert(epoch, assignment).is_none());
                }
                Effect::Retire { epoch } => {
                    assert!(!host.loads.contains(&epoch), "{epoch} still loads");
                    assert!(host.held.remove(&epoch).is_some(), "{epoch} was retired twice");
                }
                Effect::Activate(_) | Effect::Infeasible { .. } => {}
            }
        }
    }

    fn apply(&mut self, at: usize) {
        let Some(applied) = self.hosts[at].applied.as_mut() else { return };
        let Some(command) = self.log.get(*applied).cloned() else { return };
        *applied += 1;
        self.on(at, Event::Committed(command));
    }

    fn work(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        if let Some(task) = host.search.take() {
            let outcome = PlanOutcome::Planned(place(&task));
            self.on(at, Event::Planned { epoch: task.epoch, outcome });
        } else if let Some(epoch) = host.loads.pop() {
            self.on(at, Event::Loaded { epoch });
        }
    }

    fn kill(&mut self, at: usize) {
        if self.hosts.iter().filter(|it| it.applied.is_some()).count() < 2 {
            return;
        }
        self.hosts[at].applied = None;
        if self.leader == Some(at) {
            self.leader = None;
        }
        for other in 0..NAMES.len() {
            self.on(other, Event::Dead(id(NAMES[at])));
        }
    }

    fn start(&mut self, at: usize) {
        if self.hosts[at].applied.is_some() {
            return;
        }
        let incarnation = self.hosts[at].incarnation + 1;
        let conductor = Conductor::new(config(NAMES[at], incarnation));
        let (loads, held) = (Vec::new(), BTreeMap::new());
        let search = None;
        self.hosts[at] = Host { conductor, applied: Some(0), incarnation, search, loads, held };
        self.on(at, Event::Measured(record(NAMES[at], incarnation)));
        for (other, name) in NAMES.iter().enumerate() {
            if other != at && self.hosts[other].applied.is_some() {
                self.on(other, Event::Alive(id(NAMES[at])));
                self.on(at, Event::Alive(id(name)));
            }
        }
    }

    fn elect(&mut self, at: usize) {
        if self.hosts[at].applied.is_none() {
            return;
        }
        self.leader = Some(at);
        self.term += 1;
        for host in 0..NAMES.len() {
            let (leader, term) = (Some(id(NAMES[at])), self.term);
            self.on(host, Event::Leadership { leader, term, mine: host == at });
        }
    }

    fn wait(&mut self, time: Time) {
        self.now += time;
        for at in 0..NAMES.len() {
            let host = &mut self.hosts[at];
            if host.applied.is_some() {
                host.conductor.handle_timeout(self.now);
                let next = host.conductor.next_timeout();
                assert!(next.is_none_or(|next| next > self.now), "a deadline in the past");
                self.settle(at);
            }
        }
    }

    /// Lets everything under way come to its end.
    fn converge(&mut self) {
        for _ in 0..40 {
            for at in 0..NAMES.len() {
                self.work(at);
                self.work(at);
                for _ in 0..self.log.len() {
                    self.apply(at);
                }
            }
            self.wait(Duration::from_secs(1));
        }
    }
}

/// Places as asked: kept layers stay; otherwise the layers are shared out evenly.
fn place(task: &PlanTask) -> Plan {
    let count = task.hosts.len() as u32;
    let share = |(index, host): (u32, &HostRecord)| {
        (host.host, index * LAYERS / count, (index + 1) * LAYERS / count)
    };
    let stages: Vec<_> = match &task.keep {
        Some(keep) => keep.iter().map(|it| (it.host, it.layers.first(), it.layers.end())).collect(),
        None => (0..).zip(&task.hosts).map(share).collect(),
    };
    plan(task.epoch.0, task.term, &stages)
}

proptest! {
    /// Whatever is lost or restarted on the way: once hosts stay up and someone leads, a plan over
    /// exactly the live processes is in effect everywhere, and nobody holds other layers.
    #[test]
    fn every_history_ends_in_a_plan_that_fits(acts in prop::collection::vec(any_act(), 0..150)) {
        let mut world = World::new();
        world.start(0);
        world.start(1);
        for act in acts {
            world.play(act);
        }
        let up = world.hosts.iter().position(|it| it.applied.is_some());
        world.elect(up.expect("one host is always up"));
        world.converge();
        let live: Members = world.hosts.iter().filter(|it| it.applied.is_some())
            .map(|it| (it.conductor.config.me, it.incarnation)).collect();
        for host in world.hosts.iter().filter(|it| it.applied.is_some()) {
            let registry = host.conductor.registry();
            let placed = registry.active().expect("a plan is in effect");
            prop_assert_eq!(registry.proposed(), None);
            let members: Members =
                registry.hosts().values().map(|it| (it.host, it.incarnation)).collect();
            prop_assert_eq!(&members, &live);
            let assigned: Members = placed.plan.assignments.iter()
                .map(|it| (it.host, placed.hosts[&it.host])).collect();
            prop_assert_eq!(&assigned, &live);
            let held: Vec<_> = host.held.keys().copied().collect();
            let mine = placed.plan.assignment(host.conductor.config.me);
            let expected: Vec<_> = mine.map(|_| placed.plan.epoch).into_iter().collect();
            prop_assert_eq!(held, expected);
        }
    }
}
