//! Folders in Hugging Face's layout: one safetensors file, or several with an index.
//!
//! ```text
//! header length u64 LE | header JSON: name -> { dtype, shape, data_offsets: [start, end] } | data
//! ```
//!
//! Offsets count from the end of the header. Nothing is set aside for a claim before it was compared
//! with the size of the file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::Arch;
use crate::map::Map;
use crate::quant::Stored;
use crate::source::{SourceError, TensorView, canonical};

/// Index of a model in several files.
const INDEX: &str = "model.safetensors.index.json";
/// The one file of a model without an index.
const SINGLE: &str = "model.safetensors";
/// Header size at most, as in the format's reference.
const HEADER_BYTES_MAX: u64 = 100_000_000;
/// Files an index may name at most.
const FILES_MAX: usize = 4096;

/// What is wrong with a safetensors file or its index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// A file too short for its header.
    #[error("header takes {claimed} bytes, but {left} are there")]
    Header {
        /// Claimed size.
        claimed: u64,
        /// Bytes after the length.
        left: u64,
    },
    /// A header or index that is no JSON of the expected form.
    #[error("header or index does not parse")]
    Json(#[source] serde_json::Error),
    /// A tensor of a type that is not read here.
    #[error("tensor `{name}` has type {found}, which is not supported (supported: F32, F16, BF16)")]
    Type {
        /// Name in the file.
        name: String,
        /// Name of the type.
        found: String,
    },
    /// A tensor that does not lie inside the file.
    #[error("tensor `{name}` lies at bytes {start}..{end} of the data, which has {data_bytes}")]
    OutsideFile {
        /// Name in the file.
        name: String,
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
        /// Size of the data.
        data_bytes: u64,
    },
    /// A tensor whose bytes are not those of its shape.
    #[error(
        "tensor `{name}` of shape {shape:?} and type {stored} takes {expected}, found {found} bytes"
    )]
    Size {
        /// Name in the file.
        name: String,
        /// Dimensions.
        shape: Vec<u64>,
        /// Type of the values.
        stored: Stored,
        /// Bytes its shape takes, in words where no number can say it.
        expected: String,
        /// Bytes it has.
        found: u64,
    },
    /// An index that names a file elsewhere, or too many.
    #[error("index names {found}, expected at most {FILES_MAX} files beside it")]
    Index {
        /// The name, or the number.
        found: String,
    },
    /// An index that promises a tensor the file lacks.
    #[error("index promises tensor `{name}` in `{file}`, which lacks it")]
    Promised {
        /// Name in the index.
        name: String,
        /// File named for it.
        file: String,
    },
}

/// The opened files of a folder.
#[derive(Debug)]
pub(crate) struct Safetensors {
    folder: PathBuf,
    files: Vec<Map>,
    tensors: BTreeMap<String, Place>,
}

/// Where a tensor lies.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Place {
    file: usize,
    stored: Stored,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl Safetensors {
    /// Opens the files of a folder; tensors no model of `arch` uses are left out.
    ///
    /// # Errors
    ///
    /// Says which file is missing or damaged.
    pub(crate) fn open(folder: &Path, arch: Arch) -> Result<Self, SourceError> {
        let mut opened =
            Self { folder: folder.to_owned(), files: vec![], tensors: BTreeMap::new() };
        if !folder.join(INDEX).is_file() {
            if !folder.join(SINGLE).is_file() {
                return Err(SourceError::NoModel { path: folder.to_owned() });
            }
            opened.add(SINGLE, arch)?;
            return Ok(opened);
        }
        let index = read_index(folder)?;
        for (file, promised) in index {
            let found = opened.add(&file, arch)?;
            if let Some(name) = promised.into_iter().find(|it| !found.contains_key(it)) {
                let source = SafetensorsError::Promised { name, file };
                return Err(damaged(folder.join(INDEX), source));
            }
        }
        Ok(opened)
    }

    /// Returns a tensor by its canonical name.
    pub(crate) fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let place = self.tensors.get(name)?;
        let bytes = &self.files[place.file][place.range.clone()];
        Some(TensorView { stored: place.stored, shape: &place.shape, bytes })
    }

    /// Canonical names, sorted.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives back the memory of file pages read so far.
    pub(crate) fn release_pages(&self) {
        self.files.iter().for_each(Map::release);
    }

    /// Opens one file and returns what its header says, by the names in it.
    fn add(&mut self, name: &str, arch: Arch) -> Result<BTreeMap<String, Entry>, SourceError> {
        let path = self.folder.join(name);
        let map =
            Map::open(&path).map_err(|source| SourceError::Io { path: path.clone(), source })?;
        let (entries, data_start) = parse(&map).map_err(|source| damaged(path.clone(), source))?;
        let data_bytes = (map.len() - data_start) as u64;
        for (name, entry) in &entries {
            let Some(canonical) = canonical(name, arch) else { continue };
            let (stored, range) =
                entry.locate(name, data_bytes).map_err(|source| damaged(path.clone(), source))?;
            // `locate` compared the shape with the bytes: every dimension fits.
            let shape = entry.shape.iter().map(|&n| n as usize).collect();
            let range = data_start + range.start..data_start + range.end;
            self.tensors.insert(canonical, Place { file: self.files.len(), stored, shape, range });
        }
        self.files.push(map);
        Ok(entries)
    }
}

