//! `thalweg simulate what-if`: the same scenario on a cluster with other hosts.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use thalweg_planner::cluster::{self, ClusterFile, HostEntry};

use super::{ChangeArgs, files, run_opened, table, unwritten};
use crate::cli::advice::Advice;

/// See what hosts that come or go do to a scenario
///
/// Layers are placed anew on the changed cluster, by the method that the scenario names.
#[derive(Clone, Debug, Args)]
pub(super) struct WhatIfArgs {
    /// Scenario file
    #[arg(value_name = "SCENARIO.toml")]
    file: PathBuf,

    /// Add a host: MACHINE or MACHINE@REGION; may be given several times
    #[arg(long, value_name = "MACHINE@REGION")]
    add: Vec<String>,

    /// Remove the host of this name; may be given several times
    #[arg(long, value_name = "HOST")]
    remove: Vec<String>,

    /// Print one JSON object for the cluster as it is, and one as it would be
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
///
/// If a file cannot be used, a host to remove is not there, or nothing is to change.
pub(super) fn run(args: &WhatIfArgs, stdout: &mut impl Write) -> Result<(), Advice> {
    if args.add.is_empty() && args.remove.is_empty() {
        return Err(Advice::plain("nothing is to change")
            .hint("Name hosts with `--add L4@eu-west` or `--remove a100-3`."));
    }
    let before = files::open(&args.file, &ChangeArgs::default())?;
    let mut after = before.clone();
    after.cluster = changed(&before.cluster, &args.add, &args.remove)?;
    if before.placement.is_some() {
        return Err(Advice::plain("the scenario's placement is a file, made for its own cluster")
            .hint("Name a placement method in the scenario instead."));
    }
    if !args.json {
        write!(stdout, "{:<8}{}", "", table::HEADER).map_err(unwritten)?;
    }
    for (name, opened) in [("now", &before), ("then", &after)] {
        let ran = run_opened(opened)?;
        let line = match args.json {
            true => ran.to_json()?,
            false => format!("{name:<8}{}", table::row(&ran.outcome)),
        };
        writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(unwritten)?;
    }
    Ok(())
}

/// The cluster file with hosts added and removed.
fn changed(text: &str, add: &[String], remove: &[String]) -> Result<String, Advice> {
    let unusable = |error| Advice::new("cannot use the scenario's cluster file", error);
    let mut file = cluster::parse(text).map_err(unusable)?;
    for name in remove {
        take_out(&mut file, name)?;
    }
    for (at, words) in add.iter().enumerate() {
        let (machine, region) = match words.split_once('@') {
            Some((machine, region)) => (machine, Some(region.to_owned())),
            None => (words.as_str(), None),
        };
        let name = format!("{}-added-{at}", machine.to_lowercase());
        let machine = machine.to_owned();
        file.hosts.push(HostEntry { name, machine, region, ..HostEntry::default() });
    }
    toml::to_string(&file)
        .map_err(|error| Advice::new("cannot write the changed cluster down", error))
}

/// Removes one host; one of several alike makes them one fewer, if it is their last.
fn take_out(file: &mut ClusterFile, name: &str) -> Result<(), Advice> {
    let alone = file.hosts.iter().position(|it| it.count.is_none() && it.name == name);
    if let Some(at) = alone {
        file.hosts.remove(at);
        file.network
            .links
            .retain(|it| it.from.as_deref() != Some(name) && it.to.as_deref() != Some(name));
        return Ok(());
    }
    for entry in &mut file.hosts {
        let Some(count) = entry.count.filter(|&it| it > 0) else { continue };
        if name == format!("{}-{}", entry.name, count - 1) {
            entry.count = Some(count - 1);
            file.hosts.retain(|it| it.count != Some(0));
            return Ok(());
        }
    }
    Err(Advice::plain(format!("no host of the cluster is called `{name}`"))
        .hint("Of several hosts listed as one entry, the last can be removed.")
        .hint("`thalweg plan` lists the hosts of a cluster file."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = r#"
        model = "llama-2-70b"
        hosts = [
            { name = "a", machine = "A100", region = "eu" },
            { name = "t", machine = "T4", region = "us", count = 2 },
        ]
        [network]
        default = { bytes_per_second = 1e9, latency_seconds = 0.001 }
        links = [{ from = "a", to = "t-0", bytes_per_second = 1e8, latency_seconds = 0.05 }]
    "#;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn hosts_come_and_go() {
        let text = changed(CLUSTER, &words(&["L4@asia", "T4"]), &words(&["a", "t-1"]));
        let file = cluster::parse(&text.expect("all there")).expect("a cluster file");
        let hosts: Vec<_> = file.hosts.iter().map(|it| (it.name.as_str(), it.count)).collect();
        assert_eq!(hosts, [("t", Some(1)), ("l4-added-0", None), ("t4-added-1", None)]);
        assert_eq!(file.hosts[1].region.as_deref(), Some("asia"));
        assert!(file.network.links.is_empty(), "links of a host go with it");
    }

    #[test]
    fn a_host_that_is_not_there_is_named() {
        let advice = changed(CLUSTER, &[], &words(&["t-0"])).expect_err("not the last");
        assert!(advice.to_string().starts_with("Error: no host of the cluster is called `t-0`"));
    }
}
