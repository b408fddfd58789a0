//! One link: a connection whose both ends know each other, and the tasks that serve it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream};
use thalweg_wire::{Bytes, Class, Frame, Kind, Message, RequestId};
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};

use super::call::serve_call;
use super::error::{LinkError, SendError};
use super::framing::{Packet, read_frame};
use super::incoming::{Hold, Incoming};
use super::outgoing::{LaneKey, Next, Outgoing, Retired, control_packet};
use super::shared::Shared;
use super::{LinkEvent, Peer};

/// A stream of a request that carried nothing for this long is closed, in case nobody said that
/// the request ended.
const LANE_IDLE_MAX: Duration = Duration::from_secs(20);

/// A connection to a known peer.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: Peer,
    pub(super) connection: Connection,
    outgoing: Mutex<Outgoing>,
    incoming: Mutex<Incoming>,
    fresh: Notify,
    reason: OnceLock<String>,
}

/// Both halves of the control stream.
pub(super) type Control = (SendStream, RecvStream);

impl Link {
    pub(super) fn new(peer: Peer, connection: Connection) -> Arc<Self> {
        Arc::new(Self {
            peer,
            connection,
            outgoing: Mutex::new(Outgoing::new()),
            incoming: Mutex::new(Incoming::new()),
            fresh: Notify::new(),
            reason: OnceLock::new(),
        })
    }

    /// Queues a frame. Never waits.
    pub(super) fn send(&self, frame: Frame) -> Result<(), SendError> {
        let class = frame.message.class();
        let key = LaneKey::of(&frame.message);
        let bytes = frame.credit_bytes();
        let packet = Packet::new(frame)?;
        self.push(key, class, bytes, packet).map_err(|queued| SendError::Full {
            host: self.peer.host,
            class,
            queued,
        })
    }

    /// Closes the streams of a request once what waits for them is written.
    pub(super) fn close_request(&self, request: RequestId) {
        self.outgoing().close_request(request);
    }

    /// Frames that wait to be sent.
    pub(super) fn queued(&self) -> usize {
        self.outgoing().queued()
    }

    /// Gives credit back for a consumed frame.
    pub(super) fn consumed(&self, class: Class, bytes: Bytes) {
        let credit = self.incoming().consumed(class, bytes);
        if let Some(credit) = credit {
            self.push_control(Message::Credit(credit));
        }
    }

    /// Queues a message ahead of everything else. A peer that reads none of its control stream is
    /// cut off.
    pub(super) fn push_control(&self, message: Message) {
        let packet = control_packet(message);
        if let Err(queued) = self.push(LaneKey::Control, Class::Control, 0, packet) {
            self.close(&LinkError::Stalled { queued });
        }
    }

    /// Queues the first message of an accepted link.
    pub(super) fn push_greeting(&self, greeting: Packet) {
        let pushed = self.push(LaneKey::Control, Class::Control, 0, greeting);
        pushed.expect("nothing was queued before");
    }

    /// Ends the link. The first reason counts, and the peer is told.
    pub(super) fn close(&self, error: &LinkError) {
        let text = error.text();
        let _earlier_reason_stays = self.reason.set(text.clone());
        self.connection.close(error.code(), text.as_bytes());
    }

    /// Whether this end closed the link. It runs until its tasks have ended.
    pub(super) fn is_closing(&self) -> bool {
        self.reason.get().is_some()
    }

    fn push(&self, key: LaneKey, class: Class, bytes: u64, packet: Packet) -> Result<(), usize> {
        self.outgoing().push(key, class, bytes, packet)?;
        self.fresh.notify_one();
        Ok(())
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().expect("queue operations do not panic")
    }

    fn incoming(&self) -> MutexGuard<'_, Incoming> {
        self.incoming.lock().expect("credit operations do not panic")
    }
}

/// Serves a link until it ends: reports it up, reads and writes, reports it down.
pub(super) async fn run(shared: Arc<Shared>, link: Arc<Link>, control: Control) {
    (shared.handlers.events)(LinkEvent::Up(link.peer.clone()));
    let (control_send, control_recv) = control;
    let mut tasks = JoinSet::new();
    tasks.spawn(read_control(Arc::clone(&shared), Arc::clone(&link), control_recv));
    let mut control = Some(control_send);
    let closed = link.connection.closed();
    tokio::pin!(closed);
    let end = loop {
        while let Some((key, wake)) = fresh_lane(&link) {
            let stream = if key == LaneKey::Control { control.take() } else { None };
            tasks.spawn(write_lane(Arc::clone(&link), key, wake, stream));
        }
        tokio::select! {
            end = &mut closed => break end,
            () = link.fresh.notified() => {}
            stream = link.connection.accept_uni() => if let Ok(stream) = stream {
                tasks.spawn(read_lane(Arc::clone(&shared), Arc::clone(&link), stream));
            },
            streams = link.connection.accept_bi() => if let Ok(streams) = streams {
                tasks.spawn(serve_call(Arc::clone(&shared), Arc::clone(&link), streams));
            },
            Some(ended) = tasks.join_next() => propagate_panic(ended),
        }
    };
    tasks.shutdown().await;
    let own_reason = link.reason.get().cloned();
    let reason = own_reason.unwrap_or_else(|| LinkError::Connection(end).text());
    (shared.handlers.events)(LinkEvent::Down { host: link.peer.host, reason });
}

