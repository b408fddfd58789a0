//! The GGUF file format, versions 2 and 3, little endian.
//!
//! ```text
//! "GGUF" | version u32 | tensors u64 | entries u64
//! entry:   key string | type u32 | value           string = length u64 | UTF-8 bytes
//! tensor:  name string | dimensions u32 | each u64 (innermost first) | type u32 | offset u64
//! padding to the alignment | tensor data
//! ```
//!
//! A file is hostile until proven otherwise: counts are compared with the bytes that are left before
//! anything is set aside for them, and every tensor lies inside the file before anyone reads it.
//! Long arrays (vocabularies) stay in the file and are read when asked for.

mod cursor;
mod error;
mod value;

use std::collections::BTreeMap;
use std::ops::Range;

use cursor::Cursor;
pub use error::GgufError;
pub(crate) use value::{Array, Value};

use crate::quant::Stored;

const MAGIC: u32 = u32::from_le_bytes(*b"GGUF");
/// Alignment of tensor data unless the file says otherwise.
const ALIGNMENT_DEFAULT: u64 = 32;
/// Alignment a file may ask for at most. A page is plenty; more is damage.
const ALIGNMENT_MAX: u64 = 1 << 16;
/// Dimensions a tensor may have at most, as in the format's reference.
const DIMENSIONS_MAX: u32 = 4;
/// Bytes of the smallest entry: a key length, a one-byte key, a type, a one-byte value.
const ENTRY_BYTES_MIN: u64 = 8 + 1 + 4 + 1;
/// Bytes of the smallest tensor record: a name length, one dimension, type and offset.
const TENSOR_BYTES_MIN: u64 = 8 + 4 + 8 + 4 + 8;

/// Where a tensor lies in the file and what it holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct TensorRecord {
    /// Type of the values.
    pub(crate) stored: Stored,
    /// Dimensions, outermost first (the file has them innermost first).
    pub(crate) shape: Vec<usize>,
    /// Bytes in the file.
    pub(crate) range: Range<usize>,
}

/// The header of a GGUF file: its entries and its tensors.
#[derive(Debug)]
pub(crate) struct Gguf {
    entries: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorRecord>,
}

impl Gguf {
    /// Reads the header of a file given as a whole.
    ///
    /// # Errors
    ///
    /// If anything in the header cannot be true of a file of this size.
    pub(crate) fn parse(file: &[u8]) -> Result<Self, GgufError> {
        let mut cursor = Cursor::new(file);
        let (tensor_count, entry_count) = read_counts(&mut cursor)?;
        let mut entries = BTreeMap::new();
        for _ in 0..entry_count {
            let key = cursor.string("entry key")?.to_owned();
            let value = Value::read(&mut cursor, &key)?;
            if entries.insert(key.clone(), value).is_some() {
                return Err(GgufError::Duplicate { name: key });
            }
        }
        let mut declared = Vec::new();
        for _ in 0..tensor_count {
            declared.push(Declared::read(&mut cursor)?);
        }
        let alignment = alignment(&entries)?;
        let data_start = cursor.position().next_multiple_of(alignment);
        let mut tensors = BTreeMap::new();
        for tensor in declared {
            let record = tensor.locate(data_start, alignment, file.len() as u64)?;
            if tensors.insert(tensor.name.clone(), record).is_some() {
                return Err(GgufError::Duplicate { name: tensor.name });
            }
        }
        Ok(Self { entries, tensors })
    }

