//! Bounds that know regions and links.
//!
//! All hold under full charge, with and without partial inference, for every placement of the
//! instance. A flow means one of `F` tokens/s; a host *carries* a layer if it computes that layer
//! for some of them, and the hosts that carry a layer are a *cover*: their rates sum to `F` at
//! least.
//!
//! **Ends.** Each token enters a host that may hold the first layer, and such a host takes in no
//! more than its link from the gateways and its rate allow.
//!
//! **Sides.** Divide the regions into two sides. Let `alone` limit what one side can do by itself
//! (`room`). The layer that the far side covers worst is computed there for at most `alone(far)`
//! tokens/s, hence on the near side for `F - alone(far)`; likewise some layer is computed on the
//! far side for `F - alone(near)`. At least `F - alone(near) - alone(far)` tokens/s are in both,
//! and all of them cross in the same direction, from the side of the lower layer to the other. So
//!
//! ```text
//! F  <=  alone(near) + alone(far) + max(capacity near to far, capacity far to near)
//! ```
//!
//! where a capacity sums links between hosts, or shared capacities in place of those they carry.
//!
//! **Thin crossings.** As in the configuration bound, let a host of class `t` that holds `k` layers
//! cost `u_t / k` in each of them, so that the layers together cost at most `U`, the price of all
//! hosts. Let `a_n` be the least cost of a cover by `n` hosts or more. A layer carried by `n` hosts
//! costs `a_n - a_1` more than it must, its *excess*; all excesses together are at most
//! `U - a_1 L`. Let `c` be the most that a link between regions carries, and `N = F / c` rounded
//! up the links that all tokens need. A layer is *pure* if one region carries it, else *mixed*.
//!
//! * A mixed layer has two hosts at least: excess `a_2 - a_1`.
//! * Between a pure layer of one region, with `n` hosts, and the next pure layer, of another region
//!   and with `m` hosts, all tokens cross. Without mixed layers between them, at most `n m` links
//!   join their hosts, so `n m >= N`. With one, carried by `p` hosts of the first region and `q`
//!   others, a token crosses before it or behind it: `n q + p m >= N`. Two mixed layers or more
//!   cost `2 (a_2 - a_1)`. The least excess of these three, ends included, is `x`; it is the price of
//!   a *crossing*. Two crossings share at most a pure layer.
//! * A region with hosts worth `U_r` has at most `U_r / a_1` pure layers. So with `M` mixed layers
//!   there are pure layers of at least `R(M)` regions, the fewest with room for `L - M` of them,
//!   and `R(M) - 1` crossings or more, which cost `x max(1, (R(M) - 1) / 2)` together.
//!
//! If for each `M` from 0 to `L` the larger of `M (a_2 - a_1)` and that sum exceeds `U - a_1 L`, no
//! placement reaches `F`. With three regions of which each holds a third of the model, layer by
//! layer on single hosts, this is what forbids a flow above one link between regions.
//!
//! Prices come from a linear program that knows only some covers, the cheapest others from a
//! knapsack on a grid on which rates are rounded up (`thin`). [`check`] shares none of it.

mod checking;
mod knapsack;
pub(crate) mod room;
mod sides;
#[cfg(test)]
mod tests;
mod thin;

use serde::{Deserialize, Serialize};

use super::Price;
use crate::instance::Instance;
pub use checking::{Doubt, check};

/// A bound is only worth its name if it is below the other by this fraction.
const GAIN_MIN: f64 = 1e-6;

/// No placement has a flow above `value` under full charge, because of links.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkProof {
    /// Tokens per second.
    pub value: f64,
    /// What holds it back.
    pub reason: NetworkReason,
}

/// Which argument proves a network bound; the arguments are in the module's documentation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
#[non_exhaustive]
pub enum NetworkReason {
    /// Links from the gateways to the hosts of the first layer.
    Enter,
    /// Links from the hosts of the last layer to the gateways.
    Leave,
    /// Crossings between two sides.
    Sides {
        /// Regions of the near side, by index.
        near: Vec<usize>,
        /// Tokens/s that the near side does at most by itself.
        near_alone: f64,
        /// Tokens/s that the far side does at most by itself.
        far_alone: f64,
        /// Shared capacities used from near to far, by index.
        shared_out: Vec<usize>,
        /// Shared capacities used from far to near, by index.
        shared_back: Vec<usize>,
    },
    /// Thin crossings between regions.
    Thin {
        /// Price of a whole host, one for each class in the order of [`Instance::classes`].
        prices: Vec<Price>,
        /// `a_n`: no cover by `n` hosts or more is cheaper; from `n = 1`.
        costs: Vec<f64>,
    },
}

/// Proves the best bound of the network below `configuration_bound`, which must hold for every
/// placement. `None` if the network adds nothing.
pub fn prove(instance: &Instance, configuration_bound: f64) -> Option<NetworkProof> {
    let ends = [(NetworkReason::Enter, true), (NetworkReason::Leave, false)];
    let ends = ends.map(|(reason, first)| NetworkProof { value: gate(instance, first), reason });
    let quick = ends
        .into_iter()
        .chain(sides::prove(instance))
        .filter(|it| it.value < configuration_bound * (1.0 - GAIN_MIN))
        .min_by(|a, b| a.value.total_cmp(&b.value));
    let below = quick.as_ref().map_or(configuration_bound, |it| it.value);
    thin::prove(instance, below).or(quick)
}

/// What the gateways can send to hosts of the first layer, or get back from those of the last.
fn gate(instance: &Instance, first: bool) -> f64 {
    let network = &instance.network;
    let hosts = instance.hosts.iter().enumerate().map(|(at, host)| {
        let (wire, allowed) = if first {
            (network.enter[at], host.may_be_first)
        } else {
            (network.leave[at], host.may_be_last)
        };
        let wire = wire.filter(|_| allowed).map_or(0.0, |it| it.tokens_per_second);
        wire.min(room::fastest(instance, host.class))
    });
    hosts.sum()
}
