//! A running cluster as a cluster file: what its hosts measured, in the words of an operator.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_wire::{Bytes, CurvePoint, DType, HostId, LayerRange, Profile};

use super::classes::KV_BLOCK_TOKENS;
use super::file::{
    ClusterFile, Demand, HostEntry, Line, LinkEntry, Machine, Model, NetworkEntry, ProfileEntry,
};
use super::network::GATEWAY;
use crate::live::Prepared;
use crate::{Excluded, PlanHost, Problem, ProblemError};

/// Bytes/s of what a running cluster does not measure, gateways and network cards: never the limit.
const UNMEASURED_BYTES_PER_SECOND: f64 = 1e12;

/// Bytes/s at which weights are loaded: a plain solid-state disk.
const LOAD_BYTES_PER_SECOND: f64 = 1e9;

/// Bytes of the id of a token.
const TOKEN_BYTES: f64 = 4.0;

/// Largest values that [`ClusterFile::resolve`] takes: bytes and bytes/s, seconds of delay, tokens/s.
const BYTES_MAX: f64 = 1e15;
const LATENCY_MAX: f64 = 3600.0;
const TOKENS_MAX: f64 = 1e12;

/// Milliseconds of a step that [`ClusterFile::resolve`] takes.
const STEP_MS: std::ops::RangeInclusive<f64> = 1e-9..=1e9;

/// Writes a running cluster down as a file, for planning it like any other, and the hosts left out
/// because their measurements cannot be true. Hosts that measured the same are of one machine type.
///
/// Rates are those that the running cluster's own planner computes with. Where layers differ in
/// size, a rate is the least of all ranges of that many layers, so that a plan always fits.
///
/// # Errors
///
/// If the problem says nothing that could be planned.
pub fn measured(problem: &Problem) -> Result<(ClusterFile, Vec<Excluded>), ProblemError> {
    let prepared = Prepared::new(problem)?;
    let mut first_of_id: BTreeMap<HostId, &PlanHost> = BTreeMap::new();
    problem.hosts.iter().for_each(|it| {
        first_of_id.entry(it.id).or_insert(it);
    });
    let hosts: Vec<&PlanHost> = prepared.hosts.iter().map(|it| first_of_id[&it.id]).collect();
    let mut kinds: Vec<(Bytes, &Profile)> = Vec::new();
    let mut file = ClusterFile {
        model: Some(problem.shape.name.clone()),
        workload: Demand {
            prompt_tokens: Some(f64::from(problem.workload.prompt_tokens)),
            output_tokens: Some(f64::from(problem.workload.output_tokens.max(1))),
            ..Demand::default()
        },
        models: [(problem.shape.name.clone(), model(problem))].into(),
        ..ClusterFile::default()
    };
    for ((at, host), name) in hosts.iter().enumerate().zip(names(&hosts)) {
        let kind = (host.memory, &host.profile);
        let index = kinds.iter().position(|it| *it == kind).unwrap_or_else(|| {
            let machine = machine_name(kinds.len());
            file.machines.insert(machine.clone(), machine_of(host));
            file.profiles.push(profile(problem, &prepared, (at, host), machine));
            kinds.push(kind);
            kinds.len() - 1
        });
        let (machine, region) = (machine_name(index), Some(host.region.clone()));
        file.hosts.push(HostEntry { name, machine, region, ..HostEntry::default() });
    }
    file.network = network(problem, &hosts, &file.hosts);
    Ok((file, prepared.excluded))
}

fn machine_name(kind: usize) -> String {
    format!("measured-{kind}")
}

/// Names that differ from each other and from the gateway's: where one does not, the host's id.
fn names(hosts: &[&PlanHost]) -> Vec<String> {
    let mut seen: BTreeSet<String> = [String::new(), GATEWAY.to_owned()].into();
    let name = |host: &&PlanHost| {
        let unique = [host.name.clone(), host.id.to_string(), format!("{}-{}", host.name, host.id)];
        let name = unique.into_iter().find(|it| seen.insert(it.clone()));
        name.unwrap_or_else(|| format!("host {}", host.id))
    };
    hosts.iter().map(name).collect()
}

fn model(problem: &Problem) -> Model {
    let shape = &problem.shape;
    let bytes = |it: Bytes| it.0 as f64;
    let total: f64 = shape.layer_bytes.iter().copied().map(bytes).sum();
    Model {
        layers: shape.layers,
        layer_bytes: (total / f64::from(shape.layers)).clamp(1.0, BYTES_MAX),
        activation_bytes: f64::from(shape.hidden) * DType::F32.bytes() as f64,
        token_bytes: TOKEN_BYTES,
        kv_bytes_per_token_layer: bytes(shape.kv_bytes_per_token_layer).clamp(1.0, BYTES_MAX),
        embedding_bytes: bytes(shape.embedding_bytes).min(BYTES_MAX),
        head_bytes: bytes(shape.head_bytes).min(BYTES_MAX),
        // Rates are listed with the head's time already in them.
        head_layers: 0.0,
    }
}

