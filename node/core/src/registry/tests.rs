use proptest::prelude::*;

use super::*;
use crate::fixture::{plan, record, shape};

fn id(name: &str) -> HostId {
    HostId::of(name)
}

/// A registry of hosts a, b and c (incarnation 1) that serves the small model.
fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.apply(&Command::Serve(shape()));
    for name in ["a", "b", "c"] {
        registry.apply(&Command::Register(record(name, 1)));
    }
    registry
}

fn halves(epoch: u64, term: u64) -> Plan {
    plan(epoch, term, &[(id("a"), 0, 4), (id("b"), 4, 8)])
}

fn ready(name: &str, epoch: u64) -> Command {
    Command::Ready { host: id(name), epoch: Epoch(epoch) }
}

#[test]
fn a_plan_takes_effect_once_all_its_hosts_are_ready() {
    let mut registry = registry();
    let proposed = Command::Propose(halves(1, 1));
    assert_eq!(registry.apply(&proposed), [Change::Proposed(halves(1, 1))]);
    let activate = Command::Activate { epoch: Epoch(1) };
    assert_eq!(registry.apply(&activate), [], "nobody is ready");
    assert_eq!(registry.apply(&ready("a", 1)).len(), 1);
    assert_eq!(registry.apply(&ready("a", 1)), [], "said before");
    assert_eq!(registry.apply(&ready("c", 1)), [], "c has no part in it");
    assert_eq!(registry.apply(&activate), [], "b is not ready");
    assert_eq!(registry.apply(&ready("b", 1)).len(), 1);
    assert_eq!(registry.apply(&activate), [Change::Activated(halves(1, 1))]);
    assert_eq!(registry.apply(&activate), [], "already in effect");
    registry.check();
}

#[test]
fn deposed_planners_and_plans_with_holes_are_ignored() {
    let mut registry = registry();
    registry.apply(&Command::Propose(halves(3, 2)));
    let stale = [halves(3, 2), halves(2, 2), halves(4, 1)];
    let holes = plan(4, 2, &[(id("a"), 0, 4), (id("b"), 5, 8)]);
    let strangers = plan(4, 2, &[(id("x"), 0, 8)]);
    let other_model = Plan { model: thalweg_wire::ModelId::default(), ..halves(4, 2) };
    for refused in stale.into_iter().chain([holes, strangers, other_model]) {
        assert_eq!(registry.apply(&Command::Propose(refused)), []);
    }
    let changes = registry.apply(&Command::Propose(halves(4, 2)));
    assert_eq!(changes, [Change::Abandoned(Epoch(3)), Change::Proposed(halves(4, 2))]);
}

#[test]
fn a_lost_host_ends_the_proposal_but_not_the_plan_in_effect() {
    let mut registry = registry();
    registry.apply(&Command::Propose(halves(1, 1)));
    registry.apply(&ready("a", 1));
    registry.apply(&ready("b", 1));
    registry.apply(&Command::Activate { epoch: Epoch(1) });
    registry.apply(&Command::Propose(halves(2, 1)));
    let remove = |incarnation| Command::Remove { host: id("b"), incarnation };
    assert_eq!(registry.apply(&remove(0)), [], "an older process of b");
    let changes = registry.apply(&remove(1));
    assert_eq!(changes, [Change::Removed(id("b")), Change::Abandoned(Epoch(2))]);
    assert_eq!(registry.active().map(|it| it.plan.epoch), Some(Epoch(1)));
    assert_eq!(registry.apply(&remove(1)), []);
}

#[test]
fn a_restarted_host_ends_the_proposal() {
    let mut registry = registry();
    registry.apply(&Command::Propose(halves(1, 1)));
    let changes = registry.apply(&Command::Register(record("a", 2)));
    assert_eq!(changes, [Change::Abandoned(Epoch(1)), Change::Registered(id("a"))]);
    assert_eq!(registry.apply(&Command::Register(record("a", 1))), [], "its older process");
}

#[test]
fn impossible_and_revoked_hosts_stay_out() {
    let mut registry = registry();
    let mut liar = record("d", 1);
    liar.profile.decode[0].seconds = -1.0;
    let impostor = HostRecord { host: id("a"), ..record("e", 9) };
    for refused in [liar, impostor] {
        assert_eq!(registry.apply(&Command::Register(refused)), []);
    }
    let revoke = Command::Revoke { host: id("a") };
    assert_eq!(registry.apply(&revoke), [Change::Removed(id("a")), Change::Revoked(id("a"))]);
    assert_eq!(registry.apply(&Command::Register(record("a", 2))), []);
    assert_eq!(registry.apply(&revoke), []);
}

#[test]
fn tokens_work_once_and_the_model_is_settled_once() {
    let mut registry = registry();
    let token = [3; 32];
    let used = Command::UseToken { token };
    assert_eq!(registry.apply(&used), [Change::TokenUsed(token)]);
    assert_eq!(registry.apply(&used), [Change::TokenReused(token)]);
    assert!(registry.token_used(&token));
    assert_eq!(registry.apply(&Command::Serve(shape())), []);
}

fn any_command() -> impl Strategy<Value = Command> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let epoch = (1_u64..6).prop_map(Epoch);
    prop_oneof![
        (name.clone(), 1_u64..4).prop_map(|(name, at)| Command::Register(record(name, at))),
        (name.clone(), 1_u64..4)
            .prop_map(|(name, incarnation)| Command::Remove { host: id(name), incarnation }),
        name.clone().prop_map(|name| Command::Links { host: id(name), links: Vec::new() }),
        (1_u64..6, 1_u64..3).prop_map(|(epoch, term)| Command::Propose(halves(epoch, term))),
        (name.clone(), epoch.clone())
            .prop_map(|(name, epoch)| Command::Ready { host: id(name), epoch }),
        epoch.prop_map(|epoch| Command::Activate { epoch }),
        Just(Command::Revoke { host: id("c") }),
    ]
}

proptest! {
    /// Any log keeps the invariants, and a command that reports no change made none.
    #[test]
    fn any_log_keeps_the_invariants(log in prop::collection::vec(any_command(), 0..60)) {
        let mut registry = registry();
        for command in &log {
            let before = registry.clone();
            let changes = registry.apply(command);
            registry.check();
            prop_assert_eq!(changes.is_empty(), registry == before, "{:?}", command);
            prop_assert!(registry.latest_epoch() >= before.latest_epoch());
        }
    }
}
