//! How patient consensus is, derived from the round trip between voters.
//!
//! openraft 0.9 fixes its timers when a node starts. A follower waits for the leader's lease (as
//! long as the longest election timeout) and then for its own election timeout, so a lost leader
//! is replaced after about twice that timeout. The library checks its timers once per tick, which
//! is three halves of the heartbeat; two voters whose timeouts differ by less than a tick could
//! stand in the same instant again and again and split every vote. Timeouts are therefore not
//! drawn but spread one tick apart by the rank of the voter: the lowest rank alive stands first.
//!
//! ```text
//! loopback (0 ms):   heartbeat  60 ms, tick  90 ms, leader replaced after 0.5, 0.7, 0.9 s
//! WAN    (160 ms):   heartbeat 380 ms, tick 570 ms, leader replaced after 3.4, 4.6, 5.7 s
//! ```

use std::time::Duration;

/// Heartbeat on a link without delay. Also bounds how long one append may take, flush included.
const HEARTBEAT_FLOOR: Duration = Duration::from_millis(60);
/// Round trips a heartbeat lasts, so that an append survives one retransmission.
const HEARTBEAT_ROUND_TRIPS: u32 = 2;
/// Ticks in the shortest election timeout: as many heartbeats may be lost before anyone stands.
const ELECTION_TICKS_MIN: u64 = 3;
/// Elections a proposal outlives before it is given up.
const PROPOSE_ELECTIONS: u32 = 8;

/// The timers of one voter or learner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Timing {
    /// Interval of heartbeats, and limit of one append.
    pub heartbeat: Duration,
    /// Silence after which this voter stands, beyond the lease of the leader it followed.
    pub election: Duration,
    /// Time after which a proposal without a leader is given up.
    pub propose: Duration,
}

impl Timing {
    /// Returns the timers of the voter at `rank` (learners: any) for a given round trip.
    pub fn new(round_trip: Duration, rank: usize) -> Self {
        let heartbeat = HEARTBEAT_FLOOR + round_trip * HEARTBEAT_ROUND_TRIPS;
        let heartbeat_ms = millis(heartbeat);
        let tick_ms = heartbeat_ms * 3 / 2;
        let rank = u64::try_from(rank).unwrap_or(u64::MAX);
        let ticks = ELECTION_TICKS_MIN.saturating_add(rank);
        let election = Duration::from_millis(tick_ms.saturating_mul(ticks));
        Self {
            heartbeat: Duration::from_millis(heartbeat_ms),
            election,
            propose: Duration::from_millis(tick_ms * ELECTION_TICKS_MIN) * 2 * PROPOSE_ELECTIONS,
        }
    }

    /// Silence of a quorum after which a leader no longer counts itself as one.
    pub fn lease(self) -> Duration {
        self.election * 2
    }

    /// Returns the library's configuration.
    pub fn config(self) -> openraft::Config {
        openraft::Config {
            cluster_name: String::from("thalweg"),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election),
            election_timeout_max: millis(self.election) + 1,
            install_snapshot_timeout: millis(self.heartbeat) * SNAPSHOT_HEARTBEATS,
            max_payload_entries: APPEND_ENTRIES_MAX,
            snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
            max_in_snapshot_log_to_keep: KEPT_ENTRIES,
            replication_lag_threshold: SNAPSHOT_ENTRIES * 2,
            ..openraft::Config::default()
        }
    }
}

/// Heartbeats that sending and installing a snapshot may take.
const SNAPSHOT_HEARTBEATS: u64 = 50;
/// Entries in one append at most.
const APPEND_ENTRIES_MAX: u64 = 64;
/// Entries between two snapshots.
const SNAPSHOT_ENTRIES: u64 = 1024;
/// Entries kept behind a snapshot, for followers that lag a little.
const KEPT_ENTRIES: u64 = 256;

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longest time from the loss of a leader to the stand of the voter at `rank`: lease, timeout
    /// and one tick of rounding.
    fn stands_after(round_trip_ms: u64, rank: usize) -> Duration {
        let timing = Timing::new(Duration::from_millis(round_trip_ms), rank);
        timing.election * 2 + timing.heartbeat * 3 / 2
    }

    #[test]
    fn a_lost_leader_is_replaced_in_time() {
        // Of five voters two may be gone besides the leader's rank, so rank 2 is the last to stand.
        assert!(stands_after(0, 2) <= Duration::from_millis(1000));
        assert!(stands_after(160, 2) <= Duration::from_millis(7500));
    }

    #[test]
    fn voters_stand_at_least_a_tick_apart() {
        for round_trip_ms in [0, 1, 30, 160] {
            let timings =
                [0, 1, 2, 3, 4].map(|rank| Timing::new(Duration::from_millis(round_trip_ms), rank));
            for pair in timings.windows(2) {
                let tick = Duration::from_millis(millis(pair[0].heartbeat) * 3 / 2);
                assert!(pair[1].election >= pair[0].election + tick);
            }
            for timing in timings {
                timing.config().validate().expect("timeouts are ordered");
            }
        }
    }
}
