//! Peers that must not get through, and peers that get through and then misbehave.

use super::*;
use quinn::Connection;
use quinn::crypto::rustls::QuicClientConfig;
use thalweg_certs::{ALPN_DATA, dns_name, enrol_client_config};
use thalweg_wire::{Kind, PREFIX_BYTES, Prefix};

/// A QUIC client that is no transport, connected to `host` with the data protocol.
pub(super) async fn connect_raw(host: &Host, mut tls: rustls::ClientConfig) -> Connection {
    tls.alpn_protocols = vec![ALPN_DATA.to_vec()];
    let tls = QuicClientConfig::try_from(tls).expect("TLS 1.3 suites");
    let mut endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("port 0");
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
    let name = dns_name(&host.transport.shared.hello.name);
    let connecting = endpoint.connect(host.transport.local_addr(), &name).expect("loopback");
    connecting.await.expect("servers refuse clients after the client's own handshake")
}

/// A peer with a certificate that was greeted by `host` and now may send what it likes.
async fn greeted_raw(site: &Site, host: &mut Host) -> Connection {
    let connection = connect_raw(host, site.credentials("raw").client_config()).await;
    let (mut send, mut recv) = connection.open_bi().await.expect("connected");
    send.write_all(&hello("raw")).await.expect("connected");
    let mut prefix = [0; PREFIX_BYTES];
    recv.read_exact(&mut prefix).await.expect("accepted");
    assert_eq!(Prefix::parse(&prefix).expect("a frame").kind, Kind::HelloAck);
    host.until_up().await;
    // The control stream must outlive this function: its end would end the link.
    tokio::spawn(async move {
        let (_send, mut recv) = (send, recv);
        while let Ok(Some(_)) = recv.read_chunk(1 << 16, true).await {}
    });
    connection
}

fn hello(name: &str) -> Vec<u8> {
    let (host, address) = (HostId::of(name), String::new());
    let hello = Hello { host, name: name.into(), incarnation: 1, model: MODEL, address };
    Frame::bare(Message::Hello(hello)).head().expect("short").to_vec()
}

