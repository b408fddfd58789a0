//! Frames: a fixed prefix, a bounded header, a raw payload.
//!
//! ```text
//!  0       2         3      4               8                        16
//!  +-------+---------+------+---------------+------------------------+--------+---------+
//!  | magic | version | kind | header length | payload length         | header | payload |
//!  +-------+---------+------+---------------+------------------------+--------+---------+
//!    u16 LE  u8        u8     u32 LE          u64 LE                   bincode  raw
//! ```
//!
//! A receiver reads the prefix, checks it against the limits of its kind, and only then sets memory
//! aside for the rest.

use bytes::Bytes as Buffer;

use crate::codec::{CodecError, decode, encode};
use crate::message::{Kind, Message};

/// Version of the protocol. Peers of different versions refuse each other.
pub const PROTOCOL_VERSION: u8 = 2;
/// Size of a frame's prefix.
pub const PREFIX_BYTES: usize = 16;
/// "TW", so that a stray peer is told apart from a damaged one.
const MAGIC: u16 = u16::from_le_bytes(*b"TW");

/// The first bytes of a frame, checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Prefix {
    /// What the frame is.
    pub kind: Kind,
    /// Size of the header that follows.
    pub header_bytes: u32,
    /// Size of the payload after the header.
    pub payload_bytes: u64,
}

/// A message and its payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// What is said.
    pub message: Message,
    /// Raw bytes that belong to it; empty for most kinds.
    pub payload: Buffer,
}

/// Bytes that are no frame of this protocol.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Not our protocol at all.
    #[error("frame starts with {found:#06x}, not with {MAGIC:#06x}")]
    Magic {
        /// The first two bytes.
        found: u16,
    },
    /// A peer of another version.
    #[error("peer speaks protocol version {found}, this host speaks {PROTOCOL_VERSION}")]
    Version {
        /// The peer's version.
        found: u8,
    },
    /// A kind this version does not know.
    #[error("frame kind {found} is unknown")]
    Kind {
        /// The number found.
        found: u8,
    },
    /// A header above the limit of its kind.
    #[error("{kind:?} header of {found} bytes is above the limit of {max}")]
    Header {
        /// What the frame claims to be.
        kind: Kind,
        /// Claimed size.
        found: u32,
        /// Limit.
        max: u32,
    },
    /// A payload above the limit of its kind.
    #[error("{kind:?} payload of {found} bytes is above the limit of {max}")]
    Payload {
        /// What the frame claims to be.
        kind: Kind,
        /// Claimed size.
        found: u64,
        /// Limit.
        max: u64,
    },
    /// A header that does not decode.
    #[error("{kind:?} header is damaged")]
    Damaged {
        /// What the frame claims to be.
        kind: Kind,
        /// Why it does not decode.
        #[source]
        source: CodecError,
    },
}

impl Prefix {
    /// Reads and checks a prefix.
    ///
    /// # Errors
    ///
    /// If the bytes are not a prefix of this version with sizes within the limits of their kind.
    pub fn parse(bytes: &[u8; PREFIX_BYTES]) -> Result<Self, FrameError> {
        let [m0, m1, version, kind, h0, h1, h2, h3, payload @ ..] = *bytes;
        let magic = u16::from_le_bytes([m0, m1]);
        if magic != MAGIC {
            return Err(FrameError::Magic { found: magic });
        }
        if version != PROTOCOL_VERSION {
            return Err(FrameError::Version { found: version });
        }
        let kind = Kind::from_number(kind).ok_or(FrameError::Kind { found: kind })?;
        let header_bytes = u32::from_le_bytes([h0, h1, h2, h3]);
        let payload_bytes = u64::from_le_bytes(payload);
        let prefix = Self { kind, header_bytes, payload_bytes };
        prefix.check()?;
        Ok(prefix)
    }

