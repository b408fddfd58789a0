use super::*;
use crate::fixture::{LAYERS, plan, record, shape};

mod random;

fn id(name: &str) -> HostId {
    HostId::of(name)
}

fn config(name: &str, incarnation: u64) -> Config {
    Config {
        me: id(name),
        incarnation,
        shape: shape(),
        hosts_expected: 2,
        settle: Duration::from_millis(300),
        grace: Duration::from_secs(5),
        retry: Duration::from_secs(1),
    }
}

/// A conductor whose proposals are committed at once unless a test holds them back.
struct Rig {
    conductor: Conductor,
    ms: u64,
}

impl Rig {
    /// Host `a`, leader in term 1, beside `b`; both registered and alive.
    fn leader() -> Self {
        let mut rig = Self { conductor: Conductor::new(config("a", 1)), ms: 0 };
        rig.on(Event::Measured(record("a", 1)));
        rig.lead(1);
        rig.commit(Command::Register(record("b", 1)));
        rig.on(Event::Alive(id("b")));
        rig
    }

    fn lead(&mut self, term: u64) -> Vec<Effect> {
        self.on(Event::Leadership { leader: Some(self.conductor.config.me), term, mine: true })
    }

    /// Handles an event, commits every proposal, and returns the other effects.
    fn on(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = self.raw(event);
        let mut others = Vec::new();
        while !effects.is_empty() {
            let mut next = Vec::new();
            for effect in effects {
                match effect {
                    Effect::Propose(command) => next.extend(self.raw(Event::Committed(command))),
                    other => others.push(other),
                }
            }
            effects = next;
        }
        others
    }

    fn raw(&mut self, event: Event) -> Vec<Effect> {
        self.conductor.handle(Duration::from_millis(self.ms), event);
        std::iter::from_fn(|| self.conductor.poll_effect()).collect()
    }

    fn commit(&mut self, command: Command) -> Vec<Effect> {
        self.on(Event::Committed(command))
    }

    /// Lets time pass until the next deadline and returns what it leads to.
    fn wait(&mut self) -> Vec<Effect> {
        let deadline = self.conductor.next_timeout().expect("something is due");
        assert!(deadline > Duration::from_millis(self.ms), "the deadline lies in the past");
        self.ms = deadline.as_millis() as u64;
        self.conductor.handle_timeout(deadline);
        let effects: Vec<_> = std::iter::from_fn(|| self.conductor.poll_effect()).collect();
        let proposals = |effect: Effect| match effect {
            Effect::Propose(command) => self.commit(command),
            other => vec![other],
        };
        effects.into_iter().flat_map(proposals).collect()
    }

    fn planned(&mut self, plan: Plan) -> Vec<Effect> {
        self.on(Event::Planned { epoch: plan.epoch, outcome: PlanOutcome::Planned(plan) })
    }

    fn ready(&mut self, name: &str, epoch: u64) -> Vec<Effect> {
        self.commit(Command::Ready { host: id(name), epoch: Epoch(epoch) })
    }

    /// Brings a plan of two halves into effect, with links unmeasured.
    fn serving(&mut self) {
        self.wait();
        self.planned(halves(1));
        self.on(Event::Loaded { epoch: Epoch(1) });
        assert_eq!(self.ready("b", 1), [Effect::Activate(halves(1))]);
    }
}

fn halves(epoch: u64) -> Plan {
    plan(epoch, 1, &[(id("a"), 0, 4), (id("b"), 4, 8)])
}

/// Both hosts hold all layers.
fn copies(epoch: u64) -> Plan {
    plan(epoch, 1, &[(id("a"), 0, 8), (id("b"), 0, 8)])
}

fn task(effects: &[Effect]) -> &PlanTask {
    let [Effect::StartPlan(task)] = effects else { panic!("one search, not {effects:?}") };
    task
}

