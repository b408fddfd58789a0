//! What stages and gateways may do one way or another, as data: our own way, and those of systems
//! that ours is compared with. Real hosts and simulated ones read the same values.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a stage schedules.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct StagePolicy {
    /// How prompts enter steps.
    pub prefill: Prefill,
    /// How many requests decode in one step.
    pub pacing: Pacing,
    /// When a request gets its KV blocks.
    pub growth: Growth,
    /// Whether blocks of known tokens outlive their request, for others with the same prefix.
    pub prefix_cache: bool,
    /// Whether a request that needs a block may take it from a younger or less important one.
    /// Without, the request that needs it is the one that gives way.
    pub preemption: bool,
}

/// How prompts enter steps.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Prefill {
    /// At once, however long.
    Whole,
    /// In parts, bounded in tokens and time by the plan.
    Chunked,
}

/// How many requests decode in one step.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub enum Pacing {
    /// As many as are ready, up to the plan's bound.
    Unbounded,
    /// In even groups that stay together: the requests that decode here over the number of groups
    /// that keeps every stage busy. A first stage lets no smaller group go while others are under
    /// way, no stage takes more than `slack` of it at once or begins before all rows are there that
    /// were computed together before. Never above the plan's bound.
    MicroBatches {
        /// At least one.
        slack: f64,
    },
}

/// When a request gets its KV blocks.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub enum Growth {
    /// All it may ever need, when it opens.
    WorstCase,
    /// Those of the tokens so far when it opens, more as it grows.
    OnDemand {
        /// Share of all blocks that must be left free by a request that opens beside others.
        headroom: f64,
    },
}

/// How a gateway admits and routes.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct GatewayPolicy {
    /// How the next hop is chosen among those that can be used.
    pub routing: Routing,
    /// Whether a hop that holds the start of a prompt is preferred, within the weights.
    pub affinity: bool,
    /// Hops with less than this share of the flow that leaves their start are not used while
    /// others are; zero uses all.
    pub flow_share_min: f64,
    /// Hops whose host expects rows to wait longer than this are not used.
    pub queue_max: Duration,
    /// When stages give out blocks, which decides how much room a hop needs.
    pub growth: Growth,
    /// Requests that may wait for a route at most; more are rejected.
    pub waiting_max: usize,
    /// How long a request may wait for a route. One that was under way waits for room as long as
    /// it takes, and is given up only while hosts do not cover the model.
    pub patience: Duration,
    /// What rejected clients are told to wait.
    pub retry_after: Duration,
}

/// How the next hop is chosen.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub enum Routing {
    /// By the plan's flows, interleaved.
    Weighted,
    /// The route on which a new row would be computed soonest, by what hosts tell.
    ShortestDelay,
    /// The hop whose host works on the fewest requests.
    ShortestQueue,
    /// Any hop, drawn evenly.
    Random {
        /// Seeds the draws.
        seed: u64,
    },
    /// By how fast hops answered lately (SWARM parallelism, appendix C).
    Swarm {
        /// Weight of the latest answer in the moving average, in (0, 1].
        gamma: f64,
    },
    /// Disjoint pipelines in turn, a host in one of them.
    FixedPipelines,
}

/// A way to serve: what stages do and what gateways do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pack {
    /// As it is called on the command line.
    pub name: &'static str,
    /// What stages do.
    pub stage: StagePolicy,
    /// What gateways do.
    pub gateway: GatewayPolicy,
}

/// A pack that does not exist.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no policy is called `{name}`; there are {}", Pack::ALL.map(|it| it.name).join(", "))]
pub struct UnknownPack {
    /// The name asked for.
    pub name: String,
}

/// Decode rows beyond an even share of the stages: steps end at different times, and a stage whose
/// share is late has work from the slack of another.
const SLACK: f64 = 1.25;
/// Free share that lets running requests grow for a while before one is preempted.
const HEADROOM: f64 = 0.05;

