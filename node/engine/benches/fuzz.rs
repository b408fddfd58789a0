//! Opens damaged model files, millions of them: each is refused or read, none panics or takes memory
//! by its own word.
//!
//! ```text
//! cargo bench -p thalweg-engine --bench fuzz -- EXECUTIONS [SEED]
//! ```
//!
//! Starts from the small models in `benches/seeds` (`scripts/fuzz_seeds.py` wrote them), damages each
//! in a few places, opens it as `thalweg serve` would, and reads what it says is there: every tensor,
//! the tokenizer. A panic ends the run with the number of the execution, which `SEED` repeats.

#![allow(clippy::unwrap_used, reason = "a benchmark has nobody to tell")]

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fastrand::Rng;
use thalweg_engine::{ModelSource, Tokenizer};

/// Places that are damaged at most.
const DAMAGES_MAX: usize = 4;
/// Damage lies in the headers, which all else depends on, with this probability.
const HEADER_SHARE: f64 = 0.9;
/// About where headers end.
const HEADER_BYTES: usize = 2400;
/// Executions between two lines.
const PER_LINE: u64 = 1_000_000;
/// Memory that a run may hold at most: all seeds together are below a tenth of a megabyte.
const RESIDENT_MAX_BYTES: u64 = 1 << 30;

/// Numbers that lie.
const LIES: [u64; 10] = [
    0,
    1,
    31,
    u8::MAX as u64,
    i32::MAX as u64,
    u32::MAX as u64,
    1 << 60,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX,
];

/// A model to damage, and the file it is written to.
struct Seed {
    name: &'static str,
    bytes: Vec<u8>,
    /// What is opened.
    path: PathBuf,
    file: File,
}

impl Seed {
    /// Reads a seed; `config` stands beside one of safetensors.
    fn new(name: &'static str, config: Option<&str>, folder: &Path) -> Self {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/seeds");
        let bytes = fs::read(seeds.join(name)).unwrap();
        let (path, file) = match config {
            None => (folder.join(name), folder.join(name)),
            Some(config) => {
                let folder = folder.join("folder");
                fs::create_dir_all(&folder).unwrap();
                fs::copy(seeds.join(config), folder.join("config.json")).unwrap();
                (folder.clone(), folder.join("model.safetensors"))
            }
        };
        let file = File::create(&file).unwrap();
        Self { name, bytes, path, file }
    }

    /// Writes a damaged copy.
    fn damage(&mut self, rng: &mut Rng) {
        let mut bytes = self.bytes.clone();
        for _ in 0..rng.usize(1..=DAMAGES_MAX) {
            damage(&mut bytes, rng);
        }
        self.file.seek(SeekFrom::Start(0)).unwrap();
        self.file.set_len(bytes.len() as u64).unwrap();
        self.file.write_all(&bytes).unwrap();
    }
}

fn damage(bytes: &mut Vec<u8>, rng: &mut Rng) {
    if bytes.len() < 16 {
        return;
    }
    let end = if rng.f64() < HEADER_SHARE { HEADER_BYTES.min(bytes.len()) } else { bytes.len() };
    let at = rng.usize(0..end - 8);
    match rng.u8(0..9) {
        0 => bytes[at] ^= 1 << rng.u8(0..8),
        1 => bytes[at] = rng.u8(..),
        2 | 3 => {
            let lie = LIES[rng.usize(0..LIES.len())].to_le_bytes();
            bytes[at..at + 8].copy_from_slice(&lie);
        }
        4 => {
            let lie = LIES[rng.usize(0..LIES.len())] as u32;
            bytes[at..at + 4].copy_from_slice(&lie.to_le_bytes());
        }
        5 => {
            let small = i64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            let other = small.wrapping_add(rng.i64(-40..=40));
            bytes[at..at + 8].copy_from_slice(&other.to_le_bytes());
        }
        6 => bytes.truncate(at),
        7 => {
            let from = rng.usize(0..end - 8);
            let count = rng.usize(1..=64).min(bytes.len() - from.max(at));
            bytes.copy_within(from..from + count, at);
        }
        _ => {
            let count = rng.usize(1..=16).min(bytes.len() - at);
            bytes.drain(at..at + count);
        }
    }
}

/// Opens a model and reads all that it says it has. Whether it was opened.
fn read(path: &Path) -> bool {
    let Ok(source) = ModelSource::open(path) else { return false };
    for name in source.names() {
        let _values_or_refusal = source.f32(name);
    }
    let _tokenizer_or_refusal = Tokenizer::from_source(&source);
    true
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|it| it != "--bench");
    let Some(executions) = args.next() else {
        // Also reached by `cargo test --benches`, which passes nothing.
        println!("usage: fuzz EXECUTIONS [SEED]");
        return;
    };
    let executions: u64 = executions.parse().unwrap();
    let first: u64 = args.next().map_or(0, |it| it.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut seeds = [
        Seed::new("llama-q4_1.gguf", None, folder.path()),
        Seed::new("gemma3-q8_0.gguf", None, folder.path()),
        Seed::new("llama.safetensors", Some("llama.json"), folder.path()),
    ];
    for seed in &mut seeds {
        seed.file.write_all(&seed.bytes).unwrap();
        assert!(read(&seed.path), "{} is not read as it is", seed.name);
    }
    let mut opened = 0_u64;
    for execution in first..first + executions {
        let mut rng = Rng::with_seed(execution);
        let chosen = rng.usize(0..seeds.len());
        let seed = &mut seeds[chosen];
        seed.damage(&mut rng);
        let path = seed.path.clone();
        match std::panic::catch_unwind(|| read(&path)) {
            Ok(done) => opened += u64::from(done),
            Err(_) => panic!("execution {execution} of {} panics", seed.name),
        }
        if (execution + 1 - first).is_multiple_of(PER_LINE) {
            let done = execution + 1 - first;
            println!("{done} executions, {opened} opened, {} MB", resident_bytes() / 1_000_000);
            assert!(resident_bytes() < RESIDENT_MAX_BYTES, "memory by the word of a file");
        }
    }
    println!("{executions} executions, {opened} opened, none panicked");
}

/// Memory of this process that is in use; zero where the system does not tell.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
    line.and_then(|it| it.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}