    /// Returns the bytes that [`parse`](Self::parse) reads.
    pub fn to_bytes(self) -> [u8; PREFIX_BYTES] {
        let mut bytes = [0; PREFIX_BYTES];
        bytes[0..2].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[2] = PROTOCOL_VERSION;
        bytes[3] = self.kind as u8;
        bytes[4..8].copy_from_slice(&self.header_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes
    }

    fn check(self) -> Result<(), FrameError> {
        let Self { kind, header_bytes, payload_bytes } = self;
        if header_bytes > kind.header_bytes_max() {
            let max = kind.header_bytes_max();
            return Err(FrameError::Header { kind, found: header_bytes, max });
        }
        if payload_bytes > kind.payload_bytes_max() {
            let max = kind.payload_bytes_max();
            return Err(FrameError::Payload { kind, found: payload_bytes, max });
        }
        Ok(())
    }
}

impl Frame {
    /// Creates a frame without payload.
    pub fn bare(message: Message) -> Self {
        Self { message, payload: Buffer::new() }
    }

    /// Returns prefix and header as one buffer; the payload is sent after it as it is.
    ///
    /// # Errors
    ///
    /// If header or payload exceed the limits of their kind: the receiver would refuse them.
    pub fn head(&self) -> Result<Buffer, FrameError> {
        let kind = self.message.kind();
        let header =
            encode_header(&self.message).map_err(|source| FrameError::Damaged { kind, source })?;
        let header_bytes = u32::try_from(header.len()).unwrap_or(u32::MAX);
        let prefix = Prefix { kind, header_bytes, payload_bytes: self.payload.len() as u64 };
        prefix.check()?;
        let mut head = Vec::with_capacity(PREFIX_BYTES + header.len());
        head.extend_from_slice(&prefix.to_bytes());
        head.extend_from_slice(&header);
        Ok(head.into())
    }

    /// Size on the wire, prefix and header estimated: what credits count.
    pub fn credit_bytes(&self) -> u64 {
        self.payload.len() as u64 + u64::from(self.message.kind().header_bytes_max())
    }

