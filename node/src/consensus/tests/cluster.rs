//! Several members in one process, over a network that delays, cuts and loses hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use bytes::Bytes;
use thalweg_core::registry::Registry;
use thalweg_wire::{Bytes as Amount, Command, HostId, HostRecord, Profile};
use tokio::sync::watch;

use crate::consensus::{
    Call, Committed, Consensus, ConsensusConfig, Leadership, Topic, Unanswered,
};

/// One-way delay at most; drawn anew for every message.
const DELAY_MAX_US: u64 = 2_000;

/// Returns a host and what it says of itself.
pub fn record(host: HostId) -> HostRecord {
    HostRecord {
        host,
        name: format!("h{}", host.0),
        region: String::from("eu"),
        address: String::from("127.0.0.1:1"),
        incarnation: 1,
        memory: Amount::mib(100),
        machine: String::from("test"),
        profile: Profile::default(),
    }
}

/// A command told apart from others by `n`.
pub fn command(n: u8) -> Command {
    Command::UseToken { token: [n; 32] }
}

/// What a member was told.
#[derive(Clone, Default)]
pub struct Heard {
    pub commands: Vec<(u64, Command)>,
    pub restored: Option<Registry>,
}

impl Heard {
    pub fn has(&self, n: u8) -> bool {
        self.commands.iter().any(|(_, it)| *it == command(n))
    }
}

/// A member that runs.
pub struct Member {
    pub consensus: Arc<Consensus>,
    pub heard: watch::Receiver<Heard>,
    pub leadership: watch::Receiver<Leadership>,
}

impl Member {
    /// Waits until `n` was committed here.
    pub async fn until_heard(&self, n: u8) {
        self.until(|heard| heard.has(n)).await;
    }

    /// Waits until what was heard satisfies `wanted`.
    pub async fn until(&self, wanted: impl Fn(&Heard) -> bool) {
        let mut heard = self.heard.clone();
        heard.wait_for(|it| wanted(it)).await.expect("the member runs");
    }

    /// Waits for a leadership that satisfies `wanted`.
    pub async fn until_led(&self, wanted: impl Fn(&Leadership) -> bool) -> Leadership {
        let mut leadership = self.leadership.clone();
        *leadership.wait_for(|it| wanted(it)).await.expect("the member runs")
    }
}

/// Round trip that timers are derived from, though there is none: a busy machine takes its time to
/// flush a log, and elections that begin while it does end nothing.
const ROUND_TRIP: Duration = Duration::from_millis(50);

/// The group and its network.
pub struct Cluster {
    pub voters: Vec<HostId>,
    pub members: BTreeMap<HostId, Member>,
    net: Arc<Net>,
    dirs: tempfile::TempDir,
}

impl Cluster {
    /// Prepares a group of `voters` voters, none of which runs.
    pub fn new(voters: u64) -> Self {
        Self {
            voters: (1..=voters).map(HostId).collect(),
            members: BTreeMap::new(),
            net: Arc::default(),
            dirs: tempfile::tempdir().expect("a directory for temporary files"),
        }
    }

    /// Starts a group of `voters` voters.
    pub async fn started(voters: u64) -> Self {
        let mut cluster = Self::new(voters);
        for host in cluster.voters.clone() {
            cluster.start(host).await;
        }
        cluster
    }

    /// Starts a member, from its log if it has one.
    pub async fn start(&mut self, host: HostId) {
        let config = ConsensusConfig {
            me: host,
            voters: self.voters.clone(),
            dir: self.dir(host),
            round_trip: ROUND_TRIP,
        };
        let (told, heard) = watch::channel(Heard::default());
        let (led, leadership) = watch::channel(Leadership::default());
        let on_commit = Arc::new(move |committed| told.send_modify(|it| it.take(committed)));
        let on_leader = Arc::new(move |now| {
            led.send_replace(now);
        });
        let call = self.net.clone().call_from(host);
        let consensus = Consensus::start(config, call, on_commit, on_leader).await;
        let consensus = Arc::new(consensus.expect("the log is readable"));
        self.net.state().members.insert(host, Arc::clone(&consensus));
        self.members.insert(host, Member { consensus, heard, leadership });
    }

