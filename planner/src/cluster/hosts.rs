//! The hosts of a cluster, one by one, and which of them are alike.

use std::collections::{BTreeMap, BTreeSet};

use super::error::ClusterError;
use super::file::{ClusterFile, HostEntry, Machine};
use super::names;
use crate::instance::Host;

/// Hosts of a cluster at most.
const HOSTS_MAX: u32 = 65_536;

/// Region of hosts that name none.
const REGION_UNNAMED: &str = "default";

/// What the entries of a file amount to.
#[derive(Default)]
pub(super) struct Hosts {
    /// Those that may hold layers. Network cards are in bytes/s.
    pub list: Vec<Host>,
    /// All, by name; `None` for those left out.
    pub known: BTreeMap<String, Option<usize>>,
    /// Kinds of those that may hold layers, and how many there are; hosts refer to them as classes.
    pub kinds: Vec<(Kind, u32)>,
    /// Who was left out and why.
    pub notes: Vec<String>,
}

/// What makes hosts alike.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kind {
    pub machine: String,
    pub memory_bytes: f64,
    pub nic_bytes_per_second: f64,
}

/// Region of an entry's hosts.
pub(super) fn region_of(entry: &HostEntry) -> &str {
    entry.region.as_deref().unwrap_or(REGION_UNNAMED)
}

impl Hosts {
    /// Goes through all entries of `file`; `all` knows the machine types.
    pub fn gather(
        file: &ClusterFile,
        all: &ClusterFile,
        model: &str,
        regions: &[String],
    ) -> Result<Self, ClusterError> {
        let rules = Rules::new(file, model, regions)?;
        let mut hosts = Self::default();
        for (at, entry) in file.hosts.iter().enumerate() {
            let key = |field: &str| format!("hosts[{at}].{field}");
            let Some(machine) = all.machines.get(&entry.machine) else {
                let known = all.machines.keys().map(String::as_str);
                return Err(names::unknown(known, &entry.machine, "machine type", key("machine")));
            };
            let total = hosts.known.len() as u64 + u64::from(entry.count.unwrap_or(1));
            if total > u64::from(HOSTS_MAX) {
                return Err(ClusterError::TooManyHosts { hosts: total, max: HOSTS_MAX });
            }
            let region = names::position(regions, region_of(entry), "region", || key("region"))?;
            let price = entry.price_per_hour.or(file.prices.get(&entry.machine).copied());
            for name in names_of(entry) {
                let place = if let Some(reason) = rules.refuses(&name, entry) {
                    hosts.notes.push(format!("{name} is left out: {reason}"));
                    None
                } else {
                    let host = rules.host(&name, entry, machine);
                    let class = hosts.class(entry, machine);
                    let price_per_hour = price.unwrap_or(0.0);
                    hosts.list.push(Host { class, region, price_per_hour, ..host });
                    Some(hosts.list.len() - 1)
                };
                if hosts.known.insert(name.clone(), place).is_some() {
                    return Err(ClusterError::Duplicate { key: key("name"), name });
                }
            }
        }
        rules.check(file, &hosts, all)?;
        Ok(hosts)
    }

    /// The kind of a further host of `entry`.
    fn class(&mut self, entry: &HostEntry, machine: &Machine) -> usize {
        let kind = Kind {
            machine: entry.machine.clone(),
            memory_bytes: entry.memory_bytes.unwrap_or(machine.memory_bytes),
            nic_bytes_per_second: nic(entry, machine),
        };
        let found = self.kinds.iter().position(|it| it.0 == kind);
        let class = found.unwrap_or_else(|| {
            self.kinds.push((kind, 0));
            self.kinds.len() - 1
        });
        self.kinds[class].1 += 1;
        class
    }
}

fn nic(entry: &HostEntry, machine: &Machine) -> f64 {
    entry.nic_bytes_per_second.unwrap_or(machine.nic_bytes_per_second)
}

