//! A set of small numbers from which one can draw.

use fastrand::Rng;

/// A place of a number that is not in the set.
const NOWHERE: u32 = u32::MAX;

/// Some of the numbers below a limit, which is below 2^32.
#[derive(Clone, Debug)]
pub(super) struct Spots {
    list: Vec<u32>,
    /// Place of each number in the list.
    place: Vec<u32>,
}

impl Spots {
    /// No number yet of those below `limit`.
    pub fn new(limit: usize) -> Self {
        Self { list: Vec::new(), place: vec![NOWHERE; limit] }
    }

    pub fn clear(&mut self) {
        self.list.clear();
        self.place.fill(NOWHERE);
    }

    /// Adds a number that is not in the set.
    pub fn insert(&mut self, spot: usize) {
        debug_assert_eq!(self.place[spot], NOWHERE);
        self.place[spot] = self.list.len() as u32;
        self.list.push(spot as u32);
    }

    /// Removes a number that is in the set.
    pub fn remove(&mut self, spot: usize) {
        let place = std::mem::replace(&mut self.place[spot], NOWHERE) as usize;
        self.list.swap_remove(place);
        if let Some(&last) = self.list.get(place) {
            self.place[last as usize] = place as u32;
        }
    }

    /// Draws a number; `None` if there is none.
    pub fn choose(&self, rng: &mut Rng) -> Option<usize> {
        (!self.list.is_empty()).then(|| self.list[rng.usize(0..self.list.len())] as usize)
    }
}
