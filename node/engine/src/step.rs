//! What a shard is asked to compute in one step, and what it answers.

use thalweg_wire::{Candidate, LayerRange, Sampling};

use crate::kv::BLOCK_TOKENS;

/// One request's part of a step: consecutive tokens through some layers of the shard.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// Blocks of the request: one for each of `layers`, then those of the next 16 tokens; they must
    /// reach past the item's last token. Positions before `first_position` must have been computed
    /// into them.
    pub blocks: &'a [u32],
    /// Blocks to copy before the step is computed: from the first to the second of each pair.
    pub copies: &'a [(u32, u32)],
    /// Layers to run: a part of those the shard holds.
    pub layers: LayerRange,
    /// Position of the first token.
    pub first_position: u32,
    /// What goes in.
    pub input: Input<'a>,
    /// What should come out.
    pub want: Want<'a>,
}

/// What goes into the first of an item's layers.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Token ids, for items that start at layer 0.
    Tokens(&'a [u32]),
    /// Activations of the layer before, one row per token, for all others.
    Rows(&'a [f32]),
}

/// What should come out of an item.
#[derive(Clone, Copy, Debug)]
pub enum Want<'a> {
    /// The activations after the item's last layer.
    Rows,
    /// Nothing: a part of a prompt whose end is still to come.
    Nothing,
    /// The token that follows the item's last one.
    Sample {
        /// How to choose it.
        sampling: &'a Sampling,
        /// Every token so far, the item's own included.
        history: &'a [u32],
        /// How many of them are the prompt.
        prompt_tokens: u32,
    },
}

/// What came out of an item.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// One row of activations per token.
    Rows(Vec<f32>),
    /// As wanted.
    Nothing,
    /// The next token.
    Sampled {
        /// The token; its log probability is 0 if none was asked for.
        sampled: Candidate,
        /// The most likely tokens, if asked for.
        top: Vec<Candidate>,
    },
}

/// A step that cannot be computed. The shard is as before it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// Layers of another shard.
    #[error("item {item} asks for layers {asked}, the shard holds {held}")]
    LayersNotHeld {
        /// Which item of the step, from zero.
        item: usize,
        /// Layers asked for.
        asked: LayerRange,
        /// Layers held.
        held: LayerRange,
    },
    /// Tokens above layer 0, or activations at layer 0.
    #[error("item {item} enters at layer {layer} with the wrong kind of input")]
    WrongInput {
        /// Which item of the step, from zero.
        item: usize,
        /// Its first layer.
        layer: u32,
    },
    /// No token, or activations that are not whole rows.
    #[error("item {item} brings {values} values, which are not whole rows of {width}")]
    PartialRows {
        /// Which item of the step, from zero.
        item: usize,
        /// Values brought.
        values: usize,
        /// Values of a row.
        width: usize,
    },
    /// A token id the model does not have.
    #[error("item {item} has token {token}, the vocabulary has {vocab}")]
    UnknownToken {
        /// Which item of the step, from zero.
        item: usize,
        /// The token.
        token: u32,
        /// Tokens there are.
        vocab: usize,
    },
    /// A block table that ends before the item's last token.
    #[error("item {item} ends at position {end}, its blocks at {room}")]
    ShortTable {
        /// Which item of the step, from zero.
        item: usize,
        /// One past its last position.
        end: usize,
        /// Positions its blocks have room for.
        room: usize,
    },
    /// A block number the shard does not have.
    #[error("item {item} names block {block}, the shard has {blocks}")]
    UnknownBlock {
        /// Which item of the step, from zero.
        item: usize,
        /// The block.
        block: u32,
        /// Blocks there are.
        blocks: u32,
    },
    /// A token wanted from layers that are not the last, or from a shard without the head.
    #[error("item {item} wants a token, which only the last layer and the head can give")]
    NoHead {
        /// Which item of the step, from zero.
        item: usize,
    },
    /// Tokens given to a shard without the embedding.
    #[error("item {item} brings tokens, but the shard was loaded without the embedding")]
    NoEmbedding {
        /// Which item of the step, from zero.
        item: usize,
    },
    /// Logits that are not numbers: activations from elsewhere were damaged.
    #[error("item {item} has logits that are not numbers")]
    NotFinite {
        /// Which item of the step, from zero.
        item: usize,
    },
}

/// What items are checked against.
pub(crate) struct Limits {
    /// Layers held.
    pub(crate) held: LayerRange,
    /// Width of activations.
    pub(crate) hidden: usize,
    /// Tokens there are.
    pub(crate) vocab: usize,
    /// Blocks there are.
    pub(crate) blocks: u32,
    /// Whether tokens can be embedded.
    pub(crate) embeds: bool,
    /// One past the last layer, if the head is there to follow it.
    pub(crate) head_after: Option<u32>,
}