/// Names of an entry's hosts.
fn names_of(entry: &HostEntry) -> Vec<String> {
    match entry.count {
        None => vec![entry.name.clone()],
        Some(count) => (0..count).map(|it| format!("{}-{it}", entry.name)).collect(),
    }
}

/// Names of hosts and groups, from a list of the policy.
type Names<'a> = BTreeSet<&'a str>;

fn names_set(list: &[String]) -> Names<'_> {
    list.iter().map(String::as_str).collect()
}

fn allows(list: Option<&Names<'_>>, name: &str, entry: &HostEntry) -> bool {
    list.is_none_or(|it| it.contains(name) || it.contains(entry.name.as_str()))
}

/// The policy, ready for asking.
struct Rules<'a> {
    first: Option<Names<'a>>,
    last: Option<Names<'a>>,
    excluded: Names<'a>,
    regions: Option<Names<'a>>,
    model: &'a str,
}

impl<'a> Rules<'a> {
    fn new(
        file: &'a ClusterFile,
        model: &'a str,
        regions: &[String],
    ) -> Result<Self, ClusterError> {
        for (model, allowed) in &file.policy.allowed_regions {
            let key = || format!("policy.allowed_regions.{model}");
            for name in allowed {
                names::position(regions, name, "region", key)?;
            }
        }
        Ok(Self {
            first: file.policy.first_stage_hosts.as_deref().map(names_set),
            last: file.policy.last_stage_hosts.as_deref().map(names_set),
            excluded: names_set(&file.policy.excluded_hosts),
            regions: file.policy.allowed_regions.get(model).map(|it| names_set(it)),
            model,
        })
    }

    /// A host of `entry`; class, region and price are still to be filled in.
    fn host(&self, name: &str, entry: &HostEntry, machine: &Machine) -> Host {
        Host {
            name: name.to_owned(),
            class: 0,
            region: 0,
            may_be_first: allows(self.first.as_ref(), name, entry),
            may_be_last: allows(self.last.as_ref(), name, entry),
            nic_in: nic(entry, machine),
            nic_out: nic(entry, machine),
            price_per_hour: 0.0,
            load_bytes_per_second: machine.load_bytes_per_second,
        }
    }

    /// Why a host may hold nothing, if it may not.
    fn refuses(&self, name: &str, entry: &HostEntry) -> Option<String> {
        let region = region_of(entry);
        if allows(Some(&self.excluded), name, entry) {
            Some("policy excludes it".to_owned())
        } else if self.regions.as_ref().is_some_and(|it| !it.contains(region)) {
            Some(format!("policy keeps {} out of region {region}", self.model))
        } else {
            None
        }
    }

    /// Names that policy mentions exist, and it leaves somebody.
    fn check(
        &self,
        file: &ClusterFile,
        hosts: &Hosts,
        all: &ClusterFile,
    ) -> Result<(), ClusterError> {
        let models = || all.models.keys().map(String::as_str);
        if let Some(name) =
            file.policy.allowed_regions.keys().find(|it| !all.models.contains_key(*it))
        {
            let key = "policy.allowed_regions".to_owned();
            return Err(names::unknown(models(), name, "model", key));
        }
        let groups: Names<'_> = file.hosts.iter().map(|it| it.name.as_str()).collect();
        let lists = [
            ("policy.first_stage_hosts", self.first.as_ref()),
            ("policy.last_stage_hosts", self.last.as_ref()),
            ("policy.excluded_hosts", Some(&self.excluded)),
        ];
        for (key, list) in lists {
            let missing = |it: &&&str| !groups.contains(**it) && !hosts.known.contains_key(**it);
            if let Some(name) = list.and_then(|it| it.iter().find(missing)) {
                let known = hosts.known.keys().map(String::as_str).chain(groups);
                return Err(names::unknown(known, name, "host", key.to_owned()));
            }
        }
        if hosts.list.is_empty() {
            let problem = format!("it leaves no host for {}; allow at least one", self.model);
            return Err(ClusterError::Shape { key: "policy".to_owned(), problem });
        }
        Ok(())
    }
}
