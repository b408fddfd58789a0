//! Reads a journal, and believes no length in it.

use std::io::{self, Read};

use serde::de::DeserializeOwned;
use thalweg_sim::replay::{Record, Setup};
use thalweg_wire::CodecError;

use super::PREFACE;

/// Bytes of a record at most: what the codec lets through.
const RECORD_BYTES_MAX: u32 = 1 << 20;
/// Bytes of the preface that name the kind of file.
const NAME_BYTES: usize = 8;

/// A file that is not a whole journal.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is something else.
    #[error("it does not begin as a journal does")]
    NotAJournal,
    /// It is of another format.
    #[error("it is a journal of format {found}, and this program reads format {known}")]
    Format {
        /// As the file says.
        found: u32,
        /// As this program writes.
        known: u32,
    },
    /// The file ends within a record.
    #[error("it breaks off at byte {offset}: {wanted} bytes should follow, and {found} do")]
    Truncated {
        /// Where these bytes should begin.
        offset: u64,
        /// How many should be there.
        wanted: u32,
        /// How many are.
        found: u32,
    },
    /// A record claims to be larger than any is.
    #[error(
        "at byte {offset} a record claims {bytes} bytes, more than the {RECORD_BYTES_MAX} of any"
    )]
    TooLong {
        /// Where the claim is.
        offset: u64,
        /// What it says.
        bytes: u32,
    },
    /// The bytes of a record are none.
    #[error("the {bytes} bytes from byte {offset} are no record")]
    Malformed {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        bytes: u32,
        /// Why it does not decode.
        source: CodecError,
    },
    /// The file cannot be read.
    #[error("reading at byte {offset} failed")]
    Io {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
}

/// Reads records one by one.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    offset: u64,
    body: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// Reads the begin of a journal.
    ///
    /// # Errors
    ///
    /// If it is not one of this format.
    pub fn open(input: R) -> Result<(Setup, Self), ReadError> {
        let mut reader = Self { input, offset: 0, body: Vec::new() };
        if reader.take(PREFACE.len() as u32)? < PREFACE.len() as u32
            || reader.body[..NAME_BYTES] != PREFACE[..NAME_BYTES]
        {
            return Err(ReadError::NotAJournal);
        }
        let format = |bytes: &[u8]| number(&bytes[NAME_BYTES..]);
        let (found, known) = (format(&reader.body), format(&PREFACE));
        if found != known {
            return Err(ReadError::Format { found, known });
        }
        let offset = reader.offset;
        let setup = reader.decode()?;
        let setup = setup.ok_or(ReadError::Truncated { offset, wanted: 4, found: 0 })?;
        Ok((setup, reader))
    }

    /// Reads the next record; `None` at the end of the file.
    ///
    /// # Errors
    ///
    /// If the file ends within a record, or holds something else.
    pub fn record(&mut self) -> Result<Option<Record>, ReadError> {
        self.decode()
    }

    fn decode<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ReadError> {
        let at = self.offset;
        let bytes = match self.take(4)? {
            0 => return Ok(None),
            4 => number(&self.body),
            found => return Err(ReadError::Truncated { offset: at, wanted: 4, found }),
        };
        if bytes > RECORD_BYTES_MAX {
            return Err(ReadError::TooLong { offset: at, bytes });
        }
        let offset = self.offset;
        let found = self.take(bytes)?;
        if found < bytes {
            return Err(ReadError::Truncated { offset, wanted: bytes, found });
        }
        let decoded = thalweg_wire::decode(&self.body);
        decoded.map(Some).map_err(|source| ReadError::Malformed { offset, bytes, source })
    }

    /// Reads `wanted` bytes into the body, or as many as there are. Returns how many.
    fn take(&mut self, wanted: u32) -> Result<u32, ReadError> {
        self.body.clear();
        let read = self.input.by_ref().take(u64::from(wanted)).read_to_end(&mut self.body);
        let found = read.map_err(|source| ReadError::Io { offset: self.offset, source })?;
        self.offset += found as u64;
        Ok(u32::try_from(found).expect("no more than was wanted"))
    }
}

/// The number in the first four bytes.
fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(*bytes.first_chunk().expect("the caller read them"))
}