fn machine_of(host: &PlanHost) -> Machine {
    Machine {
        memory_bytes: (host.memory.0 as f64).clamp(1.0, BYTES_MAX),
        nic_bytes_per_second: UNMEASURED_BYTES_PER_SECOND,
        load_bytes_per_second: LOAD_BYTES_PER_SECOND,
    }
}

/// Curves, and the rates that the running cluster's planner makes of them.
fn profile(
    problem: &Problem,
    prepared: &Prepared,
    (at, host): (usize, &PlanHost),
    machine: String,
) -> ProfileEntry {
    let layers = problem.shape.layers;
    let mut tables = [0, 1, 2, 3].map(|ends| {
        let rate = |count| {
            let rate =
                |it| if prepared.holds(at, it) { prepared.tokens_per_second(at, it) } else { 0.0 };
            let least = ranges(problem, ends, count).map(rate).fold(f64::INFINITY, f64::min);
            if least.is_finite() { least.min(TOKENS_MAX) } else { 0.0 }
        };
        (1..=layers).map(rate).collect::<Vec<f64>>()
    });
    let fits = |at: &usize| tables.iter().any(|it| it[*at] > 0.0);
    let most = (0..layers as usize).rev().find(fits).map_or(1, |it| it + 1);
    tables.iter_mut().for_each(|it| it.truncate(most));
    let [middle, first, last, both] = tables;
    let capacity = &prepared.hosts[at].capacity;
    let ranges =
        (1..=layers).take(most).map(|it| LayerRange::new(0, it).expect("a layer at least"));
    let curve = |points: &[CurvePoint]| {
        let ms = |it: &CurvePoint| (it.seconds * 1000.0).clamp(*STEP_MS.start(), *STEP_MS.end());
        points.iter().map(|it| (f64::from(it.tokens), ms(it))).collect()
    };
    ProfileEntry {
        model: problem.shape.name.clone(),
        machine,
        tokens_per_second: middle,
        first_tokens_per_second: first,
        last_tokens_per_second: last,
        both_tokens_per_second: both,
        kv_blocks: ranges
            .clone()
            .map(|it| capacity.kv_tokens(&prepared.model, it) as f64 / KV_BLOCK_TOKENS)
            .collect(),
        decode_requests_max: ranges.map(|it| capacity.batch_max(&prepared.model, it)).collect(),
        prefill_ms: curve(&host.profile.prefill),
        decode_ms: curve(&host.profile.decode),
        ..ProfileEntry::default()
    }
}

/// Ranges of `count` layers with no end of the model, the first layer, the last, both. Where all
/// layers are of one size, one in the middle stands for all.
fn ranges(problem: &Problem, ends: usize, count: u32) -> impl Iterator<Item = LayerRange> {
    let layers = problem.shape.layers;
    let alike = problem.shape.layer_bytes.windows(2).all(|it| it[0] == it[1]);
    let firsts = match (ends, layers - count) {
        (0, 0 | 1) => 0..0,
        (0, _) if alike => 1..2,
        (0, rest) => 1..rest,
        (3, 0) => 0..1,
        (1, 1..) => 0..1,
        (2, rest @ 1..) => rest..rest + 1,
        _ => 0..0,
    };
    firsts.map(move |it| LayerRange::new(it, it + count).expect("a layer at least"))
}

/// Links between hosts, one by one; what gateways reach is not measured.
fn network(problem: &Problem, hosts: &[&PlanHost], entries: &[HostEntry]) -> NetworkEntry {
    let place: BTreeMap<HostId, usize> =
        hosts.iter().enumerate().map(|(at, it)| (it.id, at)).collect();
    let mut lines = BTreeMap::new();
    for link in &problem.links {
        if let (Some(&from), Some(&to)) = (place.get(&link.from), place.get(&link.to)) {
            lines.insert((from, to), link);
        }
    }
    let lines = lines.into_iter().filter(|((from, to), it)| from != to && it.bandwidth.0 > 0);
    let links = lines.map(|((from, to), it)| LinkEntry {
        from: Some(entries[from].name.clone()),
        to: Some(entries[to].name.clone()),
        bytes_per_second: (it.bandwidth.0 as f64 / 8.0).min(BYTES_MAX),
        latency_seconds: (it.rtt_us as f64 / 2e6).min(LATENCY_MAX),
        ..LinkEntry::default()
    });
    let gateway = Line { bytes_per_second: UNMEASURED_BYTES_PER_SECOND, latency_seconds: 0.0 };
    NetworkEntry { gateway: Some(gateway), links: links.collect(), ..NetworkEntry::default() }
}
