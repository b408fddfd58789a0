//! Remembers which attempts are over, for frames still under way.

use std::collections::{BTreeMap, VecDeque};

use thalweg_wire::{Attempt, RequestId};

/// Requests remembered at most. A frame of a forgotten one costs a refusal that its gateway
/// ignores, or at worst blocks that are freed once they idle.
const ENDED_MAX: usize = 4096;

/// The latest attempts that ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    attempts: BTreeMap<RequestId, Attempt>,
    /// Oldest first.
    order: VecDeque<RequestId>,
}

impl Ended {
    /// Notes that `attempt` and all before it are over.
    pub(super) fn insert(&mut self, request: RequestId, attempt: Attempt) {
        let Some(before) = self.attempts.get_mut(&request) else {
            self.attempts.insert(request, attempt);
            self.order.push_back(request);
            self.forget_oldest();
            return;
        };
        *before = attempt.max(*before);
    }

    /// Whether `attempt` is known to be over.
    pub(super) fn covers(&self, request: RequestId, attempt: Attempt) -> bool {
        self.attempts.get(&request).is_some_and(|&ended| attempt <= ended)
    }

    fn forget_oldest(&mut self) {
        if self.order.len() > ENDED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.attempts.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_wire::HostId;

    #[test]
    fn covers_earlier_attempts_and_forgets_the_oldest() {
        let id = |counter| RequestId { gateway: HostId(1), incarnation: 1, counter };
        let mut ended = Ended::default();
        ended.insert(id(0), Attempt(2));
        ended.insert(id(0), Attempt(1));
        assert!(ended.covers(id(0), Attempt(2)));
        assert!(!ended.covers(id(0), Attempt(3)));
        (1..=ENDED_MAX as u64).for_each(|counter| ended.insert(id(counter), Attempt(0)));
        assert!(!ended.covers(id(0), Attempt(0)));
        assert_eq!(ended.attempts.len(), ENDED_MAX);
    }
}
