//! Frames between two hosts that trust each other.

use std::collections::BTreeMap;

use super::*;
use crate::transport::SendError;
use crate::transport::endpoint::STREAMS_MAX;
use crate::transport::outgoing::{CREDIT_WINDOW, FRAMES_MAX, LaneKey};
use thalweg_wire::{
    Class, Epoch, Heartbeat, Hop, LayerRange, Open, Refusal, Refuse, Release, Route, Sampling,
};

/// One of each kind that hosts send; greetings and credits are the transport's own.
fn one_of_each() -> Vec<Frame> {
    let (request, attempt) = (request(1), Attempt(2));
    let layers = LayerRange::new(0, 30).expect("not empty");
    let route = Route::new(vec![Hop { host: HostId(9), layers }]).expect("one hop");
    let open = Open {
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
    };
    vec![
        Frame::bare(Message::Heartbeat(Heartbeat {
            epoch: Epoch(1),
            kv_free_tokens: 300,
            requests: 2,
            queue_us: 40_000,
        })),
        Frame { message: Message::Open(open), payload: Buffer::from_static(&[1, 0, 0, 0]) },
        activations(1, Phase::Prefill, 0, 2304),
        activations(1, Phase::Decode, 1, 2304),
        token(1, 2),
        Frame::bare(Message::Release(Release { request, attempt })),
        Frame::bare(Message::Refuse(Refuse { request, attempt, reason: Refusal::NoRoom })),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_passes_both_ways() {
    let site = Site::new();
    let (mut a, mut b) = site.pair().await;
    for frame in one_of_each() {
        a.transport.send(b.id(), frame.clone()).expect("linked");
        let (from, received, _) = b.frame().await;
        assert_eq!((from, &received), (a.id(), &frame));
        b.transport.send(a.id(), frame.clone()).expect("linked");
        let (from, received, _) = a.frame().await;
        assert_eq!((from, received), (b.id(), frame));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_know_each_other_by_certificate() {
    let site = Site::new();
    let (mut a, mut b) = (site.host("a"), site.host("b"));
    b.dial(&a);
    let peer = a.until_up().await;
    b.until_up().await;
    assert_eq!((peer.name.as_str(), peer.region.as_str(), peer.incarnation), ("b", "eu", 1));
    assert_eq!(peer.address, b.transport.local_addr().to_string());
    assert_eq!(a.transport.peers(), [peer]);
    let round_trip = b.transport.round_trip(a.id()).expect("linked");
    assert!(!round_trip.is_zero());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_holds_within_request_and_class() {
    const REQUESTS: u64 = 5;
    const FRAMES: u32 = 100;
    let site = Site::new();
    let (a, mut b) = site.pair().await;
    for position in 0..FRAMES {
        for counter in 0..REQUESTS {
            // Sizes differ, so that a later frame would arrive first if it could.
            let bytes = if position % 2 == 0 { 20_000 } else { 64 };
            for phase in [Phase::Prefill, Phase::Decode] {
                let frame = activations(counter, phase, position, bytes);
                a.transport.send(b.id(), frame).expect("linked, with room");
            }
        }
    }
    let mut next: BTreeMap<LaneKey, u32> = BTreeMap::new();
    for _ in 0..2 * REQUESTS * u64::from(FRAMES) {
        let (_, frame, _) = b.frame().await;
        let Message::Activations(it) = &frame.message else { panic!("{:?}", frame.message) };
        let next = next.entry(LaneKey::of(&frame.message)).or_insert(0);
        assert_eq!(it.first_position, *next);
        *next += 1;
    }
    assert_eq!(next.len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_frames_overtake_large_ones_of_lower_priority() {
    let site = Site::new();
    let (a, mut b) = site.pair().await;
    for counter in 0..3 {
        a.transport.send(b.id(), activations(counter, Phase::Prefill, 0, 8 << 20)).expect("room");
    }
    a.transport.send(b.id(), activations(0, Phase::Decode, 0, 2304)).expect("room");
    a.transport.send(b.id(), token(0, 0)).expect("room");
    let mut arrived = Vec::new();
    for _ in 0..5 {
        arrived.push(b.frame().await.1.message.class());
    }
    let last_three = [Class::Prefill; 3];
    assert_eq!(arrived[2..], last_three, "arrived as {arrived:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credit_stops_a_sender_whose_receiver_does_not_consume() {
    const FRAME_BYTES: usize = 8 << 20;
    let site = Site::new();
    let (a, mut b) = site.pair().await;
    for position in 0..8 {
        let frame = activations(0, Phase::Prefill, position, FRAME_BYTES);
        a.transport.send(b.id(), frame).expect("below the limit of frames");
    }
    let window = CREDIT_WINDOW.0 as usize / FRAME_BYTES;
    let mut holds = Vec::new();
    for _ in 0..window {
        holds.push(b.frame().await.2);
    }
    // Classes without credit pass all the same, and nothing more of the class is under way.
    a.transport.send(b.id(), token(0, 0)).expect("linked");
    assert_eq!(b.frame().await.1, token(0, 0));
    assert_eq!(a.transport.queued(b.id()), 8 - window);

    // Consuming half a window lets as much again through.
    holds.drain(..window / 2);
    for _ in 0..window / 2 {
        holds.push(b.frame().await.2);
    }
    assert_eq!(a.transport.queued(b.id()), 8 - window - window / 2);
    drop(holds);
    for _ in 0..8 - window - window / 2 {
        b.frame().await;
    }
    assert_eq!(a.transport.queued(b.id()), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_peer_fills_its_own_queue_and_no_other() {
    let site = Site::new();
    let (mut a, mut b) = site.pair().await;
    let mut c = site.host("c");
    a.dial(&c);
    a.until_up().await;
    c.until_up().await;
    let mut holds = Vec::new();
    let large = activations(0, Phase::Decode, 0, CREDIT_WINDOW.0 as usize);
    a.transport.send(b.id(), large).expect("room");
    holds.push(b.frame().await.2);
    for position in 0..FRAMES_MAX as u32 {
        a.transport.send(b.id(), activations(0, Phase::Decode, position, 64)).expect("room");
    }
    let full = a.transport.send(b.id(), activations(0, Phase::Decode, 0, 64));
    let full = full.expect_err("the receiver consumes nothing");
    assert!(matches!(full, SendError::Full { queued: FRAMES_MAX, .. }), "{full}");
    a.transport.send(c.id(), activations(0, Phase::Decode, 7, 64)).expect("another peer");
    assert_eq!(c.frame().await.1, activations(0, Phase::Decode, 7, 64));
}

/// How a host says that a request is over.
#[derive(Clone, Copy, Debug)]
enum End {
    Finish,
    SendRelease,
    ReceiveRelease,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_ended_leave_no_stream_behind() {
    // More requests than streams may be open at once.
    const REQUESTS: u64 = STREAMS_MAX as u64 + 100;
    let site = Site::new();
    for end in [End::Finish, End::SendRelease, End::ReceiveRelease] {
        let (mut a, mut b) = site.pair().await;
        for counter in 0..REQUESTS {
            a.transport.send(b.id(), token(counter, 0)).expect("room");
            assert_eq!(b.frame().await.1, token(counter, 0), "{end:?}");
            let (request, attempt) = (request(counter), Attempt(0));
            let release = Frame::bare(Message::Release(Release { request, attempt }));
            match end {
                End::Finish => a.transport.finish(b.id(), request),
                End::SendRelease => {
                    a.transport.send(b.id(), release.clone()).expect("linked");
                    assert_eq!(b.frame().await.1, release);
                }
                End::ReceiveRelease => {
                    b.transport.send(a.id(), release.clone()).expect("linked");
                    assert_eq!(a.frame().await.1, release);
                }
            }
        }
        // A late frame of an ended request still arrives.
        a.transport.send(b.id(), token(1, 1)).expect("room");
        assert_eq!(b.frame().await.1, token(1, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_above_its_limits_is_not_sent() {
    let site = Site::new();
    let (a, b) = site.pair().await;
    let error = a.transport.send(b.id(), activations(0, Phase::Decode, 0, (64 << 20) + 1));
    assert!(matches!(error, Err(SendError::Frame(_))), "{error:?}");
    let nobody = HostId::of("nobody");
    let error = a.transport.send(nobody, token(0, 0)).expect_err("no such host");
    assert!(matches!(error, SendError::NotConnected { host } if host == nobody), "{error}");
}
