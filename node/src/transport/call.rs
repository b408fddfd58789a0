//! Calls: a question and its answer on a two-way stream of their own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes as Buffer;
use quinn::{RecvStream, SendStream};
use thalweg_wire::{BitsPerSecond, Bytes, Class, HostId, LinkMeasure};

use super::Handlers;
use super::error::{CallError, LinkError, peer_words};
use super::framing::{read_parcel, write_parcel};
use super::link::Link;
use super::shared::Shared;

/// Time an answer may take. Longer than any election time-out, shorter than a user's patience.
const CALL_TIME_MAX: Duration = Duration::from_secs(10);
/// Largest answer to any call.
const ANSWER_BYTES_MAX: Bytes = Bytes::mib(4);
/// Largest refusal in words.
const REFUSAL_BYTES_MAX: Bytes = Bytes(4 << 10);
/// Small calls from which the shortest round trip is taken.
const PROBE_ECHOES: usize = 5;
/// Sizes of bulk transfers from which the highest rate is taken.
const PROBE_BULK_BYTES: [usize; 4] = [64 << 10, 256 << 10, 1 << 20, 4 << 20];
/// A transfer that took this long measured the link; a larger one would only burden it.
const PROBE_TIME_MAX: Duration = Duration::from_millis(250);

/// What a call asks for. Numbers are never reused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum CallKind {
    /// A message of the consensus protocol.
    Raft = 1,
    /// A command for the leader.
    Propose = 2,
    /// Who the host is linked to, by name and address.
    Peers = 3,
    /// The body comes back. Answered by the transport.
    Echo = 4,
    /// The body is counted and thrown away. Answered by the transport.
    Bulk = 5,
    /// The host's metrics.
    Metrics = 6,
}

impl CallKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Raft, Self::Propose, Self::Peers, Self::Echo, Self::Bulk, Self::Metrics];

    /// Largest body of this kind, checked before memory is set aside for it.
    pub const fn body_bytes_max(self) -> Bytes {
        match self {
            Self::Raft | Self::Bulk => Bytes::mib(4),
            Self::Propose => Bytes::mib(1),
            Self::Peers | Self::Echo | Self::Metrics => Bytes(64 << 10),
        }
    }

    fn from_number(number: u8) -> Result<Self, LinkError> {
        let kind = Self::ALL.into_iter().find(|&kind| kind as u8 == number);
        kind.ok_or(LinkError::UnknownCall { found: number })
    }

    /// Priority of its streams: consensus beside heartbeats, measurements behind everything.
    const fn priority(self) -> i32 {
        match self {
            Self::Raft | Self::Propose | Self::Echo => Class::Control.priority(),
            Self::Peers | Self::Metrics => Class::Kv.priority(),
            Self::Bulk => Class::Weights.priority(),
        }
    }
}

/// First byte of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
enum Verdict {
    Answered = 0,
    Refused = 1,
}

/// Asks the peer of `link`, and waits for the answer.
pub(super) async fn call(link: &Link, kind: CallKind, body: Buffer) -> Result<Buffer, CallError> {
    let host = link.peer.host;
    let (found, max) = (Bytes(body.len() as u64), kind.body_bytes_max());
    if found > max {
        return Err(CallError::TooLong { found, max });
    }
    let answer = tokio::time::timeout(CALL_TIME_MAX, ask(link, kind, body));
    let answer = answer.await.map_err(|_| CallError::TimedOut { host, after: CALL_TIME_MAX })?;
    let lost = |error: LinkError| CallError::Lost { host, reason: error.text() };
    match answer.map_err(lost)? {
        (Verdict::Answered, body) => Ok(body),
        (Verdict::Refused, body) => Err(CallError::Refused { host, message: peer_words(&body) }),
    }
}

