//! A layer of Llama (Touvron et al., 2023; Grattafiori et al., 2024).
//!
//! ```text
//! x = x + O(attention(Q(norm(x)), K(norm(x)), V(norm(x))))
//! x = x + down(silu(gate(norm(x))) * up(norm(x)))
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
    key: O::Linear,
    value: O::Linear,
    output: O::Linear,
    feed_forward_norm: O::Norm,
    gate: O::Linear,
    up: O::Linear,
    down: O::Linear,
}

impl<O: Ops> Layer<O> {
    /// Loads layer `index`.
    pub(crate) fn load(weights: &Weights<'_, O>, index: usize) -> Result<Self, LoadError> {
        let name = |part: &str| format!("blk.{index}.{part}.weight");
        Ok(Self {
            index,
            attention_norm: weights.norm(&name("attn_norm"))?,
            query: weights.linear(&name("attn_q"))?,
            key: weights.linear(&name("attn_k"))?,
            value: weights.linear(&name("attn_v"))?,
            output: weights.linear(&name("attn_output"))?,
            feed_forward_norm: weights.norm(&name("ffn_norm"))?,
            gate: weights.linear(&name("ffn_gate"))?,
            up: weights.linear(&name("ffn_up"))?,
            down: weights.linear(&name("ffn_down"))?,
        })
    }

    /// Runs the layer.
    pub(crate) fn forward(&self, x: Rows, pass: &mut Pass<'_, O>) -> Rows {
        let ops = pass.ops;
        let attended = self.attention(ops.norm(&self.attention_norm, x.clone()), pass);
        let x = ops.add(x, attended);
        let fed = self.feed_forward(ops.norm(&self.feed_forward_norm, x.clone()), ops);
        ops.add(x, fed)
    }

    fn attention(&self, x: Rows, pass: &mut Pass<'_, O>) -> Rows {
        let rows = pass.ops.linear(x, [&self.query, &self.key, &self.value]);
        let attended = pass.attend(self.index, rows);
        let [output] = pass.ops.linear(attended, [&self.output]);
        output
    }

    fn feed_forward(&self, x: Rows, ops: &O) -> Rows {
        let [gate, up] = ops.linear(x, [&self.gate, &self.up]);
        let [down] = ops.linear(ops.gated(Activation::Silu, gate, up), [&self.down]);
        down
    }
}
