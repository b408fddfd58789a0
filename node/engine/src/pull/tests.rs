//! Fetching from a hub on this machine, and what needs no hub.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use hf_hub::Cache;
use sha2::{Digest, Sha256};

use super::*;

/// A hub with the repository `o/n`: files, and the checksum it claims for each.
#[derive(Clone)]
struct FakeHub {
    files: Vec<(&'static str, Vec<u8>, String)>,
}

impl FakeHub {
    fn new(files: &[(&'static str, &str)]) -> Self {
        let honest = |(name, text): &(&'static str, &str)| {
            let mut hash = Sha256::new();
            hash.update(text);
            (*name, text.as_bytes().to_vec(), checksum::hex(hash))
        };
        Self { files: files.iter().map(honest).collect() }
    }

    /// Answers on a port of its own until the test process ends. Returns its address.
    fn serve(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                self.answer(stream);
            }
        });
        format!("http://{address}")
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
        let request = lines.next().expect("a request").expect("readable");
        let headers = lines.map_while(Result::ok).take_while(|line| !line.is_empty());
        let range = headers.filter(|it| it.to_ascii_lowercase().starts_with("range:")).last();
        let path = request.split(' ').nth(1).unwrap_or_default();
        let response = match self.files.iter().find(|it| path.ends_with(&format!("/{}", it.0))) {
            Some((_, content, etag)) => {
                let end =
                    if range.is_some_and(|it| it.ends_with("=0-0")) { 1 } else { content.len() };
                let mut response = format!(
                    "HTTP/1.1 206 Partial Content\r\nContent-Length: {end}\r\nETag: \"{etag}\"\r\n\
                    Content-Range: bytes 0-{}/{}\r\nX-Repo-Commit: c0ffee\r\n\
                    Connection: close\r\n\r\n",
                    end - 1,
                    content.len(),
                )
                .into_bytes();
                response.extend(&content[..end]);
                response
            }
            None if path.contains("/api/models/o/n/revision/main") => {
                let names: Vec<_> =
                    self.files.iter().map(|it| serde_json::json!({"rfilename": it.0})).collect();
                let body = serde_json::json!({"sha": "c0ffee", "siblings": names}).to_string();
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                )
                .into_bytes()
            }
            None => {
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec()
            }
        };
        // A client that left is its own business.
        let _gone = stream.write_all(&response);
    }
}

/// A hub client with an empty cache.
fn client(endpoint: String) -> (Hub, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::new(folder.path().to_owned());
    (Hub::new(Some(endpoint), cache, None).expect("a client"), folder)
}

#[test]
fn a_folder_of_safetensors_is_fetched_whole() {
    let files = [
        ("config.json", "{}"),
        ("model.safetensors", "weights"),
        ("tokenizer.json", "{ }"),
        ("onnx/model.safetensors", "another format"),
        ("README.md", "words"),
    ];
    let (hub, _folder) = client(FakeHub::new(&files).serve());
    let last = Cell::new((0, 0));
    let path = hub.model("o/n", None, &|done, total| last.set((done, total))).expect("fetched");
    let names: Vec<_> =
        entries(&path).filter_map(|it| it.file_name().map(|it| it.to_owned())).collect();
    assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(fs::read(path.join("model.safetensors")).expect("there"), b"weights");
    assert_eq!(last.get().0, last.get().1);
}

#[test]
fn a_damaged_file_is_refused_and_not_kept() {
    let mut fake = FakeHub::new(&[("m.gguf", "good")]);
    fake.files[0].1 = b"evil".to_vec();
    let (hub, folder) = client(fake.serve());
    let error = hub.model("o/n", None, &|_, _| ()).expect_err("another content");
    assert!(matches!(error, PullError::Checksum { .. }), "{error}");
    assert_eq!(Cache::new(folder.path().to_owned()).model("o/n".to_owned()).get("m.gguf"), None);
}

