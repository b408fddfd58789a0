//! Where certificates and keys lie, and how they are written.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::{self, PemObject};

/// Mode of private keys and of everything that can add a host: the owner alone.
const PRIVATE_MODE: u32 = 0o600;
/// Mode of what any host may know.
const PUBLIC_MODE: u32 = 0o644;
/// Permission bits of everybody who is neither the owner nor of the group.
const OTHERS_MODE: u32 = 0o007;

/// Names the files of one certificate directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layout {
    dir: PathBuf,
}

/// A file that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("cannot {action} `{path}`", path = path.display())]
    Io {
        /// What was tried: `read`, `write`, `create` or `remove`.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file holds no PEM section of the kind it should.
    #[error("`{path}` holds no PEM {kind}", path = path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        kind: &'static str,
        /// What the reader says.
        source: pem::Error,
    },
    /// The PEM section holds something else than it says, or a line makes no sense.
    #[error("`{path}` is damaged: {problem}", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file was not signed by the authority beside it.
    #[error("`{path}` was not signed by `{authority}`",
        path = path.display(), authority = authority.display())]
    OtherAuthority {
        /// Certificate or revocation list.
        path: PathBuf,
        /// File of the authority's certificate.
        authority: PathBuf,
    },
    /// Everybody on the machine may use the key.
    #[error("private key `{path}` is open to every user (mode {mode:04o})", path = path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl Layout {
    /// Names the files below `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The authority's certificate, public.
    pub fn ca_certificate(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// The authority's private key. Whoever holds it can add hosts.
    pub fn ca_key(&self) -> PathBuf {
        self.dir.join("ca.key")
    }

    /// The signed list of revoked certificates, public.
    pub fn ca_crl(&self) -> PathBuf {
        self.dir.join("ca.crl")
    }

    /// One line per certificate the authority ever signed, public.
    pub fn issued(&self) -> PathBuf {
        self.dir.join("ca.issued")
    }

    /// Outstanding join tokens, one file each, named by hash.
    pub fn tokens(&self) -> PathBuf {
        self.dir.join("tokens")
    }

    /// The certificate of the host called `name`, public.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.dir.join(format!("node-{name}.crt"))
    }

    /// The private key of the host called `name`.
    pub fn key(&self, name: &str) -> PathBuf {
        self.dir.join(format!("node-{name}.key"))
    }
}

impl FileError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.into(), source }
    }

    pub(crate) fn damaged(path: &Path, problem: impl ToString) -> Self {
        Self::Damaged { path: path.into(), problem: problem.to_string() }
    }

    /// Tells whether the file is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Creates a directory that only its owner may enter, unless it exists.
pub(crate) fn create_dir(dir: &Path) -> Result<(), FileError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir).map_err(FileError::io("create", dir))
}

/// Reads a whole text file.
pub(crate) fn read_text(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(FileError::io("read", path))
}

/// Reads the first PEM section of type `T`.
pub(crate) fn read_pem<T: PemObject>(path: &Path, kind: &'static str) -> Result<T, FileError> {
    let text = fs::read(path).map_err(FileError::io("read", path))?;
    T::from_pem_slice(&text).map_err(|source| FileError::Pem { path: path.into(), kind, source })
}

/// Reads a private key, unless everybody may.
pub(crate) fn read_key<T: PemObject>(path: &Path) -> Result<T, FileError> {
    let metadata = fs::metadata(path).map_err(FileError::io("read", path))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & OTHERS_MODE != 0 {
        return Err(FileError::Exposed { path: path.into(), mode });
    }
    read_pem(path, "private key")
}

/// Replaces a file that any user may read. Readers see the old text or the new, never half.
pub(crate) fn write_public(path: &Path, text: &str) -> Result<(), FileError> {
    replace(path, text, PUBLIC_MODE)
}

/// Replaces a file that only its owner may read.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), FileError> {
    replace(path, text, PRIVATE_MODE)
}

/// Adds one line to a public file and creates it when there is none.
pub(crate) fn append_public(path: &Path, line: &str) -> Result<(), FileError> {
    let mut options = fs::OpenOptions::new();
    options.append(true).create(true).mode(PUBLIC_MODE);
    let appended = options.open(path).and_then(|mut file| {
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_all()
    });
    appended.map_err(FileError::io("write", path))
}

fn replace(path: &Path, text: &str, mode: u32) -> Result<(), FileError> {
    let name = path.file_name().expect("a layout names files").to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        if draft.exists() {
            fs::remove_file(&draft)?;
        }
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    })();
    written.map_err(FileError::io("write", path))
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};

    use super::*;

    #[test]
    fn private_files_are_private_and_replaced_whole() {
        let dir = tempfile::tempdir().expect("the system has a temporary directory");
        let path = dir.path().join("node-a.key");
        for text in ["a long first version", "short"] {
            write_private(&path, text).expect("the directory is writable");
            assert_eq!(fs::read_to_string(&path).expect("just written"), text);
        }
        let mode = fs::metadata(&path).expect("just written").permissions().mode();
        assert_eq!(mode & 0o777, PRIVATE_MODE);
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1, "a draft stayed");
    }

    #[test]
    fn key_open_to_every_user_is_refused() {
        let dir = tempfile::tempdir().expect("the system has a temporary directory");
        let path = dir.path().join("node-a.key");
        write_public(&path, "not even a key").expect("the directory is writable");
        let refused = read_key::<PrivateKeyDer<'_>>(&path).expect_err("mode 0644 is open");
        assert!(matches!(refused, FileError::Exposed { mode: 0o644, .. }), "{refused}");
    }

    #[test]
    fn missing_and_empty_files_are_told_apart() {
        let dir = tempfile::tempdir().expect("the system has a temporary directory");
        let path = dir.path().join("ca.crt");
        let read = || read_pem::<CertificateDer<'_>>(&path, "certificate").expect_err("no PEM");
        assert!(read().is_not_found());
        write_public(&path, "").expect("the directory is writable");
        assert_eq!(read().to_string(), format!("`{}` holds no PEM certificate", path.display()));
    }
}
