//! SHA-256 of what was fetched.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Copies `from` to `to` and adds what passed to `hash`. Returns the number of bytes.
pub(super) fn copy(
    from: &mut impl Read,
    to: &mut impl Write,
    hash: &mut Sha256,
    mut passed: impl FnMut(u64),
) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        let read = from.read(&mut chunk)?;
        if read == 0 {
            return Ok(bytes);
        }
        hash.update(&chunk[..read]);
        to.write_all(&chunk[..read])?;
        bytes += read as u64;
        passed(bytes);
    }
}

/// Returns the checksum of a file, in hexadecimal.
pub(super) fn of_file(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    copy(&mut File::open(path)?, &mut io::sink(), &mut hash, |_| ())?;
    Ok(hex(hash))
}

/// Finishes a checksum, in hexadecimal.
pub(super) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
