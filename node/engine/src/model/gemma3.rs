//! A layer of Gemma 3 (Gemma Team, 2025): norms before and after each half, and on every query and
//! key head.
//!
//! ```text
//! x = x + norm(O(attention(norm(Q(norm(x))), norm(K(norm(x))), V(norm(x)))))
//! x = x + norm(down(gelu(gate(norm(x))) * up(norm(x))))
//! ```

use super::{LoadError, Pass, Weights};
use crate::gate::Activation;
use crate::ops::{Ops, Rows};

/// Weights of one layer.
#[derive(Debug)]
pub(crate) struct Layer<O: Ops> {
    index: usize,
    attention_norm: O::Norm,
    query: O::Linear,
    query_norm: O::Norm,
    key: O::Linear,
    key_norm: O::Norm,
    value: O::Linear,
    output: O::Linear,
    post_attention_norm: O::Norm,
    feed_forward_norm: O::Norm,
    gate: O::Linear,
    up: O::Linear,
    down: O::Linear,
    post_feed_forward_norm: O::Norm,
}

impl<O: Ops> Layer<O> {
    /// Loads layer `index`.
    pub(crate) fn load(weights: &Weights<'_, O>, index: usize) -> Result<Self, LoadError> {
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
    pub(crate) fn forward(&self, x: Rows, pass: &mut Pass<'_, O>) -> Rows {
        let ops = pass.ops;
        let attended = self.attention(ops.norm(&self.attention_norm, x.clone()), pass);
        let x = ops.add(x, ops.norm(&self.post_attention_norm, attended));
        let fed = self.feed_forward(ops.norm(&self.feed_forward_norm, x.clone()), ops);
        ops.add(x, ops.norm(&self.post_feed_forward_norm, fed))
    }

    fn attention(&self, x: Rows, pass: &mut Pass<'_, O>) -> Rows {
        let ops = pass.ops;
        let [query, key, value] = ops.linear(x, [&self.query, &self.key, &self.value]);
        let (query, key) = (ops.norm(&self.query_norm, query), ops.norm(&self.key_norm, key));
        let attended = pass.attend(self.index, [query, key, value]);
        let [output] = ops.linear(attended, [&self.output]);
        output
    }

    fn feed_forward(&self, x: Rows, ops: &O) -> Rows {
        let [gate, up] = ops.linear(x, [&self.gate, &self.up]);
        let [down] = ops.linear(ops.gated(Activation::Gelu, gate, up), [&self.down]);
        down
    }
}
