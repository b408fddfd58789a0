//! What the layers share during one step: places of rows, turns, the cache, the threads.

use std::ops::Range;

use crate::attention::{Span, View};
use crate::config::ModelConfig;
use crate::kv::Table;
use crate::ops::{Ops, Place, Rows};
use crate::rope::{Frequencies, Turns};

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
pub(crate) struct Pass<'a, O: Ops> {
    /// What to compute with.
    pub(crate) ops: &'a O,
    config: &'a ModelConfig,
    cache: &'a mut O::Cache,
    parts: &'a [Part<'a>],
    global: Turns,
    local: Turns,
}

impl<'a, O: Ops> Pass<'a, O> {
    /// Prepares a pass over the rows of `parts`, in that order.
    pub(crate) fn new(
        ops: &'a O,
        config: &'a ModelConfig,
        cache: &'a mut O::Cache,
        parts: &'a [Part<'a>],
    ) -> Self {
        let turns = |it: Frequencies| it.turns(parts.iter().flat_map(Part::positions));
        let global = turns(Frequencies::global(config));
        let local = match config.sliding_window {
            None => global.clone(),
            Some(_) => turns(Frequencies::local(config)),
        };
        Self { ops, config, cache, parts, global, local }
    }

    /// Turns queries and keys, appends keys and values to the cache of `layer`, and attends.
    pub(crate) fn attend(&mut self, layer: usize, rows: [Rows; 3]) -> Rows {
        let config = self.config;
        let windowed = config.is_windowed(layer);
        let spans: Vec<Span<'_>> = self.parts.iter().map(|it| it.span(layer)).collect();
        let view = View {
            heads: config.heads,
            scale: config.query_scale,
            window: config.sliding_window.filter(|_| windowed).map(|it| it.window),
        };
        let turns = if windowed { &self.local } else { &self.global };
        self.ops.attend(self.cache, Place { spans: &spans, view, turns }, rows)
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
