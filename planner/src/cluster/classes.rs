//! Kinds of hosts with what they sustain.

use super::error::ClusterError;
use super::file::{ClusterFile, Model, ProfileEntry};
use super::hosts::Kind;
use super::throughput::{Member, Mix, Speed, rates};
use crate::device::Device;
use crate::instance::Class;

/// Tokens of a KV block.
pub(super) const KV_BLOCK_TOKENS: f64 = 16.0;

/// Classes of a cluster with so many hosts of each kind.
pub(super) fn classes(
    all: &ClusterFile,
    (name, model): (&str, &Model),
    mix: Mix,
    kinds: &[(Kind, u32)],
) -> Result<Vec<Class>, ClusterError> {
    let members = kinds
        .iter()
        .map(|(kind, hosts)| member(all, (name, model), kind, *hosts))
        .collect::<Result<Vec<_>, _>>()?;
    let rates = rates(model.layers, mix, &members);
    let class = |((kind, member), rates): ((&Kind, Member), crate::instance::Rates)| Class {
        name: class_name(all, kind),
        rates: rates.capped(kind.nic_bytes_per_second / model.activation_bytes),
        device: member.speed.device(),
    };
    Ok(kinds.iter().map(|it| &it.0).zip(members).zip(rates).map(class).collect())
}

/// The machine type, and how the hosts differ from it.
fn class_name(all: &ClusterFile, kind: &Kind) -> String {
    let usual = &all.machines[&kind.machine];
    let mut name = kind.machine.clone();
    if kind.memory_bytes.total_cmp(&usual.memory_bytes).is_ne() {
        name += &format!(" {} GB", kind.memory_bytes / 1e9);
    }
    if kind.nic_bytes_per_second.total_cmp(&usual.nic_bytes_per_second).is_ne() {
        name += &format!(" {} GB/s", kind.nic_bytes_per_second / 1e9);
    }
    name
}

/// What the closed loop needs to know of a class.
fn member(
    all: &ClusterFile,
    (name, model): (&str, &Model),
    kind: &Kind,
    hosts: u32,
) -> Result<Member, ClusterError> {
    let of_pair = |it: &&ProfileEntry| it.model == name && it.machine == kind.machine;
    let Some(profile) = all.profiles.iter().find(of_pair) else {
        let problem = format!(
            "nothing is known of {name} on {0}; add an entry with model = \"{name}\" and \
             machine = \"{0}\"",
            kind.machine,
        );
        return Err(ClusterError::Shape { key: "profiles".to_owned(), problem });
    };
    let usual = all.machines[&kind.machine].memory_bytes;
    let measured =
        (!profile.kv_blocks.is_empty()).then(|| measured(profile, model, usual, kind.memory_bytes));
    let speed = match measured {
        Some(measured) if profile.tokens_per_second.is_empty() => measured,
        measured => given(profile, model, kind.memory_bytes, measured.and_then(Speed::device)),
    };
    Ok(Member {
        hosts,
        layers_typical: profile.layers_typical.unwrap_or(u32::MAX),
        start: profile.start_layer_tokens_per_second,
        speed,
    })
}

/// A list that begins at one layer as a table by layer count, cut to the model.
fn by_count<T: Default>(list: impl Iterator<Item = T>, layers: u32) -> Vec<T> {
    std::iter::once(T::default()).chain(list.take(layers as usize)).collect()
}

/// Bytes beside the layers, by which ends of the model are held: none, the first layer, the last,
/// both.
fn extra_bytes(model: &Model) -> [f64; 4] {
    let (first, last) = (model.embedding_bytes, model.head_bytes);
    [0.0, first, last, first + last]
}

/// Rates as listed. Where ends are not listed by themselves, the head takes the time of so many
/// layers, and the weights have to fit.
fn given(profile: &ProfileEntry, model: &Model, memory: f64, device: Option<Device>) -> Speed {
    let extras = extra_bytes(model);
    let listed = [
        &Vec::new(),
        &profile.first_tokens_per_second,
        &profile.last_tokens_per_second,
        &profile.both_tokens_per_second,
    ];
    let table = |ends: usize| {
        if !listed[ends].is_empty() {
            return by_count(listed[ends].iter().copied(), model.layers);
        }
        let head = if ends >= 2 { model.head_layers } else { 0.0 };
        let rate = |(index, rate): (usize, &f64)| {
            let count = (index + 1) as f64;
            let fits = count * model.layer_bytes + extras[ends] <= memory;
            if fits { rate * count / (count + head) } else { 0.0 }
        };
        by_count(profile.tokens_per_second.iter().enumerate().map(rate), model.layers)
    };
    Speed::Given { tables: std::array::from_fn(table), device }
}

/// Curves of a profile, and the KV memory that a host of `memory` bytes has where the profile was
/// measured with `usual` bytes.
///
/// With other memory than usual the share of it that weights may take stays as it is, and what is
/// more or less of memory is more or less KV. Embedding and head take of it where they are held.
fn measured(profile: &ProfileEntry, model: &Model, usual: f64, memory: f64) -> Speed {
    let listed = profile.kv_blocks.len();
    let layers_max = (listed as f64 * (memory / usual)).floor().min(f64::from(model.layers));
    let block = KV_BLOCK_TOKENS * model.kv_bytes_per_token_layer;
    let blocks = |count: u32, extra: f64| {
        let known = (count as usize).min(listed);
        let further = f64::from(count) - known as f64;
        let spare = memory - usual - extra - further * model.layer_bytes;
        let blocks = profile.kv_blocks[known - 1];
        // Nothing changes where nothing differs: the profile's own figure to the last digit.
        if known as f64 >= f64::from(count) && spare.total_cmp(&0.0).is_eq() {
            return blocks;
        }
        let bytes = blocks * known as f64 * block + spare;
        (bytes / (f64::from(count) * block)).floor().max(0.0)
    };
    let kv_token_layers = extra_bytes(model).map(|extra| {
        let of = |count| KV_BLOCK_TOKENS * blocks(count, extra) * f64::from(count);
        // Between 0 and the layers of the model: nothing is cut off.
        by_count((1..=layers_max as u32).map(of), model.layers)
    });
    // Multiplied and not divided: with the artifact's own rounding its rates follow to the last digit.
    let seconds = |curve: &[(f64, f64)]| curve.iter().map(|&(x, ms)| (x, ms * 0.001)).collect();
    let mut decode_requests_max =
        by_count(profile.decode_requests_max.iter().copied(), model.layers);
    match profile.decode_requests_max.last() {
        Some(&last) => decode_requests_max.resize(kv_token_layers[0].len(), last),
        None => decode_requests_max.clear(),
    }
    let device = Device {
        prefill: seconds(&profile.prefill_ms),
        decode: seconds(&profile.decode_ms),
        kv_token_layers: kv_token_layers[0].clone(),
        prefill_requests_max: profile.prefill_requests_max,
        decode_requests_max,
    };
    Speed::Measured { device, kv_token_layers, head_layers: model.head_layers }
}
