//! The rules of STYLE.md that a machine can check: arrows, lengths, banned words, `unsafe`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file at most.
const FILE_LINES_MAX: usize = 500;
/// Lines of a function at most, signature included.
const FUNCTION_LINES_MAX: usize = 70;

/// Who may depend on whom. An arrow is an architecture change: ARCHITECTURE.md first, then here.
const ARROWS: [(&str, &[&str]); 9] = [
    ("wire", &[]),
    ("certs", &[]),
    ("planner", &["thalweg-wire"]),
    ("planner/sim", &["thalweg-core", "thalweg-planner", "thalweg-wire"]),
    ("node/core", &["thalweg-wire"]),
    ("node/engine", &["thalweg-wire"]),
    (
        "node",
        &[
            "thalweg-certs",
            "thalweg-core",
            "thalweg-engine",
            "thalweg-planner",
            "thalweg-sim",
            "thalweg-wire",
        ],
    ),
    ("geo-testbed", &["thalweg-wire"]),
    (
        "tests",
        &[
            "thalweg",
            "thalweg-certs",
            "thalweg-core",
            "thalweg-engine",
            "thalweg-planner",
            "thalweg-sim",
            "thalweg-wire",
        ],
    ),
];

/// The only files that may hold `unsafe`.
const UNSAFE_FILES: [&str; 7] = [
    "node/engine/src/area.rs",
    "node/engine/src/device/cuda.rs",
    "node/engine/src/map.rs",
    "node/engine/src/packed/x86.rs",
    "node/engine/src/simd.rs",
    "node/engine/src/team.rs",
    "planner/src/solver/callback.rs",
];

/// Words that say nothing, or that belong in a tracker. Split so that this file passes itself.
const BANNED: [&str; 7] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("seam", "less"),
    concat!("compre", "hensive"),
    concat!("todo", "!("),
    concat!("unimple", "mented!("),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_owned()
}

fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the checkout is readable") {
            let path = entry.expect("the checkout is readable").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                let short = path.strip_prefix(root()).expect("inside").display().to_string();
                found.insert(short, text);
            }
        }
    }
    found
}

/// Returns name and length of every function, by brace counting on rustfmt's layout.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let is_function =
            ["fn ", "pub fn ", "async fn ", "pub async fn ", "const fn ", "pub const fn "]
                .iter()
                .any(|start| trimmed.starts_with(start));
        if !is_function {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        let end = lines[at..].iter().position(|it| **it == close);
        let declared = lines[at..].iter().position(|it| it.ends_with(';') && it.starts_with(' '));
        if let Some(length) = end.filter(|_| declared != Some(0)) {
            found.push((trimmed.to_owned(), length + 1));
        }
    }
    found
}

#[test]
fn crates_depend_only_along_the_arrows() {
    for (folder, allowed) in ARROWS {
        let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        let manifest: toml::Table = text.parse().expect("valid TOML");
        let dependencies = manifest.get("dependencies").and_then(|it| it.as_table());
        let ours = dependencies.into_iter().flat_map(|it| it.keys());
        for name in ours.filter(|it| it.starts_with("thalweg")) {
            assert!(allowed.contains(&name.as_str()), "{folder} must not depend on {name}");
        }
    }
}

#[test]
fn the_workspace_has_no_crate_outside_the_arrows() {
    let text = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let manifest: toml::Table = text.parse().expect("valid TOML");
    let members = manifest["workspace"]["members"].as_array().expect("members");
    let members: Vec<&str> = members.iter().filter_map(|it| it.as_str()).collect();
    for member in &members {
        assert!(ARROWS.iter().any(|(folder, _)| folder == member), "{member} has no arrows");
    }
    assert_eq!(members.len(), ARROWS.len());
}

#[test]
fn files_and_functions_fit_a_screen_or_a_few() {
    let mut long = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            long.push(format!("{path}: {lines} lines"));
        }
        for (name, lines) in functions(&text) {
            if lines > FUNCTION_LINES_MAX {
                long.push(format!("{path}: {name} {lines} lines"));
            }
        }
    }
    assert!(long.is_empty(), "too long:\n{}", long.join("\n"));
}

#[test]
fn function_lengths_are_measured() {
    let text = "fn short() {\n    body();\n}\n\nimpl T {\n    fn declared(&self);\n    pub fn two() {\n        a();\n        b();\n    }\n}\n";
    let lengths: Vec<usize> = functions(text).into_iter().map(|it| it.1).collect();
    assert_eq!(lengths, [3, 4]);
}

#[test]
fn banned_words_stay_out() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (at, line) in text.lines().enumerate() {
            if BANNED.iter().any(|word| line.contains(word)) {
                found.push(format!("{path}:{}: {line}", at + 1));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn unsafe_code_stays_in_its_files() {
    let keyword = concat!("unsafe", " {");
    for (path, text) in sources() {
        let allowed = UNSAFE_FILES.contains(&path.as_str());
        assert!(allowed || !text.contains(keyword), "{path} holds unsafe code");
        if text.contains(keyword) {
            assert!(text.contains("// SAFETY:"), "{path}: unsafe without SAFETY");
            assert!(text.contains("// JUSTIFICATION:"), "{path}: unsafe without JUSTIFICATION");
        }
    }
}
