//! Arrivals that come by themselves: Poisson processes whose rate may change, drawn by thinning
//! (Lewis and Shedler, 1979).

use fastrand::Rng;

use super::{Arrivals, daylight};

/// A rate of arrivals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Requests per second at most.
    most: f64,
    shape: Shape,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Even,
    Bursts { every: f64, lasting: f64, factor: f64 },
    Diurnal { period: f64, depth: f64 },
}

impl Rate {
    /// The rate of arrivals that have one.
    pub fn of(arrivals: &Arrivals) -> Option<Self> {
        match *arrivals {
            Arrivals::Poisson { per_second } => Some(Self { most: per_second, shape: Shape::Even }),
            Arrivals::Bursts { per_second, every_seconds, lasting_seconds, factor } => {
                let (every, lasting) = (every_seconds, lasting_seconds);
                let shape = Shape::Bursts { every, lasting, factor };
                Some(Self { most: per_second * factor.max(1.0), shape })
            }
            Arrivals::Diurnal { per_second, period_seconds, depth } => {
                let shape = Shape::Diurnal { period: period_seconds, depth };
                Some(Self { most: per_second * (1.0 + depth), shape })
            }
            Arrivals::Recorded(_) | Arrivals::Users { .. } | Arrivals::Backlog { .. } => None,
        }
    }

    /// Seconds from `now` to the next request, and its gateway.
    pub fn draw(self, now: f64, gateways: usize, random: &mut Rng) -> (f64, usize) {
        let mut wait = 0.0;
        loop {
            // One minus a number below one: never the logarithm of zero.
            wait -= (1.0 - random.f64()).ln() / self.most;
            let gateway = random.usize(0..gateways);
            if random.f64() < self.share(now + wait, gateway, gateways) {
                return (wait, gateway);
            }
        }
    }

    /// Share of the highest rate that a gateway has at `at`.
    fn share(self, at: f64, gateway: usize, gateways: usize) -> f64 {
        match self.shape {
            Shape::Even => 1.0,
            Shape::Bursts { every, lasting, factor } => {
                let bursts = at.rem_euclid(every) < lasting;
                let factor_now = if bursts { factor } else { 1.0 };
                factor_now / factor.max(1.0)
            }
            Shape::Diurnal { period, depth } => {
                daylight(at, period, depth, gateway, gateways) / (1.0 + depth)
            }
        }
    }
}
