//! The token an operator carries from the authority to a joining host.

use std::fmt;
use std::str::FromStr;

use crate::fields;
use crate::fingerprint::{Fingerprint, hex, sha256, unhex};
use crate::moment::UnixSeconds;

/// What every token starts with, so that secret scanners and operators know one on sight.
const PREFIX: &str = "thalweg-join-";
/// Version of the inside.
const VERSION: u8 = 1;
/// Bytes of SHA-256 at the end that tell a mistyped token from a refused one.
const CHECKSUM_BYTES: usize = 4;
/// Keeps the hash of a secret apart from any other use of SHA-256.
const HASH_CONTEXT: &[u8] = b"thalweg join token 1";

/// Permission for one host to join: where, to whom, and the secret that proves it.
///
/// Displays as one opaque word and parses from it. The word is a secret: print it for the operator
/// once and log it nowhere. `Debug` leaves the secret out.
#[derive(Clone, Eq, PartialEq)]
pub struct JoinToken {
    /// Where the enrolling host answers, `host:port`.
    pub address: String,
    /// Whose certificate that host must show.
    pub ca_fingerprint: Fingerprint,
    /// The name the new host must take; `None` leaves it the choice.
    pub name: Option<String>,
    /// The region the new host must stand in; `None` leaves it the choice.
    pub region: Option<String>,
    /// First moment at which the token is refused.
    pub expiry: UnixSeconds,
    pub(crate) secret: [u8; 32],
}

/// A word that is no token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TokenError {
    /// Something else altogether.
    #[error("a join token starts with `{PREFIX}`")]
    Foreign,
    /// Cut off or mistyped.
    #[error("join token is damaged: it was cut off or changed on the way")]
    Damaged,
    /// Made by another version of the program.
    #[error("join token has version {found}, this program reads version {VERSION}")]
    Version {
        /// Version of the token.
        found: u8,
    },
}

impl JoinToken {
    /// Returns what an authority and the replicated log know of the token: nothing that admits.
    pub fn hash(&self) -> [u8; 32] {
        hash_secret(&self.secret)
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![VERSION];
        fields::put(&mut bytes, self.address.as_bytes());
        fields::put(&mut bytes, &self.ca_fingerprint.0);
        fields::put(&mut bytes, &self.secret);
        fields::put(&mut bytes, &self.expiry.0.to_le_bytes());
        fields::put(&mut bytes, self.region.as_deref().unwrap_or_default().as_bytes());
        fields::put(&mut bytes, self.name.as_deref().unwrap_or_default().as_bytes());
        let checksum = sha256(&[&bytes]);
        write!(f, "{PREFIX}{}{}", hex(&bytes), hex(&checksum[..CHECKSUM_BYTES]))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Foreign)?;
        let bytes = unhex(digits).ok_or(TokenError::Damaged)?;
        let (bytes, checksum) =
            bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(TokenError::Damaged)?;
        if !sha256(&[bytes]).starts_with(checksum) {
            return Err(TokenError::Damaged);
        }
        match bytes.split_first() {
            Some((&VERSION, inside)) => parse(inside).ok_or(TokenError::Damaged),
            Some((&found, _)) => Err(TokenError::Version { found }),
            None => Err(TokenError::Damaged),
        }
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("address", &self.address)
            .field("ca_fingerprint", &self.ca_fingerprint)
            .field("name", &self.name)
            .field("region", &self.region)
            .field("expiry", &self.expiry)
            .finish_non_exhaustive()
    }
}

/// Hashes the secret of a token.
pub(crate) fn hash_secret(secret: &[u8]) -> [u8; 32] {
    sha256(&[HASH_CONTEXT, secret])
}

fn parse(inside: &[u8]) -> Option<JoinToken> {
    let [address, fingerprint, secret, expiry, region, name] = fields::split(inside)?;
    let text = |field: &[u8]| String::from_utf8(field.to_vec()).ok();
    let optional = |field| Some(Some(text(field)?).filter(|text| !text.is_empty()));
    Some(JoinToken {
        address: text(address)?,
        ca_fingerprint: Fingerprint(fingerprint.try_into().ok()?),
        name: optional(name)?,
        region: optional(region)?,
        expiry: UnixSeconds(u64::from_le_bytes(expiry.try_into().ok()?)),
        secret: secret.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            address: "10.0.0.1:7100".into(),
            ca_fingerprint: Fingerprint([7; 32]),
            name: None,
            region: Some("eu".into()),
            expiry: UnixSeconds(1_795_420_805),
            secret: [0xa5; 32],
        }
    }

    #[test]
    fn token_survives_its_word() {
        for name in [None, Some("h3".to_owned())] {
            let token = JoinToken { name, ..token() };
            assert_eq!(format!(" {token}\n").parse(), Ok(token));
        }
    }

    #[test]
    fn any_changed_or_missing_letter_is_noticed() {
        let word = token().to_string();
        for at in PREFIX.len()..word.len() {
            let other = if &word[at..=at] == "0" { "1" } else { "0" };
            let changed = format!("{}{other}{}", &word[..at], &word[at + 1..]);
            assert_eq!(changed.parse::<JoinToken>(), Err(TokenError::Damaged), "letter {at}");
            assert_eq!(word[..at].parse::<JoinToken>(), Err(TokenError::Damaged), "cut at {at}");
        }
        assert_eq!("hf_abc".parse::<JoinToken>(), Err(TokenError::Foreign));
    }

    #[test]
    fn other_versions_are_named() {
        let bytes = [2, 0, 0];
        let checksum = sha256(&[&bytes]);
        let word = format!("{PREFIX}{}{}", hex(&bytes), hex(&checksum[..CHECKSUM_BYTES]));
        assert_eq!(word.parse::<JoinToken>(), Err(TokenError::Version { found: 2 }));
    }

    #[test]
    fn debug_keeps_the_secret() {
        let text = format!("{:?}", token());
        assert!(text.contains("10.0.0.1:7100") && !text.contains("secret"), "{text}");
        assert!(!text.contains("165") && !text.contains("a5a5"), "{text}");
    }
}