    /// Stops a member: nobody hears of it again until it is started.
    pub async fn kill(&mut self, host: HostId) {
        self.net.state().members.remove(&host);
        let member = self.members.remove(&host).expect("the member runs");
        member.consensus.shutdown().await;
    }

    /// Cuts `hosts` off from all others. Messages between the sides vanish.
    pub fn cut(&self, hosts: impl IntoIterator<Item = HostId>) {
        self.net.state().cut = hosts.into_iter().collect();
    }

    /// Undoes [`cut`](Self::cut).
    pub fn heal(&self) {
        self.cut([]);
    }

    /// Returns a running member.
    pub fn member(&self, host: HostId) -> &Member {
        &self.members[&host]
    }

    /// Waits until one of `hosts` may plan, and returns it with its term.
    pub async fn leader_among(&self, hosts: &[HostId]) -> (HostId, u64) {
        let waits = hosts.iter().map(|&host| {
            let member = self.member(host);
            Box::pin(async move { (host, member.until_led(|it| it.leader == Some(host)).await) })
        });
        let ((host, leadership), _, _) = futures_util::future::select_all(waits).await;
        (host, leadership.term)
    }

    /// Waits until some running member may plan.
    pub async fn leader(&self) -> (HostId, u64) {
        let hosts: Vec<HostId> = self.members.keys().copied().collect();
        self.leader_among(&hosts).await
    }

    /// Returns running voters other than `host`.
    pub fn others(&self, host: HostId) -> Vec<HostId> {
        let runs = |it: &HostId| *it != host && self.members.contains_key(it);
        self.voters.iter().copied().filter(runs).collect()
    }

    fn dir(&self, host: HostId) -> PathBuf {
        self.dirs.path().join(host.to_string())
    }
}

impl Heard {
    fn take(&mut self, committed: Committed) {
        match committed {
            Committed::Command { index, command, .. } => self.commands.push((index, command)),
            Committed::Restored { registry, .. } => {
                self.commands.clear();
                self.restored = Some(*registry);
            }
        }
    }
}

#[derive(Default)]
struct Net {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    members: BTreeMap<HostId, Arc<Consensus>>,
    cut: BTreeSet<HostId>,
    draws: u64,
}

impl State {
    fn delay(&mut self) -> Duration {
        self.draws = self.draws.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        Duration::from_micros((self.draws >> 33) % DELAY_MAX_US)
    }
}

impl Net {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the lock")
    }

    fn call_from(self: Arc<Self>, from: HostId) -> Call {
        let net = Arc::downgrade(&self);
        Arc::new(move |to, topic, body| Box::pin(carry(net.clone(), from, to, topic, body)))
    }

    /// Takes as long as one message takes, which is for ever across a cut.
    async fn cross(&self, from: HostId, to: HostId) {
        let (cut, delay) = {
            let mut state = self.state();
            (state.cut.contains(&from) != state.cut.contains(&to), state.delay())
        };
        if cut {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(delay).await;
    }
}

async fn carry(
    net: Weak<Net>,
    from: HostId,
    to: HostId,
    topic: Topic,
    body: Bytes,
) -> Result<Bytes, Unanswered> {
    let gone = |reason: &str| Unanswered { host: to, reason: reason.to_owned() };
    let net = net.upgrade().ok_or_else(|| gone("the test is over"))?;
    net.cross(from, to).await;
    let member = net.state().members.get(&to).cloned();
    let member = member.ok_or_else(|| gone("it does not run"))?;
    let answer = match topic {
        Topic::Raft => member.answer(&body).await,
        Topic::Propose => member.answer_propose(&body).await,
    };
    drop(member);
    net.cross(to, from).await;
    Ok(answer)
}
