//! Proved limits on the flow of every placement.
//!
//! A [`Proof`] carries the dual prices behind its value, so that it can be checked without trusting
//! how they were found.

pub mod configuration;
pub mod layers;
pub mod network;
#[cfg(test)]
pub(crate) mod tests;
pub mod work;

use serde::{Deserialize, Serialize};

use crate::Charge;
use crate::instance::Instance;

/// No placement has a flow above `value`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// Tokens per second.
    pub value: f64,
    /// Why.
    pub reason: Reason,
}

/// What proves a bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
#[non_exhaustive]
pub enum Reason {
    /// Layers computed per second: with `k` layers a host of class `t` computes at most `k T_t(k)`,
    /// and all hosts must hold the `L` layers. For any `price >= 0` of a held layer
    ///
    /// ```text
    /// value · L  >=  sum over hosts of max(0, max over k of (k T(k) + price k))  -  price L
    /// ```
    ///
    /// Holds under work charge, and so under full charge.
    Work {
        /// What one held layer more is worth, in layers computed per second.
        price: f64,
    },
    /// Full charge: at flow `value` every layer is covered by hosts whose `T` sums to `value`. Let a
    /// host of class `t` that holds `k` layers cost `price / k` in each of them. The prices are such
    /// that every cover of one layer costs at least 1, while all hosts together cost less than
    /// `L`: no placement reaches `value`. Valid whatever the network.
    Configuration {
        /// One for each class, in the order of [`Instance::classes`].
        prices: Vec<Price>,
    },
    /// Full charge: prices of layers that sum to 1. If no host counts for more than `value` in a
    /// layer, all hosts together, each on the seat where it is worth most, are worth less than
    /// `value`:
    ///
    /// ```text
    /// value  >  sum over hosts of max over ranges r of (min(T(r), value) · sum of prices in r)
    /// ```
    ///
    /// Valid whatever the network.
    Layers {
        /// One for each layer.
        prices: Vec<f64>,
    },
    /// Full charge: the lower end of what HiGHS proved on the interval program. Cannot be checked
    /// again without solving it again.
    Solver,
}

/// What a host of a class costs in [`Reason::Configuration`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Price {
    /// Name of the class.
    pub class: String,
    /// Price of the whole host, in layers.
    pub price: f64,
}

/// Proves the best bound available for the instance.
pub fn prove(instance: &Instance, charge: Charge) -> Proof {
    let work = work::prove(instance);
    match charge {
        Charge::Work => work,
        Charge::Full => {
            let proof = configuration::prove(instance, work.value)
                .filter(|it| it.value < work.value)
                .unwrap_or(work);
            layers::prove(instance, proof.value).unwrap_or(proof)
        }
    }
}
