//! Large clusters made up from a seed, to see how planning scales.

use super::catalogue::catalogue;
use super::file::{
    ClusterFile, HostEntry, Line, LinkEntry, Machine, NetworkEntry, ProfileEntry, RegionEntry,
};

/// Model of generated clusters: 80 layers.
const MODEL: &str = "llama-2-70b";

/// The machine type beside the seven measured ones. Its figures are invented.
const SYNTHETIC: &str = "synthetic-80GB";

/// The synthetic type takes this share of an A100's time.
const SYNTHETIC_TIME: f64 = 0.6;

/// Memory of the synthetic type and of the A100 that it is derived from, in bytes.
const SYNTHETIC_BYTES: f64 = 80e9;
const A100_BYTES: f64 = 40e9;

/// Machine types and how common each is: as in the paper's cluster of 42 hosts.
const MACHINES: [(&str, u32); 8] = [
    ("A100", 4),
    ("V100", 6),
    ("L4", 8),
    ("L4x2", 4),
    ("T4", 10),
    ("T4x2", 6),
    ("T4x4", 4),
    (SYNTHETIC, 2),
];

/// Regions of a generated cluster.
const REGIONS: usize = 10;

/// In a region a machine type is up to this many times as common as in another.
const SKEW: u32 = 4;

/// Bytes/s between two hosts of one region, and one-way seconds.
const NEAR: Line = Line { bytes_per_second: 1.25e9, latency_seconds: 0.001 };

/// Bytes/s between two hosts of different regions: the paper's 100 Mbit/s, give or take.
const FAR_BYTES_PER_SECOND: std::ops::Range<u64> = 10_000_000..15_000_000;

/// One-way microseconds between regions.
const FAR_LATENCY_US: std::ops::Range<u64> = 5_000..100_000;

/// Between any host and the gateway.
const GATE: Line = Line { bytes_per_second: 12.5e6, latency_seconds: 0.05 };

/// A cluster of `hosts` hosts of eight machine types in ten regions that serves a model of 80
/// layers. The same number and seed give the same cluster.
pub fn generate(hosts: u32, seed: u64) -> ClusterFile {
    let mut rng = fastrand::Rng::with_seed(seed);
    let all = catalogue();
    let (machine, profile) = synthetic(&all);
    ClusterFile {
        model: Some(MODEL.to_owned()),
        hosts: groups(hosts, &mut rng),
        network: NetworkEntry {
            within_region: Some(NEAR),
            gateway: Some(GATE),
            region_links: region_links(&mut rng),
            ..NetworkEntry::default()
        },
        regions: (0..REGIONS).map(|it| (region_name(it), RegionEntry::default())).collect(),
        machines: [(SYNTHETIC.to_owned(), machine)].into(),
        profiles: vec![profile],
        ..ClusterFile::default()
    }
}

/// Hosts one by one into a region and a machine type, then one entry for each pair that has any.
fn groups(hosts: u32, rng: &mut fastrand::Rng) -> Vec<HostEntry> {
    let mut common = [[0; MACHINES.len()]; REGIONS];
    for region in &mut common {
        *region = MACHINES.map(|(_, often)| often * rng.u32(1..=SKEW));
    }
    let mut counts = [[0_u32; MACHINES.len()]; REGIONS];
    for _ in 0..hosts {
        let region = rng.usize(0..REGIONS);
        let mut left = rng.u32(0..common[region].iter().sum());
        let kind = common[region].iter().position(|&often| {
            let here = left < often;
            left = left.saturating_sub(often);
            here
        });
        counts[region][kind.expect("less than the sum of all is left")] += 1;
    }
    let mut found = Vec::new();
    for (region, counts) in counts.iter().enumerate() {
        for (&count, (machine, _)) in counts.iter().zip(MACHINES).filter(|it| *it.0 > 0) {
            found.push(HostEntry {
                name: format!("r{region}-{}", machine.to_lowercase()),
                machine: machine.to_owned(),
                count: Some(count),
                region: Some(region_name(region)),
                ..HostEntry::default()
            });
        }
    }
    found
}

