//! A layer of Llama (Touvron et al., 2023; Grattafiori et al., 2024).
//!
//! ```text
//! x = x + O(attention(Q(norm(x)), K(norm(x)), V(norm(x))))
//! x = x + down(silu(gate(norm(x))) * up(norm(x)))
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
    key: Linear,
    value: Linear,
    output: Linear,
    feed_forward_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Layer {
    /// Loads layer `index`.
    pub(crate) fn load(weights: &Weights<'_>, index: usize) -> Result<Self, LoadError> {
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
    pub(crate) fn forward(&self, x: Rows, pass: &mut Pass<'_>) -> Rows {
        let x = x.clone() + self.attention(self.attention_norm.forward(x), pass);
        x.clone() + self.feed_forward(self.feed_forward_norm.forward(x), pass)
    }

    fn attention(&self, x: Rows, pass: &mut Pass<'_>) -> Rows {
        let query = self.query.forward(x.clone(), pass.workers);
        let key = self.key.forward(x.clone(), pass.workers);
        let value = self.value.forward(x, pass.workers);
        let attended = pass.attend(self.index, query, key, value);
        self.output.forward(attended, pass.workers)
    }

    fn feed_forward(&self, x: Rows, pass: &Pass<'_>) -> Rows {
        let gate = self.gate.forward(x.clone(), pass.workers);
        let up = self.up.forward(x, pass.workers);
        self.down.forward(gated(Activation::Silu, gate, up), pass.workers)
    }
}
