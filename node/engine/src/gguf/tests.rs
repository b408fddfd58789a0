//! Good files, and every way in which a hostile one lies.

use super::*;

/// Writes GGUF files, honest or not.
#[derive(Default)]
pub(crate) struct Writer {
    entries: Vec<u8>,
    entry_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    data: Vec<u8>,
}

impl Writer {
    pub(crate) fn text(self, key: &str, value: &str) -> Self {
        self.entry(key, 8, &string(value))
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Self {
        self.entry(key, 4, &value.to_le_bytes())
    }

    pub(crate) fn f32(self, key: &str, value: f32) -> Self {
        self.entry(key, 6, &value.to_le_bytes())
    }

    pub(crate) fn texts(self, key: &str, values: &[&str]) -> Self {
        let mut bytes = 8_u32.to_le_bytes().to_vec();
        bytes.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|it| bytes.extend(string(it)));
        self.entry(key, 9, &bytes)
    }

    /// Adds an entry of any type.
    pub(crate) fn entry(mut self, key: &str, number: u32, value: &[u8]) -> Self {
        self.entries.extend(string(key));
        self.entries.extend(number.to_le_bytes());
        self.entries.extend(value);
        self.entry_count += 1;
        self
    }

    /// Adds an F32 tensor; `shape` is outermost first.
    pub(crate) fn tensor(mut self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let dimensions: Vec<u64> = shape.iter().rev().map(|&n| n as u64).collect();
        let offset = self.data.len() as u64;
        self.data.extend(values.iter().flat_map(|it| it.to_le_bytes()));
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self.record(name, &dimensions, 0, offset)
    }

    /// Adds a tensor record of any content; dimensions are innermost first, as in the file.
    pub(crate) fn record(mut self, name: &str, dimensions: &[u64], kind: u32, offset: u64) -> Self {
        self.tensors.extend(string(name));
        self.tensors.extend((dimensions.len() as u32).to_le_bytes());
        dimensions.iter().for_each(|it| self.tensors.extend(it.to_le_bytes()));
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self.tensor_count += 1;
        self
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        let mut file = head(self.tensor_count, self.entry_count);
        file.extend(self.entries);
        file.extend(self.tensors);
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(self.data);
        file
    }
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.bytes());
    bytes
}

fn head(tensors: u64, entries: u64) -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend(tensors.to_le_bytes());
    file.extend(entries.to_le_bytes());
    file
}

