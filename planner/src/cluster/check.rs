//! Refuses numbers and entries that cannot be meant, before anything is computed from them.
//!
//! Names of machine types, regions and hosts are looked up where they are used; here are those that
//! nothing else looks up.

use std::collections::BTreeSet;
use std::fmt::Display;

use super::error::ClusterError;
use super::file::{ClusterFile, Demand, HostEntry, Model, NetworkEntry, ProfileEntry};
use super::throughput::Mix;
use super::{names, network};

/// What a number may be.
struct Allowed {
    least: f64,
    most: f64,
    words: &'static str,
}

const BYTES: Allowed = Allowed { least: 1.0, most: 1e15, words: "bytes, 1 to 1e15" };
const EXTRA_BYTES: Allowed = Allowed { least: 0.0, most: 1e15, words: "bytes, 0 to 1e15" };
const RATE: Allowed = Allowed { least: 1.0, most: 1e15, words: "bytes/s, 1 to 1e15" };
const LINK_RATE: Allowed =
    Allowed { least: 0.0, most: 1e15, words: "bytes/s, up to 1e15; 0 means no link" };
/// No packet lives for an hour.
const LATENCY: Allowed = Allowed { least: 0.0, most: 3600.0, words: "seconds, 0 to 3600" };
const TARGET: Allowed = Allowed { least: 1e-6, most: 1e6, words: "seconds, 1e-6 to 1e6" };
const PRICE: Allowed = Allowed { least: 0.0, most: 1e9, words: "dollars per hour, 0 to 1e9" };
const PROMPT: Allowed = Allowed { least: 0.0, most: 1e9, words: "tokens, 0 to 1e9" };
const OUTPUT: Allowed = Allowed { least: 1.0, most: 1e9, words: "tokens, 1 to 1e9" };
const WEIGHT: Allowed = Allowed { least: 0.0, most: 1e15, words: "how often, 0 to 1e15" };
const LAYERS: Allowed = Allowed { least: 1.0, most: 4096.0, words: "layers, 1 to 4096" };
const HEAD_LAYERS: Allowed = Allowed { least: 0.0, most: 4096.0, words: "layers, 0 to 4096" };
const COUNT: Allowed = Allowed { least: 1.0, most: 65536.0, words: "hosts, 1 to 65536" };
const TOKENS: Allowed = Allowed { least: 0.0, most: 1e12, words: "tokens/s, 0 to 1e12" };
const START: Allowed = Allowed { least: 1e-9, most: 1e15, words: "a number, 1e-9 to 1e15" };
const BLOCKS: Allowed = Allowed { least: 0.0, most: 1e12, words: "blocks, 0 to 1e12" };
const SIZE: Allowed = Allowed { least: 0.0, most: 1e10, words: "tokens or requests, 0 to 1e10" };
const STEP: Allowed = Allowed { least: 1e-9, most: 1e9, words: "milliseconds, 1e-9 to 1e9" };

impl Allowed {
    fn check(&self, key: impl Display, value: f64) -> Result<(), ClusterError> {
        if (self.least..=self.most).contains(&value) {
            return Ok(());
        }
        Err(ClusterError::Number { key: key.to_string(), value, expected: self.words })
    }

    fn check_any(&self, key: impl Display, value: Option<f64>) -> Result<(), ClusterError> {
        value.map_or(Ok(()), |value| self.check(key, value))
    }
}

/// Checks a file whose machine types, models and profiles are already beside those of the catalogue
/// (`all`).
pub(super) fn check(file: &ClusterFile, all: &ClusterFile) -> Result<(), ClusterError> {
    if file.hosts.is_empty() {
        return Err(ClusterError::NoHosts);
    }
    file.hosts.iter().enumerate().try_for_each(|(at, it)| host(at, it))?;
    demand(&file.workload)?;
    network(&file.network)?;
    for (name, price) in &file.prices {
        PRICE.check(format_args!("prices.{name}"), *price)?;
        if !all.machines.contains_key(name) {
            let known = all.machines.keys().map(String::as_str);
            return Err(names::unknown(known, name, "machine type", "prices".to_owned()));
        }
    }
    regions(file)?;
    for (name, it) in &file.machines {
        BYTES.check(format_args!("machines.{name}.memory_bytes"), it.memory_bytes)?;
        RATE.check(format_args!("machines.{name}.nic_bytes_per_second"), it.nic_bytes_per_second)?;
        let key = format_args!("machines.{name}.load_bytes_per_second");
        RATE.check(key, it.load_bytes_per_second)?;
    }
    file.models.iter().try_for_each(|(name, it)| model(name, it))?;
    let mut seen = BTreeSet::new();
    for (at, it) in file.profiles.iter().enumerate() {
        if !seen.insert((&it.model, &it.machine)) {
            let name = format!("{} on {}", it.model, it.machine);
            return Err(ClusterError::Duplicate { key: format!("profiles[{at}]"), name });
        }
        profile(at, it, all)?;
    }
    Ok(())
}