/// Prompts at once and blocks for the worst case: serving before chunks and paged growth.
const PLAIN: StagePolicy = StagePolicy {
    prefill: Prefill::Whole,
    pacing: Pacing::Unbounded,
    growth: Growth::WorstCase,
    prefix_cache: false,
    preemption: false,
};

impl Pack {
    /// Ours.
    pub const THALWEG: Self = Self {
        name: "thalweg",
        stage: StagePolicy {
            prefill: Prefill::Chunked,
            pacing: Pacing::MicroBatches { slack: SLACK },
            growth: Growth::OnDemand { headroom: HEADROOM },
            prefix_cache: true,
            preemption: true,
        },
        gateway: GatewayPolicy {
            affinity: true,
            growth: Growth::OnDemand { headroom: HEADROOM },
            ..routed(Routing::Weighted)
        },
    };

    /// Helix (ASPLOS 2025): weights of the flow, no hop below 5 % of its start's flow.
    pub const HELIX: Self = Self {
        name: "helix",
        stage: PLAIN,
        gateway: GatewayPolicy { flow_share_min: 0.05, ..routed(Routing::Weighted) },
    };

    /// SWARM parallelism (ICML 2023), with the average's weight of Helix's comparison.
    pub const SWARM: Self =
        Self { name: "swarm", stage: PLAIN, gateway: routed(Routing::Swarm { gamma: 0.8 }) };

    /// Any hop.
    pub const RANDOM: Self =
        Self { name: "random", stage: PLAIN, gateway: routed(Routing::Random { seed: 0 }) };

    /// The hop with the fewest requests.
    pub const SHORTEST_QUEUE: Self =
        Self { name: "shortest-queue", stage: PLAIN, gateway: routed(Routing::ShortestQueue) };

    /// Orca (OSDI 2022): iteration-level batches, whole prompts, worst case reserved; a pipeline
    /// per request.
    pub const ORCA: Self =
        Self { name: "orca", stage: PLAIN, gateway: routed(Routing::FixedPipelines) };

    /// vLLM: paged blocks on demand with its watermark of 1 %, chunked prompts, preemption by
    /// recomputing; a pipeline per request.
    pub const VLLM: Self = Self {
        name: "vllm",
        stage: StagePolicy {
            prefill: Prefill::Chunked,
            pacing: Pacing::Unbounded,
            growth: Growth::OnDemand { headroom: 0.01 },
            prefix_cache: true,
            preemption: true,
        },
        gateway: GatewayPolicy {
            affinity: true,
            growth: Growth::OnDemand { headroom: 0.01 },
            ..routed(Routing::FixedPipelines)
        },
    };

    /// Petals (ACL 2023): the route that answers soonest.
    pub const PETALS: Self =
        Self { name: "petals", stage: PLAIN, gateway: routed(Routing::ShortestDelay) };

    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::THALWEG,
        Self::HELIX,
        Self::SWARM,
        Self::RANDOM,
        Self::SHORTEST_QUEUE,
        Self::ORCA,
        Self::VLLM,
        Self::PETALS,
    ];

    /// Returns the pack of that name.
    ///
    /// # Errors
    ///
    /// Names those there are.
    pub fn named(name: &str) -> Result<Self, UnknownPack> {
        let found = Self::ALL.into_iter().find(|it| it.name == name);
        found.ok_or_else(|| UnknownPack { name: name.to_owned() })
    }
}

/// A gateway that routes this way and admits as all of them do.
const fn routed(routing: Routing) -> GatewayPolicy {
    GatewayPolicy {
        routing,
        affinity: false,
        flow_share_min: 0.0,
        queue_max: Duration::MAX,
        growth: Growth::WorstCase,
        waiting_max: 512,
        patience: Duration::from_secs(60),
        retry_after: Duration::from_secs(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_are_found_by_name() {
        for pack in Pack::ALL {
            assert_eq!(Pack::named(pack.name), Ok(pack));
        }
        let error = Pack::named("helx").expect_err("a typing error");
        assert_eq!(
            error.to_string(),
            "no policy is called `helx`; there are thalweg, helix, swarm, random, shortest-queue, \
             orca, vllm, petals"
        );
    }
}