fn small() -> Vec<u8> {
    Writer::default()
        .text("general.architecture", "llama")
        .u32("llama.block_count", 2)
        .f32("llama.rope.freq_base", 1e5)
        .texts("tokenizer.ggml.tokens", &["a", "▁b"])
        .entry("signed", 5, &(-7_i32).to_le_bytes())
        .entry("flag", 7, &[1])
        .tensor("one.weight", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        .tensor("two.weight", &[1], &[7.0])
        .finish()
}

/// Parses a file that must be refused, and compares the message.
#[track_caller]
fn refuses(file: &[u8], message: &str) {
    let error = Gguf::parse(file).expect_err("a hostile file");
    assert_eq!(error.to_string(), message);
}

#[test]
fn entries_and_tensors_are_read() {
    let file = small();
    let gguf = Gguf::parse(&file).expect("a good file");
    assert_eq!(gguf.entry("llama.block_count").and_then(Value::as_u64), Some(2));
    assert_eq!(gguf.entry("llama.rope.freq_base").and_then(Value::as_f64), Some(1e5));
    assert_eq!(gguf.entry("signed").and_then(Value::as_f64), Some(-7.0));
    assert_eq!(gguf.entry("signed").and_then(Value::as_u64), None);
    assert_eq!(gguf.entry("flag").and_then(Value::as_bool), Some(true));
    let tokens = gguf.entry("tokenizer.ggml.tokens").and_then(Value::as_array).expect("there");
    assert_eq!(tokens.texts(&file).expect("text").collect::<Vec<_>>(), ["a", "▁b"]);
    assert_eq!(tokens.values(&file).count(), tokens.len());
    let one = &gguf.tensors()["one.weight"];
    assert_eq!((one.stored, &one.shape[..]), (Stored::F32, &[2, 3][..]));
    assert_eq!(file[one.range.clone()][4..8], 2.0_f32.to_le_bytes());
    let two = &gguf.tensors()["two.weight"];
    assert_eq!(file[two.range.clone()], 7.0_f32.to_le_bytes());
}

#[test]
fn every_shortened_file_is_refused() {
    let file = small();
    // The last tensor has 4 bytes; what follows is padding.
    let end = file.len() - 28;
    assert!(Gguf::parse(&file[..end]).is_ok());
    for length in 0..end {
        assert!(Gguf::parse(&file[..length]).is_err(), "{length} of {end} bytes passed");
    }
}

#[test]
fn no_single_changed_byte_panics() {
    let file = small();
    let mut refused = 0;
    for at in 0..file.len() {
        for value in [0, 1, 9, 0x7f, 0x80, 0xff] {
            let mut changed = file.clone();
            changed[at] = value;
            refused += usize::from(Gguf::parse(&changed).is_err());
        }
    }
    assert!(refused > 100, "only {refused} changes were noticed");
}

#[test]
fn another_kind_of_file_is_told_apart() {
    refuses(b"PK\x03\x04 and more", "file starts with [80, 75, 3, 4], not with \"GGUF\"");
    refuses(
        b"GGUF\0\0\0\x03 and more",
        "GGUF version 50331648 is not supported (supported: 2 and 3, little endian; \
        this file is big endian)",
    );
    refuses(
        b"GGUF\x01\0\0\0 and more",
        "GGUF version 1 is not supported (supported: 2 and 3, little endian)",
    );
    refuses(
        b"GGUF\x03\0\0\0\x01",
        "file ends inside the header: tensor count at byte 8 takes 8 bytes, 1 are left",
    );
}

#[test]
fn claimed_counts_are_compared_with_the_file() {
    refuses(
        &head(0, 1 << 60),
        "file claims 1152921504606846976 entries, but only 0 bytes are left for them",
    );
    refuses(
        &head(1 << 60, 0),
        "file claims 1152921504606846976 tensors, but only 0 bytes are left for them",
    );
    let mut long_key = head(0, 1);
    long_key.extend((1_u64 << 60).to_le_bytes());
    long_key.extend([b'k'; 20]);
    refuses(
        &long_key,
        "file ends inside the header: entry key at byte 32 takes 1152921504606846976 bytes, 20 are left",
    );
    let mut array = 4_u32.to_le_bytes().to_vec();
    array.extend((1_u64 << 62).to_le_bytes());
    let file = Writer::default().entry("a", 9, &array).finish();
    let error = Gguf::parse(&file).expect_err("2^62 elements");
    assert!(matches!(error, GgufError::Count { count, .. } if count == 1 << 62), "{error}");
}

#[test]
fn entries_that_make_no_sense_are_refused() {
    let file = Writer::default().entry("odd", 77, &[0; 8]).finish();
    refuses(&file, "entry `odd` has unknown value type 77");
    let file = Writer::default().u32("twice", 1).u32("twice", 2).finish();
    refuses(&file, "`twice` appears twice");
    let file = Writer::default().entry("t", 8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0]).finish();
    refuses(&file, "t at byte 45 is not UTF-8");
    let file = Writer::default().u32("general.alignment", 24).finish();
    refuses(&file, "alignment is 24, expected a power of two up to 65536");
}

#[test]
fn tensors_must_lie_inside_the_file() {
    let with = |dimensions: &[u64], kind, offset| {
        Writer::default().record("bad", dimensions, kind, offset).finish()
    };
    refuses(
        &with(&[4, 4], 0, 1 << 20),
        "tensor `bad` takes 64 bytes from byte 1048672, but 0 are there (the file has 96)",
    );
    refuses(
        &with(&[4, 4], 0, u64::MAX - 31),
        "tensor `bad` takes 64 bytes from byte 18446744073709551615, but 0 are there \
        (the file has 96)",
    );
    refuses(&with(&[4], 0, 3), "tensor `bad` starts at offset 3, which is no multiple of 32");
    refuses(
        &with(&[1 << 40, 1 << 40], 0, 0),
        "tensor `bad` has impossible dimensions \
        [1099511627776, 1099511627776]",
    );
    refuses(&with(&[4, 0], 0, 0), "tensor `bad` has impossible dimensions [4, 0]");
    refuses(&with(&[1; 5], 0, 0), "tensor `bad` has 5 dimensions, expected 1 to 4");
    refuses(&with(&[48], 2, 0), "tensor `bad` has rows of 48 values, but Q4_0 stores blocks of 32");
    refuses(&with(&[256], 10, 0), "tensor `bad` has type 10 (Q2_K), which is not supported");
    refuses(&with(&[256], 999, 0), "tensor `bad` has type 999, which is not supported");
}