/// A panic of a task is a bug of ours and must not pass for a lost frame.
pub(super) fn propagate_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

fn fresh_lane(link: &Link) -> Option<(LaneKey, Arc<Notify>)> {
    link.outgoing().take_fresh()
}

/// Reads one stream of a request to its end, or ends the link.
async fn read_lane(shared: Arc<Shared>, link: Arc<Link>, mut stream: RecvStream) {
    let mut lane = None;
    loop {
        match read_lane_frame(&link, &mut stream, &mut lane).await {
            Ok(Some((frame, hold))) => {
                let from = link.peer.host;
                (shared.handlers.events)(LinkEvent::Frame { from, frame, hold });
            }
            Ok(None) | Err(LinkError::Connection(_) | LinkError::Cancelled) => return,
            Err(error) => return link.close(&error),
        }
    }
}

async fn read_lane_frame(
    link: &Arc<Link>,
    stream: &mut RecvStream,
    lane: &mut Option<LaneKey>,
) -> Result<Option<(Frame, Hold)>, LinkError> {
    let mut hold = None;
    let frame = read_frame(stream, |message, bytes| {
        let key = LaneKey::of(message);
        if key == LaneKey::Control {
            let expected = "a frame of a request";
            return Err(LinkError::Unexpected { found: message.kind(), expected });
        }
        if *lane.get_or_insert(key) != key {
            return Err(LinkError::MixedStream);
        }
        link.incoming().admit(message.class(), bytes)?;
        hold = Some(Hold::new(Arc::downgrade(link), message.class(), bytes));
        Ok(())
    });
    let frame = frame.await?;
    Ok(frame.zip(hold))
}

/// Reads the control stream, which lasts as long as the link.
async fn read_control(shared: Arc<Shared>, link: Arc<Link>, mut stream: RecvStream) {
    loop {
        match read_frame(&mut stream, |message, _| admit_control(message)).await {
            Ok(Some(Frame { message: Message::Credit(credit), .. })) => {
                link.outgoing().grant(credit);
                link.fresh.notify_one();
            }
            Ok(Some(frame)) => {
                shared.peers.note_release(&frame.message);
                let from = link.peer.host;
                let hold = Hold::new(Arc::downgrade(&link), Class::Control, Bytes(0));
                (shared.handlers.events)(LinkEvent::Frame { from, frame, hold });
            }
            Ok(None) => return link.close(&LinkError::Truncated),
            Err(LinkError::Connection(_)) => return,
            Err(error) => return link.close(&error),
        }
    }
}

fn admit_control(message: &Message) -> Result<(), LinkError> {
    let found = message.kind();
    match found {
        Kind::Hello | Kind::HelloAck => {
            Err(LinkError::Unexpected { found, expected: "a frame after the handshake" })
        }
        _ if LaneKey::of(message) != LaneKey::Control => {
            Err(LinkError::Unexpected { found, expected: "a control frame" })
        }
        _ => Ok(()),
    }
}

/// Writes one lane to its stream until nothing is left to write, or the link ends.
async fn write_lane(
    link: Arc<Link>,
    key: LaneKey,
    wake: Arc<Notify>,
    mut stream: Option<SendStream>,
) {
    loop {
        let written = match next_of(&link, key) {
            Next::Packet(packet) => write_packet(&link, key, &mut stream, packet).await,
            Next::Wait if key == LaneKey::Control => {
                wake.notified().await;
                continue;
            }
            Next::Wait => {
                if tokio::time::timeout(LANE_IDLE_MAX, wake.notified()).await.is_ok() {
                    continue;
                }
                close_stream(stream.take()).await
            }
            Next::Close => close_stream(stream.take()).await,
        };
        match written {
            Ok(()) if stream.is_some() => {}
            Ok(()) => {
                if link.outgoing().retire(key) == Retired::Done {
                    return;
                }
            }
            Err(LinkError::Connection(_)) => return,
            Err(error) => return link.close(&error),
        }
    }
}

fn next_of(link: &Link, key: LaneKey) -> Next {
    link.outgoing().next(key)
}

async fn write_packet(
    link: &Link,
    key: LaneKey,
    stream: &mut Option<SendStream>,
    packet: Packet,
) -> Result<(), LinkError> {
    if stream.is_none() {
        let opened = link.connection.open_uni().await?;
        let class = match key {
            LaneKey::Control => Class::Control,
            LaneKey::Request(_, class) => class,
        };
        opened.set_priority(class.priority()).map_err(|_| LinkError::Cancelled)?;
        *stream = Some(opened);
    }
    let stream = stream.as_mut().expect("opened above");
    packet.write(stream).await
}

/// Ends a stream and waits until the peer has it all, so that a later stream of the same lane
/// cannot overtake it.
async fn close_stream(stream: Option<SendStream>) -> Result<(), LinkError> {
    let Some(mut stream) = stream else { return Ok(()) };
    stream.finish().map_err(|_| LinkError::Cancelled)?;
    let _link_end_is_seen_by_its_driver = stream.stopped().await;
    Ok(())
}
