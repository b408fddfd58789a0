//! The outstanding join tokens of an authority, one file each.
//!
//! A file is named by the hash of the token's secret, so that the directory admits nobody, and
//! removing the file is what uses the token up: of two requests with one token the file system
//! lets exactly one succeed.
//!
//! ```text
//! tokens/<hash>:  <expiry, seconds since 1970> <region or -> <name or ->
//! ```

use std::fs;
use std::io;

use crate::files::{self, FileError, Layout};
use crate::fingerprint::{hex, unhex};
use crate::moment::UnixSeconds;

/// Stands for "the joining host chooses"; no label is a lone hyphen.
const ANY: &str = "-";

/// A join token that was handed out and not used yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outstanding {
    /// Hash of its secret.
    pub hash: [u8; 32],
    /// First moment at which it is refused.
    pub expiry: UnixSeconds,
    /// The region it is for, if it is for one.
    pub region: Option<String>,
    /// The host name it is for, if it is for one.
    pub name: Option<String>,
}

/// Remembers a token.
pub(crate) fn add(layout: &Layout, token: &Outstanding) -> Result<(), FileError> {
    files::create_dir(&layout.tokens())?;
    let word = |field: &Option<String>| field.clone().unwrap_or_else(|| ANY.to_owned());
    let text = format!("{} {} {}\n", token.expiry.0, word(&token.region), word(&token.name));
    files::write_private(&layout.tokens().join(hex(&token.hash)), &text)
}

/// Looks a token up; `None` when it was never handed out, or used.
pub(crate) fn find(layout: &Layout, hash: [u8; 32]) -> Result<Option<Outstanding>, FileError> {
    let path = layout.tokens().join(hex(&hash));
    let text = match files::read_text(&path) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let token = parse(hash, &text);
    token.map(Some).ok_or_else(|| FileError::damaged(&path, "not the description of a token"))
}

/// Uses a token up. Returns whether it was there: only one of several callers hears `true`.
pub(crate) fn take(layout: &Layout, hash: [u8; 32]) -> Result<bool, FileError> {
    let path = layout.tokens().join(hex(&hash));
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(FileError::io("remove", &path)(error)),
    }
}

/// Lists every token, in the order of their hashes. Files with other names are left alone.
pub(crate) fn list(layout: &Layout) -> Result<Vec<Outstanding>, FileError> {
    let dir = layout.tokens();
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::io("read", &dir)(error)),
    };
    let mut tokens = Vec::new();
    for entry in entries {
        let name = entry.map_err(FileError::io("read", &dir))?.file_name();
        let hash = name.to_str().and_then(unhex).and_then(|bytes| bytes.try_into().ok());
        if let Some(hash) = hash {
            tokens.extend(find(layout, hash)?);
        }
    }
    tokens.sort_by_key(|token| token.hash);
    Ok(tokens)
}

/// Forgets the tokens that have expired at `now`.
pub(crate) fn prune(layout: &Layout, now: UnixSeconds) -> Result<(), FileError> {
    for token in list(layout)?.iter().filter(|token| token.expiry <= now) {
        take(layout, token.hash)?;
    }
    Ok(())
}

fn parse(hash: [u8; 32], text: &str) -> Option<Outstanding> {
    let mut words = text.split_ascii_whitespace();
    let expiry = UnixSeconds(words.next()?.parse().ok()?);
    let mut optional = || Some(Some(words.next()?.to_owned()).filter(|word| word != ANY));
    let (region, name) = (optional()?, optional()?);
    words.next().is_none().then_some(Outstanding { hash, expiry, region, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(number: u8, expiry: u64) -> Outstanding {
        let name = Some(format!("h{number}"));
        Outstanding { hash: [number; 32], expiry: UnixSeconds(expiry), region: None, name }
    }

    #[test]
    fn token_is_taken_once() {
        let dir = tempfile::tempdir().expect("the system has a temporary directory");
        let layout = Layout::new(dir.path());
        assert_eq!(list(&layout).expect("no directory is an empty list"), []);
        assert!(!take(&layout, [1; 32]).expect("nothing there is no failure"));
        for token in [token(2, 9), token(1, 9)] {
            add(&layout, &token).expect("writable");
        }
        assert_eq!(list(&layout).expect("readable"), [token(1, 9), token(2, 9)]);
        assert_eq!(
            [take(&layout, [1; 32]).ok(), take(&layout, [1; 32]).ok()],
            [Some(true), Some(false)]
        );
        assert_eq!(find(&layout, [1; 32]).expect("readable"), None);
        assert_eq!(find(&layout, [2; 32]).expect("readable"), Some(token(2, 9)));
    }

    #[test]
    fn expired_tokens_are_pruned() {
        let dir = tempfile::tempdir().expect("the system has a temporary directory");
        let layout = Layout::new(dir.path());
        for token in [token(1, 9), token(2, 10), token(3, 11)] {
            add(&layout, &token).expect("writable");
        }
        prune(&layout, UnixSeconds(10)).expect("writable");
        assert_eq!(list(&layout).expect("readable"), [token(3, 11)]);
    }
}
