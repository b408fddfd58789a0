//! Moves of the searches: what changes between a placement and its neighbours.

use fastrand::Rng;
use thalweg_wire::LayerRange;

use crate::instance::{Instance, Placement};

/// Hosts looked at for one that begins where another ends.
const FOLLOWERS_SEEN_MAX: usize = 64;

/// New ranges of one host or two.
pub(crate) struct Change {
    hosts: [(usize, Option<LayerRange>); 2],
    count: usize,
}

impl Change {
    fn one(host: usize, to: LayerRange) -> Self {
        Self { hosts: [(host, Some(to)); 2], count: 1 }
    }

    fn two(one: (usize, Option<LayerRange>), other: (usize, Option<LayerRange>)) -> Self {
        Self { hosts: [one, other], count: 2 }
    }

    /// Each host with its new range.
    pub fn hosts(&self) -> &[(usize, Option<LayerRange>)] {
        &self.hosts[..self.count]
    }

    /// The same, to keep what the change replaces.
    pub fn hosts_mut(&mut self) -> &mut [(usize, Option<LayerRange>)] {
        &mut self.hosts[..self.count]
    }

    fn fits(&self, instance: &Instance) -> bool {
        let fits = |&(host, range): &(usize, Option<LayerRange>)| {
            range.is_none_or(|it| it.end() <= instance.layers && instance.rate(host, it) > 0.0)
        };
        self.hosts().iter().all(fits)
    }
}

/// A change of one host, or of two that trade layers. `None` if the draw leads nowhere.
pub(crate) fn draw(instance: &Instance, now: &Placement, rng: &mut Rng) -> Option<Change> {
    let host = rng.usize(0..now.len());
    let change = match rng.u8(0..10) {
        0..6 => Change::one(host, neighbour(instance, host, now[host], rng)?),
        6..8 => {
            let other = rng.usize(0..now.len());
            let differ = instance.hosts[host].class != instance.hosts[other].class;
            differ.then(|| Change::two((host, now[other]), (other, now[host])))?
        }
        _ => border(now, host, rng)?,
    };
    change.fits(instance).then_some(change)
}

/// Moves the border between `host` and one that begins where it ends.
fn border(now: &Placement, host: usize, rng: &mut Rng) -> Option<Change> {
    let near = now[host]?;
    let begins = rng.usize(0..now.len());
    let seen = (0..now.len().min(FOLLOWERS_SEEN_MAX)).map(|it| (begins + it) % now.len());
    let follows = |it: &usize| now[*it].is_some_and(|far| far.first() == near.end());
    let other = seen.into_iter().find(follows)?;
    let far = now[other]?;
    let by = if rng.bool() { 1 } else { -1 };
    let border = near.end().checked_add_signed(by)?;
    let (near, far) = (LayerRange::new(near.first(), border), LayerRange::new(border, far.end()));
    Some(Change::two((host, Some(near.ok()?)), (other, Some(far.ok()?))))
}

/// A range for `host` near the one it has: shifted, resized, or now and then anywhere. `None` if
/// the host cannot hold it.
pub(crate) fn neighbour(
    instance: &Instance,
    host: usize,
    now: Option<LayerRange>,
    rng: &mut Rng,
) -> Option<LayerRange> {
    let Some(now) = now else { return anywhere(instance, host, rng) };
    let (first, end) = (i64::from(now.first()), i64::from(now.end()));
    let by = rng.i64(1..=4) * if rng.bool() { 1 } else { -1 };
    let (first, end) = match rng.u8(0..10) {
        0..4 => (first + by, end + by),
        4..6 => (first + by.signum(), end),
        6..8 => (first, end + by.signum()),
        8 => (first + by.signum(), end - by.signum()),
        _ => return anywhere(instance, host, rng),
    };
    let range = LayerRange::new(u32::try_from(first).ok()?, u32::try_from(end).ok()?).ok()?;
    (range.end() <= instance.layers && instance.rate(host, range) > 0.0).then_some(range)
}

/// Any range that `host` can hold, by chance. `None` if chance met none.
pub(super) fn anywhere(instance: &Instance, host: usize, rng: &mut Rng) -> Option<LayerRange> {
    let most = instance.class(host).rates.count_max().min(instance.layers);
    let count = rng.u32(1..=most.max(1));
    let first = rng.u32(0..=instance.layers.checked_sub(count)?);
    let range = LayerRange::new(first, first + count).ok()?;
    (instance.rate(host, range) > 0.0).then_some(range)
}
