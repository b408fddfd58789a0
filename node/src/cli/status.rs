//! `thalweg status`: what a cluster is doing, as one of its hosts sees it.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thalweg_wire::{BitsPerSecond, Bytes};

use super::advice::Advice;
use super::bench::users::Users;
use super::client::{self, ServerArgs};
use super::scenario::{Beyond, ScenarioFiles};
use crate::http::{ClusterStatus, HostState, HostStatus, PlacedStatus, PlanStatus};

/// Width of the layer axis at most, in characters.
const AXIS_CHARS_MAX: u32 = 60;

/// Show hosts, links and the plan of a running cluster
#[derive(Clone, Debug, clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Write the cluster into this folder instead, as a scenario for `thalweg simulate`
    #[arg(long, value_name = "DIR", conflicts_with = "json")]
    scenario: Option<PathBuf>,
}

/// Runs `thalweg status`.
///
/// # Errors
///
/// If the server is not reached or refuses, or the status cannot be written.
pub fn run(args: &StatusArgs, stdout: &mut impl Write) -> Result<(), Advice> {
    let ServerArgs { server, api_key } = &args.server;
    let status = client::get(server, "/api/v1/status", api_key.as_deref())?;
    let text = match &args.scenario {
        Some(folder) => write_scenario(status, folder)?,
        None if args.json => format!("{status:#}\n"),
        None => render(&status),
    };
    stdout
        .write_all(text.as_bytes())
        .map_err(|source| Advice::new("cannot write the status", source))
}

/// Writes a scenario in which users ask as those of `thalweg bench users` do.
fn write_scenario(status: Value, folder: &Path) -> Result<String, Advice> {
    let status: ClusterStatus = serde_json::from_value(status)
        .map_err(|source| Advice::new("the status is not understood", source))?;
    let asked = Users { count: 16, seconds: 60 }.asked();
    let files = ScenarioFiles::new(&status, &Beyond::default(), &asked)?;
    files.resolve()?;
    let file = files.write(folder)?;
    Ok(format!("thalweg simulate {}\n", file.display()))
}

/// Draws a status as tables, with the placement as bars over the layer axis. What a server of
/// another version says differently is left out.
pub fn render(status: &Value) -> String {
    let status: ClusterStatus = serde_json::from_value(status.clone()).unwrap_or_default();
    let parts = [summary(&status), hosts(&status.hosts), links(&status), plan(&status)];
    let parts = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
    parts.join("\n")
}

fn summary(status: &ClusterStatus) -> String {
    let leader = status.leader.as_deref().unwrap_or("nobody yet");
    let ClusterStatus { cluster, model, layers, context_tokens, epoch, term, host, .. } = status;
    format!(
        "cluster {cluster}, as {host} sees it\n\
         model   {model}, {layers} layers, {context_tokens} tokens of context\n\
         planner {leader}, term {term}; plan epoch {epoch}\n"
    )
}

fn hosts(hosts: &[HostStatus]) -> String {
    let mut rows = vec![
        ["HOST", "REGION", "STATE", "MEMORY", "MS/LAYER", "KV FREE", "REQUESTS"].map(str::to_owned),
    ];
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    rows.extend(hosts.iter().map(|it| {
        [
            it.name.clone(),
            it.region.clone(),
            state(it.state).to_owned(),
            Bytes(it.memory_bytes).to_string(),
            or_dash(it.decode_seconds_per_layer.map(|seconds| format!("{:.2}", seconds * 1e3))),
            or_dash(it.kv_free_tokens.map(|tokens| tokens.to_string())),
            or_dash(it.requests.map(|requests| requests.to_string())),
        ]
    }));
    table(&rows)
}

const fn state(state: HostState) -> &'static str {
    match state {
        HostState::Alive => "alive",
        HostState::Suspect => "suspect",
        HostState::Dead => "dead",
    }
}

fn links(status: &ClusterStatus) -> String {
    if status.links.is_empty() {
        return String::new();
    }
    let mut rows = vec![["LINK", "ROUND TRIP", "RATE"].map(str::to_owned)];
    rows.extend(status.links.iter().map(|it| {
        let rtt_ms = it.rtt_us as f64 / 1e3;
        let rate = BitsPerSecond(it.bandwidth_bits_per_s);
        [format!("{} -> {}", it.from, it.to), format!("{rtt_ms:.1} ms"), rate.to_string()]
    }));
    table(&rows)
}

