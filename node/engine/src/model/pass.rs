//! What the layers share during one step: places of rows, turns, the cache, the threads.

use std::ops::Range;

use crate::attention::{Span, View, attend};
use crate::config::ModelConfig;
use crate::kv::{Cache, Table};
use crate::ops::{Rows, rows, values};
use crate::rope::{Frequencies, Turns};
use crate::workers::Workers;

/// Consecutive rows of a pass that belong to one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    /// Blocks of the request in all its layers.
    pub(crate) table: Table<'a>,
    /// Position of the first row.
    pub(crate) first_position: usize,
    /// Number of rows.
    pub(crate) count: usize,
}

/// One run of some rows through some consecutive layers.
pub(crate) struct Pass<'a> {
    config: &'a ModelConfig,
    /// Threads to compute with.
    pub(crate) workers: &'a Workers,
    cache: &'a mut Cache,
    parts: &'a [Part<'a>],
    global: Turns,
    local: Turns,
}

impl<'a> Pass<'a> {
    /// Prepares a pass over the rows of `parts`, in that order.
    pub(crate) fn new(
        config: &'a ModelConfig,
        workers: &'a Workers,
        cache: &'a mut Cache,
        parts: &'a [Part<'a>],
    ) -> Self {
        let turns = |it: Frequencies| it.turns(parts.iter().flat_map(Part::positions));
        let global = turns(Frequencies::global(config));
        let local = match config.sliding_window {
            None => global.clone(),
            Some(_) => turns(Frequencies::local(config)),
        };
        Self { config, workers, cache, parts, global, local }
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

        let spans: Vec<Span<'_>> = self.parts.iter().map(|it| it.span(layer)).collect();
        let slots = self
            .parts
            .iter()
            .zip(&spans)
            .flat_map(|(part, span)| part.positions().map(|position| (span.table, position)));
        let new = key.chunks_exact(kv_width).zip(value.chunks_exact(kv_width));
        for ((table, position), (key, value)) in slots.zip(new) {
            self.cache.write(table, position, key, value);
        }
        let view = View {
            heads: config.heads,
            scale: config.query_scale,
            window: config.sliding_window.filter(|_| windowed).map(|it| it.window),
        };
        rows(attend(&query, &spans, self.cache, view, self.workers), query_width)
    }
}

impl<'a> Part<'a> {
    fn positions(&self) -> Range<usize> {
        self.first_position..self.first_position + self.count
    }

    /// The part as one layer sees it.
    fn span(&self, layer: usize) -> Span<'a> {
        let Self { table, first_position, count } = *self;
        Span { table: table.layer(layer), first_position, count }
    }
}
