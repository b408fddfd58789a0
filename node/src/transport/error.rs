//! What can go wrong between hosts, and how it is told to the other side.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use quinn::{ConnectError, ConnectionError, ReadError, ReadExactError, VarInt, WriteError};
use thalweg_wire::{Bytes, Class, FrameError, HostId, ModelId};

/// Characters of a peer's own words that are repeated, at most.
const PEER_WORDS_MAX: usize = 200;

/// Why an endpoint could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The UDP address is taken or not ours.
    #[error("cannot listen on UDP {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// QUIC needs a cipher suite that the TLS configuration lacks.
    #[error("TLS configuration lacks the cipher suite QUIC starts with")]
    Cipher(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    /// The caller is not inside a tokio runtime.
    #[error("transport was started outside a runtime")]
    Runtime(#[from] tokio::runtime::TryCurrentError),
}

/// Why a frame was not taken for sending.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no link to the host now.
    #[error("host {host} is not connected")]
    NotConnected {
        /// Who.
        host: HostId,
    },
    /// Too much waits for the host already.
    #[error("{queued} frames of class {class:?} wait for host {host} already")]
    Full {
        /// Who.
        host: HostId,
        /// Which class.
        class: Class,
        /// Frames that wait.
        queued: usize,
    },
    /// The frame exceeds the limits of its kind.
    #[error("frame cannot be sent")]
    Frame(#[from] FrameError),
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// There is no link to the host now.
    #[error("host {host} is not connected")]
    NotConnected {
        /// Who.
        host: HostId,
    },
    /// The link broke before the answer came.
    #[error("link to host {host} broke: {reason}")]
    Lost {
        /// Who.
        host: HostId,
        /// How.
        reason: String,
    },
    /// The host is connected but did not answer in time.
    #[error("host {host} did not answer within {} s", after.as_secs())]
    TimedOut {
        /// Who.
        host: HostId,
        /// How long was waited.
        after: Duration,
    },
    /// The body is above the limit of its kind.
    #[error("body of {found} is above the limit of {max}")]
    TooLong {
        /// Its size.
        found: Bytes,
        /// The limit.
        max: Bytes,
    },
    /// The host answered that it cannot.
    #[error("host {host} refused: {message}")]
    Refused {
        /// Who.
        host: HostId,
        /// In its own words.
        message: String,
    },
}

/// Why a link never came up, or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("address `{address}` does not resolve")]
    Unresolved {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("address `{address}` cannot be dialled")]
    Undiallable {
        address: String,
        #[source]
        source: ConnectError,
    },
    #[error("{}", describe(.0))]
    Connection(ConnectionError),
    #[error("no handshake within {} s", after.as_secs())]
    TimedOut { after: Duration },
    #[error("peer showed no certificate")]
    NoCertificate,
    #[error("peer's certificate names no host")]
    Certificate(#[source] thalweg_certs::IdentityError),
    #[error("peer claims to be `{claimed}`, its certificate says `{certified}`")]
    Identity { claimed: String, certified: String },
    #[error("peer serves model {found}, this host serves {own}")]
    Model { found: ModelId, own: ModelId },
    #[error("peer uses this host's own name")]
    OwnName,
    #[error("host was revoked")]
    Revoked,
    #[error("a newer process of the host is known: it started at {known} µs, this one at {found}")]
    Outdated { found: u64, known: u64 },
    #[error("another link to the host is up or coming up")]
    Duplicate,
    #[error("peer restarted")]
    Superseded,
    #[error("no sign of life")]
    Silent,
    #[error("peer leaves {queued} control frames unread")]
    Stalled { queued: usize },
    #[error("host was given up")]
    Forgotten,
    #[error("host stops")]
    Stopped,
    #[error("peer sent bytes that are no frame")]
    Frame(#[from] FrameError),
    #[error("peer sent {found:?} where {expected} belongs")]
    Unexpected { found: thalweg_wire::Kind, expected: &'static str },
    #[error("peer mixed requests or classes on one stream")]
    MixedStream,
    #[error("peer sent {excess} of class {class:?} beyond its credit")]
    Overdraft { class: Class, excess: Bytes },
    #[error("peer's message of {found} is above the limit of {max}")]
    TooLong { found: Bytes, max: Bytes },
    #[error("peer asked for service {found}, which does not exist")]
    UnknownCall { found: u8 },
    #[error("peer ended a stream in the middle of a message")]
    Truncated,
    #[error("peer cancelled a stream")]
    Cancelled,
}

impl LinkError {
    /// Code of the QUIC close frame. Numbers are never reused.
    pub(super) fn code(&self) -> VarInt {
        VarInt::from_u32(match self {
            Self::Stopped => 0,
            Self::Duplicate => Self::DUPLICATE,
            Self::Superseded | Self::Silent | Self::Stalled { .. } | Self::Forgotten => 2,
            Self::NoCertificate
            | Self::Certificate(_)
            | Self::Identity { .. }
            | Self::Model { .. }
            | Self::OwnName
            | Self::Revoked
            | Self::Outdated { .. } => 3,
            _ => 4,
        })
    }

    /// Whether the other side closed because another link to it is up or coming up.
    pub(super) fn is_duplicate(&self) -> bool {
        match self {
            Self::Duplicate => true,
            Self::Connection(ConnectionError::ApplicationClosed(close)) => {
                close.error_code == VarInt::from_u32(Self::DUPLICATE)
            }
            _ => false,
        }
    }

    /// The error and its causes in one line.
    pub(super) fn text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let _infallible = write!(text, ": {error}");
            cause = error.source();
        }
        text
    }

    const DUPLICATE: u32 = 1;
}

impl From<ConnectionError> for LinkError {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}

impl From<ReadError> for LinkError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => Self::Connection(error),
            _ => Self::Cancelled,
        }
    }
}

