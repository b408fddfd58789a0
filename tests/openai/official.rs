//! OpenAI's own Python client against the server.

use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::{env, fs};

use super::fake::{Server, talking};

/// Version of the client that is installed.
const CLIENT: &str = "openai==3.54.0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn official_client_understands_every_answer() {
    let server = Server::start(talking(), &["secret"]).await;
    let base = format!("http://{}", server.address);
    let python = tokio::task::spawn_blocking(python);
    let python = python.await.expect("the client can be installed");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("openai/client.py");
    let run = move || {
        let arguments = [base.as_str(), "--api-key", "secret"];
        Command::new(python).arg(script).args(arguments).output().expect("python starts")
    };
    let output = tokio::task::spawn_blocking(run).await.expect("running a program cannot panic");
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
