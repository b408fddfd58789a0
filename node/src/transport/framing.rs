//! Frames and parcels on QUIC streams.
//!
//! ```text
//! frame   = prefix (16 bytes) | header | payload      one-way streams and the control stream
//! parcel  = tag u8 | length u32 LE | body             calls and their answers
//! ```
//!
//! Every length is checked before memory is set aside for what follows it.

use bytes::Bytes as Buffer;
use quinn::{ReadExactError, RecvStream, SendStream};
use thalweg_wire::{Bytes, Frame, FrameError, Kind, Message, PREFIX_BYTES, Prefix};

use super::error::LinkError;

/// Bytes before a parcel's body.
const PARCEL_HEAD_BYTES: usize = 5;
/// Memory set aside for a parcel before its bytes arrive. The rest grows with what is received.
const PARCEL_RESERVE_BYTES: usize = 64 << 10;

/// A frame ready for a stream.
#[derive(Debug)]
pub(super) struct Packet {
    head: Buffer,
    payload: Buffer,
}

impl Packet {
    /// Encodes prefix and header. The payload is shared, not copied.
    pub(super) fn new(frame: Frame) -> Result<Self, FrameError> {
        Ok(Self { head: frame.head()?, payload: frame.payload })
    }

    /// Writes the frame. Waits while the peer's stream window is full.
    pub(super) async fn write(self, stream: &mut SendStream) -> Result<(), LinkError> {
        let mut chunks = [self.head, self.payload];
        let used = if chunks[1].is_empty() { 1 } else { 2 };
        Ok(stream.write_all_chunks(&mut chunks[..used]).await?)
    }
}

/// Reads the next frame, or `None` where the stream ends.
///
/// `admit` sees the message and what the frame costs in credit before memory is set aside for the
/// payload.
pub(super) async fn read_frame(
    stream: &mut RecvStream,
    admit: impl FnOnce(&Message, Bytes) -> Result<(), LinkError>,
) -> Result<Option<Frame>, LinkError> {
    let mut prefix = [0; PREFIX_BYTES];
    match stream.read_exact(&mut prefix).await {
        Ok(()) => {}
        Err(ReadExactError::FinishedEarly(0)) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let prefix = Prefix::parse(&prefix)?;
    let mut header = vec![0; prefix.header_bytes as usize];
    stream.read_exact(&mut header).await?;
    let mut frame = Frame::assemble(prefix, &header, Buffer::new())?;
    admit(&frame.message, credit_cost(prefix.kind, prefix.payload_bytes))?;
    if prefix.payload_bytes > 0 {
        let bytes = usize::try_from(prefix.payload_bytes).expect("limits of kinds fit in memory");
        let mut payload = vec![0; bytes];
        stream.read_exact(&mut payload).await?;
        frame.payload = payload.into();
    }
    Ok(Some(frame))
}

/// Reads a frame of the handshake, which may carry no payload.
pub(super) async fn read_greeting(stream: &mut RecvStream) -> Result<Message, LinkError> {
    let frame = read_frame(stream, |_, _| Ok(())).await?;
    Ok(frame.ok_or(LinkError::Truncated)?.message)
}

/// What a frame costs in credit: the same on both sides (see [`Frame::credit_bytes`]).
fn credit_cost(kind: Kind, payload_bytes: u64) -> Bytes {
    Bytes(payload_bytes + u64::from(kind.header_bytes_max()))
}

/// Writes a parcel and ends the stream.
pub(super) async fn write_parcel(
    stream: &mut SendStream,
    tag: u8,
    body: Buffer,
) -> Result<(), LinkError> {
    let length = u32::try_from(body.len()).expect("callers check bodies against their limits");
    let mut head = Vec::with_capacity(PARCEL_HEAD_BYTES);
    head.push(tag);
    head.extend_from_slice(&length.to_le_bytes());
    let mut chunks = [Buffer::from(head), body];
    let used = if chunks[1].is_empty() { 1 } else { 2 };
    stream.write_all_chunks(&mut chunks[..used]).await?;
    stream.finish().map_err(|_| LinkError::Cancelled)
}

/// Reads a parcel: its tag and its body of at most `limit(tag)`.
pub(super) async fn read_parcel(
    stream: &mut RecvStream,
    limit: impl FnOnce(u8) -> Result<Bytes, LinkError>,
) -> Result<(u8, Buffer), LinkError> {
    let mut head = [0; PARCEL_HEAD_BYTES];
    stream.read_exact(&mut head).await?;
    let [tag, length @ ..] = head;
    let length = u32::from_le_bytes(length);
    let (found, max) = (Bytes(u64::from(length)), limit(tag)?);
    if found > max {
        return Err(LinkError::TooLong { found, max });
    }
    let mut missing = length as usize;
    let mut body = Vec::with_capacity(missing.min(PARCEL_RESERVE_BYTES));
    while missing > 0 {
        let chunk = stream.read_chunk(missing, true).await?.ok_or(LinkError::Truncated)?;
        missing -= chunk.bytes.len();
        body.extend_from_slice(&chunk.bytes);
    }
    Ok((tag, body.into()))
}