/// Measures round trip and rate towards the peer of `link`.
pub(super) async fn probe(link: &Link) -> Result<LinkMeasure, CallError> {
    let mut rtt = Duration::MAX;
    for _ in 0..PROBE_ECHOES {
        let start = Instant::now();
        call(link, CallKind::Echo, Buffer::from_static(&[0; 16])).await?;
        rtt = rtt.min(start.elapsed());
    }
    let mut bandwidth = BitsPerSecond(0);
    for bytes in PROBE_BULK_BYTES {
        let start = Instant::now();
        call(link, CallKind::Bulk, vec![0; bytes].into()).await?;
        let elapsed = start.elapsed();
        bandwidth = bandwidth.max(rate(bytes, elapsed.saturating_sub(rtt)));
        if elapsed > PROBE_TIME_MAX {
            break;
        }
    }
    let rtt_us = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
    Ok(LinkMeasure { to: link.peer.host, rtt_us, bandwidth })
}

/// Answers one call of the peer, or ends the link if the call breaks the rules.
pub(super) async fn serve_call(
    shared: Arc<Shared>,
    link: Arc<Link>,
    (mut send, mut recv): (SendStream, RecvStream),
) {
    let limit = |number| CallKind::from_number(number).map(CallKind::body_bytes_max);
    let served = async {
        let (number, body) = read_parcel(&mut recv, limit).await?;
        let kind = CallKind::from_number(number)?;
        let priority = send.set_priority(kind.priority());
        priority.map_err(|_| LinkError::Cancelled)?;
        let (verdict, body) = answer(link.peer.host, kind, body, &shared.handlers).await;
        write_parcel(&mut send, verdict as u8, body).await
    };
    match served.await {
        // A caller that lost interest, or the link's end, which its driver sees too.
        Ok(()) | Err(LinkError::Connection(_) | LinkError::Cancelled) => {}
        Err(error) => link.close(&error),
    }
}

async fn answer(
    from: HostId,
    kind: CallKind,
    body: Buffer,
    handlers: &Handlers,
) -> (Verdict, Buffer) {
    let answer = match kind {
        CallKind::Echo => Ok(body),
        CallKind::Bulk => Ok(Buffer::new()),
        _ => (handlers.calls)(from, kind, body).await,
    };
    match answer {
        Ok(body) if body.len() as u64 <= ANSWER_BYTES_MAX.0 => (Verdict::Answered, body),
        Ok(body) => {
            let found = Bytes(body.len() as u64);
            let words = format!("answer of {found} is above the limit of {ANSWER_BYTES_MAX}");
            (Verdict::Refused, words.into())
        }
        Err(mut words) => {
            words.truncate(words.floor_char_boundary(REFUSAL_BYTES_MAX.0 as usize));
            (Verdict::Refused, words.into())
        }
    }
}

async fn ask(link: &Link, kind: CallKind, body: Buffer) -> Result<(Verdict, Buffer), LinkError> {
    let (mut send, mut recv) = link.connection.open_bi().await?;
    send.set_priority(kind.priority()).map_err(|_| LinkError::Cancelled)?;
    write_parcel(&mut send, kind as u8, body).await?;
    let limit = |verdict| match verdict {
        0 => Ok(ANSWER_BYTES_MAX),
        1 => Ok(REFUSAL_BYTES_MAX),
        found => Err(LinkError::UnknownCall { found }),
    };
    let (verdict, body) = read_parcel(&mut recv, limit).await?;
    let refused = verdict == Verdict::Refused as u8;
    Ok((if refused { Verdict::Refused } else { Verdict::Answered }, body))
}

/// Rounds down; a transfer too short for the clock counts as one microsecond.
fn rate(bytes: usize, time: Duration) -> BitsPerSecond {
    let rate = bytes as u128 * 8_000_000 / time.as_micros().max(1);
    BitsPerSecond(u64::try_from(rate).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_bits_over_seconds() {
        assert_eq!(rate(1 << 20, Duration::from_millis(1)), BitsPerSecond(8_388_608_000));
        assert_eq!(rate(125, Duration::ZERO), BitsPerSecond(1_000_000_000));
    }
}
