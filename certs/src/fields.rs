//! Byte strings one after another, each behind its length: the inside of tokens and of enrolment.

/// Appends `field` to `bytes` behind its length in four bytes, low byte first.
pub(crate) fn put(bytes: &mut Vec<u8>, field: &[u8]) {
    let length = u32::try_from(field.len()).expect("fields are far below 4 GiB");
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(field);
}

/// Splits exactly `N` fields off; `None` when any is cut short or something follows the last.
pub(crate) fn split<const N: usize>(mut bytes: &[u8]) -> Option<[&[u8]; N]> {
    let mut fields = [&[][..]; N];
    for field in &mut fields {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        (*field, bytes) = rest.split_at_checked(length)?;
    }
    bytes.is_empty().then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_and_nothing_else_does() {
        let mut bytes = Vec::new();
        put(&mut bytes, b"one");
        put(&mut bytes, b"");
        assert_eq!(split(&bytes), Some([&b"one"[..], b""]));
        assert_eq!(split::<1>(&bytes), None, "something follows");
        assert_eq!(split::<3>(&bytes), None, "one is missing");
        for cut in 0..bytes.len() {
            assert_eq!(split::<2>(&bytes[..cut]), None, "cut after {cut}");
        }
        assert_eq!(split::<1>(&[0xff; 8]), None, "longer than what is there");
    }
}