/// Dials `to` from `from`, and returns the reasons both report for there being no link.
async fn both_reasons(from: &mut Host, to: &mut Host) -> (String, String) {
    from.dial(to);
    let reasons = (from.refused().await, to.refused().await);
    assert_eq!(from.transport.peers(), []);
    assert_eq!(to.transport.peers(), []);
    reasons
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_certificate_no_link() {
    let site = Site::new();
    let mut host = site.host("a");
    let tls = enrol_client_config(site.authority.fingerprint());
    let end = connect_raw(&host, tls).await.closed().await;
    assert!(matches!(end, quinn::ConnectionError::ConnectionClosed(_)), "{end}");
    let reason = host.refused().await;
    assert!(reason.contains("certificate required"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_authority_no_link() {
    let (site, other) = (Site::new(), Site::new());
    let (dialler, listener) = both_reasons(&mut other.host("b"), &mut site.host("a")).await;
    assert!(dialler.contains("authority"), "{dialler}");
    assert!(listener.contains("authority"), "{listener}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_no_link() {
    let (site, other) = (Site::new(), Site::called("brook"));
    let (dialler, listener) = both_reasons(&mut other.host("b"), &mut site.host("a")).await;
    assert!(dialler.contains("certificate"), "{dialler}");
    assert!(listener.contains("certificate"), "{listener}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_dialler_gets_no_link() {
    let site = Site::new();
    let mut b = site.host("b");
    site.authority.revoke("b", now()).expect("issued");
    let mut a = site.host("a");
    let (dialler, listener) = both_reasons(&mut b, &mut a).await;
    assert!(dialler.contains("revoked"), "{dialler}");
    assert!(listener.to_lowercase().contains("revoked"), "{listener}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_listener_gets_no_link() {
    let site = Site::new();
    let mut b = site.host("b");
    site.authority.revoke("b", now()).expect("issued");
    let mut a = site.host("a");
    let (dialler, listener) = both_reasons(&mut a, &mut b).await;
    assert!(dialler.contains("revoked"), "{dialler}");
    assert!(listener.contains("revoked"), "{listener}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_model_no_link() {
    let site = Site::new();
    let mut config = site.config("b", 1);
    config.hello.model = ModelId([9; 32]);
    let (dialler, listener) = both_reasons(&mut Host::start(config), &mut site.host("a")).await;
    let reason = "peer serves model 0909090909090909, this host serves 0707070707070707";
    assert_eq!(listener, reason);
    assert_eq!(dialler, format!("peer closed the link: {reason}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_name_than_dialled_no_link() {
    let site = Site::new();
    let (mut a, b) = (site.host("a"), site.host("b"));
    a.transport.connect("c", &b.transport.local_addr().to_string());
    let reason = a.refused().await;
    assert!(reason.contains("certificate"), "{reason}");
    assert_eq!(b.transport.peers(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hello_in_another_name_is_refused() {
    let site = Site::new();
    let mut host = site.host("a");
    let connection = connect_raw(&host, site.credentials("raw").client_config()).await;
    let (mut send, _recv) = connection.open_bi().await.expect("connected");
    send.write_all(&hello("b")).await.expect("connected");
    let reason = "peer claims to be `b`, its certificate says `raw`";
    assert_eq!(host.refused().await, reason);
    assert!(connection.closed().await.to_string().contains(reason));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_protocol_version_is_refused() {
    let site = Site::new();
    let mut host = site.host("a");
    let connection = connect_raw(&host, site.credentials("raw").client_config()).await;
    let (mut send, _recv) = connection.open_bi().await.expect("connected");
    let mut hello = hello("raw");
    hello[2] = 9;
    send.write_all(&hello).await.expect("connected");
    let reason = host.refused().await;
    assert!(reason.contains("protocol version 9, this host speaks 2"), "{reason}");
    let end = connection.closed().await.to_string();
    assert!(end.contains("protocol version 9"), "{end}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_before_hello_is_refused() {
    let site = Site::new();
    let mut host = site.host("a");
    let connection = connect_raw(&host, site.credentials("raw").client_config()).await;
    let (mut send, _recv) = connection.open_bi().await.expect("connected");
    send.write_all(&token(1, 1).head().expect("short")).await.expect("connected");
    assert_eq!(host.refused().await, "peer sent Token where Hello belongs");
    connection.closed().await;
}

/// Sends `bytes` on a new stream of a greeted peer, and returns why the host ended the link.
async fn reaction_to(bytes: &[u8]) -> String {
    let site = Site::new();
    let mut host = site.host("a");
    let connection = greeted_raw(&site, &mut host).await;
    let mut stream = connection.open_uni().await.expect("linked");
    stream.write_all(bytes).await.expect("linked");
    let reason = host.until_down().await;
    let told = connection.closed().await.to_string();
    assert!(told.contains(&reason), "host says {reason}, peer was told {told}");
    reason
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_lengths_end_the_link_before_anything_is_allocated() {
    let exbibyte = Prefix { kind: Kind::Activations, header_bytes: 10, payload_bytes: 1 << 60 };
    let reason = reaction_to(&exbibyte.to_bytes()).await;
    assert!(reason.contains("1152921504606846976 bytes is above the limit"), "{reason}");
    let header = Prefix { kind: Kind::Open, header_bytes: u32::MAX, payload_bytes: 0 };
    let reason = reaction_to(&header.to_bytes()).await;
    assert!(reason.contains("header of 4294967295 bytes is above the limit"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_ends_the_link() {
    let reason = reaction_to(b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(reason.contains("frame starts with 0x4547"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_requests_on_one_stream_end_the_link() {
    let frames = [token(1, 1), token(2, 1)];
    let bytes: Vec<u8> =
        frames.iter().flat_map(|frame| frame.head().expect("short").to_vec()).collect();
    let site = Site::new();
    let mut host = site.host("a");
    let connection = greeted_raw(&site, &mut host).await;
    let mut stream = connection.open_uni().await.expect("linked");
    stream.write_all(&bytes).await.expect("linked");
    assert_eq!(host.frame().await.1, token(1, 1));
    assert_eq!(host.until_down().await, "peer mixed requests or classes on one stream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_frames_belong_on_the_control_stream() {
    let reason = reaction_to(&hello("raw")).await;
    assert_eq!(reason, "peer sent Hello where a frame of a request belongs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_call_ends_the_link() {
    let site = Site::new();
    for (bytes, reason) in [
        ([1, 0xff, 0xff, 0xff, 0xff], "peer's message of 4.0 GiB is above the limit of 4.0 MiB"),
        ([99, 0, 0, 0, 0], "peer asked for service 99, which does not exist"),
    ] {
        let mut host = site.host("a");
        let connection = greeted_raw(&site, &mut host).await;
        let (mut send, _recv) = connection.open_bi().await.expect("linked");
        send.write_all(&bytes).await.expect("linked");
        assert_eq!(host.until_down().await, reason);
    }
}
