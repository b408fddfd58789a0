//! From names to indices: hosts, classes and rates of an instance.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::with_catalogue;
use super::error::ClusterError;
use super::file::{ClusterFile, Demand, HostEntry, Machine, Model, ProfileEntry};
use super::throughput::{Member, Mix, Speed, rates};
use super::{names, network};
use crate::device::Device;
use crate::instance::{Class, Host, Instance};

/// Hosts of a cluster at most.
const HOSTS_MAX: u32 = 65_536;

/// Tokens of a KV block.
const KV_BLOCK_TOKENS: f64 = 16.0;

/// Region of hosts that name none.
const REGION_UNNAMED: &str = "default";

/// What to resolve a cluster file for.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The model; the file's own if absent.
    pub model: Option<String>,
    /// Whether a token may enter a host in the middle of its range.
    pub partial: bool,
    /// Mean lengths of a request; the file's own if absent.
    pub mix: Option<Mix>,
}

impl Default for Choice {
    fn default() -> Self {
        Self { model: None, partial: true, mix: None }
    }
}

/// A cluster file in numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// What to plan.
    pub instance: Instance,
    /// Name of the model.
    pub model_name: String,
    /// Sizes of the model.
    pub model: Model,
    /// Mean lengths that the rates hold for.
    pub mix: Mix,
    /// The file's workload with its targets.
    pub demand: Demand,
    /// What the operator should know of: hosts left out and why.
    pub notes: Vec<String>,
}

impl ClusterFile {
    /// Turns names into an instance.
    ///
    /// # Errors
    ///
    /// Names the first key whose value cannot be used, and what to do about it.
    pub fn resolve(&self, choice: &Choice) -> Result<Resolved, ClusterError> {
        let all = with_catalogue(self);
        let (model_name, model) = chosen_model(self, &all, choice)?;
        let mix = choice.mix.unwrap_or_else(|| self.workload.mix());
        let regions = regions(self);
        let mut hosts = Hosts::default();
        for (at, entry) in self.hosts.iter().enumerate() {
            hosts.add(self, &all, &model_name, &regions, (at, entry))?;
        }
        let classes = hosts.classes(&all, (&model_name, &model), mix)?;
        let Hosts { list, known, notes, .. } = hosts;
        let network = network::network(self, &model, &regions, &list, &known)?;
        let instance = Instance {
            layers: model.layers,
            classes,
            hosts: list,
            regions,
            network,
            partial: choice.partial,
            layer_bytes: model.layer_bytes,
        };
        Ok(Resolved { instance, model_name, model, mix, demand: self.workload.clone(), notes })
    }
}

impl Demand {
    /// Mean lengths, those of the paper where the file says nothing.
    pub fn mix(&self) -> Mix {
        let total: f64 = self.lengths.iter().map(|it| it.2).sum();
        if total > 0.0 {
            let mean = |of: fn(&(f64, f64, f64)) -> f64| {
                self.lengths.iter().map(|it| it.2 * of(it)).sum::<f64>() / total
            };
            return Mix { prompt_tokens: mean(|it| it.0), output_tokens: mean(|it| it.1) };
        }
        let usual = Mix::default();
        Mix {
            prompt_tokens: self.prompt_tokens.unwrap_or(usual.prompt_tokens),
            output_tokens: self.output_tokens.unwrap_or(usual.output_tokens),
        }
    }
}

fn chosen_model(
    file: &ClusterFile,
    all: &ClusterFile,
    choice: &Choice,
) -> Result<(String, Model), ClusterError> {
    let known = || all.models.keys().map(String::as_str);
    let Some(name) = choice.model.as_ref().or(file.model.as_ref()) else {
        return Err(ClusterError::NoModel { known: known().collect::<Vec<_>>().join(", ") });
    };
    match all.models.get(name) {
        Some(model) => Ok((name.clone(), *model)),
        None => Err(names::unknown(known(), name, "model", "model".to_owned())),
    }
}

