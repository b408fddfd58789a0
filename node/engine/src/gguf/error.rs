//! Why a file is not a GGUF file this program reads.

use crate::quant::Stored;

/// What is wrong with a GGUF file, with the numbers found in it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// Some other kind of file.
    #[error("file starts with {found:?}, not with \"GGUF\"")]
    Magic {
        /// First four bytes.
        found: [u8; 4],
    },
    /// A version that is not read here.
    #[error("GGUF version {found} is not supported (supported: 2 and 3, little endian{hint})",
        hint = if *swapped <= 3 { "; this file is big endian" } else { "" })]
    Version {
        /// As read.
        found: u32,
        /// With its bytes in the other order.
        swapped: u32,
    },
    /// The file ends inside the header.
    #[error(
        "file ends inside the header: {what} at byte {at} takes {needed} bytes, {left} are left"
    )]
    Truncated {
        /// What was being read.
        what: String,
        /// Where it starts.
        at: u64,
        /// Bytes it takes.
        needed: u64,
        /// Bytes left.
        left: u64,
    },
    /// A count the file has no room for.
    #[error("file claims {count} {what}, but only {left} bytes are left for them")]
    Count {
        /// What is counted.
        what: String,
        /// The claim.
        count: u64,
        /// Bytes left.
        left: u64,
    },
    /// A string that is not UTF-8.
    #[error("{what} at byte {at} is not UTF-8")]
    Text {
        /// What was being read.
        what: String,
        /// Where it starts.
        at: u64,
    },
    /// An entry whose value has an unknown type.
    #[error("entry `{key}` has unknown value type {found}")]
    ValueType {
        /// Key of the entry.
        key: String,
        /// Number of the type.
        found: u32,
    },
    /// The same key or tensor name twice.
    #[error("`{name}` appears twice")]
    Duplicate {
        /// Key or name.
        name: String,
    },
    /// An alignment that is no small power of two.
    #[error("alignment is {found}, expected a power of two up to 65536")]
    Alignment {
        /// The value.
        found: String,
    },
    /// A tensor with no dimension or too many.
    #[error("tensor `{name}` has {found} dimensions, expected 1 to 4")]
    Dimensions {
        /// Name of the tensor.
        name: String,
        /// Number found.
        found: u32,
    },
    /// A tensor of a type that is not read here.
    #[error("tensor `{name}` has type {found}{known}, which is not supported",
        known = name_of(*found))]
    Type {
        /// Name of the tensor.
        name: String,
        /// Number of the type.
        found: u32,
    },
    /// A tensor with dimensions no tensor can have.
    #[error("tensor `{name}` has impossible dimensions {shape:?}")]
    Shape {
        /// Name of the tensor.
        name: String,
        /// Its dimensions.
        shape: Vec<u64>,
    },
    /// A tensor whose rows are no whole number of blocks.
    #[error("tensor `{name}` has rows of {row} values, but {stored} stores blocks of {block}")]
    Row {
        /// Name of the tensor.
        name: String,
        /// Values in a row.
        row: usize,
        /// Type of the values.
        stored: Stored,
        /// Values in a block.
        block: usize,
    },
    /// A tensor that starts between two multiples of the alignment.
    #[error("tensor `{name}` starts at offset {offset}, which is no multiple of {alignment}")]
    Misaligned {
        /// Name of the tensor.
        name: String,
        /// Offset in the tensor data.
        offset: u64,
        /// Alignment of the file.
        alignment: u64,
    },
    /// A tensor that does not lie inside the file.
    #[error(
        "tensor `{name}` takes {bytes} bytes from byte {start}, but {left} are there \
        (the file has {file_bytes})"
    )]
    OutsideFile {
        /// Name of the tensor.
        name: String,
        /// Bytes expected.
        bytes: u64,
        /// First byte.
        start: u64,
        /// Bytes found.
        left: u64,
        /// Size of the file.
        file_bytes: u64,
    },
}

/// Names types that exist but are not read here, so that the message can be searched for.
fn name_of(number: u32) -> &'static str {
    match number {
        9 => " (Q8_1)",
        10 => " (Q2_K)",
        11 => " (Q3_K)",
        15 => " (Q8_K)",
        16..=23 | 29 => " (an IQ type)",
        24..=27 => " (an integer type)",
        28 => " (F64)",
        34 | 35 => " (a TQ type)",
        39 => " (MXFP4)",
        _ => "",
    }
}
