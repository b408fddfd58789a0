//! `thalweg plan` as an operator calls it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::cluster::binary;

/// A cluster file of the examples.
pub fn example(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent");
    root.join("examples/clusters").join(name)
}

/// Runs `thalweg plan`.
pub fn thalweg(args: &[&str]) -> Output {
    Command::new(binary()).arg("plan").args(args).output().expect("the program starts")
}

/// A path as a word of the command line.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

/// What a run says when it refuses.
pub fn refusal(args: &[&str]) -> String {
    let output = thalweg(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && output.stdout.is_empty(), "{args:?}: {said}");
    assert!(!said.contains("panicked"), "{args:?}: {said}");
    said
}
