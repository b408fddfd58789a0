//! Scenario files: a cluster, a placement, a policy, a workload and what goes wrong, checked and run.
//!
//! ```text
//! text ── parse ──▶ ScenarioFile ── resolve (files it names) ──▶ Scenario ── place ──▶ run ──▶ Outcome
//! ```
//!
//! Nothing is read here: whoever calls passes the text of the files that a scenario names.

mod as_helix;
mod check;
mod error;
mod faults;
mod file;
mod placing;
mod replan;
#[cfg(test)]
mod tests;
mod traces;

use std::time::Duration;

use thalweg_core::policy::Pack;
use thalweg_planner::cluster::{self, Choice, Resolved};
use thalweg_wire::Epoch;

use crate::agenda::{Nanos, nanos};
use crate::compute::{Curves, Overhead};
use crate::ledger::{Targets, Window};
use crate::outcome::Outcome;
use crate::plan::{Bounds, plan};
use crate::workload::{Arrivals, Lengths, Longer, Prefixes, Workload};
use crate::world::{Fault, Gateways, Settings, World};
pub use error::ScenarioError;
pub use file::{
    ArrivalsEntry, BoundsEntry, CurvesEntry, FaultEntry, LengthsEntry, LimitsEntry, LinksEntry,
    LongerEntry, OverheadEntry, PrefixesEntry, ReplanEntry, ReplanMethod, ScenarioFile,
    SharedFault, TargetsEntry, WorkloadEntry,
};
pub use placing::{Placed, StepBounds, read_placement};
pub use traces::{read_lengths, read_times};

/// Time that users and backlogs wait: longer than any run.
const PATIENCE_OF_USERS: Nanos = nanos_of_days(10_000);

const fn nanos_of_days(days: u64) -> Nanos {
    days * 86_400 * crate::agenda::SECOND
}

/// The text of the files that a scenario names.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Files<'a> {
    /// [`ScenarioFile::cluster`].
    pub cluster: &'a str,
    /// [`ScenarioFile::placement`], where it is a file.
    pub placement: Option<&'a str>,
    /// The file of recorded lengths, where there is one.
    pub lengths: Option<&'a str>,
    /// The file of recorded arrivals, where there is one.
    pub arrivals: Option<&'a str>,
}

/// A scenario in numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The cluster.
    pub resolved: Resolved,
    /// Name of the cluster.
    pub cluster: String,
    /// How layers are placed.
    pub method: String,
    /// The placement, where a file gives one.
    pub placed: Option<Placed>,
    /// Bounds of the plan, by host.
    pub bounds: Vec<Bounds>,
    /// What is asked.
    pub workload: Workload,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// What is done about it.
    pub replan: ReplanEntry,
    /// How the world runs, until the end of its window.
    pub settings: Settings,
}

/// Reads a scenario file.
///
/// # Errors
///
/// If it is not TOML, or has unknown keys, missing keys or values of the wrong kind. What it says is
/// only checked by [`ScenarioFile::resolve`].
pub fn parse(text: &str) -> Result<ScenarioFile, ScenarioError> {
    toml::from_str(text).map_err(|error| ScenarioError::Syntax { message: error.to_string() })
}

impl ScenarioFile {
    /// The placement's file, if it is not a method.
    pub fn placement_file(&self) -> Option<&str> {
        self.placement.ends_with(".json").then_some(self.placement.as_str())
    }

    /// The file of recorded lengths, if there is one.
    pub fn lengths_file(&self) -> Option<&str> {
        match &self.workload.lengths {
            LengthsEntry::Recorded { file } => Some(file),
            _ => None,
        }
    }

    /// The file of recorded arrivals, if there is one.
    pub fn arrivals_file(&self) -> Option<&str> {
        match &self.workload.arrivals {
            ArrivalsEntry::Recorded { file } => Some(file),
            _ => None,
        }
    }

