//! A layer of Gemma 3 (Gemma Team, 2025): norms before and after each half, and on every query and
//! key head.
//!
//! ```text
//! x = x + norm(O(attention(norm(Q(norm(x))), norm(K(norm(x))), V(norm(x)))))
//! x = x + norm(down(gelu(gate(norm(x))) * up(norm(x))))
//! ```

use super::{LoadError, Pass, Weights};
use crate::gate::Activation;
use crate::ops::{Linear, RmsNorm, Rows, gated};

/// Weights of one layer.
#[derive(Debug)]
pub(crate) struct Layer {
    index: usize,
    attention_norm: RmsNorm,
    query: Linear,
    query_norm: RmsNorm,
    key: Linear,
    key_norm: RmsNorm,
    value: Linear,
    output: Linear,
    post_attention_norm: RmsNorm,
    feed_forward_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
    post_feed_forward_norm: RmsNorm,
}

impl Layer {
    /// Loads layer `index`.
    pub(crate) fn load(weights: &Weights<'_>, index: usize) -> Result<Self, LoadError> {
        let name = |part: &str| format!("blk.{index}.{part}.weight");
        Ok(Self {
            index,
            attention_norm: weights.norm(&name("attn_norm"))?,
            query: weights.linear(&name("attn_q"))?,
            query_norm: weights.norm(&name("attn_q_norm"))?,
            key: weights.linear(&name("attn_k"))?,
            key_norm: weights.norm(&name("attn_k_norm"))?,
            value: weights.linear(&name("attn_v"))?,
            output: weights.linear(&name("attn_output"))?,
            post_attention_norm: weights.norm(&name("post_attention_norm"))?,
            feed_forward_norm: weights.norm(&name("ffn_norm"))?,
            gate: weights.linear(&name("ffn_gate"))?,
            up: weights.linear(&name("ffn_up"))?,
            down: weights.linear(&name("ffn_down"))?,
            post_feed_forward_norm: weights.norm(&name("post_ffw_norm"))?,
        })
    }

    /// Runs the layer.
    pub(crate) fn forward(&self, x: Rows, pass: &mut Pass<'_>) -> Rows {
        let attended = self.attention(self.attention_norm.forward(x.clone()), pass);
        let x = x + self.post_attention_norm.forward(attended);
        let fed = self.feed_forward(self.feed_forward_norm.forward(x.clone()), pass);
        x + self.post_feed_forward_norm.forward(fed)
    }

    fn attention(&self, x: Rows, pass: &mut Pass<'_>) -> Rows {
        let query = self.query.forward(x.clone(), pass.workers);
        let key = self.key.forward(x.clone(), pass.workers);
        let value = self.value.forward(x, pass.workers);
        let (query, key) = (self.query_norm.forward_heads(query), self.key_norm.forward_heads(key));
        let attended = pass.attend(self.index, query, key, value);
        self.output.forward(attended, pass.workers)
    }

    fn feed_forward(&self, x: Rows, pass: &Pass<'_>) -> Rows {
        let gate = self.gate.forward(x.clone(), pass.workers);
        let up = self.up.forward(x, pass.workers);
        self.down.forward(gated(Activation::Gelu, gate, up), pass.workers)
    }
}