/// Checks mean lengths that the caller chose.
pub(super) fn mix(mix: Mix) -> Result<(), ClusterError> {
    PROMPT.check("prompt_tokens", mix.prompt_tokens)?;
    OUTPUT.check("output_tokens", mix.output_tokens)
}

fn host(at: usize, it: &HostEntry) -> Result<(), ClusterError> {
    let key = |field: &str| format!("hosts[{at}].{field}");
    if it.name.is_empty() || it.name == network::GATEWAY {
        let problem = format!("\"{}\" names no host; choose another name", it.name);
        return Err(ClusterError::Shape { key: key("name"), problem });
    }
    COUNT.check_any(key("count"), it.count.map(f64::from))?;
    BYTES.check_any(key("memory_bytes"), it.memory_bytes)?;
    RATE.check_any(key("nic_bytes_per_second"), it.nic_bytes_per_second)?;
    PRICE.check_any(key("price_per_hour"), it.price_per_hour)
}

fn demand(it: &Demand) -> Result<(), ClusterError> {
    PROMPT.check_any("workload.prompt_tokens", it.prompt_tokens)?;
    OUTPUT.check_any("workload.output_tokens", it.output_tokens)?;
    TARGET.check_any("workload.ttft_seconds", it.ttft_seconds)?;
    TARGET.check_any("workload.tpot_seconds", it.tpot_seconds)?;
    for (at, &(prompt, output, weight)) in it.lengths.iter().enumerate() {
        PROMPT.check(format_args!("workload.lengths[{at}][0]"), prompt)?;
        OUTPUT.check(format_args!("workload.lengths[{at}][1]"), output)?;
        WEIGHT.check(format_args!("workload.lengths[{at}][2]"), weight)?;
    }
    let refuse = |problem: &str| {
        let (key, problem) = ("workload.lengths".to_owned(), problem.to_owned());
        Err(ClusterError::Shape { key, problem })
    };
    if it.lengths.is_empty() {
        return Ok(());
    }
    if it.prompt_tokens.is_some() || it.output_tokens.is_some() {
        return refuse(
            "prompt_tokens and output_tokens are given beside it; keep one or the other",
        );
    }
    if it.lengths.iter().all(|it| it.2 <= 0.0) {
        return refuse("no pair ever occurs; give one a third number above 0");
    }
    Ok(())
}

fn network(it: &NetworkEntry) -> Result<(), ClusterError> {
    let line = |key: &str, rate: f64, latency: f64| {
        LINK_RATE.check(format_args!("network.{key}.bytes_per_second"), rate)?;
        LATENCY.check(format_args!("network.{key}.latency_seconds"), latency)
    };
    let named =
        [("default", it.default), ("within_region", it.within_region), ("gateway", it.gateway)];
    for (key, entry) in named {
        entry.map_or(Ok(()), |it| line(key, it.bytes_per_second, it.latency_seconds))?;
    }
    for (list, links) in [("region_links", &it.region_links), ("links", &it.links)] {
        for (at, link) in links.iter().enumerate() {
            line(&format!("{list}[{at}]"), link.bytes_per_second, link.latency_seconds)?;
        }
    }
    for (at, shared) in it.shared.iter().enumerate() {
        line(&format!("shared[{at}]"), shared.bytes_per_second, 0.0)?;
    }
    if it.gateway.is_some() && it.gateway_region.is_some() {
        let problem = "gateway_region is given beside it; keep one or the other".to_owned();
        return Err(ClusterError::Shape { key: "network.gateway".to_owned(), problem });
    }
    Ok(())
}

fn regions(file: &ClusterFile) -> Result<(), ClusterError> {
    for (name, it) in &file.regions {
        let key = |field: &str| format!("regions.{name}.{field}");
        LINK_RATE.check_any(key("egress_bytes_per_second"), it.egress_bytes_per_second)?;
        let provider = it.provider.as_ref().filter(|it| !file.providers.contains_key(*it));
        if let Some(provider) = provider {
            let known = file.providers.keys().map(String::as_str);
            return Err(names::unknown(known, provider, "provider", key("provider")));
        }
    }
    for (name, it) in &file.providers {
        let key = format_args!("providers.{name}.egress_bytes_per_second");
        LINK_RATE.check_any(key, it.egress_bytes_per_second)?;
    }
    Ok(())
}