#[test]
fn the_first_plan_comes_into_effect_when_all_are_ready() {
    let mut rig = Rig::leader();
    let effects = rig.wait();
    assert_eq!(rig.ms, 5000, "links were never measured: the grace passed");
    let first = task(&effects);
    assert_eq!((first.epoch, first.term, &first.keep), (Epoch(1), 1, &None));
    assert_eq!(first.hosts.len(), 2);

    let effects = rig.planned(halves(1));
    let assignment = *halves(1).assignment(id("a")).expect("a has a part");
    assert_eq!(effects, [Effect::Load { epoch: Epoch(1), assignment, layers: LAYERS }]);
    assert_eq!(rig.ready("b", 1), [], "a is not ready");
    let effects = rig.on(Event::Loaded { epoch: Epoch(1) });
    assert_eq!(effects, [Effect::Activate(halves(1))]);
    assert_eq!(rig.conductor.next_timeout(), None, "nothing is left to do");
}

#[test]
fn measured_hosts_are_planned_with_once_they_settle() {
    let mut rig = Rig::leader();
    let link =
        |to| LinkMeasure { to: id(to), rtt_us: 1, bandwidth: thalweg_wire::BitsPerSecond(1) };
    rig.on(Event::LinksMeasured(vec![link("b")]));
    rig.commit(Command::Links { host: id("b"), links: vec![link("a")] });
    assert_eq!(task(&rig.wait()).links.len(), 2);
    assert_eq!(rig.ms, 300);
}

#[test]
fn survivors_that_cover_the_model_are_only_weighed_anew() {
    let mut rig = Rig::leader();
    rig.wait();
    rig.planned(copies(1));
    rig.on(Event::Loaded { epoch: Epoch(1) });
    rig.ready("b", 1);

    assert_eq!(rig.on(Event::Dead(id("b"))), []);
    assert!(!rig.conductor.registry().hosts().contains_key(&id("b")), "removed");
    let effects = rig.wait();
    let repair = task(&effects);
    assert_eq!(repair.keep.as_deref(), Some(&copies(1).assignments[..1]));
    let alone = plan(2, 1, &[(id("a"), 0, 8)]);
    let effects = rig.planned(alone.clone());
    let kept = [
        Effect::Keep {
            epoch: Epoch(2),
            from: Epoch(1),
            pace: Pace {
                batch_max: 4,
                chunk_tokens: 128,
                step_us: 0,
                requests_max: 0,
                micro_batches: 0,
            },
        },
        Effect::Activate(alone),
        Effect::Retire { epoch: Epoch(1) },
    ];
    assert_eq!(effects[..3], kept);
    let full = task(&effects[3..]);
    assert_eq!((full.epoch, &full.keep), (Epoch(3), &None), "a full search follows");
}

#[test]
fn a_new_placement_after_a_repair_must_be_worth_the_loading() {
    for (flow, worth_it) in [(1.04, false), (1.06, true)] {
        let mut rig = Rig::leader();
        rig.wait();
        rig.planned(copies(1));
        rig.on(Event::Loaded { epoch: Epoch(1) });
        rig.ready("b", 1);
        rig.on(Event::Dead(id("b")));
        rig.wait();
        rig.planned(plan(2, 1, &[(id("a"), 0, 8)]));
        let effects = rig.planned(Plan { flow, ..plan(3, 1, &[(id("a"), 0, 8)]) });
        assert_eq!(!effects.is_empty(), worth_it, "the repaired plan carries 1.0, this {flow}");
        assert_eq!(rig.conductor.next_timeout(), None, "nothing is left to do");
    }
}

#[test]
fn survivors_with_a_hole_need_a_new_placement() {
    let mut rig = Rig::leader();
    rig.serving();
    assert_eq!(rig.on(Event::Dead(id("a"))), [], "nobody gives itself up");
    rig.on(Event::Dead(id("b")));
    assert_eq!(task(&rig.wait()).keep, None);
    let reason = String::from("layers 4..8 fit nowhere");
    let outcome = PlanOutcome::Infeasible { reason: reason.clone() };
    let effects = rig.on(Event::Planned { epoch: Epoch(2), outcome });
    assert_eq!(effects, [Effect::Infeasible { reason }]);
    assert_eq!(rig.conductor.next_timeout(), None, "another search would find the same");
    rig.commit(Command::Register(record("b", 2)));
    rig.on(Event::Alive(id("b")));
    assert_eq!(task(&rig.wait()).hosts.len(), 2);
}

