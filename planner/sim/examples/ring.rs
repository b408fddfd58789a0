//! Serves an endless backlog on a cluster, and prints what it gets out of it.
//!
//! ```sh
//! cargo run --release -p thalweg-sim --example ring -- examples/clusters/single24.toml \
//!     --in-flight 440 --chunk 128 --batch 24
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::ops::ControlFlow;
use std::time::Duration;

use thalweg_core::policy::Pack;
use thalweg_planner::cluster::{self, Choice};
use thalweg_planner::{Charge, flow, place};
use thalweg_sim::agenda::nanos;
use thalweg_sim::compute::Curves;
use thalweg_sim::ledger::Window;
use thalweg_sim::outcome::Outcome;
use thalweg_sim::plan::{Bounds, plan};
use thalweg_sim::workload::{Arrivals, Length, Lengths, Workload};
use thalweg_sim::world::{Settings, World};
use thalweg_wire::Epoch;

const USAGE: &str = "ring CLUSTER.toml [--model NAME] [--method coverage] [--in-flight 440] \
    [--batch 24] [--chunk 128] [--requests-max 0] [--groups 0] [--from 80] [--to 680] [--seed 0] \
    [--lengths FILE.csv] [--policy thalweg] [--step-ms 0] [--published] [--json]";

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let file = words.next().filter(|it| !it.starts_with('-')).ok_or(USAGE)?;
    let options = Options::read(words)?;
    let text = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    let choice = Choice { model: options.word("--model"), ..Choice::default() };
    let resolved = cluster::parse(&text)?.resolve(&choice)?;
    let method = options.word("--method").unwrap_or_else(|| "coverage".to_owned());
    let found = place::method(&method)
        .ok_or("no such method; see `thalweg plan --help`")?
        .place(&resolved.instance, 0, &mut |_| ControlFlow::Continue(()))
        .ok_or("no placement carries anything")?;
    let flow = flow::maximum(&resolved.instance, &found.placement, Charge::Full);
    let bounds = Bounds {
        batch_max: options.number("--batch", 24.0)? as u32,
        chunk_tokens: options.number("--chunk", 128.0)? as u32,
        step_us: (options.number("--step-ms", 0.0)? * 1e3) as u32,
        requests_max: options.number("--requests-max", 0.0)? as u32,
        micro_batches: options.number("--groups", 0.0)? as u32,
    };
    let plan =
        plan(&resolved, &found.placement, &flow, &vec![bounds; found.placement.len()], Epoch(1))?;
    let in_flight = options.number("--in-flight", 440.0)? as u32;
    let workload = Workload {
        arrivals: Arrivals::Users {
            count: in_flight,
            start: in_flight,
            ramp_seconds: 20.0,
            pause_seconds: 0.0,
        },
        lengths: options.lengths()?,
        prefixes: None,
        longer: None,
        seed: options.number("--seed", 0.0)? as u64,
    };
    let (from, to) = (options.number("--from", 80.0)?, options.number("--to", 680.0)?);
    let mut pack = Pack::named(&options.word("--policy").unwrap_or_else(|| "thalweg".to_owned()))?;
    pack.gateway.patience = Duration::from_secs(1_000_000);
    pack.gateway.waiting_max = in_flight as usize;
    let settings = Settings {
        window: Window { from: nanos(from), to: nanos(to) },
        pack,
        curves: if options.flag("--published") { Curves::Published } else { Curves::Floored },
        stall_after: nanos(1e6),
        ..Settings::default()
    };
    let mut world =
        World::new(&resolved, (&found.placement, &plan), workload, (vec![], None), settings)?;
    world.run(nanos(to));
    let outcome = world.outcome();
    if options.flag("--json") {
        println!("{}", outcome.to_json());
    } else {
        println!("flow {:.1} tokens/s", flow.value);
        print(&outcome);
    }
    Ok(())
}

fn print(it: &Outcome) {
    println!(
        "{:<14} {:<8} {:>8} {:>6} {:>7} {:>7} {:>5} {:>5} {:>6} {:>6}",
        "host", "machine", "layers", "busy", "steps", "batch", "p50", "most", "rows", "KV"
    );
    for host in &it.hosts {
        let Some((first, end)) = host.layers else { continue };
        println!(
            "{:<14} {:<8} {:>8} {:>6.3} {:>7} {:>7.2} {:>5} {:>5} {:>6.1} {:>6.3}",
            host.name,
            host.machine,
            format!("{first}..{end}"),
            host.utilisation,
            host.steps,
            host.batch_mean,
            host.batch_p50,
            host.batch_max,
            host.prompt_rows_mean,
            host.kv_used_mean,
        );
    }
    println!("decode {:.1} tokens/s", it.decode_tokens_per_second);
    println!("prompt {:.1} tokens/s", it.prompt_tokens_per_second);
    for (name, mean, p50, p95) in [
        ("TPOT", it.tpot_mean_seconds, it.tpot_p50_seconds, it.tpot_p95_seconds),
        ("TTFT", it.ttft_mean_seconds, it.ttft_p50_seconds, it.ttft_p95_seconds),
        ("queue", it.queue_mean_seconds, it.queue_p50_seconds, it.queue_p95_seconds),
    ] {
        println!("{name:<6} mean {mean:.3} s, p50 {p50:.3} s, p95 {p95:.3} s");
    }
    println!(
        "arrived {}, accepted {}, finished {}, rejected {}, replays {}, preempted {}, lost {}",
        it.arrived, it.accepted, it.finished, it.rejected, it.replays, it.preempted, it.lost
    );
    println!("running {}, waiting {}, refusals {:?}", it.running, it.waiting, it.refusals);
    println!("{} events in {} virtual seconds", it.events, it.simulated_seconds);
}

/// Options of the command line.
struct Options(BTreeMap<String, String>);

impl Options {
    fn read(words: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut found = BTreeMap::new();
        let mut words = words.peekable();
        while let Some(name) = words.next() {
            if !name.starts_with("--") || !USAGE.contains(&name) {
                return Err(format!("{name} is unknown; {USAGE}").into());
            }
            let value = words.next_if(|it| !it.starts_with("--")).unwrap_or_default();
            found.insert(name, value);
        }
        Ok(Self(found))
    }

    fn word(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    fn flag(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn number(&self, name: &str, usual: f64) -> Result<f64, Box<dyn Error>> {
        let parse = |it: &String| it.parse().map_err(|_| format!("{name} {it}: give a number"));
        Ok(self.0.get(name).map_or(Ok(usual), parse)?)
    }

    /// Lengths of the trace, or the last two columns of a file.
    fn lengths(&self) -> Result<Lengths, Box<dyn Error>> {
        let Some(path) = self.word("--lengths") else { return Ok(Lengths::AzureConversation) };
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let row = |line: &str| {
            let mut cells = line.rsplit(',').map(|it| it.trim().parse::<u32>().ok());
            let (output, prompt) = (cells.next()??, cells.next()??);
            Some(Length { prompt, output })
        };
        let stream: Vec<Length> = text.lines().filter_map(row).collect();
        if stream.is_empty() {
            return Err(format!("{path}: no line ends in two numbers").into());
        }
        Ok(Lengths::Stream(stream))
    }
}
