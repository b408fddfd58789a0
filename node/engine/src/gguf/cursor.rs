//! Reading a header front to back without ever passing its end.

use super::GgufError;

/// A position in a file's bytes.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Takes the next `needed` bytes; `what` names them in an error.
    pub(crate) fn take(&mut self, needed: u64, what: &str) -> Result<&'a [u8], GgufError> {
        let left = self.left();
        if needed > left {
            let (what, at) = (what.to_owned(), self.position());
            return Err(GgufError::Truncated { what, at, needed, left });
        }
        // Not above `left`, which is the length of a slice.
        let end = self.at + needed as usize;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// Takes the next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        let bytes = self.take(N as u64, what)?;
        Ok(bytes.try_into().expect("exactly N bytes were taken"))
    }

    /// Takes a 32-bit number.
    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// Takes a 64-bit number.
    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Takes a string with its length in front.
    pub(crate) fn string(&mut self, what: &str) -> Result<&'a str, GgufError> {
        let length = self.u64(what)?;
        let at = self.position();
        let bytes = self.take(length, what)?;
        str::from_utf8(bytes).map_err(|_| GgufError::Text { what: what.to_owned(), at })
    }

    /// Bytes before the position.
    pub(crate) fn position(&self) -> u64 {
        self.at as u64
    }

    /// Bytes after the position.
    pub(crate) fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }
}