impl From<ReadExactError> for LinkError {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::FinishedEarly(_) => Self::Truncated,
            ReadExactError::ReadError(error) => error.into(),
        }
    }
}

impl From<WriteError> for LinkError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => Self::Connection(error),
            _ => Self::Cancelled,
        }
    }
}

/// Says in words how a connection ended.
pub(super) fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            format!("peer closed the link: {}", peer_words(&close.reason))
        }
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code.into()) {
            Some(words) => format!("peer refused this host's certificate or protocol: {words}"),
            None => format!("peer aborted: {}", close.error_code),
        },
        ConnectionError::TransportError(error) => match alert(error.code.into()) {
            Some(words) => format!("peer's TLS was refused: {words} ({})", error.reason),
            None => format!("QUIC failed: {error}"),
        },
        ConnectionError::TimedOut => "no packet for longer than the idle limit".into(),
        ConnectionError::Reset => "peer lost the connection's state: it restarted".into(),
        other => other.to_string(),
    }
}

/// What a TLS alert inside a QUIC error code means (RFC 9001, section 4.8; RFC 8446, section 6).
fn alert(code: u64) -> Option<&'static str> {
    const CRYPTO_ERROR: u64 = 0x100;
    Some(match code.checked_sub(CRYPTO_ERROR)? {
        40 => "handshake failed",
        42 => "bad certificate",
        44 => "certificate is revoked",
        45 => "certificate expired",
        46 => "certificate not acceptable",
        48 => "certificate of another authority",
        51 => "certificate not signed by this cluster's authority",
        116 => "certificate required",
        120 => "no common protocol version",
        _ => return None,
    })
}

/// A peer's words, shortened and without control characters, so that they are safe to log.
pub(super) fn peer_words(words: &[u8]) -> String {
    let words = String::from_utf8_lossy(words);
    words.chars().take(PEER_WORDS_MAX).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_peer_cannot_forge_log_lines() {
        assert_eq!(peer_words(b"gone\n2026 ERROR"), "gone\\n2026 ERROR");
        assert_eq!(peer_words(&[b'x'; 1000]).len(), PEER_WORDS_MAX);
    }

    #[test]
    fn causes_are_part_of_the_text() {
        let error = LinkError::Frame(FrameError::Version { found: 9 });
        assert_eq!(
            error.text(),
            "peer sent bytes that are no frame: peer speaks protocol version 9, this host speaks 2",
        );
    }
}