#[test]
fn a_restarted_host_holds_nothing() {
    let mut rig = Rig::leader();
    rig.serving();
    rig.commit(Command::Register(record("b", 2)));
    assert_eq!(task(&rig.wait()).keep, None);
}

#[test]
fn a_host_that_joins_gets_a_full_search_and_the_old_layers_stay_until_then() {
    let mut rig = Rig::leader();
    rig.serving();
    rig.commit(Command::Register(record("c", 1)));
    rig.on(Event::Alive(id("c")));
    assert_eq!(task(&rig.wait()).hosts.len(), 3);
    let thirds = plan(2, 1, &[(id("a"), 0, 3), (id("b"), 3, 6), (id("c"), 6, 8)]);
    assert!(matches!(rig.planned(thirds.clone())[..], [Effect::Load { epoch: Epoch(2), .. }]));
    rig.ready("b", 2);
    rig.ready("c", 2);
    assert_eq!(
        rig.on(Event::Loaded { epoch: Epoch(2) }),
        [Effect::Activate(thirds), Effect::Retire { epoch: Epoch(1) }],
    );
}

#[test]
fn a_load_for_an_abandoned_plan_serves_the_next_one() {
    let mut rig = Rig::leader();
    rig.wait();
    assert_eq!(rig.planned(halves(1)).len(), 1);
    assert_eq!(rig.commit(Command::Propose(halves(2))), [], "the same layers are loading");
    assert_eq!(
        rig.on(Event::Loaded { epoch: Epoch(1) }),
        [
            Effect::Keep {
                epoch: Epoch(2),
                from: Epoch(1),
                pace: Pace {
                    batch_max: 4,
                    chunk_tokens: 128,
                    step_us: 0,
                    requests_max: 0,
                    micro_batches: 0
                }
            },
            Effect::Retire { epoch: Epoch(1) },
        ],
    );
    assert_eq!(rig.ready("b", 2), [Effect::Activate(halves(2))]);
}

#[test]
fn lost_proposals_are_repeated() {
    let mut rig = Rig { conductor: Conductor::new(config("a", 1)), ms: 0 };
    let register = [Effect::Propose(Command::Register(record("a", 1)))];
    assert_eq!(rig.raw(Event::Measured(record("a", 1))), register);
    assert_eq!(rig.raw(Event::Alive(id("b"))), [], "asked just now");
    assert_eq!(rig.wait(), []);
    assert_eq!(rig.ms, 1000);
    assert!(rig.conductor.registry().hosts().contains_key(&id("a")));
}

#[test]
fn a_follower_loads_but_does_not_plan() {
    let mut rig = Rig::leader();
    rig.serving();
    rig.on(Event::Leadership { leader: Some(id("b")), term: 2, mine: false });
    rig.on(Event::Dead(id("b")));
    assert_eq!(rig.conductor.next_timeout(), None);
    assert!(rig.conductor.registry().hosts().contains_key(&id("b")));
    let alone = Plan { term: 2, ..plan(2, 2, &[(id("a"), 0, 8)]) };
    assert!(matches!(rig.commit(Command::Propose(alone))[..], [Effect::Load { .. }]));
}

#[test]
fn a_new_leader_goes_by_the_log() {
    let mut rig = Rig::leader();
    rig.serving();
    rig.on(Event::Leadership { leader: None, term: 2, mine: false });
    assert_eq!(rig.lead(3), []);
    assert_eq!(rig.conductor.next_timeout(), None, "the plan in effect fits");
}

#[test]
fn a_plan_restored_from_the_log_of_another_process_is_followed_but_not_loaded() {
    let mut rig = Rig::leader();
    rig.serving();
    rig.commit(Command::Propose(copies(2)));
    let registry = rig.conductor.registry().clone();
    let mut restarted = Rig { conductor: Conductor::new(config("a", 2)), ms: 0 };
    assert_eq!(restarted.on(Event::Restored(registry)), [Effect::Activate(halves(1))]);
}
