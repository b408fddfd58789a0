//! What the machines of this process saw and did, in order, in a file: enough to replay a run of a
//! real host, or its end, by `thalweg simulate replay`.
//!
//! ```text
//! preface (12 bytes) | Setup | record | record | ...     each behind its length, u32 little endian
//! ```
//!
//! Events carry handles, never tensors. Token ids are the users' text: unless asked for they are
//! zeroed, and then nothing is noted of what machines did that see them, because a digest of few
//! possible tokens gives them away.
//!
//! The file never stops the host: what cannot be written ends the journal, at the end of a record,
//! with a warning.

mod read;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;
use thalweg_core::machine::Time;
use thalweg_core::{conductor, gateway, liveness, stage};
use thalweg_sim::replay::{Did, Part, Record, Recorded, Seen, Setup, What};
use thalweg_wire::CodecError;

pub use read::{ReadError, Reader};

/// How a journal begins: a name, then the version of the format, which changes with any type inside.
const PREFACE: [u8; 12] = *b"THALWEGJ\x01\0\0\0";
/// How often what is pending is written.
const WRITE_EVERY: Duration = Duration::from_millis(250);
/// Records that wait for a slow disk, at most; more end the journal.
const PENDING_BYTES_MAX: usize = 64 << 20;
/// Size of the file at most; a longer journal ends. Hours of a busy host.
const FILE_BYTES_MAX: u64 = 8 << 30;

/// A record of this size can be read again. The codec's limit for readers is on what a value takes
/// in memory, so that a larger record has to be tried.
const SURE_BYTES_MAX: usize = 32 << 10;

/// An event that can be written down.
pub trait Redact {
    /// Replaces token ids by zeros, keeping their number.
    fn redact(&mut self);
}

/// Where the machines of this process note what they see and do, if asked to.
#[derive(Debug)]
pub struct Journal(Option<Arc<Sink>>);

/// A file that is written by a thread of its own, so that machines do not wait for the disk.
#[derive(Debug)]
struct Sink {
    keep_tokens: bool,
    path: PathBuf,
    pending: Mutex<Pending>,
    /// Told when the journal ends.
    ended: Condvar,
    file: Mutex<Written>,
}

/// Whole records that are not yet in the file.
#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    /// Bytes taken in since the start.
    total: u64,
    ended: bool,
}

#[derive(Debug)]
struct Written {
    file: File,
    /// Bytes of whole records.
    bytes: u64,
}

impl Journal {
    /// Notes nothing.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Begins a journal in a file. An older file of that name stays as `NAME.old`, because a host
    /// that was started again should not destroy the account of how it ended.
    ///
    /// # Errors
    ///
    /// If the file cannot be created. A disk that is full later ends the journal, not the host.
    pub fn create(path: &Path, setup: &Setup) -> io::Result<Self> {
        if path.is_file() {
            let mut old = path.as_os_str().to_owned();
            old.push(".old");
            fs::rename(path, old)?;
        }
        // Others on this machine need not read what users wrote.
        let file =
            File::options().create(true).truncate(true).write(true).mode(0o600).open(path)?;
        let sink = Arc::new(Sink {
            keep_tokens: setup.tokens_kept,
            path: path.to_owned(),
            pending: Mutex::default(),
            ended: Condvar::new(),
            file: Mutex::new(Written { file, bytes: 0 }),
        });
        sink.push(&PREFACE);
        sink.note(setup).map_err(io::Error::other)?;
        let writer = Arc::clone(&sink);
        thread::Builder::new().name("journal".into()).spawn(move || writer.write_on())?;
        let (last, report) = (Arc::clone(&sink), panic::take_hook());
        panic::set_hook(Box::new(move |panic| {
            // What a machine heard last is what its panic came of.
            last.write();
            report(panic);
        }));
        Ok(Self(Some(sink)))
    }

    /// Notes that a machine hears of an event, or that a deadline passed if there is none. Called
    /// before the machine is, so that an event that breaks it is there.
    pub fn seen<M: Recorded<Event: Redact>>(&self, at: Time, event: Option<&M::Event>) {
        let Some(sink) = &self.0 else { return };
        let mut what = event.cloned().map_or(What::Timeout, What::Event);
        if let What::Event(event) = &mut what
            && !sink.keep_tokens
        {
            event.redact();
        }
        if sink.note(&M::record(Seen { at, what })).is_err() {
            let gap = M::record(Seen { at, what: What::TooLarge });
            sink.note(&gap).expect("a few bytes can be encoded");
        }
    }

