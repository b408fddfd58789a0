//! From what the lines of a mesh carry to hops between hosts.

use std::collections::BTreeMap;

use thalweg_wire::LayerRange;

use super::mesh::{Kind, Mesh};
use super::{End, Hop};

/// Hops below this share of the largest are rounding.
const SHARE_MIN: f64 = 1e-9;

/// Reads hops off the lines. What hosts send into a group is dealt out to those who take it in
/// order: inside a group no pair is limited.
pub(super) fn hops(placement: &[Option<LayerRange>], mesh: &Mesh, carried: &[f64]) -> Vec<Hop> {
    let least = carried.iter().copied().fold(0.0, f64::max) * SHARE_MIN;
    let end = |host: usize| placement[host].map_or(0, LayerRange::end);
    let mut hops = Vec::new();
    // By group node: who sends how much, and who takes how much.
    let mut groups: BTreeMap<u32, [Vec<(usize, f64)>; 2]> = BTreeMap::new();
    for (line, &tokens_per_second) in mesh.lines.iter().zip(carried).filter(|it| *it.1 > least) {
        let (from, to, position) = match line.kind {
            Kind::Enter(host) => (End::Source, End::Host(host), 0),
            Kind::Hop(from, to) => (End::Host(from), End::Host(to), end(from)),
            Kind::Leave(host) => (End::Host(host), End::Sink, end(host)),
            Kind::Gather(from, _) => {
                groups.entry(line.to).or_default()[0].push((from, tokens_per_second));
                continue;
            }
            Kind::Spread(_, to) => {
                groups.entry(line.from).or_default()[1].push((to, tokens_per_second));
                continue;
            }
            Kind::Intake(_) | Kind::Compute(_) => continue,
        };
        hops.push(Hop { from, to, position, tokens_per_second });
    }
    for [senders, takers] in groups.into_values() {
        deal(senders, takers, |from, to, tokens_per_second| {
            if tokens_per_second > least {
                let (from, to, position) = (End::Host(from), End::Host(to), end(from));
                hops.push(Hop { from, to, position, tokens_per_second });
            }
        });
    }
    hops.sort_by_key(|it| (it.position, it.from, it.to));
    hops
}

fn deal(
    senders: Vec<(usize, f64)>,
    takers: Vec<(usize, f64)>,
    mut hop: impl FnMut(usize, usize, f64),
) {
    let mut takers = takers.into_iter();
    let mut open = takers.next();
    for (from, mut left) in senders {
        while let Some((to, room)) = open.filter(|_| left > 0.0) {
            let share = left.min(room);
            hop(from, to, share);
            left -= share;
            open = if room > share { Some((to, room - share)) } else { takers.next() };
        }
    }
}
