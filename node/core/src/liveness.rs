//! Decides which hosts are alive, from their heartbeats and from links that ended for good.
//!
//! ```text
//!            heartbeat         silent for                silent for
//!                              `suspect_after`           `dead_after`
//! (unknown) ----------> Alive ---------------> Suspect --------------> (forgotten)
//!                         ^------ heartbeat ------'           left --------'
//! ```
//!
//! A suspect gets no new work but keeps its KV blocks; a dead host's requests are replayed
//! elsewhere. The gap between the two exists because a WAN path commonly stalls for a second or
//! two and recovers, and replaying a prefill costs more than waiting.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thalweg_wire::HostId;

use crate::machine::{Machine, Time};

/// Tracks the liveness of every known host.
#[derive(Debug)]
pub struct Liveness {
    config: Config,
    peers: BTreeMap<HostId, Peer>,
    effects: VecDeque<Effect>,
}

/// How long silence is tolerated.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Config {
    /// Silence after which a host gets no new work.
    pub suspect_after: Duration,
    /// Silence after which a host is given up. Longer than `suspect_after`.
    pub dead_after: Duration,
}

/// What the machine wants to know.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Event {
    /// A heartbeat arrived, or the link came up.
    Heartbeat(HostId),
    /// The host said goodbye, or its process was replaced: nothing it held is left.
    Left(HostId),
}

/// What the machine wants done.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Effect {
    /// Give this host work (again).
    Trust(HostId),
    /// Give this host no new work.
    Suspect(HostId),
    /// Replay this host's requests elsewhere.
    Forget(HostId),
}

#[derive(Debug)]
struct Peer {
    heard_at: Time,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Alive,
    Suspect,
}

impl Liveness {
    /// Creates a tracker that knows no host.
    ///
    /// # Panics
    ///
    /// If a host would be given up before it is suspected.
    pub fn new(config: Config) -> Self {
        assert!(config.suspect_after < config.dead_after);
        Self { config, peers: BTreeMap::new(), effects: VecDeque::new() }
    }

    /// Whether `host` is known and not suspected.
    pub fn is_alive(&self, host: HostId) -> bool {
        self.peers.get(&host).is_some_and(|peer| peer.state == State::Alive)
    }

    /// Asserts what must hold after [`Machine::handle_timeout`] at `now`.
    ///
    /// # Panics
    ///
    /// If a host was silent for longer than its state allows.
    pub fn check(&self, now: Time) {
        for (host, peer) in &self.peers {
            let limit = match peer.state {
                State::Alive => self.config.suspect_after,
                State::Suspect => self.config.dead_after,
            };
            assert!(now - peer.heard_at < limit, "host {host} is {:?} too long", peer.state);
        }
    }

    fn heard(&mut self, now: Time, host: HostId) {
        let fresh = Peer { heard_at: now, state: State::Alive };
        let before = self.peers.insert(host, fresh);
        assert!(before.as_ref().is_none_or(|peer| peer.heard_at <= now), "time ran backwards");
        if before.is_none_or(|peer| peer.state == State::Suspect) {
            self.effects.push_back(Effect::Trust(host));
        }
    }

    fn left(&mut self, host: HostId) {
        if self.peers.remove(&host).is_some() {
            self.effects.push_back(Effect::Forget(host));
        }
    }
}

