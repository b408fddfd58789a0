//! Small clusters for tests.

use thalweg_wire::{
    Assignment, Bytes, CurvePoint, End, Epoch, HostId, HostRecord, LayerRange, ModelId, ModelShape,
    Plan, Profile, Weight,
};

/// Layers of the model of [`shape`].
pub const LAYERS: u32 = 8;

/// Returns a range.
pub fn layers(first: u32, end: u32) -> LayerRange {
    LayerRange::new(first, end).expect("tests ask for layers")
}

/// Returns a small model.
pub fn shape() -> ModelShape {
    ModelShape {
        model: ModelId([7; 32]),
        name: "small".into(),
        layers: LAYERS,
        hidden: 4,
        layer_bytes: vec![Bytes::mib(1); LAYERS as usize],
        embedding_bytes: Bytes::mib(1),
        head_bytes: Bytes::mib(1),
        kv_bytes_per_token_layer: Bytes(64),
        context_tokens: 256,
    }
}

/// Returns what the host called `name` says of itself.
pub fn record(name: &str, incarnation: u64) -> HostRecord {
    let curve = vec![CurvePoint { tokens: 1, seconds: 1e-3 }];
    HostRecord {
        host: HostId::of(name),
        name: name.into(),
        region: "r".into(),
        address: "127.0.0.1:1".into(),
        incarnation,
        memory: Bytes::gib(1),
        machine: "m".into(),
        profile: Profile { prefill: curve.clone(), decode: curve, head_seconds: 0.0 },
    }
}

/// Returns a plan of `stages` (host, first layer, end); every hop that fits carries the same.
pub fn plan(epoch: u64, term: u64, stages: &[(HostId, u32, u32)]) -> Plan {
    let assignments: Vec<_> = stages
        .iter()
        .map(|&(host, first, end)| Assignment {
            host,
            layers: layers(first, end),
            kv_tokens: 1024,
            batch_max: 4,
            chunk_tokens: 128,
            step_us: 0,
            requests_max: 0,
            micro_batches: 0,
        })
        .collect();
    let ends = [(End::Source, 0)]
        .into_iter()
        .chain(assignments.iter().map(|it| (End::Host(it.host), it.layers.end())));
    let hops = ends.flat_map(|(from, at)| {
        let next = assignments.iter().filter(move |it| it.layers.contains(at));
        next.map(move |it| Weight { from, to: End::Host(it.host), tokens_per_second: 1.0 })
    });
    Plan {
        epoch: Epoch(epoch),
        term,
        model: shape().model,
        layers: LAYERS,
        weights: hops.collect(),
        assignments,
        flow: 1.0,
        bound: 1.0,
        bottleneck: String::new(),
    }
}
