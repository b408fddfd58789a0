//! Headers that lie.

use super::*;

/// A file with this header and `data_bytes` of data.
fn file(header: &str, data_bytes: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.resize(file.len() + data_bytes, 0);
    file
}

/// Reads a file with one tensor `t` and returns why it is refused.
#[track_caller]
fn refusal(header: &str, data_bytes: usize) -> String {
    let file = file(header, data_bytes);
    let (entries, start) = parse(&file).expect("the header itself is well-formed");
    let located = entries["t"].locate("t", (file.len() - start) as u64);
    located.expect_err("a hostile tensor").to_string()
}

#[test]
fn tensors_must_lie_inside_the_file_and_fill_their_shape() {
    assert_eq!(
        refusal(r#"{"t": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}"#, 12),
        "tensor `t` lies at bytes 0..16 of the data, which has 12"
    );
    assert_eq!(
        refusal(r#"{"t": {"dtype": "F32", "shape": [2, 2], "data_offsets": [8, 4]}}"#, 12),
        "tensor `t` lies at bytes 8..4 of the data, which has 12"
    );
    assert_eq!(
        refusal(r#"{"t": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 8]}}"#, 8),
        "tensor `t` of shape [2, 3] and type BF16 takes 12, found 8 bytes"
    );
    let huge =
        r#"{"t": {"dtype": "F32", "shape": [1152921504606846976, 64], "data_offsets": [0, 8]}}"#;
    assert_eq!(
        refusal(huge, 8),
        "tensor `t` of shape [1152921504606846976, 64] and type F32 takes more than 2^64, found 8 bytes"
    );
    assert_eq!(
        refusal(r#"{"t": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}"#, 8),
        "tensor `t` has type I64, which is not supported (supported: F32, F16, BF16)"
    );
}

#[test]
fn headers_must_lie_inside_the_file() {
    let mut claim = (1_u64 << 60).to_le_bytes().to_vec();
    claim.extend(b"{}");
    let error = parse(&claim).expect_err("2^60 bytes");
    assert_eq!(error.to_string(), "header takes 1152921504606846976 bytes, but 2 are there");
    let error = parse(b"short").expect_err("5 bytes");
    assert_eq!(error.to_string(), "header takes 8 bytes, but 5 are there");
    for header in ["[]", "{\"t\": 1}", "{", "{\"t\": {\"dtype\": \"F32\"}}", "\u{1}"] {
        let error = parse(&file(header, 0)).expect_err(header);
        assert!(matches!(error, SafetensorsError::Json(_)), "{error}");
    }
}

#[test]
fn metadata_is_no_tensor() {
    let header = r#"{"__metadata__": {"format": "pt"}, "t": {"dtype": "F16", "shape": [2],
        "data_offsets": [0, 4]}}"#;
    let file = file(header, 4);
    let (entries, start) = parse(&file).expect("well-formed");
    assert_eq!((entries.len(), start), (1, file.len() - 4));
    let located = entries["t"].locate("t", 4).expect("inside");
    assert_eq!(located, (Stored::F16, 0..4));
}