/// Regions in the order in which hosts name them, then those that are only declared.
fn regions(file: &ClusterFile) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let of_hosts = file.hosts.iter().map(region_of);
    let all = of_hosts.chain(file.regions.keys().map(String::as_str));
    all.filter(|it| seen.insert(*it)).map(str::to_owned).collect()
}

fn region_of(entry: &HostEntry) -> &str {
    entry.region.as_deref().unwrap_or(REGION_UNNAMED)
}

/// Hosts while they are gathered.
#[derive(Default)]
struct Hosts {
    list: Vec<Host>,
    /// By name; `None` for those left out.
    known: BTreeMap<String, Option<usize>>,
    /// Machine type, memory and network card of each class.
    kinds: Vec<Kind>,
    notes: Vec<String>,
}

/// What makes hosts alike.
#[derive(Clone, PartialEq)]
struct Kind {
    machine: String,
    memory_bytes: f64,
    nic_bytes_per_second: f64,
}

impl Hosts {
    /// Adds an entry's hosts.
    fn add(
        &mut self,
        file: &ClusterFile,
        all: &ClusterFile,
        model: &str,
        regions: &[String],
        (at, entry): (usize, &HostEntry),
    ) -> Result<(), ClusterError> {
        let key = |field: &str| format!("hosts[{at}].{field}");
        let Some(machine) = all.machines.get(&entry.machine) else {
            let known = all.machines.keys().map(String::as_str);
            return Err(names::unknown(known, &entry.machine, "machine type", key("machine")));
        };
        let total = self.known.len() as u64 + u64::from(entry.count.unwrap_or(1));
        if total > u64::from(HOSTS_MAX) {
            return Err(ClusterError::TooManyHosts { hosts: total, max: HOSTS_MAX });
        }
        let region = names::position(regions, region_of(entry), "region", || key("region"))?;
        let class = self.class(entry, machine);
        for name in names_of(entry) {
            let listed = |names: &[String]| names.contains(&name) || names.contains(&entry.name);
            let may = |names: &Option<Vec<String>>| names.as_ref().is_none_or(|it| listed(it));
            let allowed = file.policy.allowed_regions.get(model);
            let refusal = if listed(&file.policy.excluded_hosts) {
                Some(format!("{name} is left out: policy excludes it"))
            } else if allowed.is_some_and(|it| !it.contains(&regions[region])) {
                let region = &regions[region];
                Some(format!("{name} is left out: policy keeps {model} out of region {region}"))
            } else {
                None
            };
            let place = if refusal.is_none() { Some(self.list.len()) } else { None };
            if self.known.insert(name.clone(), place).is_some() {
                return Err(ClusterError::Duplicate { key: key("name"), name });
            }
            if refusal.is_none() {
                let nic = self.kinds[class].nic_bytes_per_second;
                let price = entry.price_per_hour.or(file.prices.get(&entry.machine).copied());
                self.list.push(Host {
                    may_be_first: may(&file.policy.first_stage_hosts),
                    may_be_last: may(&file.policy.last_stage_hosts),
                    name,
                    class,
                    region,
                    nic_in: nic,
                    nic_out: nic,
                    price_per_hour: price.unwrap_or(0.0),
                    load_bytes_per_second: machine.load_bytes_per_second,
                });
            }
            self.notes.extend(refusal);
        }
        Ok(())
    }

    fn class(&mut self, entry: &HostEntry, machine: &Machine) -> usize {
        let kind = Kind {
            machine: entry.machine.clone(),
            memory_bytes: entry.memory_bytes.unwrap_or(machine.memory_bytes),
            nic_bytes_per_second: entry
                .nic_bytes_per_second
                .unwrap_or(machine.nic_bytes_per_second),
        };
        let found = self.kinds.iter().position(|it| *it == kind);
        found.unwrap_or_else(|| {
            self.kinds.push(kind);
            self.kinds.len() - 1
        })
    }