fn plan(status: &ClusterStatus) -> String {
    let Some(plan) = &status.plan else {
        return match &status.infeasible {
            Some(reason) => format!("no plan: {reason}\n"),
            None => "no plan yet\n".to_owned(),
        };
    };
    let PlanStatus { flow_tokens_per_s: flow, bound_tokens_per_s: bound, bottleneck, .. } = plan;
    let mut text = format!("plan of epoch {}: {flow:.1} tokens/s", plan.epoch);
    if bound.is_finite() && *bound > 0.0 {
        let share = 100.0 * flow / bound;
        write!(text, ", {share:.0} % of the bound {bound:.1}").expect("a string takes everything");
    }
    if !bottleneck.is_empty() {
        write!(text, "\nlimited by {bottleneck}").expect("a string takes everything");
    }
    text.push('\n');
    text.push_str(&placement(&plan.placement, status.layers));
    text
}

/// Draws who holds which layers.
///
/// ```text
/// layer  0                            30
/// h1     ##########                   0..10
/// ```
fn placement(placed: &[PlacedStatus], layers: u32) -> String {
    let layers = placed.iter().map(|it| it.end).fold(layers, u32::max).max(1);
    let width = layers.min(AXIS_CHARS_MAX) as usize;
    let names = placed.iter().map(|it| it.host.chars().count()).max().unwrap_or(0).max(5);
    let mut text = format!("{:names$}  0{layers:>width$}\n", "layer");
    for it in placed {
        let bar = bar(it, layers);
        let PlacedStatus { host, first, end, kv_tokens, .. } = it;
        let line = format!("{host:names$}  {bar:width$}  {first}..{end}, {kv_tokens} KV tokens");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Each character stands for one layer, or for several of a tall model; a part of them counts.
fn bar(placed: &PlacedStatus, layers: u32) -> String {
    let width = u64::from(layers.min(AXIS_CHARS_MAX));
    let layers = u64::from(layers);
    let held = |at: &u64| {
        let first = at * layers / width;
        let end = ((at + 1) * layers).div_ceil(width);
        u64::from(placed.first) < end && first < u64::from(placed.end)
    };
    let bar: String = (0..width).map(|at| if held(&at) { '█' } else { ' ' }).collect();
    bar.trim_end().to_owned()
}

/// Lays rows out in columns as wide as their widest cell.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn placed(host: &str, first: u32, end: u32) -> Value {
        json!({"host": host, "first": first, "end": end, "kv_tokens": 4096})
    }

    #[test]
    fn screen_shows_hosts_links_and_bars() {
        let screen = render(&json!({
            "cluster": "demo", "host": "h1", "model": "m", "layers": 12, "context_tokens": 2048,
            "epoch": 3, "leader": "h2", "term": 1,
            "hosts": [
                {"name": "h1", "region": "eu", "state": "alive", "memory_bytes": 335_544_320,
                 "decode_seconds_per_layer": 0.00125, "kv_free_tokens": 100, "requests": 2},
                {"name": "h2", "region": "us", "state": "dead", "memory_bytes": 335_544_320},
            ],
            "links": [{"from": "h1", "to": "h2", "rtt_us": 80_000,
                       "bandwidth_bits_per_s": 100_000_000}],
            "plan": {
                "epoch": 3, "flow_tokens_per_s": 50.0, "bound_tokens_per_s": 100.0,
                "bottleneck": "compute of h1",
                "placement": [placed("h1", 0, 5), placed("h2", 5, 12)],
            },
        }));
        let expected = "\
cluster demo, as h1 sees it
model   m, 12 layers, 2048 tokens of context
planner h2, term 1; plan epoch 3

HOST  REGION  STATE  MEMORY     MS/LAYER  KV FREE  REQUESTS
h1    eu      alive  320.0 MiB  1.25      100      2
h2    us      dead   320.0 MiB  -         -        -

LINK      ROUND TRIP  RATE
h1 -> h2  80.0 ms     100.0 Mb/s

plan of epoch 3: 50.0 tokens/s, 50 % of the bound 100.0
limited by compute of h1
layer  0          12
h1     █████         0..5, 4096 KV tokens
h2          ███████  5..12, 4096 KV tokens
";
        assert_eq!(screen, expected);
    }

    #[test]
    fn tall_model_fits_the_axis_and_no_layer_is_lost() {
        let whole = PlacedStatus { end: 126, ..PlacedStatus::default() };
        assert_eq!(bar(&whole, 126).chars().count(), AXIS_CHARS_MAX as usize);
        let one = PlacedStatus { first: 125, end: 126, ..PlacedStatus::default() };
        assert_eq!(bar(&one, 126).trim_start(), "█");
    }

    #[test]
    fn infeasible_cluster_says_why() {
        let screen = render(&json!({"infeasible": "3 layers have no host"}));
        assert!(screen.ends_with("no plan: 3 layers have no host\n"), "{screen}");
    }
}
