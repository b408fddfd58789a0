//! OpenAI's own Python client, driven by `openai/client.py`.

use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::{env, fs};

/// Version of the client that is installed.
const CLIENT: &str = "openai==3.54.0";

/// Asserts that the client understands the server at `base`. `more` are arguments of the script.
///
/// Installs the client on the first call.
pub fn check(base: &str, more: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("openai/client.py");
    let mut command = Command::new(python());
    let output = command.arg(script).arg(base).args(more).output().expect("python starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("all well\n"), "{said}");
}

/// Returns a Python that has the client, which is installed on the first call.
///
/// The environment is made under another name and moved into place whole, so that test runs beside
/// each other see all of it or nothing.
fn python() -> PathBuf {
    let ready = cache().join(CLIENT.replace("==", "-"));
    let python = |folder: &Path| folder.join("bin/python");
    if !ready.exists() {
        let draft = ready.with_extension(process::id().to_string());
        run(Command::new("python3").args(["-m", "venv"]).arg(&draft));
        run(Command::new(python(&draft)).args(["-m", "pip", "install", "--quiet", CLIENT]));
        if fs::rename(&draft, &ready).is_err() {
            assert!(ready.exists(), "`{}` cannot be put into place", ready.display());
            fs::remove_dir_all(&draft).expect("a folder of ours can be removed");
        }
    }
    python(&ready)
}

fn cache() -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").expect("a home folder")).join(".cache");
    let cache = env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("thalweg");
    fs::create_dir_all(&cache).expect("the cache folder can be created");
    cache
}

fn run(command: &mut Command) {
    let output = command.output().expect("python3 is installed");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {complaint}");
}