    /// Classes with their rates, and network cards in activations per second.
    fn classes(
        &mut self,
        all: &ClusterFile,
        (name, model): (&str, &Model),
        mix: Mix,
    ) -> Result<Vec<Class>, ClusterError> {
        let mut members = Vec::new();
        for (class, kind) in self.kinds.iter().enumerate() {
            let hosts = self.list.iter().filter(|it| it.class == class).count();
            let hosts = u32::try_from(hosts).expect("as many as HOSTS_MAX at most");
            members.push(member(all, (name, model), kind, hosts)?);
        }
        for host in &mut self.list {
            host.nic_in /= model.activation_bytes;
            host.nic_out /= model.activation_bytes;
        }
        let rates = rates(model.layers, mix, &members);
        let classes = self.kinds.iter().zip(members).zip(rates).map(|((kind, member), rates)| {
            let nic = kind.nic_bytes_per_second / model.activation_bytes;
            let device = match member.speed {
                Speed::Given(_) => None,
                Speed::Measured { device, .. } => Some(device),
            };
            let memory_bytes = all.machines[&kind.machine].memory_bytes;
            let own = kind.memory_bytes.total_cmp(&memory_bytes).is_ne();
            let memory =
                if own { format!(" {} GB", kind.memory_bytes / 1e9) } else { String::new() };
            Class { name: format!("{}{memory}", kind.machine), rates: rates.capped(nic), device }
        });
        Ok(classes.collect())
    }
}

/// Names of an entry's hosts.
fn names_of(entry: &HostEntry) -> Vec<String> {
    match entry.count {
        None => vec![entry.name.clone()],
        Some(count) => (0..count).map(|it| format!("{}-{it}", entry.name)).collect(),
    }
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
            "nothing is known of {name} on {}; add [[profiles]] with model = \"{name}\" and \
             machine = \"{}\"",
            kind.machine, kind.machine,
        );
        return Err(ClusterError::Shape { key: "profiles".to_owned(), problem });
    };
    let speed = if profile.tokens_per_second.is_empty() {
        measured(profile, model, all.machines[&kind.machine].memory_bytes, kind.memory_bytes)
    } else {
        Speed::Given(by_count(profile.tokens_per_second.iter().copied(), model.layers))
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

/// Curves of a profile, and the KV memory that a host of `memory` bytes has where the profile was
/// measured with `usual` bytes.
///
/// With other memory than usual the share of it that weights may take stays as it is, and what is
/// more or less of memory is more or less KV. Embedding and head take of it where they are held.
fn measured(profile: &ProfileEntry, model: &Model, usual: f64, memory: f64) -> Speed {
    let listed = profile.kv_blocks.len();
    let layers_max = (listed as f64 * (memory / usual)).floor().min(f64::from(model.layers));
    let block = KV_BLOCK_TOKENS * model.kv_bytes_per_token_layer;
    let kv = |extra: f64| {
        let of = |count: f64| {
            let known = count.min(listed as f64);
            let blocks = profile.kv_blocks[known as usize - 1];
            let spare = memory - usual - extra - (count - known) * model.layer_bytes;
            // Nothing changes where nothing differs: the profile's own figure to the last digit.
            let other = known < count || spare.total_cmp(&0.0).is_ne();
            let blocks = if other {
                ((blocks * known * block + spare) / (count * block)).floor().max(0.0)
            } else {
                blocks
            };
            KV_BLOCK_TOKENS * blocks * count
        };
        // At most `model.layers`, so that nothing is cut off.
        by_count((1..=layers_max as u32).map(|count| of(f64::from(count))), model.layers)
    };
    let (first, last) = (model.embedding_bytes, model.head_bytes);
    let kv_token_layers = [kv(0.0), kv(first), kv(last), kv(first + last)];
    let seconds = |curve: &[(f64, f64)]| curve.iter().map(|&(x, ms)| (x, ms / 1000.0)).collect();
    let mut decode_requests_max =
        by_count(profile.decode_requests_max.iter().copied(), model.layers);
    if let Some(&last) = profile.decode_requests_max.last() {
        decode_requests_max.resize(kv_token_layers[0].len(), last);
    } else {
        decode_requests_max.clear();
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