    /// What to add the effects of a machine to, before they are carried out; `None` if nobody
    /// wants to know.
    pub fn effects(&self, part: Part) -> Option<Did> {
        let sink = self.0.as_ref()?;
        (sink.keep_tokens || !part.sees_tokens()).then_some(Did::NOTHING)
    }

    /// Notes what a machine did about what it heard of.
    pub fn did(&self, part: Part, did: Option<Did>) {
        if let (Some(sink), Some(did)) = (&self.0, did) {
            sink.note(&Record::Did(part, did)).expect("a few bytes can be encoded");
        }
    }

    /// Ends the journal and writes the rest. Nothing is noted afterwards.
    pub fn close(&self) {
        let Some(sink) = &self.0 else { return };
        sink.note(&Record::Closed).expect("a few bytes can be encoded");
        sink.end();
        sink.write();
    }
}

impl Sink {
    /// Takes in a record. After the end nothing happens.
    fn note<T: Serialize + DeserializeOwned>(&self, record: &T) -> Result<(), CodecError> {
        let body = thalweg_wire::encode(record)?;
        if body.len() > SURE_BYTES_MAX {
            thalweg_wire::decode::<T>(&body)?;
        }
        let length = u32::try_from(body.len()).expect("the codec has a limit");
        let mut framed = length.to_le_bytes().to_vec();
        framed.extend(body);
        self.push(&framed);
        Ok(())
    }

    fn push(&self, bytes: &[u8]) {
        let mut pending = self.pending();
        if pending.ended {
            return;
        }
        let full = pending.bytes.len() + bytes.len() > PENDING_BYTES_MAX;
        let long = pending.total + bytes.len() as u64 > FILE_BYTES_MAX;
        if full || long {
            pending.ended = true;
            self.ended.notify_all();
            let (waiting_bytes, total_bytes) = (pending.bytes.len(), pending.total);
            drop(pending);
            let path = self.path.display();
            tracing::warn!(%path, waiting_bytes, total_bytes, "the journal is full and ends here");
            return;
        }
        pending.total += bytes.len() as u64;
        pending.bytes.extend_from_slice(bytes);
    }

    fn end(&self) {
        self.pending().ended = true;
        self.ended.notify_all();
    }

    /// Writes from time to time until the journal ends.
    fn write_on(&self) {
        loop {
            let going = |it: &mut Pending| !it.ended;
            let waited = self.ended.wait_timeout_while(self.pending(), WRITE_EVERY, going);
            let ended = waited.unwrap_or_else(PoisonError::into_inner).0.ended;
            self.write();
            if ended {
                return;
            }
        }
    }

    /// Writes what is pending.
    fn write(&self) {
        let mut written = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = std::mem::take(&mut self.pending().bytes);
        let Err(error) = written.file.write_all(&bytes) else {
            written.bytes += bytes.len() as u64;
            return;
        };
        // If even that fails, the reader says where the file breaks off.
        let _cut = written.file.set_len(written.bytes);
        self.end();
        self.pending().bytes = Vec::new();
        let path = self.path.display();
        tracing::warn!(%path, %error, "the journal cannot be written and ends here");
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the wall-clock time in microseconds since 1970, for incarnations and anchors.
pub fn wall_clock_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl Redact for stage::Event {
    fn redact(&mut self) {
        match self {
            Self::Open { tokens, .. } => tokens.fill(0),
            Self::Token(token) => {
                token.sampled.token = 0;
                token.top.clear();
            }
            Self::StepDone { outputs } => outputs.iter_mut().for_each(redact_output),
            _ => {}
        }
    }
}

fn redact_output(output: &mut stage::StepOutput) {
    if let stage::StepOutput::Sampled { sampled, top } = output {
        sampled.token = 0;
        top.clear();
    }
}

impl Redact for gateway::Event {
    fn redact(&mut self) {
        match self {
            Self::Submit { prompt, .. } => prompt.fill(0),
            Self::Token(token) => {
                token.sampled.token = 0;
                token.top.clear();
            }
            _ => {}
        }
    }
}

impl Redact for conductor::Event {
    fn redact(&mut self) {}
}

impl Redact for liveness::Event {
    fn redact(&mut self) {}
}
