//! Real endpoints on loopback, certificates made on the spot.

mod calls;
mod frames;
mod lifetime;
mod strangers;

use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes as Buffer;
use tempfile::TempDir;
use thalweg_certs::{Authority, Credentials, UnixSeconds};
use thalweg_wire::{
    Activations, Attempt, Candidate, DType, Frame, Hello, HostId, Message, ModelId, Phase,
    RequestId, Token,
};
use tokio::sync::mpsc;

use super::{
    CallKind, Calls, EnrolHandler, Events, Hold, LinkEvent, PathBudget, Peer, Transport,
    TransportConfig,
};

/// Events a test may be behind by.
const EVENTS_MAX: usize = 1 << 16;
/// The model every host serves unless a test says otherwise.
const MODEL: ModelId = ModelId([7; 32]);

/// A cluster's authority and the directory of its files.
struct Site {
    dir: TempDir,
    authority: Authority,
}

impl Site {
    fn new() -> Self {
        Self::called("river")
    }

    fn called(cluster: &str) -> Self {
        let dir = tempfile::tempdir().expect("temporary directories can be made");
        let authority =
            Authority::create(dir.path(), cluster, now()).expect("the directory is empty");
        Self { dir, authority }
    }

    fn credentials(&self, name: &str) -> Credentials {
        let key = self.dir.path().join(format!("node-{name}.key"));
        if !key.exists() {
            self.authority.issue(name, "eu", now()).expect("the name is free");
        }
        load(self.dir.path(), name)
    }

    fn host(&self, name: &str) -> Host {
        Host::start(self.config(name, 1))
    }

    fn config(&self, name: &str, incarnation: u64) -> TransportConfig {
        let (host, model, address) = (HostId::of(name), MODEL, String::new());
        TransportConfig {
            bind: ([127, 0, 0, 1], 0).into(),
            hello: Hello { host, name: name.into(), incarnation, model, address },
            credentials: self.credentials(name),
            path: PathBudget::loopback(),
        }
    }

    /// Two hosts with a link.
    async fn pair(&self) -> (Host, Host) {
        let (mut a, mut b) = (self.host("a"), self.host("b"));
        a.dial(&b);
        a.until_up().await;
        b.until_up().await;
        (a, b)
    }
}

fn load(dir: &Path, name: &str) -> Credentials {
    Credentials::load(dir, name).expect("just issued")
}

fn now() -> UnixSeconds {
    SystemTime::now().into()
}

/// A transport and what it reported.
struct Host {
    transport: Arc<Transport>,
    events: mpsc::Receiver<LinkEvent>,
}

impl Host {
    fn start(config: TransportConfig) -> Self {
        Self::start_with(config, None)
    }

    fn start_with(config: TransportConfig, enrol: Option<EnrolHandler>) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let sink: Events = Arc::new(move |event| {
            // A test that ended no longer listens.
            let _heard_or_not = sender.try_send(event);
        });
        let transport = Transport::bind(config, sink, answers(), enrol).expect("port 0 is free");
        Self { transport, events }
    }

    fn id(&self) -> HostId {
        self.transport.shared.hello.host
    }

    fn dial(&self, other: &Self) {
        let address = other.transport.local_addr().to_string();
        self.transport.connect(&other.transport.shared.hello.name, &address);
    }

    async fn event(&mut self) -> LinkEvent {
        self.events.recv().await.expect("the transport lives")
    }

    async fn until_up(&mut self) -> Peer {
        match self.event().await {
            LinkEvent::Up(peer) => peer,
            other => panic!("{other:?} instead of a link"),
        }
    }

    /// As [`until_up`](Self::until_up), after attempts that were refused.
    async fn until_up_at_last(&mut self) -> Peer {
        loop {
            match self.event().await {
                LinkEvent::Up(peer) => return peer,
                LinkEvent::Refused { .. } => {}
                other => panic!("{other:?} instead of a link"),
            }
        }
    }

    async fn until_down(&mut self) -> String {
        match self.event().await {
            LinkEvent::Down { reason, .. } => reason,
            other => panic!("{other:?} instead of the link's end"),
        }
    }

    async fn refused(&mut self) -> String {
        match self.event().await {
            LinkEvent::Refused { reason, .. } => reason,
            other => panic!("{other:?} instead of a refusal"),
        }
    }

    async fn frame(&mut self) -> (HostId, Frame, Hold) {
        match self.event().await {
            LinkEvent::Frame { from, frame, hold } => (from, frame, hold),
            other => panic!("{other:?} instead of a frame"),
        }
    }
}

/// Echoes Raft calls, refuses proposals, never answers metrics.
fn answers() -> Calls {
    Arc::new(|_, kind, body| match kind {
        CallKind::Raft => Box::pin(async move { Ok(body) }),
        CallKind::Metrics => Box::pin(pending()),
        _ => Box::pin(async { Err("not the leader".to_owned()) }),
    })
}

fn request(counter: u64) -> RequestId {
    RequestId { gateway: HostId::of("a"), incarnation: 1, counter }
}

fn activations(counter: u64, phase: Phase, position: u32, bytes: usize) -> Frame {
    let activations = Activations {
        request: request(counter),
        attempt: Attempt(0),
        first_position: position,
        count: 1,
        hidden: 576,
        dtype: DType::F32,
        phase,
        sample: false,
        step: 0,
        step_frames: 1,
    };
    let payload = Buffer::from(vec![0x5a; bytes]);
    Frame { message: Message::Activations(activations), payload }
}

fn token(counter: u64, position: u32) -> Frame {
    let sampled = Candidate { token: 9, logprob: 0.0 };
    let (request, attempt) = (request(counter), Attempt(0));
    let token = Token { request, attempt, position, sampled, top: Vec::new(), finish: None };
    Frame::bare(Message::Token(token))
}
