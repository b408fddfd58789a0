//! The file that lets a voter forget nothing it promised.
//!
//! One redb file with two tables. Every write is one transaction, flushed before it returns unless
//! it says otherwise; a crash leaves the state before or after it, never between.
//!
//! ```text
//! log    index (u64)                                   -> entry
//! meta   "vote" | "committed" | "purged" | "snapshot"  -> value
//! ```

use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thalweg_wire::CodecError;
use tokio::sync::watch;

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// Name of the file inside the host's directory.
const FILE: &str = "consensus.redb";

/// Why the log of a host could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// The directory could not be made.
    #[error("directory `{}` cannot be made", path.display())]
    Directory {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file could not be opened; another process may hold it.
    #[error("consensus log `{}` cannot be opened", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: redb::DatabaseError,
    },
    /// The file could not be read or written.
    #[error("consensus log cannot be read or written")]
    Access(#[source] Box<redb::Error>),
    /// The file holds bytes that are no value of ours, or a value is too large for it.
    #[error("a value of the consensus log does not fit its format")]
    Codec(#[from] CodecError),
}

/// An open file. The last owner closes it.
pub(super) struct Disk {
    database: Database,
    /// Tells [`Closed`] that `database`, dropped before it, is closed.
    _open: watch::Sender<()>,
}

/// Learns when a file is closed.
pub(super) struct Closed(watch::Receiver<()>);

impl Disk {
    /// Opens the log in `dir`, or creates both.
    pub fn open(dir: &Path) -> Result<(Arc<Self>, Closed), DiskError> {
        std::fs::create_dir_all(dir)
            .map_err(|source| DiskError::Directory { path: dir.to_owned(), source })?;
        let path = dir.join(FILE);
        let database =
            Database::create(&path).map_err(|source| DiskError::Open { path, source })?;
        let (open, closed) = watch::channel(());
        let disk = Self { database, _open: open };
        disk.write(Durability::Immediate, |_, _| Ok(()))?;
        Ok((Arc::new(disk), Closed(closed)))
    }

    /// Stores `value` under `key`.
    pub fn put<T: Serialize>(
        &self,
        key: &str,
        value: &T,
        durability: Durability,
    ) -> Result<(), DiskError> {
        let bytes = thalweg_wire::encode(value)?;
        self.write(durability, |_, meta| {
            meta.insert(key, bytes.as_slice())?;
            Ok(())
        })
    }

    /// Stores `value` under `key` if `replaces` says so of the value there.
    pub fn put_if<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        value: &T,
        replaces: impl FnOnce(&T) -> bool,
    ) -> Result<(), DiskError> {
        let bytes = thalweg_wire::encode(value)?;
        self.write(Durability::Immediate, |_, meta| {
            let replaced = match meta.get(key)? {
                Some(bytes) => {
                    let before = thalweg_wire::decode(bytes.value());
                    replaces(&before.map_err(|error| Failure(error.into()))?)
                }
                None => true,
            };
            if replaced {
                meta.insert(key, bytes.as_slice())?;
            }
            Ok(())
        })
    }

    /// Appends encoded entries, all or none.
    pub fn append(&self, entries: &[(u64, Vec<u8>)]) -> Result<(), DiskError> {
        self.write(Durability::Immediate, |log, _| {
            for (index, bytes) in entries {
                log.insert(index, bytes.as_slice())?;
            }
            Ok(())
        })
    }

    /// Deletes the entries in `range`, and stores `mark` under `key` in the same transaction.
    pub fn delete<T: Serialize>(
        &self,
        range: impl RangeBounds<u64>,
        mark: Option<(&str, &T)>,
    ) -> Result<(), DiskError> {
        let mark = match mark {
            Some((key, value)) => Some((key, thalweg_wire::encode(value)?)),
            None => None,
        };
        self.write(Durability::Immediate, |log, meta| {
            log.retain_in(range, |_, _| false)?;
            if let Some((key, bytes)) = &mark {
                meta.insert(*key, bytes.as_slice())?;
            }
            Ok(())
        })
    }

    /// Returns the value under `key`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, DiskError> {
        let transaction = self.database.begin_read().map_err(Failure::from)?;
        let meta = transaction.open_table(META).map_err(Failure::from)?;
        let Some(bytes) = meta.get(key).map_err(Failure::from)? else {
            return Ok(None);
        };
        Ok(Some(thalweg_wire::decode(bytes.value())?))
    }

    /// Returns entries of `range` in order: the first, and more while they stay within `bytes_max`.
    pub fn entries<T: DeserializeOwned>(
        &self,
        range: impl RangeBounds<u64>,
        bytes_max: usize,
    ) -> Result<Vec<T>, DiskError> {
        let transaction = self.database.begin_read().map_err(Failure::from)?;
        let log = transaction.open_table(LOG).map_err(Failure::from)?;
        let mut entries = Vec::new();
        let mut bytes_total = 0;
        for row in log.range(range).map_err(Failure::from)? {
            let (_, bytes) = row.map_err(Failure::from)?;
            bytes_total += bytes.value().len();
            if bytes_total > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(thalweg_wire::decode(bytes.value())?);
        }
        Ok(entries)
    }

    /// Returns the last entry.
    pub fn last_entry<T: DeserializeOwned>(&self) -> Result<Option<T>, DiskError> {
        let transaction = self.database.begin_read().map_err(Failure::from)?;
        let log = transaction.open_table(LOG).map_err(Failure::from)?;
        let Some((_, bytes)) = log.last().map_err(Failure::from)? else {
            return Ok(None);
        };
        Ok(Some(thalweg_wire::decode(bytes.value())?))
    }

    fn write(
        &self,
        durability: Durability,
        change: impl FnOnce(&mut Log<'_>, &mut Meta<'_>) -> Result<(), Failure>,
    ) -> Result<(), DiskError> {
        let mut transaction = self.database.begin_write().map_err(Failure::from)?;
        transaction.set_durability(durability).map_err(Failure::from)?;
        {
            let mut log = transaction.open_table(LOG).map_err(Failure::from)?;
            let mut meta = transaction.open_table(META).map_err(Failure::from)?;
            change(&mut log, &mut meta)?;
        }
        transaction.commit().map_err(Failure::from)?;
        Ok(())
    }
}

impl Closed {
    /// Waits until the last owner let go of the file.
    pub async fn wait(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

type Log<'t> = redb::Table<'t, u64, &'static [u8]>;
type Meta<'t> = redb::Table<'t, &'static str, &'static [u8]>;

/// Gathers the library's error types, which share one parent only.
struct Failure(DiskError);

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(DiskError::Access(Box::new(error.into())))
    }
}

impl From<Failure> for DiskError {
    fn from(Failure(error): Failure) -> Self {
        error
    }
}