    /// Reads the header of a frame whose prefix was checked.
    ///
    /// # Errors
    ///
    /// If the header is not exactly one message of the prefix's kind.
    pub fn assemble(prefix: Prefix, header: &[u8], payload: Buffer) -> Result<Self, FrameError> {
        let kind = prefix.kind;
        let message =
            decode_header(kind, header).map_err(|source| FrameError::Damaged { kind, source })?;
        Ok(Self { message, payload })
    }
}

fn encode_header(message: &Message) -> Result<Vec<u8>, CodecError> {
    match message {
        Message::Hello(it) | Message::HelloAck(it) => encode(it),
        Message::Heartbeat(it) => encode(it),
        Message::Credit(it) => encode(it),
        Message::Open(it) => encode(it),
        Message::Activations(it) => encode(it),
        Message::Token(it) => encode(it),
        Message::Release(it) => encode(it),
        Message::Refuse(it) => encode(it),
    }
}

fn decode_header(kind: Kind, header: &[u8]) -> Result<Message, CodecError> {
    Ok(match kind {
        Kind::Hello => Message::Hello(decode(header)?),
        Kind::HelloAck => Message::HelloAck(decode(header)?),
        Kind::Heartbeat => Message::Heartbeat(decode(header)?),
        Kind::Credit => Message::Credit(decode(header)?),
        Kind::Open => Message::Open(decode(header)?),
        Kind::Activations => Message::Activations(decode(header)?),
        Kind::Token => Message::Token(decode(header)?),
        Kind::Release => Message::Release(decode(header)?),
        Kind::Refuse => Message::Refuse(decode(header)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Activations, Attempt, Bytes, Candidate, Class, Credit, DType, Epoch, Finish, Heartbeat,
        Hello, Hop, HostId, LayerRange, ModelId, Open, Phase, Refusal, Refuse, Release, RequestId,
        Route, Sampling, Token,
    };
    use proptest::prelude::*;

    fn one_of_each() -> Vec<Message> {
        let request = RequestId { gateway: HostId(1), incarnation: 2, counter: 3 };
        let attempt = Attempt(4);
        let layers = LayerRange::new(0, 30).expect("not empty");
        let route = Route::new(vec![Hop { host: HostId(9), layers }]).expect("one hop");
        let hello = Hello {
            host: HostId(1),
            name: "h1".into(),
            incarnation: 7,
            model: ModelId([3; 32]),
            address: "127.0.0.1:9".into(),
        };
        let sampled = Candidate { token: 11, logprob: -0.5 };
        vec![
            Message::Hello(hello.clone()),
            Message::HelloAck(hello),
            Message::Heartbeat(Heartbeat {
                epoch: Epoch(1),
                kv_free_tokens: 300,
                requests: 2,
                queue_us: 40_000,
            }),
            Message::Credit(Credit { class: Class::Decode, bytes: Bytes(65_536) }),
            Message::Open(Open {
                request,
                attempt,
                epoch: Epoch(1),
                route,
                sampling: Sampling::default(),
                prompt_tokens: 2,
                arrived_us: 1 << 50,
                priority: Open::PRIORITY_DEFAULT,
                tenant: 5,
                cached_tokens: 1,
            }),
            Message::Activations(Activations {
                request,
                attempt,
                first_position: 16,
                count: 2,
                hidden: 2,
                dtype: DType::F32,
                phase: Phase::Prefill,
                sample: true,
                step: 7,
                step_frames: 3,
            }),
            Message::Token(Token {
                request,
                attempt,
                position: 18,
                sampled,
                top: vec![sampled],
                finish: Some(Finish::Stop),
            }),
            Message::Release(Release { request, attempt }),
            Message::Refuse(Refuse { request, attempt, reason: Refusal::NoRoom }),
        ]
    }

    fn reassemble(head: &[u8], payload: Buffer) -> Result<Frame, FrameError> {
        let (prefix, header) = head.split_first_chunk().expect("a head has a prefix");
        Frame::assemble(Prefix::parse(prefix)?, header, payload)
    }

    #[test]
    fn every_kind_survives_the_wire() {
        let messages = one_of_each();
        assert_eq!(messages.len(), Kind::ALL.len(), "a kind is missing from this test");
        for message in messages {
            let room = message.kind().payload_bytes_max().min(16) as usize;
            let frame = Frame { message, payload: Buffer::from(vec![1u8; room]) };
            let head = frame.head().expect("within limits");
            assert_eq!(reassemble(&head, frame.payload.clone()).expect("own frame"), frame);
        }
    }

    #[test]
    fn bytes_on_the_wire_are_golden() {
        // A successor of the codec must produce these bytes, or raise PROTOCOL_VERSION.
        let golden = include_str!("../golden/frames.txt");
        let heads: String = one_of_each()
            .into_iter()
            .map(|message| {
                let kind = message.kind();
                let head = Frame::bare(message).head().expect("within limits");
                let hex: String = head.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{kind:?} {hex}\n")
            })
            .collect();
        assert_eq!(heads, golden);
    }

    #[test]
    fn hostile_lengths_are_refused_before_allocation() {
        let prefix = Prefix { kind: Kind::Activations, header_bytes: 10, payload_bytes: 1 << 60 };
        let error = Prefix::parse(&prefix.to_bytes()).expect_err("an exbibyte");
        assert!(error.to_string().contains("1152921504606846976 bytes"), "{error}");
        let prefix = Prefix { kind: Kind::Open, header_bytes: u32::MAX, payload_bytes: 0 };
        assert!(matches!(Prefix::parse(&prefix.to_bytes()), Err(FrameError::Header { .. })));
    }

    #[test]
    fn another_version_is_named() {
        let good = Prefix { kind: Kind::Release, header_bytes: 10, payload_bytes: 0 };
        let mut bytes = good.to_bytes();
        bytes[2] = 9;
        let error = Prefix::parse(&bytes).expect_err("version 9");
        assert_eq!(error.to_string(), "peer speaks protocol version 9, this host speaks 2");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(prefix: [u8; PREFIX_BYTES], header: Vec<u8>) {
            if let Ok(prefix) = Prefix::parse(&prefix) {
                let _outcome = Frame::assemble(prefix, &header, Buffer::new());
            }
            for kind in Kind::ALL {
                let _outcome = decode_header(kind, &header);
            }
        }
    }
}
