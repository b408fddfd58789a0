//! `thalweg bench hop`: the time between two stages of a pipeline that is not the network's.
//!
//! Two hosts on loopback, each with its own threads, certificate and socket, hand one activation
//! frame to and fro. Half a round trip is what one hop adds: encode, queue, encrypt, a few UDP
//! datagrams through the kernel, decrypt, decode, deliver.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use actix::{Actor, Addr, Context, Handler, Message, System};
use bytes::Bytes as Buffer;
use thalweg_certs::{Authority, Credentials, UnixSeconds};
use thalweg_wire::{
    Activations, Attempt, Bytes, DType, Frame, Hello, HostId, ModelId, Phase, RequestId,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use crate::cli::advice::Advice;
use crate::transport::{Calls, Events, LinkEvent, PathBudget, Transport, TransportConfig};

/// Rounds before the first that counts: congestion window and datagram size settle.
const WARM_UP_ROUNDS: u32 = 300;
/// Events that wait for the measuring task, at most. One frame is under way at a time.
const NEWS_MAX: usize = 16;
/// Threads of each host's runtime.
const HOST_THREADS: usize = 2;

/// Measure the time one hop between two stages adds, on loopback
#[derive(Clone, Debug, clap::Args)]
pub(super) struct HopArgs {
    /// Size of the activations, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 8192)]
    bytes: u32,

    /// Round trips to measure
    #[arg(long, value_name = "N", default_value_t = 3000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rounds: u32,
}

/// What was measured.
#[derive(Debug)]
pub(super) struct HopReport {
    bytes: u32,
    rounds: u32,
    paths: [(&'static str, Spread); 2],
}

/// Smallest, median and 99th percentile of one hop.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    min: Duration,
    median: Duration,
    p99: Duration,
}

/// Who takes the frames from the transport.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ends {
    /// Nobody: they are handled on the transport's own threads.
    Transports,
    /// An actor on a thread of its own, as a stage is.
    Actors,
}

/// Measures the hop from transport to transport, and from actor to actor.
pub(super) fn measure(args: &HopArgs) -> Result<HopReport, Advice> {
    let site = Site::create()?;
    let transports = rally(args, &site, Ends::Transports)?;
    let actors = rally(args, &site, Ends::Actors)?;
    let paths = [("transport to transport", transports), ("actor to actor", actors)];
    Ok(HopReport { bytes: args.bytes, rounds: args.rounds, paths })
}

impl fmt::Display for HopReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = Bytes(u64::from(self.bytes));
        writeln!(f, "one hop of {bytes} over loopback: {} round trips, halved", self.rounds)?;
        writeln!(f, "{:24}{:>12}{:>12}{:>12}", "path", "min", "p50", "p99")?;
        for (path, Spread { min, median, p99 }) in self.paths {
            let us = |time: Duration| format!("{:.1} µs", time.as_secs_f64() * 1e6);
            writeln!(f, "{path:24}{:>12}{:>12}{:>12}", us(min), us(median), us(p99))?;
        }
        Ok(())
    }
}

impl Spread {
    /// Halves the round trips, of which there is at least one.
    fn of(mut round_trips: Vec<Duration>) -> Self {
        round_trips.sort_unstable();
        let at = |percent: usize| round_trips[(round_trips.len() - 1) * percent / 100] / 2;
        Self { min: at(0), median: at(50), p99: at(99) }
    }
}

/// Hands a frame to and fro between two new hosts.
fn rally(args: &HopArgs, site: &Site, ends: Ends) -> Result<Spread, Advice> {
    let mut near = Side::open(site, "near", ends, Role::Measure)?;
    let far = Side::open(site, "far", ends, Role::Return { to: HostId::of("near") })?;
    near.transport.connect("far", &far.transport.local_addr().to_string());
    let frame = frame(args.bytes);
    let mut round_trips = Vec::with_capacity(args.rounds as usize);
    near.runtime.block_on(async {
        near.news.until_up().await?;
        for round in 0..WARM_UP_ROUNDS + args.rounds {
            let start = Instant::now();
            let sent = near.transport.send(HostId::of("far"), frame.clone());
            sent.map_err(|source| Advice::new("cannot send the frame", source))?;
            near.news.until_returned().await?;
            if round >= WARM_UP_ROUNDS {
                round_trips.push(start.elapsed());
            }
        }
        Ok::<(), Advice>(())
    })?;
    Ok(Spread::of(round_trips))
}

