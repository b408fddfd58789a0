//! Hugging Face's tensor names, in GGUF's words.

use crate::config::Arch;

/// Returns the canonical name of a tensor, or `None` for one that no supported model uses.
///
/// `post_attention_layernorm` is the norm before the feed-forward block in Llama and the norm after
/// attention in Gemma, so the family decides.
pub(crate) fn canonical(name: &str, arch: Arch) -> Option<String> {
    let flat = name.replacen("language_model.", "", 1);
    let name = flat.as_str();
    match name {
        "lm_head.weight" => return Some("output.weight".to_owned()),
        "model.embed_tokens.weight" => return Some("token_embd.weight".to_owned()),
        "model.norm.weight" => return Some("output_norm.weight".to_owned()),
        _ => {}
    }
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, suffix) = part.rsplit_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    let part = match (part, arch) {
        ("input_layernorm", _) => "attn_norm",
        ("self_attn.q_proj", _) => "attn_q",
        ("self_attn.k_proj", _) => "attn_k",
        ("self_attn.v_proj", _) => "attn_v",
        ("self_attn.o_proj", _) => "attn_output",
        ("self_attn.q_norm", _) => "attn_q_norm",
        ("self_attn.k_norm", _) => "attn_k_norm",
        ("mlp.gate_proj", _) => "ffn_gate",
        ("mlp.up_proj", _) => "ffn_up",
        ("mlp.down_proj", _) => "ffn_down",
        ("post_attention_layernorm", Arch::Llama) | ("pre_feedforward_layernorm", _) => "ffn_norm",
        ("post_attention_layernorm", Arch::Gemma3) => "post_attention_norm",
        ("post_feedforward_layernorm", _) => "post_ffw_norm",
        _ => return None,
    };
    Some(format!("blk.{layer}.{part}.{suffix}"))
}
