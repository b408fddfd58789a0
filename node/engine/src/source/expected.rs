//! The tensors a configuration calls for, with their shapes.

use super::{ModelSource, SourceError};
use crate::config::{Arch, ModelConfig};

/// Endings of tensors that change the result and that the model code does not apply.
const UNSUPPORTED: [&str; 2] = [".bias", "ffn_gate_inp.weight"];

/// Checks that every tensor is there, has its shape, and that none is left unused silently.
pub(super) fn check(source: &ModelSource) -> Result<(), SourceError> {
    let config = source.config();
    let layers = (0..config.layers).flat_map(|it| layer(config, it));
    for (name, expected) in ends(config).chain(layers) {
        let found = source.tensor(&name)?.shape.to_vec();
        if found != expected {
            return Err(SourceError::Shape { name, expected, found });
        }
    }
    let unsupported = |name: &&str| UNSUPPORTED.iter().any(|end| name.ends_with(end));
    match source.names().into_iter().find(unsupported) {
        Some(name) => Err(SourceError::Unsupported { name: name.to_owned() }),
        None => Ok(()),
    }
}

/// Tensors before the first and after the last layer.
fn ends(config: &ModelConfig) -> impl Iterator<Item = (String, Vec<usize>)> {
    let table = vec![config.vocab, config.hidden];
    let head = (!config.tied_head).then(|| ("output.weight".to_owned(), table.clone()));
    let embedding = ("token_embd.weight".to_owned(), table);
    let norm = ("output_norm.weight".to_owned(), vec![config.hidden]);
    [embedding, norm].into_iter().chain(head)
}

/// Tensors of one layer.
pub(super) fn layer(
    config: &ModelConfig,
    layer: usize,
) -> impl Iterator<Item = (String, Vec<usize>)> + use<> {
    let (hidden, wide) = (config.hidden, config.intermediate);
    let (query, kv) = (config.query_width(), config.kv_width());
    let mut tensors = vec![
        ("attn_norm", vec![hidden]),
        ("attn_q", vec![query, hidden]),
        ("attn_k", vec![kv, hidden]),
        ("attn_v", vec![kv, hidden]),
        ("attn_output", vec![hidden, query]),
        ("ffn_norm", vec![hidden]),
        ("ffn_gate", vec![wide, hidden]),
        ("ffn_up", vec![wide, hidden]),
        ("ffn_down", vec![hidden, wide]),
    ];
    if config.arch == Arch::Gemma3 {
        tensors.extend([
            ("attn_q_norm", vec![config.head_dim]),
            ("attn_k_norm", vec![config.head_dim]),
            ("post_attention_norm", vec![hidden]),
            ("post_ffw_norm", vec![hidden]),
        ]);
    }
    tensors.into_iter().map(move |(name, shape)| (format!("blk.{layer}.{name}.weight"), shape))
}
