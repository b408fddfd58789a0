//! The authority's memory: one line per certificate it ever signed.
//!
//! ```text
//! <serial, 32 hexadecimal digits> <not after, seconds since 1970> <region> <name>
//! ```
//!
//! Host certificates may be moved to their hosts; without this list nobody could say later which
//! serial numbers belong to a name that must be revoked.

use std::fmt;

use rustls_pki_types::CertificateDer;

use crate::files::{self, FileError, Layout};
use crate::fingerprint::{hex, unhex};
use crate::identity::IdentityError;
use crate::moment::UnixSeconds;

/// Numbers one certificate. Drawn at random, so that two authorities' lists never collide.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Serial(pub(crate) [u8; 16]);

/// One line of the list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    pub(crate) serial: Serial,
    pub(crate) not_after: UnixSeconds,
    pub(crate) region: String,
    pub(crate) name: String,
}

impl Serial {
    /// Draws a number.
    pub(crate) fn random() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the system has a random source");
        // Positive and without leading zeros: the integer keeps its sixteen bytes when encoded.
        bytes[0] = bytes[0] & 0x3f | 0x40;
        Self(bytes)
    }

    /// Reads the number a certificate or list holds; `None` when this crate did not draw it.
    pub(crate) fn from_raw(raw: &[u8]) -> Option<Self> {
        raw.try_into().ok().map(Self)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// Returns the serial number and the last moment of a certificate.
pub(crate) fn serial_and_end(
    certificate: &CertificateDer<'_>,
) -> Result<(Option<Serial>, UnixSeconds), IdentityError> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|_| IdentityError::Unreadable)?;
    let end = UnixSeconds::from_timestamp(parsed.validity().not_after.timestamp());
    Ok((Serial::from_raw(parsed.raw_serial()), end))
}

/// Adds an entry. Call before the certificate leaves the process.
pub(crate) fn append(layout: &Layout, entry: &Entry) -> Result<(), FileError> {
    let Entry { serial, not_after, region, name } = entry;
    files::append_public(&layout.issued(), &format!("{serial} {} {region} {name}", not_after.0))
}

/// Reads every entry, oldest first. A directory without a list has issued nothing.
pub(crate) fn read(layout: &Layout) -> Result<Vec<Entry>, FileError> {
    let path = layout.issued();
    let text = match files::read_text(&path) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let parse = |(at, line): (usize, &str)| {
        parse(line).ok_or_else(|| {
            FileError::damaged(&path, format!("line {} is no certificate: {line:?}", at + 1))
        })
    };
    text.lines().enumerate().map(parse).collect()
}

fn parse(line: &str) -> Option<Entry> {
    let mut words = line.split(' ');
    let serial = Serial::from_raw(&unhex(words.next()?)?)?;
    let not_after = UnixSeconds(words.next()?.parse().ok()?);
    let (region, name) = (words.next()?.to_owned(), words.next()?.to_owned());
    words.next().is_none().then_some(Entry { serial, not_after, region, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_in_order() {
        let dir = tempfile::tempdir().expect("the system has a temporary directory");
        let layout = Layout::new(dir.path());
        assert_eq!(read(&layout).expect("no list is an empty list"), []);
        let entries: Vec<Entry> = ["h1", "h2"]
            .map(|name| Entry {
                serial: Serial::random(),
                not_after: UnixSeconds(7),
                region: "eu".into(),
                name: name.into(),
            })
            .into();
        entries.iter().for_each(|entry| append(&layout, entry).expect("writable"));
        assert_eq!(read(&layout).expect("just written"), entries);
    }

    #[test]
    fn damaged_line_is_named() {
        let dir = tempfile::tempdir().expect("the system has a temporary directory");
        let layout = Layout::new(dir.path());
        files::append_public(&layout.issued(), "junk").expect("writable");
        let error = read(&layout).expect_err("junk is no entry").to_string();
        assert!(error.ends_with("line 1 is no certificate: \"junk\""), "{error}");
    }
}