fn region_name(region: usize) -> String {
    format!("region-{region}")
}

/// A link of its own for each pair of hosts in different regions. Regions that turned out empty
/// would be unknown, so that all are declared.
fn region_links(rng: &mut fastrand::Rng) -> Vec<LinkEntry> {
    let pairs = (0..REGIONS).flat_map(|a| (a + 1..REGIONS).map(move |b| (a, b)));
    let link = |(a, b)| LinkEntry {
        between: Some((region_name(a), region_name(b))),
        // Well below 2^53.
        bytes_per_second: rng.u64(FAR_BYTES_PER_SECOND) as f64,
        latency_seconds: rng.u64(FAR_LATENCY_US) as f64 / 1e6,
        ..LinkEntry::default()
    };
    pairs.map(link).collect()
}

/// An A100 with twice the memory, and faster.
fn synthetic(all: &ClusterFile) -> (Machine, ProfileEntry) {
    let model = all.models[MODEL];
    let of_pair = |it: &&ProfileEntry| it.model == MODEL && it.machine == "A100";
    let base = all.profiles.iter().find(of_pair).expect("the catalogue has it");
    let known = base.kv_blocks.len();
    let block = super::classes::KV_BLOCK_TOKENS * model.kv_bytes_per_token_layer;
    let blocks = |count: usize| {
        let known = count.min(known);
        let more = SYNTHETIC_BYTES - A100_BYTES - (count - known) as f64 * model.layer_bytes;
        let bytes = base.kv_blocks[known - 1] * known as f64 * block + more;
        (bytes / (count as f64 * block)).floor()
    };
    let times =
        |curve: &[(f64, f64)]| curve.iter().map(|it| (it.0, it.1 * SYNTHETIC_TIME)).collect();
    let profile = ProfileEntry {
        machine: SYNTHETIC.to_owned(),
        layers_typical: base.layers_typical.map(|it| 2 * it),
        start_layer_tokens_per_second: base
            .start_layer_tokens_per_second
            .map(|it| it / SYNTHETIC_TIME),
        decode_requests_max: Vec::new(),
        // Weights may take half of the memory, as everywhere in the paper.
        kv_blocks: (1..=2 * known).map(blocks).collect(),
        prefill_ms: times(&base.prefill_ms),
        decode_ms: times(&base.decode_ms),
        ..base.clone()
    };
    let machine = Machine { memory_bytes: SYNTHETIC_BYTES, ..all.machines["A100"] };
    (machine, profile)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Choice, parse};
    use crate::instance::Pairs;

    #[test]
    fn generated_clusters_have_what_they_promise() {
        for hosts in [1, 12, 1000, 4096] {
            let file = generate(hosts, 7);
            assert_eq!(file, generate(hosts, 7));
            assert_eq!(parse(&file.to_toml()).expect("our own words"), file);
            let found = file.resolve(&Choice::default()).expect("a good cluster");
            let it = &found.instance;
            assert_eq!((it.hosts.len(), it.layers), (hosts as usize, 80));
            assert!(matches!(it.network.pairs, Pairs::ByRegion(_)));
            assert_eq!(it.regions.len(), REGIONS);
            if hosts >= 1000 {
                assert_eq!(it.classes.len(), MACHINES.len());
            }
        }
        assert_ne!(generate(12, 7), generate(12, 8));
    }

    #[test]
    fn the_synthetic_type_is_faster_than_what_it_is_derived_from() {
        let found = generate(1000, 7).resolve(&Choice::default()).expect("a good cluster");
        let rates = |name: &str| {
            let class = found.instance.classes.iter().find(|it| it.name == name);
            class.expect("of a thousand hosts one is of it").rates.clone()
        };
        let (synthetic, base) = (rates(SYNTHETIC), rates("A100"));
        assert_eq!((synthetic.count_max(), base.count_max()), (24, 12));
        assert!((1..=12).all(|count| synthetic.most(count) > base.most(count)));
    }
}