#[test]
fn what_is_in_the_cache_needs_no_hub() {
    let (hub, folder) = client(FakeHub::new(&[("m.gguf", "good"), ("x.txt", "")]).serve());
    let path = hub.model("o/n", None, &|_, _| ()).expect("fetched");
    let cache = Cache::new(folder.path().to_owned());
    // Port 9 of this machine has no hub.
    let away = Hub::new(Some("http://127.0.0.1:9".to_owned()), cache, None).expect("a client");
    assert_eq!(away.model("o/n", Some("m.gguf"), &|_, _| ()).expect("cached"), path);
    let error = away.model("o/n", Some("other.gguf"), &|_, _| ()).expect_err("not cached");
    assert!(matches!(error, PullError::Hub { .. }), "{error}");
}

#[test]
fn one_of_several_gguf_files_is_chosen_or_asked_for() {
    let fetch = |files: &[(&'static str, &str)]| {
        let (hub, _folder) = client(FakeHub::new(files).serve());
        hub.model("o/n", None, &|_, _| ()).map(|it| it.file_name().map(|it| it.to_owned()))
    };
    let several = [("m-Q4_K_M.gguf", "4"), ("m-Q8_0.gguf", "8"), ("m-f16.gguf", "16")];
    assert_eq!(fetch(&several).expect("a preference"), Some("m-Q8_0.gguf".into()));
    let error = fetch(&[("a.gguf", "1"), ("b.gguf", "2")]).expect_err("no preference");
    let message = "`o/n` has several GGUF files; name one of: o/n/a.gguf, o/n/b.gguf";
    assert_eq!(error.to_string(), message);
    let error = fetch(&[("README.md", "words")]).expect_err("no model");
    assert!(matches!(error, PullError::NoWeights { .. }), "{error}");
}

#[test]
fn names_are_told_apart() {
    assert_eq!(hub::parse("owner/name"), Some(("owner/name", None)));
    assert_eq!(hub::parse("owner/name/a/b.gguf"), Some(("owner/name", Some("a/b.gguf"))));
    for bad in ["name", "/name", "owner/", "../name", "owner/..", "owner/name/../x", "a b/c"] {
        assert_eq!(hub::parse(bad), None, "{bad}");
    }
    let error = pull("no-such-model", &|_, _| ()).expect_err("no model");
    assert_eq!(
        error.to_string(),
        "`no-such-model` is no file, no built-in model (smollm2-135m, gemma3-270m) and no hub id \
        (owner/name)"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("UTF-8");
    assert_eq!(pull(path, &|_, _| ()).expect("a path"), folder.path());
}

#[test]
fn a_built_in_model_that_is_there_is_not_fetched() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = BuiltIn::find(DEFAULT_MODEL).expect("built in");
    let path = folder.path().join("smollm2-135m.gguf");
    File::create(&path).expect("created").set_len(model.bytes).expect("sparse");
    let asked = |_, _| panic!("nothing is to be fetched");
    assert_eq!(pull_built_in(model, folder.path(), &asked).expect("there"), path);
}

#[test]
fn models_in_a_folder_are_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("one.gguf"), "12345").expect("written");
    fs::write(folder.path().join(".hidden.gguf"), "12345").expect("written");
    fs::write(folder.path().join("notes.txt"), "12345").expect("written");
    let two = folder.path().join("two");
    fs::create_dir(&two).expect("created");
    assert_eq!(list_folder(folder.path()).len(), 1);
    fs::write(two.join("config.json"), "{}").expect("written");
    fs::write(two.join("model.safetensors"), "123").expect("written");
    let found: Vec<_> =
        list_folder(folder.path()).into_iter().map(|it| (it.name, it.bytes)).collect();
    assert_eq!(found, [("one".to_owned(), 5), ("two".to_owned(), 5)]);
}

#[test]
fn a_failed_command_says_what_it_said() {
    let mut command = Command::new("sh");
    let error =
        wheel::run(command.args(["-c", "echo no network >&2; exit 3"])).expect_err("exit 3");
    assert_eq!(error.to_string(), "`sh -c echo no network >&2; exit 3` failed: no network");
}