fn frame(bytes: u32) -> Frame {
    let activations = Activations {
        request: RequestId { gateway: HostId::of("near"), incarnation: 1, counter: 1 },
        attempt: Attempt(0),
        first_position: 0,
        count: 1,
        hidden: bytes / 4,
        dtype: DType::F32,
        phase: Phase::Decode,
        sample: true,
        step: 0,
        step_frames: 1,
    };
    let message = thalweg_wire::Message::Activations(activations);
    Frame { message, payload: Buffer::from(vec![0x5a; bytes as usize]) }
}

/// What a host does with a frame.
#[derive(Clone, Copy, Debug)]
enum Role {
    /// Tells the measuring task.
    Measure,
    /// Sends it back.
    Return {
        /// Where.
        to: HostId,
    },
}

/// One host of the measurement. Fields drop in order: the transport before its runtime.
struct Side {
    transport: Arc<Transport>,
    news: News,
    runtime: Runtime,
}

/// What the measuring task is told.
struct News(mpsc::Receiver<Told>);

enum Told {
    Up,
    Returned,
    Lost(String),
}

impl Side {
    fn open(site: &Site, name: &str, ends: Ends, role: Role) -> Result<Self, Advice> {
        let failed = || format!("cannot set up host `{name}`");
        let runtime = Builder::new_multi_thread().worker_threads(HOST_THREADS).enable_all().build();
        let runtime = runtime.map_err(|source| Advice::new(failed(), source))?;
        let (teller, told) = mpsc::channel(NEWS_MAX);
        let own = Arc::new(OnceLock::new());
        let take = taker(role, teller.clone(), Arc::clone(&own));
        let events = events(by_way_of(ends, take), teller);
        let calls: Calls = Arc::new(|_, _, _| Box::pin(async { Err("no calls here".into()) }));
        let (host, model, address) = (HostId::of(name), ModelId::default(), String::new());
        let config = TransportConfig {
            bind: ([127, 0, 0, 1], 0).into(),
            hello: Hello { host, name: name.into(), incarnation: 1, model, address },
            credentials: site.credentials(name)?,
            path: PathBudget::loopback(),
        };
        let bound = runtime.block_on(async { Transport::bind(config, events, calls, None) });
        let transport = bound.map_err(|source| Advice::new(failed(), source))?;
        let set = own.set(Arc::downgrade(&transport));
        set.expect("the cell is new");
        Ok(Self { transport, news: News(told), runtime })
    }
}

impl News {
    async fn until_up(&mut self) -> Result<(), Advice> {
        match self.0.recv().await {
            Some(Told::Up) => Ok(()),
            other => Err(broken(other)),
        }
    }

    async fn until_returned(&mut self) -> Result<(), Advice> {
        match self.0.recv().await {
            Some(Told::Returned) => Ok(()),
            other => Err(broken(other)),
        }
    }
}

fn broken(told: Option<Told>) -> Advice {
    let reason = match told {
        Some(Told::Lost(reason)) => reason,
        _ => "events out of order".into(),
    };
    Advice::plain(format!("the link between the two hosts broke: {reason}"))
}

/// What takes a frame.
type Take = Box<dyn Fn(Frame) + Send + Sync>;

fn taker(role: Role, teller: mpsc::Sender<Told>, own: Arc<OnceLock<Weak<Transport>>>) -> Take {
    match role {
        Role::Measure => Box::new(move |_| tell(&teller, Told::Returned)),
        Role::Return { to } => Box::new(move |frame| {
            let transport = own.get().and_then(Weak::upgrade);
            // A frame that cannot go back means that the link ended, which is told as such.
            let _sent_or_ended = transport.map(|transport| transport.send(to, frame));
        }),
    }
}

