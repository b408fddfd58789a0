//! Arrivals at a given mean rate, drawn like the artifact draws them.

use super::mersenne::Mersenne;
use super::scenario::{Arrival, Length};

/// Seconds of a bin of recorded arrivals.
const BIN_SECONDS: f64 = 3.0;

/// Draws arrivals from recorded ones: `counts` is how many came in each of some bins of three
/// seconds, `lengths` what they were.
///
/// Counts are scaled to a mean of `tokens_per_second`, prompts and answers together. Each of `bins`
/// new bins takes a recorded one at random, so that bursts longer than a bin are lost; queries are
/// spread evenly over it, and take recorded lengths at random. There are none if `counts` or
/// `lengths` are empty or all zero.
pub fn draw_arrivals(
    (counts, lengths): (&[u32], &[Length]),
    tokens_per_second: f64,
    start_seconds: f64,
    bins: u32,
    seed: u64,
) -> Vec<Arrival> {
    let mean_count = mean(counts.iter().copied());
    let mean_tokens = mean(lengths.iter().map(|it| it.0)) + mean(lengths.iter().map(|it| it.1));
    let mut arrivals = Vec::new();
    if !(mean_count > 0.0 && mean_tokens > 0.0) {
        return arrivals;
    }
    let scale = BIN_SECONDS * (tokens_per_second / mean_tokens) / mean_count;
    let mut draws = Mersenne::new(seed);
    let mut carried = 0.0;
    for bin in 0..bins {
        let drawn = scale * f64::from(counts[draws.below(counts.len() as u32) as usize]) + carried;
        let count = drawn.round_ties_even().max(0.0);
        carried = drawn - count;
        let start = start_seconds + f64::from(bin) * BIN_SECONDS;
        let mut times: Vec<f64> =
            (0..count as u32).map(|_| start + BIN_SECONDS * draws.unit()).collect();
        times.sort_unstable_by(f64::total_cmp);
        arrivals.extend(times.into_iter().map(|at_seconds| Arrival {
            at_seconds,
            length: lengths[draws.below(lengths.len() as u32) as usize],
        }));
    }
    arrivals
}

fn mean(values: impl ExactSizeIterator<Item = u32>) -> f64 {
    let count = values.len() as f64;
    values.map(f64::from).sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_rate_is_met_and_a_seed_gives_the_same_arrivals() {
        let (counts, lengths) = ([0, 1, 2, 5], [(90, 10), (250, 50)]);
        let draw = |seed| draw_arrivals((&counts, &lengths), 500.0, 7.0, 2000, seed);
        let arrivals = draw(3);
        assert!(arrivals.is_sorted_by(|a, b| a.at_seconds <= b.at_seconds));
        assert!(arrivals.iter().all(|it| (7.0..6007.0).contains(&it.at_seconds)));
        // 500 tokens/s in queries of 200: 2.5 queries/s for 6000 s.
        let (count, expected) = (arrivals.len() as f64, 2.5 * 6000.0);
        assert!((count / expected - 1.0).abs() < 0.05, "{count} queries, {expected} expected");
        assert_eq!(draw(3), arrivals);
        assert_ne!(draw(4), arrivals);
    }

    #[test]
    fn nothing_recorded_means_no_arrivals() {
        assert_eq!(draw_arrivals((&[], &[(1, 1)]), 1.0, 0.0, 10, 0), []);
        assert_eq!(draw_arrivals((&[0, 0], &[(1, 1)]), 1.0, 0.0, 10, 0), []);
        assert_eq!(draw_arrivals((&[1], &[]), 1.0, 0.0, 10, 0), []);
    }
}
