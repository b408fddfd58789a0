//! A model whose every value depends on all tokens before it, through the KV blocks: a block given
//! to two requests, or a position computed twice or never, changes the text.

use std::collections::BTreeMap;

use thalweg_core::kv::{BLOCK_TOKENS, BlockCopy};
use thalweg_core::stage::{StepInput, StepItem, StepOutput, TensorId, Want};
use thalweg_wire::{Candidate, Epoch};

const VOCABULARY: u64 = 1000;
const BLOCK: usize = BLOCK_TOKENS as usize;

/// The tensors of one host.
#[derive(Default)]
pub struct Engine {
    /// Keys by shard, then by slot: the blocks of all layers are in one pool.
    keys: BTreeMap<Epoch, Vec<u64>>,
    rows: BTreeMap<TensorId, Vec<u64>>,
    tensors_made: u64,
}

impl Engine {
    /// Runs one step.
    pub fn step(&mut self, items: &[StepItem]) -> Vec<StepOutput> {
        for item in items {
            let keys = self.keys.entry(item.epoch).or_default();
            for &BlockCopy { from, to } in &item.copies {
                let (from, to) = (from as usize * BLOCK, to as usize * BLOCK);
                keys.resize(keys.len().max(from.max(to) + BLOCK), 0);
                keys.copy_within(from..from + BLOCK, to);
            }
        }
        items.iter().map(|item| self.item(item)).collect()
    }

    /// Takes rows in.
    pub fn insert(&mut self, rows: Vec<u64>) -> TensorId {
        self.tensors_made += 1;
        let tensor = TensorId(self.tensors_made);
        self.rows.insert(tensor, rows);
        tensor
    }

    /// Takes rows out.
    pub fn remove(&mut self, tensor: TensorId) -> Vec<u64> {
        self.rows.remove(&tensor).expect("every tensor is given up once")
    }

    /// Number of tensors held.
    pub fn tensors(&self) -> usize {
        self.rows.len()
    }

    fn item(&mut self, item: &StepItem) -> StepOutput {
        let mut rows: Vec<u64> = match &item.input {
            StepInput::Tokens(tokens) => tokens.iter().map(|&it| u64::from(it)).collect(),
            StepInput::Tensor(tensor) => self.remove(*tensor),
        };
        for layer in item.layers.first()..item.layers.end() {
            let keys = self.keys.entry(item.epoch).or_default();
            for (position, row) in (item.first_position..).zip(&mut rows) {
                let slots = (0..=position).map(|it| slot(item, layer, it));
                let here = slot(item, layer, position);
                keys.resize(keys.len().max(here + 1), 0);
                keys[here] = mix(layer, *row);
                let seen = slots.map(|slot| keys[slot]);
                *row = seen.fold(u64::from(layer), |sum, key| mix(1, sum ^ key));
            }
        }
        match &item.want {
            Want::Rows => StepOutput::Rows(self.insert(rows)),
            Want::Nothing => StepOutput::Nothing,
            Want::Sample { sampling, history, .. } => {
                let position = item.first_position + rows.len() as u32;
                assert_eq!(history.len(), position as usize, "history of all tokens so far");
                let last = rows.last().expect("items have rows");
                let history = history.iter().fold(7, |sum, &it| mix(it, sum));
                let draw = mix(position, sampling.seed) ^ last ^ history;
                let token = (mix(0, draw) % VOCABULARY) as u32;
                StepOutput::Sampled { sampled: Candidate { token, logprob: 0.0 }, top: vec![] }
            }
        }
    }
}

fn slot(item: &StepItem, layer: u32, position: u32) -> usize {
    let column = (position / BLOCK_TOKENS * item.layers.count()) as usize;
    let block = item.blocks[column + (layer - item.layers.first()) as usize];
    block as usize * BLOCK + (position % BLOCK_TOKENS) as usize
}

/// A hash of two numbers (SplitMix64).
fn mix(a: u32, b: u64) -> u64 {
    let mut z = b.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(u64::from(a) + 1));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
