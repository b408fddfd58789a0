//! Runs a model over any cut into shards, and opens the models of the tests.

use thalweg_engine::{
    BLOCK_TOKENS, ComputeDevice, Input, Item, KvType, LoadOptions, ModelSource, Output, Precision,
    Shard, Want, pull,
};
use thalweg_wire::{LayerRange, Sampling};

/// Runs of 16 tokens for which every layer of the tests has blocks.
pub const COLUMNS: u32 = 192;
/// No number of blocks of the tests is a multiple of this.
const STRIDE: u32 = 7919;

/// Opens a built-in model, which is fetched if it is not on this machine.
pub fn open(name: &str) -> ModelSource {
    let path = pull::pull(name, &|_, _| {}).expect("the model is there or can be fetched");
    ModelSource::open(&path).expect("the model can be read")
}

/// Makes a range that is known to be valid.
pub fn range(first: u32, end: u32) -> LayerRange {
    LayerRange::new(first, end).expect("not empty")
}

/// Loads layers, with the ends that belong to them.
pub fn load(
    source: &ModelSource,
    layers: LayerRange,
    threads: usize,
    precision: Precision,
) -> Shard {
    load_on(ComputeDevice::Cpu, source, layers, threads, precision)
}

/// Loads layers on a device, with the ends that belong to them.
pub fn load_on(
    device: ComputeDevice,
    source: &ModelSource,
    layers: LayerRange,
    threads: usize,
    precision: Precision,
) -> Shard {
    let kv_type = match precision {
        Precision::Stored => KvType::F16,
        Precision::F32 => KvType::F32,
    };
    let options = LoadOptions {
        embed: layers.first() == 0,
        head: layers.end() as usize == source.config().layers,
        device,
        kv_blocks: COLUMNS * layers.count(),
        threads,
        precision,
        kv_type,
        on_progress: &|_| {},
    };
    Shard::load(source, layers, options).expect("the shard loads")
}

/// Loads a whole model as F32, cut before each layer of `cuts`.
pub fn load_cut(source: &ModelSource, cuts: &[u32]) -> Vec<Shard> {
    load_cut_as(Precision::F32, source, cuts)
}

/// Loads a whole model, cut before each layer of `cuts`.
pub fn load_cut_as(precision: Precision, source: &ModelSource, cuts: &[u32]) -> Vec<Shard> {
    let end = u32::try_from(source.config().layers).expect("few layers");
    let ends: Vec<u32> = cuts.iter().copied().chain([end]).collect();
    let firsts = [0].into_iter().chain(cuts.iter().copied());
    firsts.zip(ends).map(|(first, end)| load(source, range(first, end), 1, precision)).collect()
}

/// Columns for up to `tokens` tokens, starting at number `first`.
pub fn columns(first: u32, tokens: usize) -> Vec<u32> {
    let count = u32::try_from(tokens.div_ceil(BLOCK_TOKENS)).expect("few columns");
    (first..first + count).collect()
}

/// The blocks of some columns in `layers` of a shard that holds `held`: scattered over the pool,
/// each of one column and layer.
pub fn table(columns: &[u32], layers: LayerRange, held: LayerRange) -> Vec<u32> {
    let total = COLUMNS * held.count();
    let block = |column, layer| (column * held.count() + layer - held.first()) * STRIDE % total;
    let of_column = |&column| (layers.first()..layers.end()).map(move |it| block(column, it));
    columns.iter().flat_map(of_column).collect()
}

/// One part of a request to run through a whole pipeline.
#[derive(Clone, Debug)]
pub struct Part {
    pub columns: Vec<u32>,
    pub first_position: u32,
    pub tokens: Vec<u32>,
}

/// Runs parts through all shards, in one step each; returns the activations after the last layer.
pub fn activations(shards: &mut [Shard], parts: &[Part]) -> Vec<Vec<f32>> {
    let mut rows: Vec<Vec<f32>> = vec![Vec::new(); parts.len()];
    for shard in shards {
        let layers = shard.layers();
        let tables = tables(parts, layers);
        let all = parts.iter().zip(&tables).zip(&rows);
        let items: Vec<Item> =
            all.map(|((part, table), rows)| item(part, table, rows, layers, Want::Rows)).collect();
        let outputs = shard.step(&items).expect("the step runs");
        rows = outputs.into_iter().map(expect_rows).collect();
    }
    rows
}

/// The logits after the last token of each part.
pub fn logits(shards: &mut [Shard], parts: &[Part]) -> Vec<Vec<f32>> {
    let rows = activations(shards, parts);
    let last = shards.last().expect("at least one shard");
    let hidden = last.config().hidden;
    rows.iter().map(|it| last.logits(&it[it.len() - hidden..])).collect()
}

/// Greedy tokens after each prompt, all computed side by side.
pub fn greedy(shards: &mut [Shard], prompts: &[Vec<u32>], count: usize) -> Vec<Vec<u32>> {
    let mut first_column = 0;
    let mut parts: Vec<Part> = Vec::new();
    for prompt in prompts {
        let columns = columns(first_column, prompt.len() + count);
        first_column += columns.len() as u32;
        parts.push(Part { columns, first_position: 0, tokens: prompt.clone() });
    }
    let mut found = vec![Vec::new(); prompts.len()];
    for _ in 0..count {
        let tokens = next_tokens(shards, &parts);
        for ((part, found), token) in parts.iter_mut().zip(&mut found).zip(tokens) {
            part.first_position += part.tokens.len() as u32;
            part.tokens = vec![token];
            found.push(token);
        }
    }
    found
}

/// The most likely token after each part.
fn next_tokens(shards: &mut [Shard], parts: &[Part]) -> Vec<u32> {
    let (last, before) = shards.split_last_mut().expect("at least one shard");
    let rows = activations(before, parts);
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    let want = Want::Sample { sampling: &sampling, history: &[], prompt_tokens: 0 };
    let layers = last.layers();
    let tables = tables(parts, layers);
    let all = parts.iter().zip(&tables).zip(&rows);
    let items: Vec<Item> =
        all.map(|((part, table), rows)| item(part, table, rows, layers, want)).collect();
    let outputs = last.step(&items).expect("the step runs");
    outputs.into_iter().map(expect_token).collect()
}

/// The blocks of each part in a shard of which all layers are run.
fn tables(parts: &[Part], layers: LayerRange) -> Vec<Vec<u32>> {
    parts.iter().map(|it| table(&it.columns, layers, layers)).collect()
}

/// An item that runs `part` through `layers`, with these blocks.
pub fn item<'a>(
    part: &'a Part,
    blocks: &'a [u32],
    rows: &'a [f32],
    layers: LayerRange,
    want: Want<'a>,
) -> Item<'a> {
    let input = if layers.first() == 0 { Input::Tokens(&part.tokens) } else { Input::Rows(rows) };
    let first_position = part.first_position;
    Item { blocks, copies: &[], layers, first_position, input, want }
}

pub fn expect_rows(output: Output) -> Vec<f32> {
    let Output::Rows(rows) = output else { panic!("rows were wanted, got {output:?}") };
    rows
}

pub fn expect_token(output: Output) -> u32 {
    let Output::Sampled { sampled, .. } = output else {
        panic!("a token was wanted, got {output:?}")
    };
    sampled.token
}
