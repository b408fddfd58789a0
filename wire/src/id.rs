//! Names of things, unique for as long as they must be.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names a host for as long as its certificate does: a hash of the host's name.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct HostId(pub u64);

impl HostId {
    /// Returns the id of the host called `name` (FNV-1a, 64 bits).
    ///
    /// Any host computes the same id without asking anyone; two names of one cluster that collide
    /// are refused at registration.
    pub const fn of(name: &str) -> Self {
        let bytes = name.as_bytes();
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut at = 0;
        while at < bytes.len() {
            hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
            at += 1;
        }
        Self(hash)
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Numbers the plans of a cluster. Zero means that no plan was ever active.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Names one request for ever: the gateway, that gateway's process, and a counter within it.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct RequestId {
    /// Host whose API took the request.
    pub gateway: HostId,
    /// Start of the gateway's process, in microseconds since 1970; a restart never reuses an id.
    pub incarnation: u64,
    /// Counts the requests of this process from one.
    pub counter: u64,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}-{}", self.gateway, self.incarnation, self.counter)
    }
}

/// Counts the routes a request was tried on. Frames of a lower attempt are dropped.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct Attempt(pub u32);

/// Identifies a model by its content: BLAKE3 over its configuration, tensors and tokenizer.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct ModelId(pub [u8; 32]);

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_ids_are_stable() {
        assert_eq!(HostId::of("").0, 0xcbf2_9ce4_8422_2325);
        assert_eq!(HostId::of("a").0, 0xaf63_dc4c_8601_ec8c);
        assert_ne!(HostId::of("h1"), HostId::of("h2"));
    }
}