    /// Returns the value of an entry.
    pub(crate) fn entry(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    /// The entries, by key.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The tensors, by name.
    pub(crate) fn tensors(&self) -> &BTreeMap<String, TensorRecord> {
        &self.tensors
    }
}

/// Reads up to and including the two counts, and refuses counts the file has no room for.
fn read_counts(cursor: &mut Cursor<'_>) -> Result<(u64, u64), GgufError> {
    let magic = cursor.u32("magic")?;
    if magic != MAGIC {
        return Err(GgufError::Magic { found: magic.to_le_bytes() });
    }
    let version = cursor.u32("version")?;
    if !matches!(version, 2 | 3) {
        return Err(GgufError::Version { found: version, swapped: version.swap_bytes() });
    }
    let tensor_count = cursor.u64("tensor count")?;
    let entry_count = cursor.u64("entry count")?;
    let left = cursor.left();
    for (what, count, each) in
        [("entries", entry_count, ENTRY_BYTES_MIN), ("tensors", tensor_count, TENSOR_BYTES_MIN)]
    {
        if count > left / each {
            return Err(GgufError::Count { what: what.to_owned(), count, left });
        }
    }
    Ok((tensor_count, entry_count))
}

fn alignment(entries: &BTreeMap<String, Value>) -> Result<u64, GgufError> {
    let Some(value) = entries.get("general.alignment") else { return Ok(ALIGNMENT_DEFAULT) };
    match value.as_u64() {
        Some(n) if n.is_power_of_two() && n <= ALIGNMENT_MAX => Ok(n),
        _ => Err(GgufError::Alignment { found: value.to_string() }),
    }
}

/// A tensor record as written, before it is compared with the file.
struct Declared {
    name: String,
    stored: Stored,
    /// Outermost first.
    shape: Vec<usize>,
    /// From the start of the tensor data.
    offset: u64,
}

impl Declared {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, GgufError> {
        let name = cursor.string("tensor name")?.to_owned();
        let dimensions = cursor.u32("number of dimensions")?;
        if dimensions == 0 || dimensions > DIMENSIONS_MAX {
            return Err(GgufError::Dimensions { name, found: dimensions });
        }
        let mut sizes = Vec::new();
        for _ in 0..dimensions {
            sizes.push(cursor.u64("dimension")?);
        }
        let number = cursor.u32("tensor type")?;
        let offset = cursor.u64("tensor offset")?;
        let Some(stored) = Stored::from_gguf(number) else {
            return Err(GgufError::Type { name, found: number });
        };
        let shape: Option<Vec<usize>> = sizes.iter().rev().map(|&n| n.try_into().ok()).collect();
        match shape {
            Some(shape) if !shape.contains(&0) => Ok(Self { name, stored, shape, offset }),
            _ => Err(GgufError::Shape { name, shape: sizes }),
        }
    }

    /// Finds the tensor's bytes in a file of `file_bytes`.
    fn locate(
        &self,
        data_start: u64,
        alignment: u64,
        file_bytes: u64,
    ) -> Result<TensorRecord, GgufError> {
        let Self { name, stored, shape, offset } = self;
        let impossible = || {
            let shape = shape.iter().map(|&n| n as u64).collect();
            GgufError::Shape { name: name.clone(), shape }
        };
        if !offset.is_multiple_of(alignment) {
            return Err(GgufError::Misaligned { name: name.clone(), offset: *offset, alignment });
        }
        let row = shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(stored.block_values()) {
            let block = stored.block_values();
            return Err(GgufError::Row { name: name.clone(), row, stored: *stored, block });
        }
        let count = shape.iter().try_fold(1_usize, |product, &n| product.checked_mul(n));
        let bytes = count.and_then(|n| stored.bytes_of(n)).ok_or_else(impossible)? as u64;
        let start = data_start.checked_add(*offset);
        let end = start.and_then(|start| start.checked_add(bytes));
        match (start, end) {
            (Some(start), Some(end)) if end <= file_bytes => {
                // Both are at most the length of a slice.
                let range = start as usize..end as usize;
                Ok(TensorRecord { stored: *stored, shape: shape.clone(), range })
            }
            _ => Err(GgufError::OutsideFile {
                name: name.clone(),
                bytes,
                start: start.unwrap_or(u64::MAX),
                left: file_bytes.saturating_sub(start.unwrap_or(u64::MAX)),
                file_bytes,
            }),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
