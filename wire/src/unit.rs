//! Physical quantities. Bytes and bits never share an integer type.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount of memory or payload, in bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Creates an amount of `n` mebibytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// Creates an amount of `n` gibibytes.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n < 1 << 10 => write!(f, "{n} B"),
            n if n < 1 << 20 => write!(f, "{:.1} KiB", n as f64 / 1024.0),
            n if n < 1 << 30 => write!(f, "{:.1} MiB", n as f64 / 1_048_576.0),
            n => write!(f, "{:.1} GiB", n as f64 / 1_073_741_824.0),
        }
    }
}

/// A data rate, in bits per second, as link speeds are quoted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct BitsPerSecond(pub u64);

impl fmt::Display for BitsPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n < 1_000_000 => write!(f, "{:.1} kb/s", n as f64 / 1e3),
            n if n < 1_000_000_000 => write!(f, "{:.1} Mb/s", n as f64 / 1e6),
            n => write!(f, "{:.1} Gb/s", n as f64 / 1e9),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_print_with_their_unit() {
        assert_eq!(Bytes::mib(3).to_string(), "3.0 MiB");
        assert_eq!(Bytes(12).to_string(), "12 B");
        assert_eq!(BitsPerSecond(100_000_000).to_string(), "100.0 Mb/s");
    }
}
