//! Links come up once, end, come back, and carry nothing readable.

use std::net::SocketAddr;
use std::sync::Mutex;

use super::*;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crossing_dials_make_one_link() {
    let site = Site::new();
    for round in 0..20 {
        let (mut a, mut b) = (site.host("a"), site.host("b"));
        if round % 2 == 0 {
            a.dial(&b);
            b.dial(&a);
        } else {
            b.dial(&a);
            a.dial(&b);
        }
        a.until_up().await;
        b.until_up().await;
        // Nothing but the frames follows: neither a second link nor an end.
        for position in 0..10 {
            a.transport.send(b.id(), token(1, position)).expect("linked");
            b.transport.send(a.id(), token(1, position)).expect("linked");
            assert_eq!(a.frame().await.1, token(1, position));
            assert_eq!(b.frame().await.1, token(1, position));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_peer_comes_back_as_a_new_process() {
    let site = Site::new();
    let (mut a, b) = site.pair().await;
    b.transport.close().await;
    assert_eq!(a.until_down().await, "peer closed the link: host stops");
    assert_eq!(a.transport.peers(), []);
    let mut reborn = Host::start(site.config("b", 2));
    a.dial(&reborn);
    assert_eq!(a.until_up_at_last().await.incarnation, 2);
    reborn.until_up().await;
    a.transport.send(reborn.id(), token(1, 1)).expect("linked");
    assert_eq!(reborn.frame().await.1, token(1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_replaces_the_link_of_the_old_one() {
    let site = Site::new();
    let (mut a, mut old) = site.pair().await;
    let mut new = Host::start(site.config("b", 2));
    new.dial(&a);
    assert_eq!(a.until_down().await, "peer restarted");
    assert_eq!(a.until_up().await.incarnation, 2);
    assert_eq!(old.until_down().await, "peer closed the link: peer restarted");
    new.until_up().await;
    a.transport.send(new.id(), token(1, 1)).expect("linked");
    assert_eq!(new.frame().await.1, token(1, 1));

    // The old process is told that it is out of date.
    old.dial(&a);
    let reason = "a newer process of the host is known: it started at 2 µs, this one at 1";
    assert_eq!(a.refused().await, reason);
    assert!(old.refused().await.contains("newer process"));
    assert_eq!(a.transport.peers().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_is_dialled_again_and_a_forgotten_one_is_not() {
    let site = Site::new();
    let (mut a, mut b) = site.pair().await;
    a.transport.reset(b.id());
    assert_eq!(a.until_down().await, "no sign of life");
    assert!(b.until_down().await.contains("no sign of life"));
    a.until_up().await;
    b.until_up().await;
    a.transport.forget(b.id());
    assert_eq!(a.until_down().await, "host was given up");
    b.until_down().await;
    b.dial(&a);
    a.until_up().await;
    b.until_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_peer_is_cut_off_and_stays_out() {
    let site = Site::new();
    let (mut a, mut b) = site.pair().await;
    a.transport.revoke(b.id());
    assert_eq!(a.until_down().await, "host was revoked");
    b.until_down().await;
    b.dial(&a);
    assert_eq!(a.refused().await, "host was revoked");
    assert!(b.refused().await.contains("revoked"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_none_is_reported() {
    let site = Site::new();
    let mut a = site.host("a");
    a.transport.connect("b", "127.0.0.1");
    let reason = a.refused().await;
    assert!(reason.starts_with("address `127.0.0.1` does not resolve"), "{reason}");
}

/// A socket between two hosts that keeps a copy of every datagram it passes on.
struct Tap {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl Tap {
    async fn before(host: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("port 0 is free");
        let address = socket.local_addr().expect("bound");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(Self::pass_on(socket, host, Arc::clone(&seen)));
        Self { address, seen, task }
    }

    async fn pass_on(socket: UdpSocket, host: SocketAddr, seen: Arc<Mutex<Vec<Vec<u8>>>>) {
        let mut dialler = None;
        let mut datagram = vec![0; 1 << 16];
        loop {
            let (bytes, from) = socket.recv_from(&mut datagram).await.expect("loopback");
            seen.lock().expect("no test panics here").push(datagram[..bytes].to_vec());
            let to = if from == host { dialler } else { Some(host) };
            if from != host {
                dialler = Some(from);
            }
            if let Some(to) = to {
                socket.send_to(&datagram[..bytes], to).await.expect("loopback");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tap_on_the_wire_reads_nothing() {
    const MARKER: &[u8] = b"the quick brown fox jumps over the lazy dog";
    const INITIAL_V1: &[u8] = &[0, 0, 0, 1];
    let site = Site::new();
    let (mut a, mut b) = (site.host("meander"), site.host("oxbow"));
    let tap = Tap::before(b.transport.local_addr()).await;
    a.transport.connect("oxbow", &tap.address.to_string());
    a.until_up().await;
    b.until_up().await;
    let mut frame = activations(1, Phase::Prefill, 0, 0);
    frame.payload = MARKER.repeat(1000).into();
    a.transport.send(b.id(), frame.clone()).expect("linked");
    assert_eq!(b.frame().await.1, frame);
    b.transport.send(a.id(), frame.clone()).expect("linked");
    assert_eq!(a.frame().await.1, frame);
    tap.task.abort();

    let seen = tap.seen.lock().expect("no test panics here");
    let total: usize = seen.iter().map(Vec::len).sum();
    assert!(total > 2 * frame.payload.len(), "{total} bytes passed the tap");
    let first = &seen[0];
    assert!(first[0] & 0xf0 == 0xc0 && &first[1..5] == INITIAL_V1, "{:02x?}", &first[..5]);
    for datagram in seen.iter() {
        for plain in [MARKER, b"meander", b"oxbow", b"spiffe"] {
            let found = datagram.windows(plain.len()).any(|window| window == plain);
            assert!(!found, "{:?} in the clear", String::from_utf8_lossy(plain));
        }
    }
}
