//! Read-only memory maps of weight files. The only unsafe code of the crate is here.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::{Mmap, UncheckedAdvice};

/// A file's bytes, brought in page by page as they are read.
#[derive(Debug)]
pub(crate) struct Map(Mmap);

impl Map {
    /// Maps a whole file.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened or mapped; an empty file cannot be mapped.
    #[expect(unsafe_code, reason = "a map of a file another process may truncate is never safe")]
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // JUSTIFICATION: a host that loads 4 of 30 layers reads only their pages, and a quantised
        // tensor is expanded straight from the page cache: no copy of the file in memory.
        // SAFETY: the map is read-only and private to this type, which hands out shared slices that
        // do not outlive it. The bytes are only ever read as `u8`, valid for any content. Nobody
        // writes to a model file in place: downloads appear by an atomic rename, which leaves the
        // mapped inode as it was. An outside truncation ends the process with SIGBUS.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self(map))
    }

    /// Gives back the memory of pages read so far; reading them again costs a page fault.
    ///
    /// Pages of a map count as memory of the process while they are in it.
    #[expect(unsafe_code, reason = "the advice drops pages, which is only sound for clean ones")]
    pub(crate) fn release(&self) {
        // JUSTIFICATION: without it a loaded model counts twice, as file pages and as F32.
        // SAFETY: the map is read-only and backed by a file, so no page is dirty: a dropped page
        // reads the same bytes again, also for slices borrowed at this moment.
        let outcome = unsafe { self.0.unchecked_advise(UncheckedAdvice::DontNeed) };
        // The kernel may decline; the pages then stay until memory is short.
        if let Err(error) = outcome {
            tracing::debug!(%error, "kernel keeps the pages of a weight file");
        }
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
