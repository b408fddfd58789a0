//! What makes two copies of a model the same model.

use thalweg_wire::ModelId;

use crate::source::{Format, ModelSource};

/// Marks what is hashed and how; a change of either changes this line.
const DOMAIN: &str = "thalweg model 1";

/// Hashes configuration, tensors in order of name (name, type, shape, content), and vocabulary.
///
/// Two formats of one model differ: their weights differ too.
pub(crate) fn model_id(source: &ModelSource) -> ModelId {
    let mut hash = blake3::Hasher::new();
    part(&mut hash, DOMAIN.as_bytes());
    part(&mut hash, format!("{:?}", source.config()).as_bytes());
    for name in source.names() {
        let view = source.tensor(name).expect("the name came from the source");
        part(&mut hash, name.as_bytes());
        part(&mut hash, view.stored.to_string().as_bytes());
        part(&mut hash, format!("{:?}", view.shape).as_bytes());
        part(&mut hash, blake3::hash(view.bytes).as_bytes());
        source.release_pages();
    }
    for text in vocabulary(source) {
        part(&mut hash, &text);
    }
    ModelId(*hash.finalize().as_bytes())
}

/// Adds one part with its length in front, so that no two sequences of parts look the same.
fn part(hash: &mut blake3::Hasher, bytes: &[u8]) {
    hash.update(&(bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// Everything that decides how text becomes tokens and back.
fn vocabulary(source: &ModelSource) -> Vec<Vec<u8>> {
    match source.format() {
        Format::Gguf { map, header } => header
            .entries()
            .filter(|(key, _)| key.starts_with("tokenizer."))
            .map(|(key, value)| [key.as_bytes(), &value.content(map)].concat())
            .collect(),
        Format::Safetensors(files) => {
            ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
                .iter()
                .map(|name| std::fs::read(files.folder().join(name)).unwrap_or_default())
                .collect()
        }
    }
}
