//! Links to every peer: QUIC with mutual TLS on one UDP port.
//!
//! ```text
//! Transport ─┬─ accept_all ── handshake ─┐
//!            ├─ keep_linked (per peer) ──┴─ run (per link) ─┬─ control stream, both ways
//!            │                                              ├─ a writer per (request, class)
//!            │                                              ├─ a reader per incoming stream
//!            └─ call, probe                                 └─ a task per incoming call
//! ```
//!
//! Sending never waits and is bounded: a frame for a slow peer queues behind that peer's credit
//! and blocks nobody else. quinn appears in this module only.

mod call;
mod dial;
mod endpoint;
mod enrol;
mod error;
mod framing;
mod handshake;
mod incoming;
mod link;
mod outgoing;
mod peers;
mod shared;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes as Buffer;
use thalweg_certs::Credentials;
use thalweg_wire::{Frame, Hello, HostId, LinkMeasure, RequestId};
use tokio::runtime::Handle;

pub use call::CallKind;
pub use endpoint::PathBudget;
pub use enrol::{EnrolCallError, EnrolHandler, enrol};
pub use error::{CallError, SendError, TransportError};
pub use incoming::Hold;

use endpoint::Enrolment;
use error::LinkError;
use link::Link;
use peers::Target;
use shared::{Shared, accept_all};

/// Time given to closing messages when a transport closes.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);

/// A future that owns what it needs.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Answers calls of peers. The error is shown to the caller.
pub type Calls =
    Arc<dyn Fn(HostId, CallKind, Buffer) -> BoxFuture<Result<Buffer, String>> + Send + Sync>;

/// Takes what happens on links. Called from the transport's tasks, several at once; it must not
/// block, as the link waits for it.
pub type Events = Arc<dyn Fn(LinkEvent) + Send + Sync>;

/// A linked host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Its id.
    pub host: HostId,
    /// Name in its certificate.
    pub name: String,
    /// Region in its certificate.
    pub region: String,
    /// Start of its process, in microseconds since 1970.
    pub incarnation: u64,
    /// Where it says other hosts reach it.
    pub address: String,
}

/// Something that happened on a link. For one host the events are a sequence of `Up`, frames,
/// `Down`; frames of one request and class arrive in the order they were sent.
#[derive(Debug)]
pub enum LinkEvent {
    /// Both ends accepted each other.
    Up(Peer),
    /// The link ended. It is dialled again unless the host was forgotten.
    Down {
        /// Who.
        host: HostId,
        /// Why, in words.
        reason: String,
    },
    /// A frame arrived.
    Frame {
        /// From whom.
        from: HostId,
        /// What.
        frame: Frame,
        /// To be dropped when the frame is consumed: that is what lets the sender go on.
        hold: Hold,
    },
    /// A link did not come up.
    Refused {
        /// `name@address` of a host dialled, the address of a host that dialled.
        peer: String,
        /// Why, in words.
        reason: String,
    },
}

/// What a transport must be told.
#[derive(Debug)]
pub struct TransportConfig {
    /// UDP address to listen on; port 0 takes any.
    pub bind: SocketAddr,
    /// This host. An empty address stands for the bound one.
    pub hello: Hello,
    /// Certificates.
    pub credentials: Credentials,
    /// Longest path to a peer.
    pub path: PathBudget,
}

struct Handlers {
    events: Events,
    calls: Calls,
}

/// The links of a host. Dropping it cuts them all.
pub struct Transport {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Transport {
    /// Binds the UDP port and accepts links from now on. With `enrol`, hosts without a certificate
    /// may ask for one on the same port.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound, or outside a tokio runtime.
    pub fn bind(
        config: TransportConfig,
        events: Events,
        calls: Calls,
        enrol: Option<EnrolHandler>,
    ) -> Result<Arc<Self>, TransportError> {
        let TransportConfig { bind, mut hello, credentials, path } = config;
        let runtime = Handle::try_current()?;
        let enrolment = if enrol.is_some() { Enrolment::Open } else { Enrolment::Closed };
        let endpoint = endpoint::open(bind, &credentials, &path, enrolment)?;
        let unbound = |source| TransportError::Bind { address: bind, source };
        let address = endpoint.local_addr().map_err(unbound)?;
        if hello.address.is_empty() {
            hello.address = address.to_string();
        }
        let handlers = Handlers { events, calls };
        let shared = Shared::new(endpoint, hello, handlers, enrol, runtime);
        shared.spawn(accept_all(Arc::clone(&shared)));
        Ok(Arc::new(Self { shared, address }))
    }