fn by_way_of(ends: Ends, take: Take) -> Take {
    match ends {
        Ends::Transports => take,
        Ends::Actors => {
            let stage = Stage::start_on_thread(take);
            Box::new(move |frame| {
                stage.try_send(Ball(frame)).expect("one frame is under way at a time");
            })
        }
    }
}

fn events(take: Take, teller: mpsc::Sender<Told>) -> Events {
    Arc::new(move |event| match event {
        LinkEvent::Frame { frame, .. } => take(frame),
        LinkEvent::Up(_) => tell(&teller, Told::Up),
        LinkEvent::Down { reason, .. } | LinkEvent::Refused { reason, .. } => {
            tell(&teller, Told::Lost(reason));
        }
    })
}

fn tell(teller: &mpsc::Sender<Told>, news: Told) {
    // The far host has no listener, and the near one stops listening when it is done.
    let _heard_or_not = teller.try_send(news);
}

/// An actor in a stage's place.
struct Stage {
    take: Take,
}

/// A frame on its way to a [`Stage`].
#[derive(Message)]
#[rtype(result = "()")]
struct Ball(Frame);

impl Stage {
    /// Starts the actor on a thread of its own, which ends with the last address.
    fn start_on_thread(take: Take) -> Addr<Self> {
        let (sender, started) = std::sync::mpsc::sync_channel(1);
        thread::spawn(move || {
            let system = System::new();
            let stage = system.block_on(async { Self { take }.start() });
            sender.send(stage).expect("the starter waits");
            system.run().expect("the system stops with its actor");
        });
        started.recv().expect("the thread sends before it runs")
    }
}

impl Actor for Stage {
    type Context = Context<Self>;

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        System::current().stop();
    }
}

impl Handler<Ball> for Stage {
    type Result = ();

    fn handle(&mut self, Ball(frame): Ball, _ctx: &mut Self::Context) {
        (self.take)(frame);
    }
}

/// Certificates for two hosts, in a directory that is removed afterwards.
struct Site {
    dir: PathBuf,
    authority: Authority,
}

impl Site {
    fn create() -> Result<Self, Advice> {
        let draw = getrandom::u64().expect("the system has randomness: TLS needs it too");
        let dir = std::env::temp_dir().join(format!("thalweg-bench-{draw:016x}"));
        let authority = Authority::create(&dir, "bench", now())
            .map_err(|source| Advice::new("cannot create certificates", source))?;
        Ok(Self { dir, authority })
    }

    fn credentials(&self, name: &str) -> Result<Credentials, Advice> {
        let failed = || format!("cannot create a certificate for host `{name}`");
        if !self.authority.layout().certificate(name).exists() {
            let issued = self.authority.issue(name, "bench", now());
            issued.map_err(|source| Advice::new(failed(), source))?;
        }
        Credentials::load(&self.dir, name).map_err(|source| Advice::new(failed(), source))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // What stays behind are certificates of a cluster that no longer exists.
        let _removed_or_not = fs::remove_dir_all(&self.dir);
    }
}

fn now() -> UnixSeconds {
    SystemTime::now().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_paths_are_measured() {
        let report = measure(&HopArgs { bytes: 8192, rounds: 20 }).expect("loopback");
        for (path, Spread { min, median, p99 }) in report.paths {
            assert!(!min.is_zero() && min <= median && median <= p99, "{path}: {report:?}");
        }
    }

    #[test]
    fn report_shows_halves_in_microseconds() {
        let spread = Spread::of((1..=200).map(|us| Duration::from_micros(2 * us)).collect());
        let paths = [("transport to transport", spread), ("actor to actor", spread)];
        let report = HopReport { bytes: 8192, rounds: 200, paths };
        assert_eq!(
            report.to_string(),
            "one hop of 8.0 KiB over loopback: 200 round trips, halved\n\
             path                             min         p50         p99\n\
             transport to transport        1.0 µs    100.0 µs    198.0 µs\n\
             actor to actor                1.0 µs    100.0 µs    198.0 µs\n",
        );
    }
}