impl Limits {
    /// Checks item number `item`.
    pub(crate) fn check(&self, item: usize, it: &Item<'_>) -> Result<(), StepError> {
        let (asked, held) = (it.layers, self.held);
        if !held.covers(asked) {
            return Err(StepError::LayersNotHeld { item, asked, held });
        }
        if matches!(it.want, Want::Sample { .. }) && self.head_after != Some(asked.end()) {
            return Err(StepError::NoHead { item });
        }
        self.check_input(item, it)?;
        let columns = it.blocks.len() / asked.count() as usize;
        let (end, room) = (it.end(self.hidden), columns * BLOCK_TOKENS);
        if end > room {
            return Err(StepError::ShortTable { item, end, room });
        }
        let copied = it.copies.iter().flat_map(|&(from, to)| [from, to]);
        match it.blocks.iter().copied().chain(copied).find(|&block| block >= self.blocks) {
            Some(block) => Err(StepError::UnknownBlock { item, block, blocks: self.blocks }),
            None => Ok(()),
        }
    }

    fn check_input(&self, item: usize, it: &Item<'_>) -> Result<(), StepError> {
        let layer = it.layers.first();
        if (layer == 0) != matches!(it.input, Input::Tokens(_)) {
            return Err(StepError::WrongInput { item, layer });
        }
        let (values, width) = match it.input {
            Input::Tokens(tokens) => {
                if !self.embeds {
                    return Err(StepError::NoEmbedding { item });
                }
                let vocab = self.vocab;
                if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab) {
                    return Err(StepError::UnknownToken { item, token, vocab });
                }
                (tokens.len(), 1)
            }
            Input::Rows(rows) => (rows.len(), self.hidden),
        };
        if values == 0 || !values.is_multiple_of(width) {
            return Err(StepError::PartialRows { item, values, width });
        }
        Ok(())
    }
}

impl Item<'_> {
    /// Number of tokens, if activations are `hidden` values wide.
    pub(crate) fn count(&self, hidden: usize) -> usize {
        match self.input {
            Input::Tokens(tokens) => tokens.len(),
            Input::Rows(rows) => rows.len() / hidden,
        }
    }

    /// One past the position of the last token.
    fn end(&self, hidden: usize) -> usize {
        self.first_position as usize + self.count(hidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        held: match LayerRange::new(0, 4) {
            Ok(layers) => layers,
            Err(_) => panic!("not empty"),
        },
        hidden: 8,
        vocab: 100,
        blocks: 9,
        embeds: true,
        head_after: None,
    };

    fn item<'a>(first: u32, end: u32, input: Input<'a>, blocks: &'a [u32]) -> Item<'a> {
        let layers = LayerRange::new(first, end).expect("not empty");
        Item { blocks, copies: &[], layers, first_position: 15, input, want: Want::Rows }
    }

    #[track_caller]
    fn check(item: &Item<'_>, expected: &str) {
        let found = LIMITS.check(0, item).err().map(|it| it.to_string()).unwrap_or_default();
        assert_eq!(found, expected);
    }

    #[test]
    fn refusals_name_what_is_wrong() {
        let (tokens, rows) = (Input::Tokens(&[1, 99]), Input::Rows(&[0.0; 16]));
        let two = &[0, 1, 2, 3, 4, 5, 6, 8];
        check(&item(0, 4, tokens, two), "");
        check(&item(2, 3, rows, &[0, 2]), "");
        check(&item(2, 5, rows, &[0, 2]), "item 0 asks for layers 2..5, the shard holds 0..4");
        check(&item(0, 4, rows, &[0, 2]), "item 0 enters at layer 0 with the wrong kind of input");
        check(
            &item(1, 4, tokens, &[0, 2]),
            "item 0 enters at layer 1 with the wrong kind of input",
        );
        check(
            &item(1, 4, Input::Rows(&[0.0; 9]), &[0, 2]),
            "item 0 brings 9 values, which are not whole rows of 8",
        );
        check(
            &item(0, 4, Input::Tokens(&[]), &[0, 2]),
            "item 0 brings 0 values, which are not whole rows of 1",
        );
        check(
            &item(0, 4, Input::Tokens(&[100]), &[0]),
            "item 0 has token 100, the vocabulary has 100",
        );
        check(&item(0, 4, tokens, &two[..7]), "item 0 ends at position 17, its blocks at 16");
        check(&item(2, 3, rows, &[0, 9]), "item 0 names block 9, the shard has 9");
        let copies = &[(1, 2), (3, 10)];
        check(
            &Item { copies, ..item(2, 3, rows, &[0, 2]) },
            "item 0 names block 10, the shard has 9",
        );
        let sampling = Sampling::default();
        let want = Want::Sample { sampling: &sampling, history: &[], prompt_tokens: 0 };
        check(
            &Item { want, ..item(0, 4, tokens, two) },
            "item 0 wants a token, which only the last layer and the head can give",
        );
    }
}
