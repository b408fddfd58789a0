//! The requests a stage works on: found by name once per event, then by slot.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

use thalweg_wire::RequestId;

use super::request::Request;

/// Where a request is kept. Valid until the request is removed; another may take the slot then.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Slot(u32);

/// All requests of a stage.
#[derive(Debug, Default)]
pub(super) struct Requests {
    by_id: BTreeMap<RequestId, Slot>,
    slots: Vec<Option<Request>>,
    vacant: Vec<Slot>,
}

impl Requests {
    /// Takes in a request that is not there yet.
    pub(super) fn insert(&mut self, request: Request) -> Slot {
        let id = request.id;
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot(u32::try_from(self.slots.len() - 1).expect("bounded by the blocks"))
        });
        self.slots[slot.0 as usize] = Some(request);
        let before = self.by_id.insert(id, slot);
        assert!(before.is_none(), "request {id} is here twice");
        slot
    }

    /// Removes a request.
    pub(super) fn remove(&mut self, slot: Slot) -> Request {
        let request = self.slots[slot.0 as usize].take().expect("a slot names a request");
        self.by_id.remove(&request.id);
        self.vacant.push(slot);
        request
    }

    /// Where a request is, if it is here.
    pub(super) fn find(&self, id: RequestId) -> Option<Slot> {
        self.by_id.get(&id).copied()
    }

    /// What is in a slot, whoever it was meant for.
    pub(super) fn get(&self, slot: Slot) -> Option<&Request> {
        self.slots[slot.0 as usize].as_ref()
    }

    /// All requests, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Request)> {
        self.by_id.values().map(|&slot| (slot, &self[slot]))
    }

    /// Number of requests.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Asserts that names and slots agree.
    pub(super) fn check(&self) {
        assert!(self.by_id.iter().all(|(&id, &slot)| self[slot].id == id));
        assert_eq!(self.by_id.len() + self.vacant.len(), self.slots.len());
    }
}

impl Index<Slot> for Requests {
    type Output = Request;

    fn index(&self, slot: Slot) -> &Request {
        self.slots[slot.0 as usize].as_ref().expect("a slot names a request")
    }
}

impl IndexMut<Slot> for Requests {
    fn index_mut(&mut self, slot: Slot) -> &mut Request {
        self.slots[slot.0 as usize].as_mut().expect("a slot names a request")
    }
}
