//! Elects the planner and replicates the commands that every host must see alike.
//!
//! ```text
//!  propose ──> leader ──> log on a majority of voters ──> registry of every host ──> on_commit
//!                 └── on_leader: who may plan, once its first entry of the term is committed
//! ```
//!
//! Three or five voters decide; every other host that registers becomes a learner and receives the
//! log. A term has one leader at most, so (term, epoch) orders plans and fences a deposed planner.
//! The library (openraft) appears in this module only; calls between hosts are carried by whoever
//! starts it.

mod disk;
mod group;
mod leadership;
mod log;
mod network;
mod propose;
mod replica;
mod steward;
mod timing;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use thalweg_core::registry::{Change, Registry};
use thalweg_wire::{Command, HostId};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

pub use disk::DiskError;
pub use leadership::Leadership;
pub use propose::{COMMAND_BYTES_MAX, ProposeError};

use disk::{Closed, Disk};
use group::Raft;
use log::LogStore;
use network::Network;
use replica::Replica;
use timing::Timing;

/// What a call between two hosts is about; the receiver hands it to the method named here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Topic {
    /// For [`Consensus::answer`].
    Raft,
    /// For [`Consensus::answer_propose`].
    Propose,
}

/// A call that brought no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("host {host} did not answer: {reason}")]
pub struct Unanswered {
    /// Who was called.
    pub host: HostId,
    /// Why, in words.
    pub reason: String,
}

/// Carries a call to another host and its answer back. It may take its time; it is dropped when
/// the answer no longer matters, and must never hold a lock while it waits.
pub type Call = Arc<
    dyn Fn(HostId, Topic, Bytes) -> BoxFuture<'static, Result<Bytes, Unanswered>> + Send + Sync,
>;

/// What consensus tells the host, in log order.
#[derive(Clone, Debug, PartialEq)]
pub enum Committed {
    /// The next command.
    Command {
        /// Position in the log. Grows, not always by one.
        index: u64,
        /// What was agreed.
        command: Command,
        /// What it changed.
        changes: Vec<Change>,
    },
    /// The state after a restart or a long absence, in place of the commands that led to it.
    Restored {
        /// Position in the log up to which commands are contained.
        index: u64,
        /// The state.
        registry: Box<Registry>,
    },
}

/// Hears what was committed. Called on a runtime thread, so it must not block.
pub type OnCommit = Arc<dyn Fn(Committed) + Send + Sync>;
/// Hears who leads. Called on a runtime thread, so it must not block.
pub type OnLeader = Arc<dyn Fn(Leadership) + Send + Sync>;

/// How a host takes part.
#[derive(Clone, Debug)]
pub struct ConsensusConfig {
    /// This host.
    pub me: HostId,
    /// Every voter, in an order that all hosts share: earlier ones stand for election sooner. A
    /// host that is not among them becomes a learner when its registration is committed.
    pub voters: Vec<HostId>,
    /// Directory of the log. A voter must never lose it, or it may vote twice in one term.
    pub dir: PathBuf,
    /// Longest round trip between voters, configured or measured before the start.
    pub round_trip: Duration,
}

/// Why a host could not take part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The log is unreadable.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The library refused its timers.
    #[error("a round trip of {round_trip:?} leads to impossible timers")]
    Timers {
        /// The configured round trip.
        round_trip: Duration,
        /// What the library says.
        source: openraft::ConfigError,
    },
    /// The library gave up.
    #[error("consensus cannot start")]
    Raft(#[source] openraft::error::Fatal<HostId>),
    /// The voters were refused.
    #[error("the group of {voters} voters cannot be formed")]
    Form {
        /// Number of voters configured.
        voters: usize,
        /// What the library says.
        source: Box<openraft::error::RaftError<HostId, FormError>>,
    },
}

type FormError = openraft::error::InitializeError<HostId, openraft::EmptyNode>;

/// Where a member stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Standing {
    /// Who leads, as far as known.
    pub leadership: Leadership,
    /// Last entry in the log.
    pub last: u64,
    /// Last entry applied to the registry.
    pub applied: u64,
    /// Last entry covered by a snapshot.
    pub snapshot: u64,
    /// Who votes.
    pub voters: BTreeSet<HostId>,
    /// Who else receives the log.
    pub learners: BTreeSet<HostId>,
}

