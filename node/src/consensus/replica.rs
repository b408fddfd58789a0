//! What a host makes of committed entries: the registry, and its photographs.
//!
//! The registry lives in memory. It is rebuilt at start from the last snapshot and the entries
//! committed after it, so applying an entry needs no flush.

use std::collections::BTreeSet;
use std::sync::Arc;

use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::{EntryPayload, StorageError};
use serde::{Deserialize, Serialize};
use thalweg_core::registry::Registry;
use thalweg_wire::{Command, HostId};
use tokio::sync::watch;

use super::disk::{Disk, DiskError};
use super::group::{Entry, Group, LogId, Membership, SnapshotMeta};
use super::log::{reading, writing};
use super::{Committed, OnCommit};

const SNAPSHOT: &str = "snapshot";

/// Everything that follows from the log up to an entry.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct State {
    registry: Registry,
    /// Hosts that registered and were not revoked since: those who should receive the log. A host
    /// the planner gave up stays, so that it learns of it when it comes back.
    followers: BTreeSet<HostId>,
}

/// A snapshot as it lies on disk.
#[derive(Deserialize, Serialize)]
struct Saved {
    meta: SnapshotMeta,
    state: Vec<u8>,
}

/// The state machine of one host.
pub(super) struct Replica {
    disk: Arc<Disk>,
    applied: Option<LogId>,
    membership: Membership,
    state: State,
    on_commit: OnCommit,
    followers: watch::Sender<BTreeSet<HostId>>,
}

impl Replica {
    /// Restores the replica from the snapshot on `disk`, if there is one.
    ///
    /// `on_commit` hears of the restored registry, and of every entry applied after it.
    pub fn open(
        disk: Arc<Disk>,
        on_commit: OnCommit,
        followers: watch::Sender<BTreeSet<HostId>>,
    ) -> Result<Self, DiskError> {
        let saved = disk.get::<Saved>(SNAPSHOT)?;
        let mut replica = Self {
            disk,
            applied: None,
            membership: Membership::default(),
            state: State::default(),
            on_commit,
            followers,
        };
        if let Some(Saved { meta, state }) = saved {
            replica.restore(meta, thalweg_wire::decode(&state)?);
        }
        Ok(replica)
    }

    fn restore(&mut self, meta: SnapshotMeta, state: State) {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership;
        self.state = state;
        self.followers.send_replace(self.state.followers.clone());
        let index = self.applied.map_or(0, |it| it.index);
        let registry = Box::new(self.state.registry.clone());
        (self.on_commit)(Committed::Restored { index, registry });
    }

    fn apply_command(&mut self, index: u64, command: Command) {
        let changes = self.state.registry.apply(&command);
        let followers = &mut self.state.followers;
        let moved = match &command {
            Command::Register(record) => followers.insert(record.host),
            Command::Revoke { host } => followers.remove(host),
            _ => false,
        };
        if moved {
            self.followers.send_replace(followers.clone());
        }
        (self.on_commit)(Committed::Command { index, command, changes });
    }
}

impl RaftStateMachine<Group> for Replica {
    type SnapshotBuilder = Photographer;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError<HostId>> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError<HostId>>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let mut answers = Vec::new();
        for entry in entries {
            self.applied = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(command) => self.apply_command(entry.log_id.index, command),
                EntryPayload::Membership(members) => {
                    self.membership = Membership::new(Some(entry.log_id), members);
                }
            }
            answers.push(());
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Photographer {
        Photographer {
            disk: Arc::clone(&self.disk),
            applied: self.applied,
            membership: self.membership.clone(),
            state: self.state.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>, StorageError<HostId>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Vec<u8>>,
    ) -> Result<(), StorageError<HostId>> {
        let state = thalweg_wire::decode(&snapshot).map_err(|error| reading(error.into()))?;
        save(&self.disk, meta.clone(), *snapshot).await?;
        self.restore(meta.clone(), state);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<Snapshot<Group>>, StorageError<HostId>> {
        let saved = self.disk.get::<Saved>(SNAPSHOT).map_err(reading)?;
        Ok(saved.map(|Saved { meta, state }| Snapshot { meta, snapshot: Box::new(state) }))
    }
}

/// Takes a snapshot of the state it was made with, while the replica goes on.
pub(super) struct Photographer {
    disk: Arc<Disk>,
    applied: Option<LogId>,
    membership: Membership,
    state: State,
}

impl RaftSnapshotBuilder<Group> for Photographer {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Group>, StorageError<HostId>> {
        let state = thalweg_wire::encode(&self.state).map_err(|error| writing(error.into()))?;
        let index = self.applied.map_or(0, |it| it.index);
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: index.to_string(),
        };
        save(&self.disk, meta.clone(), state.clone()).await?;
        Ok(Snapshot { meta, snapshot: Box::new(state) })
    }
}

/// Stores a snapshot unless a later one is there already: one may arrive while another is built.
async fn save(
    disk: &Arc<Disk>,
    meta: SnapshotMeta,
    state: Vec<u8>,
) -> Result<(), StorageError<HostId>> {
    let disk = Arc::clone(disk);
    let saved = Saved { meta, state };
    let written = tokio::task::spawn_blocking(move || {
        let position = saved.meta.last_log_id;
        disk.put_if(SNAPSHOT, &saved, |before| before.meta.last_log_id <= position)
    });
    written.await.expect("writes do not panic").map_err(writing)
}
