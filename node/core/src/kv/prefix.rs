//! Names for prefixes of token sequences: chained hashes, one link per column.

use super::BLOCK_TOKENS;

/// The hash of some whole columns of tokens from the start of a sequence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Chain {
    hash: u64,
    columns: u32,
}

impl Chain {
    /// The empty prefix of a tenant's sequences. The salt keeps one tenant from learning, by the
    /// time an answer takes, what another asked.
    pub const fn new(tenant: u64) -> Self {
        Self { hash: mix(tenant), columns: 0 }
    }

    /// Takes in the next column of tokens. Returns the hash of all so far.
    pub fn push(&mut self, tokens: &[u32; BLOCK_TOKENS as usize]) -> u64 {
        let pairs = tokens.as_chunks::<2>().0;
        for &[low, high] in pairs {
            let pair = u64::from(high) << 32 | u64::from(low);
            self.hash = mix(self.hash ^ pair).wrapping_add(self.hash.rotate_left(23));
        }
        self.columns += 1;
        self.hash
    }

    /// Hash of the columns so far.
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// Number of columns so far.
    pub const fn columns(&self) -> u32 {
        self.columns
    }
}

/// A permutation of 64 bits in which every input bit moves every output bit (SplitMix64).
const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn tenant_order_and_every_token_count() {
        let mut seen = BTreeSet::new();
        for tenant in 0..2 {
            for at in 0..16 {
                for token in 1..4 {
                    let mut tokens = [0; 16];
                    tokens[at] = token;
                    let mut chain = Chain::new(tenant);
                    assert!(seen.insert(chain.push(&tokens)), "{tenant} {at} {token}");
                    assert!(seen.insert(chain.push(&tokens)), "{tenant} {at} {token} twice");
                }
            }
        }
    }
}
