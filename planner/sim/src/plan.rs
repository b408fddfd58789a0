//! From the planner's own terms to the plan that hosts are told.

use thalweg_core::kv::BLOCK_TOKENS;
use thalweg_core::policy::{Pack, Prefill};
use thalweg_planner::cluster::Resolved;
use thalweg_planner::flow::{End as FlowEnd, Flow};
use thalweg_planner::instance::{Instance, Placement};
use thalweg_wire::{Assignment, End, Epoch, HostId, LayerRange, ModelId, Plan, Weight};

/// Longest prompt of those that a machine's `prefill_requests_max` counts, as the Helix artifact takes
/// them (ASPLOS 2025, Thesys-lab/Helix-ASPLOS25): the memory of a step is limited, not the number of
/// prompts.
const PROMPT_TOKENS_MAX: u32 = 2048;

/// Prompt tokens of a step where prompts are cut, unless more is known.
const CHUNK_TOKENS: u32 = 128;

/// What a plan says of a host besides what it holds and which hop carries how much.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// Requests whose decode steps run together at most; a machine's own limit may be lower.
    pub batch_max: u32,
    /// Prompt tokens of a step at most.
    pub chunk_tokens: u32,
    /// Time of a step that prompts are cut to, in microseconds; zero sets none.
    pub step_us: u32,
    /// Requests in flight through a host at most; zero leaves that to KV.
    pub requests_max: u32,
    /// Groups in which requests decode; zero takes the stages of their routes.
    pub micro_batches: u32,
}

impl Bounds {
    /// As few bounds as hosts that schedule as `pack` can do with.
    pub fn of(pack: Pack) -> Self {
        let chunk_tokens = match pack.stage.prefill {
            Prefill::Whole => u32::MAX,
            Prefill::Chunked => CHUNK_TOKENS,
        };
        Self { batch_max: u32::MAX, chunk_tokens, step_us: 0, requests_max: 0, micro_batches: 0 }
    }
}

/// A plan that cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// Layers that nobody holds.
    #[error("no host holds layer {layer} of {layers}; choose a placement that covers all of them")]
    Uncovered {
        /// The first of them.
        layer: u32,
        /// Layers of the model.
        layers: u32,
    },
    /// More layers than fit.
    #[error("{host} ({machine}) holds {count} layers, but at most {most} fit; {advice}")]
    TooLarge {
        /// The host.
        host: String,
        /// Its machine type.
        machine: String,
        /// Layers it was given.
        count: u32,
        /// Layers that fit.
        most: u32,
        /// What to do.
        advice: &'static str,
    },
    /// A machine whose step times nobody knows.
    #[error(
        "{host}: step times of {machine} are not known; add a profile with prefill_ms, decode_ms and \
         kv_blocks for it to the cluster file"
    )]
    NoCurves {
        /// The host.
        host: String,
        /// Its machine type.
        machine: String,
    },
    /// Nothing flows.
    #[error("the placement carries no flow over the links of the cluster; see `thalweg plan`")]
    NoFlow,
}

/// The name of a host on the wire.
pub fn host_id(instance: &Instance, host: usize) -> HostId {
    HostId::of(&instance.hosts[host].name)
}

/// Makes the plan of a placement that carries `flow`; `bounds` are those of each host.
///
/// # Errors
///
/// If the placement does not hold the model, or holds more than fits.
pub fn plan(
    resolved: &Resolved,
    placement: &Placement,
    flow: &Flow,
    bounds: &[Bounds],
    epoch: Epoch,
) -> Result<Plan, PlanError> {
    let instance = &resolved.instance;
    let mut assignments = Vec::new();
    for (host, range) in placement.iter().enumerate() {
        if let Some(layers) = *range {
            assignments.push(assignment(instance, host, layers, bounds[host])?);
        }
    }
    assignments.sort_by_key(|it| (it.layers, it.host));
    let held = |layer| assignments.iter().any(|it| it.layers.contains(layer));
    if let Some(layer) = (0..instance.layers).find(|&it| !held(it)) {
        return Err(PlanError::Uncovered { layer, layers: instance.layers });
    }
    if flow.value <= 0.0 {
        return Err(PlanError::NoFlow);
    }
    let end = |end: FlowEnd| match end {
        FlowEnd::Source => End::Source,
        FlowEnd::Host(host) => End::Host(host_id(instance, host)),
        FlowEnd::Sink => End::Sink,
    };
    let weights = flow.hops.iter().map(|it| Weight {
        from: end(it.from),
        to: end(it.to),
        tokens_per_second: it.tokens_per_second,
    });
    Ok(Plan {
        epoch,
        term: 1,
        model: model_id(&resolved.model_name),
        layers: instance.layers,
        assignments,
        weights: weights.collect(),
        flow: flow.value,
        bound: flow.value,
        bottleneck: String::new(),
    })
}

/// A model by its name: no weights are at hand to hash.
fn model_id(name: &str) -> ModelId {
    let mut id = [0; 32];
    id.iter_mut().zip(name.bytes()).for_each(|(at, byte)| *at = byte);
    ModelId(id)
}

fn assignment(
    instance: &Instance,
    host: usize,
    layers: LayerRange,
    bounds: Bounds,
) -> Result<Assignment, PlanError> {
    let (name, class) = (&instance.hosts[host].name, instance.class(host));
    let Some(device) = &class.device else {
        return Err(PlanError::NoCurves { host: name.clone(), machine: class.name.clone() });
    };
    let count = layers.count();
    let kv = device.kv_token_layers.get(count as usize).copied().unwrap_or(0.0);
    let kv_tokens = (kv / f64::from(count)) as u64;
    if kv_tokens < u64::from(BLOCK_TOKENS) {
        let most = class.rates.count_max();
        let advice = "plan again, or give the host more memory";
        let (host, machine) = (name.clone(), class.name.clone());
        return Err(PlanError::TooLarge { host, machine, count, most, advice });
    }
    let most = device.decode_requests_max.get(count as usize).copied().filter(|&it| it > 0);
    let prompts = Some(device.prefill_requests_max).filter(|&it| it > 0);
    let prompt_tokens = prompts.map_or(u32::MAX, |it| it.saturating_mul(PROMPT_TOKENS_MAX));
    Ok(Assignment {
        host: host_id(instance, host),
        layers,
        kv_tokens,
        batch_max: bounds.batch_max.min(most.unwrap_or(u32::MAX)).max(1),
        chunk_tokens: bounds.chunk_tokens.min(prompt_tokens).max(1),
        step_us: bounds.step_us,
        requests_max: bounds.requests_max,
        micro_batches: bounds.micro_batches,
    })
}
