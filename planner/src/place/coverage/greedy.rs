//! A first placement: every host takes the least covered layers, the strongest first.

use super::ground::{Ground, Seat};

/// Seats for all hosts that can take one. `price` is what holding one layer more is worth, in
/// layers computed per second: at the price of the work bound the hosts hold the model once or more.
/// Coverage counts for each of the `parts` by itself, a part for each host.
pub(super) fn fill(ground: &Ground, price: f64, parts: &[usize]) -> Vec<Seat> {
    let mut seats = vec![Seat::default(); ground.group.len()];
    let count = parts.iter().max().map_or(0, |it| it + 1);
    let mut covers = vec![vec![0.0; ground.layers as usize]; count];
    let mut hosts: Vec<(f64, usize)> =
        (0..seats.len()).map(|host| (worth(ground, host, price).0, host)).collect();
    hosts.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for (_, host) in hosts {
        let cover = &mut covers[parts[host]];
        let count = worth(ground, host, price).1;
        let Some(seat) = weakest(ground, host, count, cover) else { continue };
        let rate = ground.rate(host, seat);
        cover[seat.span()].iter_mut().for_each(|it| *it += rate);
        seats[host] = seat;
    }
    seats
}

/// The most a host is worth in the middle of the model, and with how many layers.
fn worth(ground: &Ground, host: usize, price: f64) -> (f64, u32) {
    (1..=ground.of(host).count_max)
        .map(|count| (most(ground, host, count), count))
        .filter(|it| it.0 > 0.0)
        .map(|(rate, count)| (f64::from(count) * (rate + price), count))
        .fold((0.0, 0), |best, it| if it.0 >= best.0 { it } else { best })
}

fn most(ground: &Ground, host: usize, count: u32) -> f64 {
    let last = ground.layers - count;
    let firsts = [0, 1.min(last), last];
    firsts.into_iter().map(|first| ground.rate(host, Seat { first, count })).fold(0.0, f64::max)
}

/// The seat over the layers least covered in sum, among those the host may take.
fn weakest(ground: &Ground, host: usize, count: u32, cover: &[f64]) -> Option<Seat> {
    let firsts = (count > 0).then(|| 0..=ground.layers - count)?;
    let seats = firsts.map(|first| Seat { first, count });
    let sum = |it: &Seat| cover[it.span()].iter().sum::<f64>();
    seats.filter(|it| ground.rate(host, *it) > 0.0).min_by(|a, b| sum(a).total_cmp(&sum(b)))
}