fn damaged(path: PathBuf, source: SafetensorsError) -> SourceError {
    SourceError::Safetensors { path, source }
}

/// One tensor in a header.
#[derive(Debug, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl Entry {
    fn locate(
        &self,
        name: &str,
        data_bytes: u64,
    ) -> Result<(Stored, Range<usize>), SafetensorsError> {
        let name = || name.to_owned();
        let stored = match self.dtype.as_str() {
            "F32" => Stored::F32,
            "F16" => Stored::F16,
            "BF16" => Stored::BF16,
            found => return Err(SafetensorsError::Type { name: name(), found: found.to_owned() }),
        };
        let (start, end) = self.data_offsets;
        if start > end || end > data_bytes {
            return Err(SafetensorsError::OutsideFile { name: name(), start, end, data_bytes });
        }
        let count = self.shape.iter().try_fold(1_u64, |product, &n| product.checked_mul(n));
        let expected = count.and_then(|n| n.checked_mul(stored.block_bytes() as u64));
        if expected != Some(end - start) || self.shape.is_empty() {
            let expected = expected.map_or("more than 2^64".to_owned(), |n| n.to_string());
            let (shape, found) = (self.shape.clone(), end - start);
            return Err(SafetensorsError::Size { name: name(), shape, stored, expected, found });
        }
        Ok((stored, start as usize..end as usize))
    }
}

/// Reads a header. Returns its tensors and where the data starts.
fn parse(file: &[u8]) -> Result<(BTreeMap<String, Entry>, usize), SafetensorsError> {
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return Err(SafetensorsError::Header { claimed: 8, left: file.len() as u64 });
    };
    let claimed = u64::from_le_bytes(*length);
    let left = rest.len() as u64;
    if claimed > left.min(HEADER_BYTES_MAX) {
        return Err(SafetensorsError::Header { claimed, left });
    }
    // Not above `left`, which is the length of a slice.
    let header = &rest[..claimed as usize];
    let mut values: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(header).map_err(SafetensorsError::Json)?;
    values.remove("__metadata__");
    let entries = values
        .into_iter()
        .map(|(name, value)| serde_json::from_value(value).map(|entry| (name, entry)))
        .collect::<Result<_, _>>()
        .map_err(SafetensorsError::Json)?;
    Ok((entries, 8 + claimed as usize))
}

/// Reads the index: which tensors each file holds.
fn read_index(folder: &Path) -> Result<BTreeMap<String, Vec<String>>, SourceError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let path = folder.join(INDEX);
    let text =
        std::fs::read(&path).map_err(|source| SourceError::Io { path: path.clone(), source })?;
    let index: Index = serde_json::from_slice(&text)
        .map_err(|source| damaged(path.clone(), SafetensorsError::Json(source)))?;
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, file) in index.weight_map {
        // An index must not reach outside its folder.
        if Path::new(&file).file_name().is_none_or(|name| name != file.as_str()) {
            return Err(damaged(path, SafetensorsError::Index { found: format!("`{file}`") }));
        }
        files.entry(file).or_default().push(tensor);
    }
    if files.len() > FILES_MAX {
        let found = format!("{} files", files.len());
        return Err(damaged(path, SafetensorsError::Index { found }));
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