    /// Checks everything and turns names into numbers.
    ///
    /// # Errors
    ///
    /// Names the first key whose value cannot be used, and what to do about it.
    pub fn resolve(&self, files: Files<'_>) -> Result<Scenario, ScenarioError> {
        check::check(self)?;
        let choice = Choice { model: self.model.clone(), ..Choice::default() };
        let resolved = cluster::parse(files.cluster)?.resolve(&choice)?;
        let (layers, held) = (resolved.instance.layers, resolved.instance.layers_held_max());
        if held < u64::from(layers) {
            let model = resolved.model_name.clone();
            return Err(ScenarioError::DoesNotFit { model, layers, held });
        }
        let pack = Pack::named(&self.policy)?;
        let placed = match (self.placement_file(), files.placement) {
            (Some(_), text) => Some(read_placement(text.unwrap_or_default(), &resolved)?),
            (None, _) => None,
        };
        if placed.is_none() {
            placing::method(&self.placement)?;
        }
        let planned = |host| placed.as_ref().map(|it| it.steps[host]).unwrap_or_default();
        let hosts = 0..resolved.instance.hosts.len();
        Ok(Scenario {
            cluster: name_of(&self.cluster),
            method: self.placement.clone(),
            bounds: hosts.map(|host| self.bounds(pack, planned(host))).collect(),
            placed,
            workload: self.workload(files)?,
            faults: faults::faults(&self.faults, &resolved.instance)?,
            replan: self.replan,
            settings: self.settings(&resolved, pack)?,
            resolved,
        })
    }

    /// Bounds of a host: the scenario's, else those that were planned.
    fn bounds(&self, pack: Pack, planned: StepBounds) -> Bounds {
        let BoundsEntry { batch_max, chunk_tokens, step_ms, requests_max, micro_batches } =
            self.bounds;
        let least = Bounds::of(pack);
        let chunk_tokens = chunk_tokens.or(planned.chunk_tokens);
        let micro_batches = micro_batches.or(planned.micro_batches);
        Bounds {
            batch_max: batch_max.unwrap_or(least.batch_max),
            chunk_tokens: chunk_tokens.unwrap_or(least.chunk_tokens),
            step_us: step_ms.map_or(least.step_us, |it| (it * 1e3).round() as u32),
            requests_max: requests_max.unwrap_or(least.requests_max),
            micro_batches: micro_batches.unwrap_or(least.micro_batches),
        }
    }

    fn workload(&self, files: Files<'_>) -> Result<Workload, ScenarioError> {
        let entry = &self.workload;
        let arrivals = match entry.arrivals.clone() {
            ArrivalsEntry::Poisson { requests_per_second: per_second } => {
                Arrivals::Poisson { per_second }
            }
            ArrivalsEntry::Bursts {
                requests_per_second: per_second,
                every_seconds,
                lasting_seconds,
                factor,
            } => Arrivals::Bursts { per_second, every_seconds, lasting_seconds, factor },
            ArrivalsEntry::Diurnal { requests_per_second: per_second, period_seconds, depth } => {
                Arrivals::Diurnal { per_second, period_seconds, depth }
            }
            ArrivalsEntry::Recorded { .. } => {
                Arrivals::Recorded(read_times(files.arrivals.unwrap_or_default())?)
            }
            ArrivalsEntry::Users { count, start, ramp_seconds, pause_seconds } => {
                let start = start.unwrap_or(count);
                Arrivals::Users { count, start, ramp_seconds, pause_seconds }
            }
            ArrivalsEntry::Backlog { in_flight_max, waiting } => {
                Arrivals::Backlog { waiting, in_flight_max }
            }
        };
        let lengths = match entry.lengths {
            LengthsEntry::AzureConversation => Lengths::AzureConversation,
            LengthsEntry::Fixed { prompt_tokens: prompt, output_tokens: output } => {
                Lengths::Fixed(crate::workload::Length { prompt, output })
            }
            LengthsEntry::Recorded { .. } => {
                Lengths::Stream(read_lengths(files.lengths.unwrap_or_default())?)
            }
        };
        let prefixes = entry.prefixes.map(|it| {
            let PrefixesEntry { share, count, tokens } = it;
            Prefixes { share, count, tokens }
        });
        let longer = entry.longer.map(|it| Longer {
            factor: it.factor,
            from: nanos(it.from_seconds),
            to: nanos(it.to_seconds),
        });
        Ok(Workload { arrivals, lengths, prefixes, longer, seed: self.seed })
    }

