//! What a cluster knows of its hosts, and the commands that change what it knows.

use serde::{Deserialize, Serialize};

use crate::{BitsPerSecond, Bytes, Epoch, HostId, ModelShape, Plan};

/// One point of a measured curve.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Tokens in the step: prompt tokens for prefill, requests for decode.
    pub tokens: u32,
    /// Time of the step for one layer, in seconds. Positive and finite.
    pub seconds: f64,
}

/// What a host measured of itself for one model.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Profile {
    /// Time of a prefill chunk, per layer, by increasing number of tokens.
    pub prefill: Vec<CurvePoint>,
    /// Time of a decode step, per layer, by increasing number of requests.
    pub decode: Vec<CurvePoint>,
    /// Time of norm, head and sampling for one token, in seconds: the last stage's own cost.
    pub head_seconds: f64,
}

/// A profile that cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{curve} curve: {tokens} tokens in {seconds} s per layer is no measurement")]
pub struct ProfileError {
    /// Which curve.
    pub curve: &'static str,
    /// Tokens of the point.
    pub tokens: u32,
    /// Time of the point.
    pub seconds: f64,
}

impl Profile {
    /// Checks that every time is finite and positive and that tokens increase.
    ///
    /// # Errors
    ///
    /// Names the first point that cannot be true. A host's numbers are checked, not believed.
    pub fn check(&self) -> Result<(), ProfileError> {
        for (curve, points) in [("prefill", &self.prefill), ("decode", &self.decode)] {
            let mut before = 0;
            if points.is_empty() {
                return Err(ProfileError { curve, tokens: 0, seconds: 0.0 });
            }
            for &CurvePoint { tokens, seconds } in points {
                if tokens <= before || !(seconds.is_finite() && seconds > 0.0) {
                    return Err(ProfileError { curve, tokens, seconds });
                }
                before = tokens;
            }
        }
        if !(self.head_seconds.is_finite() && self.head_seconds >= 0.0) {
            return Err(ProfileError { curve: "head", tokens: 1, seconds: self.head_seconds });
        }
        Ok(())
    }
}

/// What a host says of itself when it joins.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct HostRecord {
    /// Who: the hash of `name`.
    pub host: HostId,
    /// Name in the certificate.
    pub name: String,
    /// Region in the certificate.
    pub region: String,
    /// Where other hosts reach it, `address:port`.
    pub address: String,
    /// Start of its process, in microseconds since 1970.
    pub incarnation: u64,
    /// Memory for weights and KV together.
    pub memory: Bytes,
    /// Kind of machine, in words.
    pub machine: String,
    /// Measured curves.
    pub profile: Profile,
}

/// A measured directed link.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct LinkMeasure {
    /// Far end.
    pub to: HostId,
    /// Round trip of a small frame, in microseconds.
    pub rtt_us: u64,
    /// Rate of bulk data.
    pub bandwidth: BitsPerSecond,
}

/// An entry of the replicated log. Applying entries in order gives every host the same view.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Command {
    /// The cluster serves this model. Only the first one counts.
    Serve(ModelShape),
    /// A host appeared, or came back with a new incarnation.
    Register(HostRecord),
    /// A host measured its outgoing links.
    Links {
        /// Near end.
        host: HostId,
        /// One entry per far end.
        links: Vec<LinkMeasure>,
    },
    /// The planner gives a host up.
    Remove {
        /// Who.
        host: HostId,
        /// The incarnation given up; a newer one stays.
        incarnation: u64,
    },
    /// A host must never be admitted again.
    Revoke {
        /// Who.
        host: HostId,
    },
    /// The planner proposes a plan; hosts load their layers.
    Propose(Plan),
    /// A host holds all it was assigned in a proposed plan.
    Ready {
        /// Who.
        host: HostId,
        /// Which plan.
        epoch: Epoch,
    },
    /// A proposed plan takes effect.
    Activate {
        /// Which plan.
        epoch: Epoch,
    },
    /// A join token was used, named by its hash; it is refused from now on.
    UseToken {
        /// Hash of the token's secret.
        token: [u8; 32],
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_times_are_refused() {
        let point = |seconds| vec![CurvePoint { tokens: 1, seconds }];
        let profile =
            |seconds| Profile { prefill: point(seconds), decode: point(1e-3), head_seconds: 0.0 };
        assert_eq!(profile(1e-3).check(), Ok(()));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(profile(bad).check().is_err(), "{bad} passed");
        }
    }
}
