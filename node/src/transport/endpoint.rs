//! The UDP socket and what QUIC is told about the paths behind it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TokioRuntime, VarInt};
use socket2::{Domain, Protocol, Socket, Type};
use thalweg_certs::{ALPN_DATA, ALPN_ENROL, Credentials};
use thalweg_wire::{BitsPerSecond, Bytes};

use super::error::TransportError;

/// Kernel buffers of the socket. The usual 212 KB lost 10,534 packets in 512 MiB; this lost none.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Interval of keep-alives, which also keep NAT entries open.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Silence after which a connection is given up. Liveness is judged earlier, by heartbeats.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// One-way streams a peer may have open: one per request and class.
pub(super) const STREAMS_MAX: u32 = 4096;
/// Calls a peer may have under way, and the control stream.
const CALLS_MAX: u32 = 257;
/// Bytes of one connection buffered by the receiver, over all streams. Readers never wait, so only
/// a peer that ignores its credits ever meets this.
const RECEIVE_WINDOW_BYTES: u32 = 512 << 20;
/// Bytes of one connection buffered by the sender. Above what credits let out, so that a small
/// frame never waits for room behind large ones.
const SEND_WINDOW_BYTES: u64 = 1 << 30;
/// Smallest and largest window of one stream.
const STREAM_WINDOW_BYTES: (u64, u64) = (1 << 20, 64 << 20);
/// Round trip assumed at least, so that a busy host is not taken for packet loss.
const ROUND_TRIP_MIN: Duration = Duration::from_millis(20);
/// Handshakes waiting for their turn. Further ones are refused.
const INCOMING_MAX: usize = 256;

/// The longest path to any peer, from which windows are computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathBudget {
    /// Rate of the fastest link.
    pub bandwidth: BitsPerSecond,
    /// Round trip of the longest link.
    pub round_trip: Duration,
    /// Largest UDP payload to try. QUIC probes before it uses it.
    pub datagram_bytes_max: u16,
}

impl PathBudget {
    /// Hosts on one machine. 6000 bytes is the largest datagram that segmentation offload bears
    /// (10 segments in 64 KiB) and halves the cost per byte against 1452.
    pub const fn loopback() -> Self {
        Self {
            bandwidth: BitsPerSecond(10_000_000_000),
            round_trip: Duration::from_millis(2),
            datagram_bytes_max: 6000,
        }
    }

    /// Hosts in different regions: 1 Gb/s over 160 ms.
    pub const fn wan() -> Self {
        Self {
            bandwidth: BitsPerSecond(1_000_000_000),
            round_trip: Duration::from_millis(160),
            datagram_bytes_max: 1452,
        }
    }

    /// The budget that fits a socket bound to `address`.
    pub fn of(address: SocketAddr) -> Self {
        if address.ip().is_loopback() { Self::loopback() } else { Self::wan() }
    }

    /// Window of one stream: twice bandwidth times round trip, within bounds.
    fn stream_window(&self) -> Bytes {
        let bits = u128::from(self.bandwidth.0) * self.round_trip.as_micros() / 1_000_000;
        let bytes = u64::try_from(2 * bits / 8).unwrap_or(u64::MAX);
        let (least, most) = STREAM_WINDOW_BYTES;
        Bytes(bytes.clamp(least, most))
    }

    fn quic(&self) -> quinn::TransportConfig {
        let window = u32::try_from(self.stream_window().0).expect("clamped to 64 MiB");
        let idle = IdleTimeout::try_from(IDLE_MAX).expect("15 s fit in a QUIC integer");
        let mut probing = MtuDiscoveryConfig::default();
        probing.upper_bound(self.datagram_bytes_max);
        let mut quic = quinn::TransportConfig::default();
        quic.max_concurrent_uni_streams(VarInt::from_u32(STREAMS_MAX))
            .max_concurrent_bidi_streams(VarInt::from_u32(CALLS_MAX))
            .stream_receive_window(VarInt::from_u32(window))
            .receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
            .send_window(SEND_WINDOW_BYTES)
            // Unfair sending would finish a large frame once begun, whatever comes behind it.
            .send_fairness(true)
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(Some(KEEP_ALIVE))
            .initial_rtt(self.round_trip.max(ROUND_TRIP_MIN))
            .mtu_discovery_config(Some(probing))
            .datagram_receive_buffer_size(None);
        quic
    }
}

/// Opens the endpoint. With `enrolment`, hosts without a certificate get as far as naming that
/// protocol, and no further.
pub(super) fn open(
    address: SocketAddr,
    credentials: &Credentials,
    path: &PathBudget,
    enrolment: Enrolment,
) -> Result<Endpoint, TransportError> {
    let socket = socket(address).map_err(|source| TransportError::Bind { address, source })?;
    let server = server_config(credentials, path, enrolment)?;
    let client = client_config(credentials, path)?;
    let runtime = Arc::new(TokioRuntime);
    let mut endpoint =
        Endpoint::new(EndpointConfig::default(), Some(server), socket.into(), runtime)
            .map_err(|source| TransportError::Bind { address, source })?;
    endpoint.set_default_client_config(client);
    Ok(endpoint)
}

/// Opens an endpoint that only dials, for a host that has no certificate yet.
pub(super) fn open_client(
    address: SocketAddr,
    mut tls: rustls::ClientConfig,
) -> Result<Endpoint, TransportError> {
    let socket = socket(address).map_err(|source| TransportError::Bind { address, source })?;
    tls.alpn_protocols = vec![ALPN_ENROL.to_vec()];
    let mut client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    client.transport_config(Arc::new(PathBudget::wan().quic()));
    let runtime = Arc::new(TokioRuntime);
    let mut endpoint = Endpoint::new(EndpointConfig::default(), None, socket.into(), runtime)
        .map_err(|source| TransportError::Bind { address, source })?;
    endpoint.set_default_client_config(client);
    Ok(endpoint)
}

/// Whether the endpoint serves enrolment beside the data protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Enrolment {
    /// Hosts without a certificate may ask for one.
    Open,
    /// Every peer must show a certificate.
    Closed,
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn client_config(
    credentials: &Credentials,
    path: &PathBudget,
) -> Result<quinn::ClientConfig, TransportError> {
    let mut tls = credentials.client_config();
    tls.alpn_protocols = vec![ALPN_DATA.to_vec()];
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(path.quic()));
    Ok(config)
}

fn server_config(
    credentials: &Credentials,
    path: &PathBudget,
    enrolment: Enrolment,
) -> Result<quinn::ServerConfig, TransportError> {
    let (mut tls, protocols) = match enrolment {
        Enrolment::Closed => (credentials.server_config(), vec![ALPN_DATA]),
        Enrolment::Open => (credentials.enrol_server_config(), vec![ALPN_DATA, ALPN_ENROL]),
    };
    tls.alpn_protocols = protocols.into_iter().map(<[u8]>::to_vec).collect();
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(Arc::new(path.quic()));
    config.max_incoming(INCOMING_MAX);
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_twice_the_bytes_in_flight() {
        assert_eq!(PathBudget::wan().stream_window(), Bytes(40_000_000));
        let slow = PathBudget { bandwidth: BitsPerSecond(1_000_000), ..PathBudget::wan() };
        assert_eq!(slow.stream_window(), Bytes::mib(1));
        let fast = PathBudget { bandwidth: BitsPerSecond(u64::MAX), ..PathBudget::wan() };
        assert_eq!(fast.stream_window(), Bytes::mib(64));
    }
}
