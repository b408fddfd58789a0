//! The replicated log and the vote, on disk.

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::sync::Arc;

use openraft::storage::{LogFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{AnyError, StorageError, StorageIOError};
use redb::Durability;
use thalweg_wire::HostId;

use super::disk::{Disk, DiskError};
use super::group::{Entry, Group, LogId, Vote};

/// Bytes of entries in one append, so that it fits a call with room to spare.
const APPEND_BYTES_MAX: usize = 256 << 10;

const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";

/// The log of one host. Clones read the same file.
#[derive(Clone)]
pub(super) struct LogStore {
    me: HostId,
    disk: Arc<Disk>,
}

impl LogStore {
    pub fn new(me: HostId, disk: Arc<Disk>) -> Self {
        Self { me, disk }
    }

    /// Runs a write where it may block: it ends with a flush.
    async fn write(
        &self,
        change: impl FnOnce(&Disk) -> Result<(), DiskError> + Send + 'static,
    ) -> Result<(), DiskError> {
        let disk = Arc::clone(&self.disk);
        tokio::task::spawn_blocking(move || change(&disk)).await.expect("writes do not panic")
    }
}

impl RaftLogReader<Group> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError<HostId>> {
        self.disk.entries(range, usize::MAX).map_err(reading)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError<HostId>> {
        self.disk.entries(start..end, APPEND_BYTES_MAX).map_err(reading)
    }
}

impl RaftLogStorage<Group> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Group>, StorageError<HostId>> {
        let last_purged_log_id = self.disk.get::<LogId>(PURGED).map_err(reading)?;
        let last: Option<Entry> = self.disk.last_entry().map_err(reading)?;
        let last_log_id = last.map(|it| it.log_id).or(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError<HostId>> {
        let vote = *vote;
        self.write(move |disk| disk.put(VOTE, &vote, Durability::Immediate)).await.map_err(writing)
    }

    /// A leader that restarts finds that it stood in its term, not that it won: it stands again
    /// in a new one. Otherwise it would lead on without an entry to mark what it inherited, and
    /// its term would no longer tell its plans from those it made before.
    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError<HostId>> {
        let vote = self.disk.get::<Vote>(VOTE).map_err(reading)?;
        Ok(vote.map(|mut vote| {
            vote.committed &= vote.leader_id.voted_for() != Some(self.me);
            vote
        }))
    }

    /// Not flushed: losing it costs a restarted voter only to learn again what was committed.
    async fn save_committed(
        &mut self,
        committed: Option<LogId>,
    ) -> Result<(), StorageError<HostId>> {
        self.disk.put(COMMITTED, &committed, Durability::None).map_err(writing)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError<HostId>> {
        Ok(self.disk.get::<Option<LogId>>(COMMITTED).map_err(reading)?.flatten())
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Group>,
    ) -> Result<(), StorageError<HostId>>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let rows = entries
            .into_iter()
            .map(|entry| Ok((entry.log_id.index, thalweg_wire::encode(&entry)?)))
            .collect::<Result<Vec<_>, DiskError>>()
            .map_err(writing)?;
        self.write(move |disk| disk.append(&rows)).await.map_err(writing)?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError<HostId>> {
        self.write(move |disk| disk.delete::<LogId>(log_id.index.., None)).await.map_err(writing)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError<HostId>> {
        self.write(move |disk| disk.delete(..=log_id.index, Some((PURGED, &log_id))))
            .await
            .map_err(writing)
    }
}

/// Turns an error into the library's, which stops this voter at once.
pub(super) fn reading(error: DiskError) -> StorageError<HostId> {
    StorageIOError::read(AnyError::new(&error)).into()
}

/// Turns an error into the library's, which stops this voter at once.
pub(super) fn writing(error: DiskError) -> StorageError<HostId> {
    StorageIOError::write(AnyError::new(&error)).into()
}