    fn settings(&self, resolved: &Resolved, pack: Pack) -> Result<Settings, ScenarioError> {
        let usual = Settings::default();
        let LimitsEntry { context_tokens, waiting_max, .. } = self.limits;
        let wait = matches!(
            self.workload.arrivals,
            ArrivalsEntry::Users { .. } | ArrivalsEntry::Backlog { .. }
        );
        let time = |given: Option<f64>, usual: Nanos| given.map_or(usual, nanos);
        let usual_stall = if wait { PATIENCE_OF_USERS } else { usual.stall_after };
        let mut pack = pack;
        if wait {
            pack.gateway.patience = Duration::from_nanos(PATIENCE_OF_USERS);
            pack.gateway.waiting_max = usize::MAX;
        }
        if let Some(it) = self.limits.patience_seconds {
            pack.gateway.patience = Duration::from_secs_f64(it);
        }
        if let Some(it) = waiting_max {
            pack.gateway.waiting_max = it as usize;
        }
        Ok(Settings {
            gateways: self.gateways(resolved)?,
            pack,
            curves: match self.curves {
                CurvesEntry::Floored => Curves::Floored,
                CurvesEntry::Published => Curves::Published,
            },
            overheads: self.overheads(resolved)?,
            heartbeat: time(self.limits.heartbeat_seconds, usual.heartbeat),
            suspect_after: time(self.limits.suspect_seconds, usual.suspect_after),
            dead_after: time(self.limits.dead_seconds, usual.dead_after),
            context_tokens: context_tokens.unwrap_or(usual.context_tokens),
            stall_after: time(self.limits.stall_seconds, usual_stall),
            window: Window { from: nanos(self.window_seconds.0), to: nanos(self.window_seconds.1) },
            targets: Targets {
                ttft: time(self.targets.ttft_seconds, usual.targets.ttft),
                tpot: time(self.targets.tpot_seconds, usual.targets.tpot),
            },
            look_every: time(self.limits.look_seconds, usual.look_every),
        })
    }

    fn overheads(&self, resolved: &Resolved) -> Result<Vec<Overhead>, ScenarioError> {
        let mut all = vec![Overhead::default(); resolved.instance.hosts.len()];
        for (name, it) in &self.overheads {
            let OverheadEntry { share, step_ms, part_ms } = *it;
            let host = faults::host(&resolved.instance, "overheads", name)?;
            let (step_seconds, part_seconds) = (step_ms * 1e-3, part_ms * 1e-3);
            all[host] = Overhead { share, step_seconds, part_seconds };
        }
        Ok(all)
    }

    fn gateways(&self, resolved: &Resolved) -> Result<Gateways, ScenarioError> {
        let Some(names) = &self.gateways else { return Ok(Gateways::Outside) };
        let at = |name: &String| faults::host(&resolved.instance, "gateways", name);
        Ok(Gateways::At(names.iter().map(at).collect::<Result<_, _>>()?))
    }
}

impl Scenario {
    /// Runs the scenario with its layers where `placed` says.
    ///
    /// # Errors
    ///
    /// If the placement cannot be served.
    pub fn run(&self, placed: &Placed) -> Result<Outcome, ScenarioError> {
        let plan = plan(&self.resolved, &placed.placement, &placed.flow, &self.bounds, Epoch(1))?;
        let plans = (&placed.placement, &plan);
        let changes = (self.faults.clone(), replan::hook(self));
        let mut world = World::new(
            &self.resolved,
            plans,
            self.workload.clone(),
            changes,
            self.settings.clone(),
        )?;
        world.run(self.settings.window.to);
        Ok(Outcome {
            policy: self.settings.pack.name.to_owned(),
            cluster: self.cluster.clone(),
            placement: self.method.clone(),
            ..world.outcome()
        })
    }
}

/// What a cluster is called: its file without folders and ending.
fn name_of(path: &str) -> String {
    let file = path.rsplit(['/', '\\']).next().unwrap_or(path);
    file.strip_suffix(".toml").unwrap_or(file).to_owned()
}