fn model(name: &str, it: &Model) -> Result<(), ClusterError> {
    let key = |field: &str| format!("models.{name}.{field}");
    LAYERS.check(key("layers"), f64::from(it.layers))?;
    BYTES.check(key("layer_bytes"), it.layer_bytes)?;
    BYTES.check(key("activation_bytes"), it.activation_bytes)?;
    BYTES.check(key("token_bytes"), it.token_bytes)?;
    BYTES.check(key("kv_bytes_per_token_layer"), it.kv_bytes_per_token_layer)?;
    EXTRA_BYTES.check(key("embedding_bytes"), it.embedding_bytes)?;
    EXTRA_BYTES.check(key("head_bytes"), it.head_bytes)?;
    HEAD_LAYERS.check(key("head_layers"), it.head_layers)
}

fn profile(at: usize, it: &ProfileEntry, all: &ClusterFile) -> Result<(), ClusterError> {
    let key = |field: &str| format!("profiles[{at}].{field}");
    if !all.models.contains_key(&it.model) {
        let known = all.models.keys().map(String::as_str);
        return Err(names::unknown(known, &it.model, "model", key("model")));
    }
    if !all.machines.contains_key(&it.machine) {
        let known = all.machines.keys().map(String::as_str);
        return Err(names::unknown(known, &it.machine, "machine type", key("machine")));
    }
    LAYERS.check_any(key("layers_typical"), it.layers_typical.map(f64::from))?;
    START.check_any(key("start_layer_tokens_per_second"), it.start_layer_tokens_per_second)?;
    let rates = [
        ("tokens_per_second", &it.tokens_per_second),
        ("first_tokens_per_second", &it.first_tokens_per_second),
        ("last_tokens_per_second", &it.last_tokens_per_second),
        ("both_tokens_per_second", &it.both_tokens_per_second),
    ];
    for (field, list) in rates {
        for (index, rate) in list.iter().enumerate() {
            TOKENS.check(key(&format!("{field}[{index}]")), *rate)?;
        }
        if !list.is_empty() && list.len() != it.tokens_per_second.len() {
            let problem = "give as many numbers as tokens_per_second has".to_owned();
            return Err(ClusterError::Shape { key: key(field), problem });
        }
    }
    for (index, blocks) in it.kv_blocks.iter().enumerate() {
        BLOCKS.check(key(&format!("kv_blocks[{index}]")), *blocks)?;
    }
    let curves = [("prefill_ms", &it.prefill_ms), ("decode_ms", &it.decode_ms)];
    let refuse = |field: &str, problem: &str| {
        Err(ClusterError::Shape { key: key(field), problem: problem.to_owned() })
    };
    let bare = it.kv_blocks.is_empty() && curves.iter().all(|it| it.1.is_empty());
    if bare && !it.tokens_per_second.is_empty() {
        return Ok(());
    }
    if it.kv_blocks.is_empty() {
        return refuse("kv_blocks", "give blocks for one layer, two, ..., or tokens_per_second");
    }
    let listed = it.decode_requests_max.len();
    if listed > 0 && listed != it.kv_blocks.len() {
        return refuse("decode_requests_max", "give as many numbers as kv_blocks has");
    }
    curves.iter().try_for_each(|(field, points)| curve(&key(field), points))
}

/// Points ascend, and whatever is computed takes time.
fn curve(key: &str, points: &[(f64, f64)]) -> Result<(), ClusterError> {
    let mut before = -1.0;
    for (at, &(size, step)) in points.iter().enumerate() {
        SIZE.check(format_args!("{key}[{at}][0]"), size)?;
        if size > 0.0 || step != 0.0 {
            STEP.check(format_args!("{key}[{at}][1]"), step)?;
        }
        if size <= before {
            let problem = format!("{size} after {before}; sort the points, each size once");
            return Err(ClusterError::Shape { key: format!("{key}[{at}]"), problem });
        }
        before = size;
    }
    if before <= 0.0 {
        let problem = "give at least one [size, milliseconds] with a size above 0".to_owned();
        return Err(ClusterError::Shape { key: key.to_owned(), problem });
    }
    Ok(())
}
