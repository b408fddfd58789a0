//! What the layers share during one step: places of rows, what they see, the cache.

use std::ops::Range;

use crate::attention::{Span, View};
use crate::config::ModelConfig;
use crate::kv::Table;
use crate::ops::{Ops, Rows};
use crate::rope::Frequencies;

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
    global: O::Sight,
    /// Of layers that look back through a window, if there are any.
    local: Option<O::Sight>,
}

impl<'a, O: Ops> Pass<'a, O> {
    /// Prepares a pass over the rows of `parts`, in that order.
    pub(crate) fn new(
        ops: &'a O,
        config: &'a ModelConfig,
        cache: &'a mut O::Cache,
        parts: &'a [Part<'a>],
    ) -> Self {
        let positions: Vec<Range<usize>> = parts.iter().map(Part::positions).collect();
        let sight = |frequencies: Frequencies, window| {
            let view = View { heads: config.heads, scale: config.query_scale, window };
            let turns = frequencies.turns(positions.iter().cloned().flatten());
            ops.sight(view, turns, &positions)
        };
        let global = sight(Frequencies::global(config), None);
        let windows = config.sliding_window;
        let local = windows.map(|it| sight(Frequencies::local(config), Some(it.window)));
        Self { ops, config, cache, parts, global, local }
    }

    /// Turns queries and keys, appends keys and values to the cache of `layer`, and attends.
    pub(crate) fn attend(&mut self, layer: usize, rows: [Rows; 3]) -> Rows {
        let windowed = self.config.is_windowed(layer);
        let spans: Vec<Span<'_>> = self.parts.iter().map(|it| it.span(layer)).collect();
        let sight = self.local.as_ref().filter(|_| windowed).unwrap_or(&self.global);
        self.ops.attend(self.cache, sight, &spans, rows)
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
