//! From names to indices.

use std::collections::BTreeSet;

use super::catalogue::with_catalogue;
use super::check;
use super::classes::classes;
use super::error::ClusterError;
use super::file::{ClusterFile, Demand, Model};
use super::hosts::{Hosts, region_of};
use super::throughput::Mix;
use super::{names, network};
use crate::instance::Instance;

/// Regions of a cluster at most; links are kept for every pair.
const REGIONS_MAX: usize = 1024;

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
    /// The file's own model and lengths, with partial inference.
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
    /// What the operator should know of: hosts left out and why, regions cut off.
    pub notes: Vec<String>,
}

impl ClusterFile {
    /// Turns names into an instance. Hosts that policy excludes are not in it.
    ///
    /// # Errors
    ///
    /// Names the first key whose value cannot be used, and what to do about it.
    pub fn resolve(&self, choice: &Choice) -> Result<Resolved, ClusterError> {
        let all = with_catalogue(self);
        check::check(self, &all)?;
        let (model_name, model) = chosen_model(self, &all, choice)?;
        let mix = choice.mix.unwrap_or_else(|| self.workload.mix());
        check::mix(mix)?;
        let regions = regions(self)?;
        let Hosts { mut list, known, kinds, mut notes } =
            Hosts::gather(self, &all, &model_name, &regions)?;
        for host in &mut list {
            host.nic_in /= model.activation_bytes;
            host.nic_out /= model.activation_bytes;
        }
        let classes = classes(&all, (&model_name, &model), mix, &kinds)?;
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
        notes.extend(network::cut_off(&instance));
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
fn regions(file: &ClusterFile) -> Result<Vec<String>, ClusterError> {
    let declared: BTreeSet<&str> = file.regions.keys().map(String::as_str).collect();
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    for (at, entry) in file.hosts.iter().enumerate() {
        let name = region_of(entry);
        // Where regions are declared, a region that is not is a mistyped one.
        if !declared.is_empty() && !declared.contains(name) {
            let key = format!("hosts[{at}].region");
            return Err(names::unknown(declared.into_iter(), name, "region", key));
        }
        if seen.insert(name) {
            found.push(name.to_owned());
        }
    }
    found.extend(declared.iter().filter(|it| !seen.contains(**it)).map(|it| (*it).to_owned()));
    if found.len() > REGIONS_MAX {
        let problem = format!("{} regions, above the limit of {REGIONS_MAX}", found.len());
        return Err(ClusterError::Shape { key: "hosts".to_owned(), problem });
    }
    Ok(found)
}
