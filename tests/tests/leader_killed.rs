//! The planner's host dies: another one leads, serving goes on, streams through it continue.

#![allow(missing_docs, reason = "tests are read, not documented")]

use thalweg::http::{ClusterStatus, HostState, Phase};
use thalweg_tests::client::Stream;
use thalweg_tests::cluster::{Cluster, equal};
use thalweg_tests::golden;

/// Hosts, any two of which hold the model.
const HOSTS: usize = 4;
/// Memory of each: less than the model needs.
const MEMORY_MIB: u64 = 400;
/// Streams started at most until one passes the host that will be killed.
const STREAMS_MAX: usize = 2 * HOSTS;
/// Tokens of a stream: enough that it is under way when the host dies.
const TOKENS: usize = 160;
/// Tokens of a stream seen before the host dies.
const TOKENS_BEFORE: usize = 3;

#[test]
fn streams_survive_the_leader() {
    let mut cluster = Cluster::serving(equal(HOSTS, MEMORY_MIB));
    let prompt = &golden::cases()[0].prompt;
    let leader = cluster.until(0, |it| it.leader.clone());
    let victim = (0..HOSTS).find(|it| name(*it) == leader).expect("a host of ours leads");
    let gateway = (0..HOSTS).find(|&it| it != victim).expect("there are others");
    let undisturbed = cluster.client(gateway).tokens(prompt, TOKENS);
    assert_eq!(undisturbed.len(), TOKENS);

    let before = through(&cluster.status(gateway), &leader);
    let mut streams = Vec::new();
    while through(&cluster.status(gateway), &leader) == before {
        assert!(streams.len() < STREAMS_MAX, "{:?}", cluster.status(gateway));
        streams.push(Running::start(cluster.client(gateway).stream(prompt, TOKENS)));
    }
    let sent = entered(&cluster.status(gateway));
    cluster.kill(victim);
    for stream in streams {
        assert_eq!(stream.finish(), undisturbed);
    }
    assert!(entered(&cluster.status(gateway)) > sent, "no stream was under way");

    let status = cluster.until(gateway, |it| {
        let led = it.leader.as_ref().is_some_and(|it| *it != leader);
        (led && alive(it) == HOSTS - 1 && it.phase == Phase::Serving).then(|| it.clone())
    });
    let dead = status.hosts.iter().filter(|it| it.name == leader);
    assert!(dead.clone().all(|it| it.state != HostState::Alive), "{:?}", status.hosts);
    let again = cluster.client(gateway).tokens(prompt, TOKENS_BEFORE);
    assert_eq!(again, undisturbed[..TOKENS_BEFORE]);
}

/// A stream whose first tokens were read.
struct Running {
    stream: Stream,
    tokens: Vec<String>,
}

impl Running {
    fn start(stream: Stream) -> Self {
        let mut running = Self { stream, tokens: Vec::new() };
        while running.tokens.len() < TOKENS_BEFORE {
            assert!(running.read(), "the stream ended after {:?}", running.tokens);
        }
        assert!(running.tokens.len() < TOKENS);
        running
    }

    fn finish(mut self) -> Vec<String> {
        while self.read() {}
        self.tokens
    }

    fn read(&mut self) -> bool {
        let piece = self.stream.next();
        let more = piece.is_some();
        self.tokens.extend(piece.into_iter().flat_map(|it| it.expect("the stream goes on")));
        more
    }
}

fn name(index: usize) -> String {
    format!("h{}", index + 1)
}

fn alive(status: &ClusterStatus) -> usize {
    status.hosts.iter().filter(|it| it.state == HostState::Alive).count()
}

/// Requests that the answering host has sent through `host`.
fn through(status: &ClusterStatus, host: &str) -> u64 {
    status.hops.iter().filter(|it| it.to == host).map(|it| it.requests).sum()
}

/// Requests that the answering host has sent, replays included.
fn entered(status: &ClusterStatus) -> u64 {
    status.hops.iter().filter(|it| it.from == "source").map(|it| it.requests).sum()
}
