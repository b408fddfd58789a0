//! Questions and answers.

use super::*;
use crate::transport::{CallError, EnrolCallError, enrol};
use thalweg_certs::enrol_client_config;
use thalweg_wire::Bytes;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_brings_its_answer_back() {
    let site = Site::new();
    let (a, b) = site.pair().await;
    let body = Buffer::from(vec![3; 1 << 20]);
    for (from, to) in [(&a, &b), (&b, &a)] {
        let answer = from.transport.call(to.id(), CallKind::Raft, body.clone()).await;
        assert_eq!(answer.expect("the peer echoes Raft calls"), body);
    }
    let refused = a.transport.call(b.id(), CallKind::Propose, Buffer::new()).await;
    let refused = refused.expect_err("the peer refuses proposals").to_string();
    assert_eq!(refused, format!("host {} refused: not the leader", b.id()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_to_a_dead_peer_fails() {
    let site = Site::new();
    let (mut a, b) = site.pair().await;
    let (caller, to) = (Arc::clone(&a.transport), b.id());
    let under_way =
        tokio::spawn(async move { caller.call(to, CallKind::Metrics, Buffer::new()).await });
    // The answer never comes; the echo behind it shows that the call has arrived.
    a.transport.call(to, CallKind::Echo, Buffer::new()).await.expect("alive");
    b.transport.close().await;
    let lost = under_way.await.expect("the task does not panic").expect_err("the peer is gone");
    assert!(matches!(lost, CallError::Lost { .. }), "{lost}");
    assert!(a.until_down().await.contains("host stops"));
    let error = a.transport.call(to, CallKind::Raft, Buffer::new()).await.expect_err("gone");
    assert!(matches!(error, CallError::NotConnected { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_above_the_limit_is_not_sent() {
    let site = Site::new();
    let (a, b) = site.pair().await;
    let body = Buffer::from(vec![0; (64 << 10) + 1]);
    let error = a.transport.call(b.id(), CallKind::Peers, body).await.expect_err("too long");
    assert!(matches!(error, CallError::TooLong { max: Bytes(0x10000), .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_measures_the_link() {
    let site = Site::new();
    let (a, b) = site.pair().await;
    let measure = a.transport.probe(b.id()).await.expect("linked");
    assert_eq!(measure.to, b.id());
    assert!(measure.rtt_us > 0 && measure.bandwidth.0 > 1_000_000, "{measure:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_without_certificate_may_only_enrol() {
    let site = Site::new();
    let handler: EnrolHandler = Arc::new(|request| {
        Box::pin(async move {
            if request == "please" { Ok("welcome".into()) } else { Err("token is used".into()) }
        })
    });
    let mut host = Host::start_with(site.config("a", 1), Some(handler));
    let address = host.transport.local_addr().to_string();
    let fingerprint = site.authority.fingerprint();
    let tls = || enrol_client_config(fingerprint);
    let reply = enrol(&address, tls(), "please".into()).await.expect("granted");
    assert_eq!(reply, "welcome");
    let refused = enrol(&address, tls(), "again".into()).await.expect_err("not granted");
    assert!(matches!(&refused, EnrolCallError::Refused { message } if message == "token is used"));

    // The data protocol stays closed to it.
    let connection = strangers::connect_raw(&host, tls()).await;
    let end = connection.closed().await;
    assert!(end.to_string().contains("no certificate"), "{end}");
    assert_eq!(host.refused().await, "peer showed no certificate");

    // Another authority is not asked.
    let other = Site::new().authority.fingerprint();
    let error = enrol(&address, enrol_client_config(other), "please".into()).await;
    assert!(matches!(error, Err(EnrolCallError::Link { .. })), "{error:?}");
}
