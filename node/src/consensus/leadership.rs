//! Who leads, in the only sense that matters to the host: who may plan.

use thalweg_wire::HostId;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::OnLeader;
use super::group::{Metrics, Raft};
use super::timing::Timing;

/// A leader and its term.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Leadership {
    /// Who leads. This host is named only while it may act: an entry of its term is committed,
    /// so it knows everything agreed before, and a majority answered within its lease.
    pub leader: Option<HostId>,
    /// The term. Each has one leader at most.
    pub term: u64,
}

/// Reports every change to `on_leader` until the returned task is aborted.
///
/// # Panics
///
/// The task panics when the library gave up for good, which ends the process: a host that can no
/// longer write its log must not go on as if it could.
pub(super) fn watch(
    raft: Raft,
    me: HostId,
    timing: Timing,
    on_leader: OnLeader,
) -> (JoinHandle<()>, watch::Receiver<Leadership>) {
    let (sender, receiver) = watch::channel(Leadership::default());
    let task = tokio::spawn(async move {
        let mut metrics = raft.metrics();
        let mut reign = None;
        loop {
            let now = {
                let metrics = metrics.borrow_and_update();
                reign = Reign::observe(reign, &metrics, me);
                leadership(&metrics, reign, timing)
            };
            let changed = sender.send_if_modified(|before| {
                let changed = *before != now;
                *before = now;
                changed
            });
            if changed {
                on_leader(now);
            }
            if metrics.changed().await.is_err() {
                return;
            }
        }
    });
    (task, receiver)
}

/// This host's time as leader.
#[derive(Clone, Copy)]
struct Reign {
    term: u64,
    /// Last entry when the reign began. A leader that restarts continues its term with entries
    /// that others may know to be committed while it does not yet.
    inherited: Option<u64>,
}

impl Reign {
    fn observe(before: Option<Self>, metrics: &Metrics, me: HostId) -> Option<Self> {
        let term = metrics.current_term;
        if metrics.current_leader != Some(me) {
            return None;
        }
        let inherited = metrics.last_log_index;
        before.filter(|it| it.term == term).or(Some(Self { term, inherited }))
    }

    /// Whether everything agreed before is known, and a majority still follows.
    fn may_act(self, metrics: &Metrics, timing: Timing) -> bool {
        let applied = metrics.last_applied;
        let heard = metrics.millis_since_quorum_ack;
        applied.is_some_and(|it| it.leader_id.term == self.term)
            && applied.map(|it| it.index) >= self.inherited
            && heard.is_some_and(|silence_ms| u128::from(silence_ms) <= timing.lease().as_millis())
    }
}

fn leadership(metrics: &Metrics, reign: Option<Reign>, timing: Timing) -> Leadership {
    if let Err(openraft::error::Fatal::StorageError(error)) = &metrics.running_state {
        panic!("consensus log failed: {error}");
    }
    let leader = match reign {
        Some(reign) => metrics.current_leader.filter(|_| reign.may_act(metrics, timing)),
        None => metrics.current_leader,
    };
    Leadership { leader, term: metrics.current_term }
}
