//! The only place that knows bincode. A successor replaces this file; golden bytes pin the format.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes that one header or log entry may take, whatever a sender claims.
const DECODE_BYTES_MAX: usize = 1 << 20;

/// Bytes that are not the value they should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The value would exceed what any receiver accepts.
    #[error("encoding takes {bytes} bytes, above the limit of {DECODE_BYTES_MAX}")]
    TooLarge {
        /// Encoded size.
        bytes: usize,
    },
    /// The bytes do not decode to the expected type.
    #[error("bytes do not decode")]
    Malformed(#[source] bincode::error::DecodeError),
    /// The value does not encode.
    #[error("value does not encode")]
    Unencodable(#[source] bincode::error::EncodeError),
    /// The value was followed by bytes that belong to nothing.
    #[error("{extra} bytes follow the value")]
    Trailing {
        /// Bytes left over.
        extra: usize,
    },
}

/// Encodes `value`.
///
/// # Errors
///
/// If the result would exceed what [`decode`] accepts.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::serde::encode_to_vec(value, bincode::config::standard())
        .map_err(CodecError::Unencodable)?;
    if bytes.len() > DECODE_BYTES_MAX {
        return Err(CodecError::TooLarge { bytes: bytes.len() });
    }
    Ok(bytes)
}

/// Decodes a value that fills `bytes` exactly.
///
/// Lengths inside `bytes` are checked before anything is allocated: hostile bytes cost an error.
///
/// # Errors
///
/// If `bytes` are not exactly one value of type `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let config = bincode::config::standard().with_limit::<DECODE_BYTES_MAX>();
    let (value, used) =
        bincode::serde::decode_from_slice(bytes, config).map_err(CodecError::Malformed)?;
    if used != bytes.len() {
        return Err(CodecError::Trailing { extra: bytes.len() - used });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claimed_lengths_allocate_nothing() {
        // A vector that claims 2^60 elements.
        let hostile = [253, 0, 0, 0, 0, 0, 0, 0, 16];
        assert!(matches!(decode::<Vec<u64>>(&hostile), Err(CodecError::Malformed(_))));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&7u32).expect("small");
        bytes.push(0);
        assert!(matches!(decode::<u32>(&bytes), Err(CodecError::Trailing { extra: 1 })));
    }
}