/// This host's part in the group.
pub struct Consensus {
    me: HostId,
    voters: Vec<HostId>,
    timing: Timing,
    raft: Raft,
    call: Call,
    leadership: watch::Receiver<Leadership>,
    tasks: Vec<JoinHandle<()>>,
    closed: Mutex<Closed>,
}

impl Consensus {
    /// Opens the log and joins the group.
    ///
    /// `on_commit` hears the whole state before this returns, then each command as it is applied.
    /// Answer calls with [`answer`](Self::answer) and [`answer_propose`](Self::answer_propose) at
    /// once: no leader is elected before a majority of voters does.
    ///
    /// # Errors
    ///
    /// If the log cannot be read or the voters make no group.
    pub async fn start(
        config: ConsensusConfig,
        call: Call,
        on_commit: OnCommit,
        on_leader: OnLeader,
    ) -> Result<Self, StartError> {
        let ConsensusConfig { me, voters, dir, round_trip } = config;
        let rank = voters.iter().position(|&it| it == me);
        let timing = Timing::new(round_trip, rank.unwrap_or(voters.len()));
        let (disk, closed) = Disk::open(&dir)?;
        let (followers, hosts) = watch::channel(BTreeSet::new());
        let replica = Replica::open(Arc::clone(&disk), on_commit, followers)?;
        let network = Network { call: Arc::clone(&call), heartbeat: timing.heartbeat };
        let timers = timing.config().validate();
        let timers = timers.map_err(|source| StartError::Timers { round_trip, source })?;
        let raft = Raft::new(me, Arc::new(timers), network, LogStore::new(me, disk), replica);
        let raft = raft.await.map_err(StartError::Raft)?;
        if rank.is_some() {
            form(&raft, &voters).await?;
        }
        let (task, leadership) = leadership::watch(raft.clone(), me, timing, on_leader);
        let steward = steward::spawn(raft.clone(), me, hosts, timing);
        let tasks = vec![task, steward];
        let closed = Mutex::new(closed);
        Ok(Self { me, voters, timing, raft, call, leadership, tasks, closed })
    }

    /// Answers a call about [`Topic::Raft`]. Bytes that are no such call get a refusal.
    pub async fn answer(&self, body: &[u8]) -> Bytes {
        network::answer(&self.raft, body).await
    }

    /// Leaves the group and closes the log. Calls are refused from now on.
    ///
    /// Returns when the file is closed, so that it can be opened again.
    pub async fn shutdown(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "consensus ended in a panic");
        }
        self.closed.lock().await.wait().await;
    }

    /// Returns who leads, if known. For this host itself: only while it may plan.
    pub fn leader(&self) -> Option<HostId> {
        self.leadership.borrow().leader
    }

    /// Returns the current term.
    pub fn term(&self) -> u64 {
        self.leadership.borrow().term
    }

    /// Returns where this host stands in the group.
    pub fn standing(&self) -> Standing {
        let leadership = *self.leadership.borrow();
        let metrics = self.raft.metrics().borrow().clone();
        let members = metrics.membership_config.membership();
        Standing {
            leadership,
            last: metrics.last_log_index.unwrap_or(0),
            applied: metrics.last_applied.map_or(0, |it| it.index),
            snapshot: metrics.snapshot.map_or(0, |it| it.index),
            voters: members.voter_ids().collect(),
            learners: members.learner_ids().collect(),
        }
    }
}

impl Drop for Consensus {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Forms the group unless the log says that it was formed before. Every voter does the same, so
/// any majority of them suffices.
async fn form(raft: &Raft, voters: &[HostId]) -> Result<(), StartError> {
    if raft.is_initialized().await.map_err(StartError::Raft)? {
        return Ok(());
    }
    let members: BTreeSet<HostId> = voters.iter().copied().collect();
    match raft.initialize(members).await {
        Ok(()) => Ok(()),
        Err(openraft::error::RaftError::APIError(FormError::NotAllowed(_))) => Ok(()),
        Err(error) => Err(StartError::Form { voters: voters.len(), source: Box::new(error) }),
    }
}
