//! What the layers share during one step: places of rows, turns, the cache, the threads.

use crate::attention::{Heads, Place, attend};
use crate::config::ModelConfig;
use crate::kv::{LayerCache, slot};
use crate::ops::{Rows, rows, values};
use crate::rope::{Frequencies, Turns};
use crate::workers::Workers;

/// One request's rows in a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PassItem<'a> {
    /// Blocks of the request, in order of position.
    pub(crate) blocks: &'a [u32],
    /// Position of its first row.
    pub(crate) first_position: usize,
    /// Number of rows.
    pub(crate) count: usize,
}

/// One run of some rows through some consecutive layers.
pub(crate) struct Pass<'a> {
    config: &'a ModelConfig,
    /// Threads to compute with.
    pub(crate) workers: &'a Workers,
    /// Cache of every layer of the shard, and the number of the first.
    cache: &'a mut [LayerCache],
    first_layer: usize,
    places: Vec<Place<'a>>,
    global: Turns,
    local: Turns,
}

impl<'a> Pass<'a> {
    /// Prepares a pass over the rows of `items`, in that order.
    pub(crate) fn new(
        config: &'a ModelConfig,
        workers: &'a Workers,
        cache: &'a mut [LayerCache],
        first_layer: usize,
        items: &[PassItem<'a>],
    ) -> Self {
        let places: Vec<_> = items.iter().flat_map(places).collect();
        let turns = |it: Frequencies| it.turns(places.iter().map(|place| place.position));
        let global = turns(Frequencies::global(config));
        let local = match config.sliding_window {
            None => global.clone(),
            Some(_) => turns(Frequencies::local(config)),
        };
        Self { config, workers, cache, first_layer, places, global, local }
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
        let new = key.chunks_exact(kv_width).zip(value.chunks_exact(kv_width));
        for (place, (key, value)) in self.places.iter().zip(new) {
            cache.write(slot(place.blocks, place.position), key, value);
        }
        let heads = Heads {
            query: config.heads,
            kv: config.kv_heads,
            size: config.head_dim,
            scale: config.query_scale,
            window: config.sliding_window.filter(|_| windowed).map(|it| it.window),
        };
        rows(attend(&query, &self.places, cache, heads, self.workers), query_width)
    }
}

/// The places of an item's rows.
fn places<'a>(item: &PassItem<'a>) -> impl Iterator<Item = Place<'a>> + use<'a> {
    let blocks = item.blocks;
    let positions = item.first_position..item.first_position + item.count;
    positions.map(move |position| Place { blocks, position })
}