impl Machine for Liveness {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Heartbeat(host) => self.heard(now, host),
            Event::Left(host) => self.left(host),
        }
    }

    fn handle_timeout(&mut self, now: Time) {
        let Config { suspect_after, dead_after } = self.config;
        let effects = &mut self.effects;
        self.peers.retain(|&host, peer| {
            let silence = now - peer.heard_at;
            if silence >= dead_after {
                effects.push_back(Effect::Forget(host));
                return false;
            }
            if silence >= suspect_after && peer.state == State::Alive {
                effects.push_back(Effect::Suspect(host));
                peer.state = State::Suspect;
            }
            true
        });
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn next_timeout(&self) -> Option<Time> {
        let deadline = |peer: &Peer| match peer.state {
            State::Alive => peer.heard_at + self.config.suspect_after,
            State::Suspect => peer.heard_at + self.config.dead_after,
        };
        self.peers.values().map(deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: HostId = HostId(1);

    fn machine() -> Liveness {
        Liveness::new(Config {
            suspect_after: Duration::from_secs(2),
            dead_after: Duration::from_secs(6),
        })
    }

    /// Runs a scenario one line at a time and returns everything the machine asked for.
    fn effects(scenario: &[(u64, Option<Event>)]) -> Vec<(u64, Effect)> {
        let mut machine = machine();
        let mut seen = Vec::new();
        for &(second, event) in scenario {
            let now = Duration::from_secs(second);
            match event {
                Some(event) => machine.handle(now, event),
                None => machine.handle_timeout(now),
            }
            seen.extend(std::iter::from_fn(|| machine.poll_effect()).map(|it| (second, it)));
        }
        seen
    }

    #[test]
    fn stall_shorter_than_dead_after_costs_nothing_but_new_work() {
        let scenario = [
            (0, Some(Event::Heartbeat(A))),
            (1, None),
            (2, None),
            (5, Some(Event::Heartbeat(A))),
            (6, None),
        ];
        assert_eq!(
            effects(&scenario),
            [(0, Effect::Trust(A)), (2, Effect::Suspect(A)), (5, Effect::Trust(A))],
        );
    }

    #[test]
    fn silent_host_is_forgotten_once() {
        let scenario = [(0, Some(Event::Heartbeat(A))), (6, None), (60, None)];
        assert_eq!(effects(&scenario), [(0, Effect::Trust(A)), (6, Effect::Forget(A))]);
    }

    #[test]
    fn host_that_left_is_forgotten_at_once_and_may_return() {
        let scenario = [
            (0, Some(Event::Left(A))),
            (1, Some(Event::Heartbeat(A))),
            (1, Some(Event::Left(A))),
            (2, Some(Event::Heartbeat(A))),
        ];
        assert_eq!(
            effects(&scenario),
            [(1, Effect::Trust(A)), (1, Effect::Forget(A)), (2, Effect::Trust(A))],
        );
    }

    proptest! {
        /// Every host alternates between trusted and not, every silence is acted on, and no
        /// deadline is left in the past.
        #[test]
        fn states_alternate_and_deadlines_lie_ahead(
            steps in prop::collection::vec((0_u64..4, 0_u64..3, 0_u8..4), 0..200),
        ) {
            let mut machine = machine();
            let mut now = Duration::ZERO;
            let mut state: BTreeMap<HostId, Effect> = BTreeMap::new();
            for (wait, host, kind) in steps {
                now += Duration::from_secs(wait);
                machine.handle_timeout(now);
                match kind {
                    0 => machine.handle(now, Event::Left(HostId(host))),
                    1 | 2 => machine.handle(now, Event::Heartbeat(HostId(host))),
                    _ => {}
                }
                machine.check(now);
                prop_assert!(machine.next_timeout().is_none_or(|deadline| deadline > now));
                while let Some(effect) = machine.poll_effect() {
                    let (host, allowed) = match effect {
                        Effect::Trust(host) => {
                            let before = state.get(&host);
                            (host, !matches!(before, Some(Effect::Trust(_))))
                        }
                        Effect::Suspect(host) => {
                            (host, matches!(state.get(&host), Some(Effect::Trust(_))))
                        }
                        Effect::Forget(host) => {
                            let before = state.get(&host);
                            (host, matches!(before, Some(Effect::Trust(_) | Effect::Suspect(_))))
                        }
                    };
                    prop_assert!(allowed, "{:?} after {:?}", effect, state.get(&host));
                    state.insert(host, effect);
                }
            }
        }
    }
}
