//! When a step waits although there is work, so that rows which belong together stay together.
//!
//! A step reads the weights once, so that one of few rows takes about as long as one of twenty. Rows
//! that a host computed together reach the next one a little apart, and prompts behind decode steps;
//! a stage that began with the first of them would need a second step for the rest, and so would
//! every stage behind it. Split groups would go round for ever: nothing joins them again. So a stage
//! waits for the rest of a group for as long as that costs less than the step it saves, and a first
//! stage waits until a group has its even share of the requests that decode.

use std::collections::BTreeMap;
use std::time::Duration;

use thalweg_wire::{Activations, Epoch, HostId};

use super::Stage;
use crate::machine::Time;
use crate::policy::Pacing;

/// Steps of senders remembered at most, should frames of theirs be lost.
const STEPS_MAX: usize = 1024;

/// Mean steps that a group too small waits for more, at most: only reached when requests hang at
/// other hosts.
const WAIT_STEPS: u32 = 4;

/// Rows computed together of which some have not arrived.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    /// By sender and its step.
    steps: BTreeMap<(HostId, u32), Rest>,
}

#[derive(Debug)]
struct Rest {
    frames: u32,
    /// Not waited for any longer then.
    until: Time,
}

impl UnderWay {
    /// Takes note of a frame; the rest of its step is waited for until `until`.
    pub(super) fn arrived(&mut self, from: HostId, header: &Activations, until: Time) {
        let key = (from, header.step);
        match self.steps.get_mut(&key) {
            Some(rest) if rest.frames > 1 => rest.frames -= 1,
            Some(_) => {
                self.steps.remove(&key);
            }
            None if header.step_frames > 1 => {
                if self.steps.len() >= STEPS_MAX {
                    self.steps.pop_first();
                }
                self.steps.insert(key, Rest { frames: header.step_frames - 1, until });
            }
            None => {}
        }
    }

    /// Forgets a host.
    pub(super) fn lost(&mut self, host: HostId) {
        self.steps.retain(|key, _| key.0 != host);
    }

    /// Until when something is waited for.
    fn until(&self, now: Time) -> Option<Time> {
        self.steps.values().map(|it| it.until).filter(|&it| it > now).max()
    }
}

impl Stage {
    /// Notes rows that arrived.
    pub(super) fn rows_arrived(&mut self, now: Time, from: HostId, header: &Activations) {
        let step_us = self.shards.latest().map_or(0, |it| it.step_us);
        // A coin toss: the rest saves a step if it comes, and costs the wait if it does not.
        let wait = Duration::from_micros(step_us / 2);
        self.under_way.arrived(from, header, now + wait);
    }

    /// Until when the next step of these layers waits for rows that belong to it; `None` if it can
    /// begin.
    pub(super) fn held_until(&mut self, epoch: Epoch, now: Time) -> Option<Time> {
        let Pacing::MicroBatches { .. } = self.config.policy.pacing else { return None };
        let shard = self.shards.held_mut(epoch);
        let since = *shard.ready_since.get_or_insert(now);
        // Rounded down: the last groups may be one row short.
        let small = shard.first && shard.decode.len() < shard.micro_batch() as usize;
        let patience = Duration::from_micros(shard.step_us) * WAIT_STEPS;
        let group = small.then_some(since + patience).filter(|&it| it > now);
        group.max(self.under_way.until(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_wire::{Attempt, DType, Phase, RequestId};

    fn frame(step: u32, step_frames: u32) -> Activations {
        Activations {
            request: RequestId { gateway: HostId(9), incarnation: 1, counter: 1 },
            attempt: Attempt(0),
            first_position: 0,
            count: 1,
            hidden: 4,
            dtype: DType::F32,
            phase: Phase::Decode,
            sample: true,
            step,
            step_frames,
        }
    }

    #[test]
    fn the_rest_of_a_step_is_waited_for_but_not_for_ever() {
        let second = Duration::from_secs;
        let mut under_way = UnderWay::default();
        let mut arrived = |at, from, step, frames| {
            under_way.arrived(HostId(from), &frame(step, frames), second(at + 5));
            under_way.until(second(at))
        };
        assert_eq!(arrived(0, 1, 1, 1), None, "it came alone");
        assert_eq!(arrived(1, 1, 2, 3), Some(second(6)));
        assert_eq!(arrived(2, 2, 2, 2), Some(second(7)), "another host");
        assert_eq!(arrived(3, 1, 3, 1), Some(second(7)), "a later step overtakes");
        assert_eq!(arrived(3, 2, 2, 2), Some(second(6)));
        assert_eq!(arrived(4, 1, 2, 3), Some(second(6)), "one of three is missing");
        assert_eq!(arrived(6, 1, 4, 1), None, "given up");
        assert_eq!(arrived(7, 1, 2, 3), None, "too late, but no new wait");
        assert!(under_way.steps.is_empty());
        under_way.arrived(HostId(1), &frame(5, 2), second(20));
        under_way.lost(HostId(1));
        assert_eq!(under_way.until(second(8)), None);
    }
}
