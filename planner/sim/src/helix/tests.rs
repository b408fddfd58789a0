//! A cluster small enough to be computed by hand.

use thalweg_planner::cluster::Model;
use thalweg_planner::device::Device;
use thalweg_wire::LayerRange;

use super::*;

/// Hosts with a layer each, one after the other. A prompt token takes 10 ms, a decode 100 ms; links
/// carry 1000 bytes/s and take half a second, network cards 1500 bytes/s; a token weighs 2 bytes
/// beside the gateway and 100 elsewhere.
pub(super) fn chain(hosts: u32) -> Scenario {
    let model = Model {
        layers: hosts,
        layer_bytes: 1e9,
        activation_bytes: 98.0,
        token_bytes: 2.0,
        kv_bytes_per_token_layer: 1.0,
        embedding_bytes: 0.0,
        head_bytes: 0.0,
        head_layers: 0.0,
    };
    let device = Device {
        prefill: vec![(0.0, 0.0), (2048.0, 20.48)],
        decode: vec![(0.0, 0.0), (10.0, 1.0)],
        kv_token_layers: vec![0.0, 1000.0],
        prefill_requests_max: 1,
        decode_requests_max: vec![0, 10],
    };
    let host = |at: u32| Host {
        device: 0,
        layers: LayerRange::new(at, at + 1).expect("a layer"),
        kv_token_layers: 1000,
        nic_bytes_per_second: 1500.0,
        load_bytes_per_second: 1e9,
    };
    let end = |at: u32| if at == 0 || at > hosts { End::Gateway } else { End::Host(at - 1) };
    let link = |at: u32| Link {
        from: end(at),
        to: end(at + 1),
        bytes_per_second: 1000.0,
        latency_seconds: 0.5,
    };
    Scenario {
        model,
        devices: vec![device],
        hosts: (0..hosts).map(host).collect(),
        links: (0..=hosts).map(link).collect(),
        gateway_nic_bytes_per_second: 1500.0,
        policy: Policy::Random,
        work: Work::Online { arrivals: vec![Arrival { at_seconds: 2.0, length: (10, 2) }] },
        window: Window { warm_up_seconds: 0.0, seconds: 100.0 },
        seed: 0,
    }
}