    /// Keeps a link to the host called `name` up, dialling `address` (`host:port`) whenever there
    /// is none. A later call changes the address.
    pub fn connect(&self, name: &str, address: &str) {
        let host = HostId::of(name);
        if host == self.shared.hello.host {
            return;
        }
        let target = Target { name: name.into(), address: address.into() };
        if self.shared.peers.want(host, target) {
            self.shared.spawn(dial::keep_linked(Arc::clone(&self.shared), host));
        }
    }

    /// Stops dialling `host` and ends its link. The host may come back by dialling this one.
    pub fn forget(&self, host: HostId) {
        self.shared.peers.forget(host);
    }

    /// Ends every link to `host` and refuses it from now on.
    pub fn revoke(&self, host: HostId) {
        self.shared.peers.revoke(host);
    }

    /// Ends the link to a host that gives no sign of life; it is dialled again.
    pub fn reset(&self, host: HostId) {
        if let Some(link) = self.shared.peers.link(host) {
            link.close(&LinkError::Silent);
        }
    }

    /// Queues a frame for `to`. Never waits. Frames of one request and class arrive in order; a
    /// link that ends loses what was queued. Frames to this host itself are not delivered;
    /// greetings and credits are the transport's own and end the link.
    ///
    /// # Errors
    ///
    /// If there is no link, its queue for the frame's class is full, or the frame exceeds the
    /// limits of its kind. The frame is lost.
    pub fn send(&self, to: HostId, frame: Frame) -> Result<(), SendError> {
        let link = self.shared.peers.link(to).ok_or(SendError::NotConnected { host: to })?;
        self.shared.peers.note_release(&frame.message);
        link.send(frame)
    }

    /// Closes the streams of a request to `to`, after what is queued on them. A
    /// [`Release`](thalweg_wire::Release) sent or received does so to every peer.
    pub fn finish(&self, to: HostId, request: RequestId) {
        if let Some(link) = self.shared.peers.link(to) {
            link.close_request(request);
        }
    }

    /// Frames queued for `to` that are not on their way yet.
    pub fn queued(&self, to: HostId) -> usize {
        self.shared.peers.link(to).map_or(0, |link| link.queued())
    }

    /// Asks `to` and waits for its answer, 10 seconds at most.
    ///
    /// # Errors
    ///
    /// If there is no link, it breaks, the answer is late, or the host refuses.
    pub async fn call(
        &self,
        to: HostId,
        kind: CallKind,
        body: Buffer,
    ) -> Result<Buffer, CallError> {
        let link = self.link(to)?;
        call::call(&link, kind, body).await
    }

    /// Measures round trip and rate to `to`: 5 small calls, then at most 5.3 MiB at the lowest
    /// priority.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub async fn probe(&self, to: HostId) -> Result<LinkMeasure, CallError> {
        let link = self.link(to)?;
        call::probe(&link).await
    }

    /// The smoothed round trip of the packets to `to`, if it is linked.
    pub fn round_trip(&self, to: HostId) -> Option<Duration> {
        Some(self.shared.peers.link(to)?.connection.rtt())
    }

    /// Everybody linked now, by id.
    pub fn peers(&self) -> Vec<Peer> {
        self.shared.peers.linked()
    }

    /// The address bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Ends all links, telling peers that this host stops. No event follows.
    pub async fn close(&self) {
        self.shared.stop();
        let idle = self.shared.endpoint.wait_idle();
        // A peer that does not answer learns it from its own idle limit.
        let _told_or_not = tokio::time::timeout(CLOSE_TIME_MAX, idle).await;
    }

    fn link(&self, to: HostId) -> Result<Arc<Link>, CallError> {
        self.shared.peers.link(to).ok_or(CallError::NotConnected { host: to })
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("hello", &self.shared.hello)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handlers")
    }
}
