//! The group as a whole: what stays true while hosts come, go, and lose sight of each other.

mod cluster;

use thalweg_wire::{Command, HostId};

use super::{COMMAND_BYTES_MAX, ProposeError};
use cluster::{Cluster, Member, command, record};

const LATE: HostId = HostId(9);

/// Proposes command `n`, expecting it to be committed.
async fn commit(member: &Member, n: u8) -> u64 {
    member.consensus.propose(command(n)).await.expect("a majority answers")
}

/// Registers a host that does not vote, by its own proposal.
async fn join(cluster: &mut Cluster, host: HostId) {
    cluster.start(host).await;
    let register = Command::Register(record(host));
    cluster.member(host).consensus.propose(register).await.expect("a majority answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_voters_see_one_leader_and_the_same_entries() {
    let cluster = Cluster::started(3).await;
    let (leader, term) = cluster.leader().await;
    for (n, &host) in (1..).zip(&cluster.voters) {
        let led = cluster.member(host).until_led(|it| it.leader == Some(leader)).await;
        assert_eq!(led.term, term);
        commit(cluster.member(host), n).await;
    }
    for member in cluster.members.values() {
        member.until(|heard| heard.commands.len() == 3).await;
        let heard = member.heard.borrow();
        assert_eq!(heard.commands, cluster.member(leader).heard.borrow().commands);
        assert!(heard.commands.is_sorted_by_key(|(index, _)| *index));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_never_came_blocks_nothing() {
    let mut cluster = Cluster::new(3);
    cluster.start(HostId(2)).await;
    cluster.start(HostId(3)).await;
    commit(cluster.member(HostId(2)), 1).await;
    cluster.member(HostId(3)).until_heard(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_registers_receives_the_log_until_it_is_revoked() {
    let mut cluster = Cluster::started(3).await;
    commit(cluster.member(HostId(1)), 1).await;
    join(&mut cluster, LATE).await;
    let late = cluster.member(LATE);
    late.until_heard(1).await;
    commit(late, 2).await;
    late.until_heard(2).await;
    let (leader, _) = cluster.leader().await;
    let leader = cluster.member(leader);
    assert_eq!(leader.consensus.standing().learners, [LATE].into());

    leader.consensus.propose(Command::Revoke { host: LATE }).await.expect("a majority answers");
    let mut metrics = leader.consensus.raft.metrics();
    let learners_gone =
        metrics.wait_for(|it| it.membership_config.membership().learner_ids().next().is_none());
    learners_gone.await.expect("the leader runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_leader_is_replaced_and_nothing_committed_is_lost() {
    let mut cluster = Cluster::started(3).await;
    let (first, first_term) = cluster.leader().await;
    commit(cluster.member(first), 1).await;
    cluster.kill(first).await;

    let (second, second_term) = cluster.leader().await;
    assert_ne!(second, first);
    assert!(second_term > first_term, "term {second_term} after {first_term}");
    for host in cluster.others(first) {
        commit(cluster.member(host), 2).await;
        cluster.member(host).until_heard(1).await;
    }

    cluster.start(first).await;
    cluster.member(first).until_heard(2).await;
    assert!(cluster.member(first).heard.borrow().has(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_five_voters_may_be_lost() {
    let mut cluster = Cluster::started(5).await;
    for n in 1..=2 {
        let (leader, _) = cluster.leader().await;
        commit(cluster.member(leader), n).await;
        cluster.kill(leader).await;
    }
    let (leader, _) = cluster.leader().await;
    commit(cluster.member(leader), 3).await;
    for member in cluster.members.values() {
        member.until(|heard| (1..=3).all(|n| heard.has(n))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn voters_continue_from_their_logs() {
    let mut cluster = Cluster::started(3).await;
    let (_, first_term) = cluster.leader().await;
    commit(cluster.member(HostId(1)), 1).await;
    for host in cluster.voters.clone() {
        cluster.kill(host).await;
    }
    for host in cluster.voters.clone() {
        cluster.start(host).await;
    }
    let (_, second_term) = cluster.leader().await;
    assert!(second_term > first_term, "term {second_term} after {first_term}");
    for member in cluster.members.values() {
        member.until_heard(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_voter_starts_from_its_snapshot() {
    let mut cluster = Cluster::started(1).await;
    let me = HostId(1);
    let index = commit(cluster.member(me), 1).await;
    compact(cluster.member(me), index).await;
    commit(cluster.member(me), 2).await;
    cluster.kill(me).await;
    cluster.start(me).await;
    let member = cluster.member(me);
    member.until_heard(2).await;
    let heard = member.heard.borrow();
    let registry = heard.restored.as_ref().expect("the snapshot came first");
    assert!(registry.token_used(&[1; 32]) && !registry.token_used(&[2; 32]));
    assert!(!heard.has(1), "an entry inside the snapshot was applied again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_learner_is_sent_a_snapshot_of_what_the_log_no_longer_holds() {
    let mut cluster = Cluster::started(3).await;
    let mut index = 0;
    for n in 1..=3 {
        index = commit(cluster.member(HostId(1)), n).await;
    }
    for &host in &cluster.voters {
        cluster.member(host).until_heard(3).await;
        compact(cluster.member(host), index).await;
    }
    join(&mut cluster, LATE).await;
    let late = cluster.member(LATE);
    late.until(|heard| heard.restored.is_some()).await;
    let registry = late.heard.borrow().restored.clone().expect("waited for");
    assert!((1..=3).all(|n| registry.token_used(&[n; 32])));
    commit(late, 4).await;
    late.until_heard(4).await;
}

/// Takes a snapshot that covers `index`, and purges the log up to it.
async fn compact(member: &Member, index: u64) {
    let raft = &member.consensus.raft;
    let mut metrics = raft.metrics();
    raft.trigger().snapshot().await.expect("the member runs");
    let covered = metrics.wait_for(|it| it.snapshot.is_some_and(|at| at.index >= index));
    covered.await.expect("the member runs");
    raft.trigger().purge_log(index).await.expect("the member runs");
    let purged = metrics.wait_for(|it| it.purged.is_some_and(|at| at.index >= index));
    purged.await.expect("the member runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_commits_nothing() {
    let cluster = Cluster::started(3).await;
    let (first, first_term) = cluster.leader().await;
    commit(cluster.member(first), 1).await;
    cluster.cut([first]);

    let old = cluster.member(first);
    let refused = old.consensus.propose(command(66));
    let majority = cluster.others(first);
    let elected = async {
        let (second, second_term) = cluster.leader_among(&majority).await;
        assert!(second_term > first_term, "term {second_term} after {first_term}");
        commit(cluster.member(second), 2).await;
    };
    let (refused, ()) = tokio::join!(refused, elected);
    assert!(matches!(refused, Err(ProposeError::NoLeader { .. })), "{refused:?}");
    assert_eq!(old.consensus.leader(), None, "a leader without a majority may not plan");

    cluster.heal();
    old.until_heard(2).await;
    let index = commit(old, 3).await;
    for member in cluster.members.values() {
        member.until_heard(3).await;
        let heard = member.heard.borrow();
        assert!(!heard.has(66), "an entry of the minority was committed");
        assert_eq!(heard.commands.last(), Some(&(index, command(3))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anyone_may_propose_and_the_leader_appends() {
    let mut cluster = Cluster::started(3).await;
    let (leader, _) = cluster.leader().await;
    cluster.start(LATE).await;
    let outsider = cluster.member(LATE);
    let index = commit(outsider, 1).await;
    cluster.member(leader).until_heard(1).await;
    assert_eq!(cluster.member(leader).heard.borrow().commands, [(index, command(1))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_call_are_refused_and_change_nothing() {
    let cluster = Cluster::started(1).await;
    let member = cluster.member(HostId(1));
    for garbage in [&b""[..], b"\xff", &[0; 64]] {
        member.consensus.answer(garbage).await;
        member.consensus.answer_propose(garbage).await;
    }
    commit(member, 1).await;
    assert_eq!(member.heard.borrow().commands.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_too_large_for_the_log_is_refused() {
    let cluster = Cluster::started(1).await;
    let mut large = record(HostId(1));
    large.machine = "x".repeat(COMMAND_BYTES_MAX);
    let refused = cluster.member(HostId(1)).consensus.propose(Command::Register(large)).await;
    assert!(matches!(refused, Err(ProposeError::TooLarge { .. })), "{refused:?}");
}
