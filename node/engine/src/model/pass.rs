//! What the layers share during one step: places of rows, turns, the cache, the threads.

use std::ops::Range;

use crate::attention::{Span, View, attend};
use crate::config::ModelConfig;
use crate::kv::LayerCache;
use crate::ops::{Rows, rows, values};
use crate::rope::{Frequencies, Turns};
use crate::workers::Workers;

/// One run of some rows through some consecutive layers.
pub(crate) struct Pass<'a> {
    config: &'a ModelConfig,
    /// Threads to compute with.
    pub(crate) workers: &'a Workers,
    /// Cache of every layer of the shard, and the number of the first.
    cache: &'a mut [LayerCache],
    first_layer: usize,
    spans: &'a [Span<'a>],
    global: Turns,
    local: Turns,
}

impl<'a> Pass<'a> {
    /// Prepares a pass over the rows of `spans`, in that order.
    pub(crate) fn new(
        config: &'a ModelConfig,
        workers: &'a Workers,
        cache: &'a mut [LayerCache],
        first_layer: usize,
        spans: &'a [Span<'a>],
    ) -> Self {
        let turns = |it: Frequencies| it.turns(spans.iter().flat_map(positions));
        let global = turns(Frequencies::global(config));
        let local = match config.sliding_window {
            None => global.clone(),
            Some(_) => turns(Frequencies::local(config)),
        };
        Self { config, workers, cache, first_layer, spans, global, local }
    }

    /// Turns queries and keys, appends keys and values to the cache of `layer`, and attends.
    pub(crate) fn attend(&mut self, layer: usize, query: Rows, key: Rows, value: Rows) -> Rows {
        let config = self.config;
        let windowed = config.is_windowed(layer);
        let turns = if windowed { &self.local } else { &self.global };
        let (query_width, kv_width) = (config.query_width(), config.kv_width());
        let (mut query, mut key, value) = (values(query), values(key), values(value));
        turns.apply(&mut query, query_width);
        turns.apply(&mut key, kv_width);

        let cache = &mut self.cache[layer - self.first_layer];
        let slots =
            self.spans.iter().flat_map(|it| positions(it).map(|position| (it.blocks, position)));
        let new = key.chunks_exact(kv_width).zip(value.chunks_exact(kv_width));
        for ((blocks, position), (key, value)) in slots.zip(new) {
            cache.write(blocks, position, key, value);
        }
        let view = View {
            heads: config.heads,
            scale: config.query_scale,
            window: config.sliding_window.filter(|_| windowed).map(|it| it.window),
        };
        rows(attend(&query, self.spans, cache, view, self.workers), query_width)
    }
}

fn positions(span: &Span<'_>) -> Range<usize> {
    span.first_position..span.first_position + span.count
}
