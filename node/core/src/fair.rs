//! Who goes first among those that wait.
//!
//! The most important first; among equals tenants take turns; among those of one tenant the oldest.
//! Every fourth turn goes to whoever waits longest, so that nobody waits for ever: with `k` waiting
//! longer, one is served within `4 (k + 1)` turns, whatever comes in meanwhile.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

/// One turn out of this many goes to whoever waits longest.
const PATIENT_EVERY: u64 = 4;

/// A queue of `T`s.
#[derive(Debug)]
pub struct FairQueue<T> {
    classes: BTreeMap<Reverse<u8>, Class<T>>,
    /// Everything put in, in that order; what was taken out meanwhile is skipped.
    arrivals: VecDeque<Place>,
    len: usize,
    put: u64,
    turns: u64,
}

/// Those of one priority.
#[derive(Debug)]
struct Class<T> {
    /// Never without an entry.
    tenants: BTreeMap<u64, BTreeMap<(u64, u64), T>>,
    /// Tenant whose turn was last.
    last: u64,
}

/// Where something waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    priority: u8,
    tenant: u64,
    age: u64,
    number: u64,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        let (classes, arrivals) = (BTreeMap::new(), VecDeque::new());
        Self { classes, arrivals, len: 0, put: 0, turns: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Puts something in. Among those of one tenant and priority, smaller `age`s go first.
    pub fn put(&mut self, priority: u8, tenant: u64, age: u64, thing: T) -> Place {
        let place = Place { priority, tenant, age, number: self.put };
        self.put += 1;
        self.len += 1;
        let fresh = || Class { tenants: BTreeMap::new(), last: u64::MAX };
        let class = self.classes.entry(Reverse(priority)).or_insert_with(fresh);
        class.tenants.entry(tenant).or_default().insert((age, place.number), thing);
        self.arrivals.push_back(place);
        place
    }

    /// Whose turn it is, without taking it.
    pub fn peek(&mut self) -> Option<&T> {
        let Place { priority, tenant, age, number } = self.next()?;
        self.classes.get(&Reverse(priority))?.tenants.get(&tenant)?.get(&(age, number))
    }

    /// Takes out whose turn it is.
    pub fn take(&mut self) -> Option<T> {
        let place = self.next()?;
        self.turns += 1;
        if let Some(class) = self.classes.get_mut(&Reverse(place.priority)) {
            class.last = place.tenant;
        }
        self.remove(place)
    }

    /// Takes out what waits at `place`, if it does.
    pub fn remove(&mut self, place: Place) -> Option<T> {
        let class = self.classes.get_mut(&Reverse(place.priority))?;
        let waiting = class.tenants.get_mut(&place.tenant)?;
        let thing = waiting.remove(&(place.age, place.number))?;
        if waiting.is_empty() {
            class.tenants.remove(&place.tenant);
        }
        if class.tenants.is_empty() {
            self.classes.remove(&Reverse(place.priority));
        }
        self.len -= 1;
        if self.len == 0 {
            self.arrivals.clear();
        }
        Some(thing)
    }

    /// Number of things that wait.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn next(&mut self) -> Option<Place> {
        if self.turns % PATIENT_EVERY == PATIENT_EVERY - 1 {
            return self.longest_waiting();
        }
        let (&Reverse(priority), class) = self.classes.first_key_value()?;
        let after = class.last.checked_add(1).and_then(|it| class.tenants.range(it..).next());
        let (&tenant, waiting) = after.or_else(|| class.tenants.first_key_value())?;
        let (&(age, number), _) = waiting.first_key_value()?;
        Some(Place { priority, tenant, age, number })
    }

    fn longest_waiting(&mut self) -> Option<Place> {
        while let Some(&place) = self.arrivals.front() {
            if self.holds(place) {
                return Some(place);
            }
            self.arrivals.pop_front();
        }
        None
    }

    fn holds(&self, place: Place) -> bool {
        let class = self.classes.get(&Reverse(place.priority));
        let waiting = class.and_then(|it| it.tenants.get(&place.tenant));
        waiting.is_some_and(|it| it.contains_key(&(place.age, place.number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn importance_then_turns_of_tenants_then_age() {
        let mut queue = FairQueue::default();
        for (priority, tenant, age) in [(1, 7, 0), (9, 1, 5), (9, 1, 4), (9, 2, 9), (9, 1, 6)] {
            queue.put(priority, tenant, age, (tenant, age));
        }
        assert_eq!(queue.peek(), Some(&(1, 4)));
        let order: Vec<_> = std::iter::from_fn(|| queue.take()).collect();
        let patient = (7, 0);
        assert_eq!(order, [(1, 4), (2, 9), (1, 5), patient, (1, 6)]);
        assert!(queue.is_empty() && queue.arrivals.is_empty());
    }

    proptest! {
        /// With `k` waiting longer, nobody waits for more than `4 (k + 1)` turns; nothing is lost
        /// or comes out twice.
        #[test]
        fn nobody_waits_for_ever(
            puts in prop::collection::vec((0_u8..3, 0_u64..3, 0_u64..100, 0_usize..3), 1..200),
            removed: prop::sample::Index,
        ) {
            let mut queue = FairQueue::default();
            // For each that waits: turns left to it.
            let mut waiting: BTreeMap<usize, usize> = BTreeMap::new();
            let mut removed = Some(removed.index(puts.len()));
            for (name, &(priority, tenant, age, takes)) in puts.iter().enumerate() {
                let place = queue.put(priority, tenant, age, name);
                waiting.insert(name, 4 * (waiting.len() + 1));
                if removed == Some(name) {
                    removed = None;
                    prop_assert_eq!(queue.remove(place), Some(name));
                    prop_assert_eq!(queue.remove(place), None);
                    waiting.remove(&name);
                }
                for _ in 0..takes {
                    let next = queue.peek().copied();
                    let taken = queue.take();
                    prop_assert_eq!(taken, next);
                    prop_assert_eq!(taken.is_some(), !waiting.is_empty());
                    if let Some(it) = taken {
                        prop_assert!(waiting.remove(&it).is_some(), "{} came out twice", it);
                    }
                    for left in waiting.values_mut() {
                        *left = left.checked_sub(1).expect("waited for too long");
                    }
                }
                prop_assert_eq!(queue.len(), waiting.len());
            }
        }
    }
}
