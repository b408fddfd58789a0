//! Placement methods.

pub mod blocks;
pub mod coverage;
pub mod hexgen;
pub mod homogeneous;
pub mod milp;
pub mod petals;
pub mod pipelines;
pub mod separate;
pub mod swarm;

#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use thalweg_wire::LayerRange;

use crate::method::{Method, Progress};

/// Names of the methods, each with what it does in one line; the first is the default.
pub const NAMES: [(&str, &str); 14] = [
    ("coverage", "greatest least coverage by annealing and a mixed-integer program, with a proof"),
    ("annealing", "the same without the program"),
    ("greedy", "each host over the layers least covered so far, the strongest first"),
    ("intervals", "the mixed-integer program that counts hosts by what they hold, solved by HiGHS"),
    ("milp", "the mixed-integer program of Helix over every link, solved by HiGHS, no hints"),
    ("milp-pruned", "the same over the 12 best links of each host"),
    ("milp-hinted", "the same over every link, beginning with the best of the quick methods"),
    ("swarm", "equal stages, each host to the stage with the least throughput (SWARM)"),
    ("petals", "each host takes the weakest stretch of layers, hosts in random order (Petals)"),
    ("petals-rebalanced", "the same, and hosts move until the swarm is balanced"),
    ("separate", "one or more pipelines for each machine type (SP)"),
    ("separate-plus", "the same, and mixed pipelines of the machines left over (SP+)"),
    ("homogeneous", "full or equal stages over like machines (Orca, vLLM)"),
    ("hexgen", "independent asymmetric pipelines by genetic search (HexGen)"),
];

/// The method of this name; see [`NAMES`].
pub fn method(name: &str) -> Option<Box<dyn Method>> {
    Some(match name {
        "coverage" => Box::new(coverage::Coverage),
        "annealing" => Box::new(coverage::Annealing),
        "greedy" => Box::new(coverage::Greedy),
        "intervals" => Box::new(coverage::Intervals),
        "milp" => Box::new(milp::Milp::default()),
        "milp-pruned" => {
            Box::new(milp::Milp { links_max: Some(LINKS_PRUNED), ..Default::default() })
        }
        "milp-hinted" => Box::new(milp::Milp { hints: quick(), ..Default::default() }),
        "swarm" => Box::new(swarm::Swarm),
        "petals" => Box::new(petals::Petals { rebalance: false }),
        "petals-rebalanced" => Box::new(petals::Petals { rebalance: true }),
        "separate" => Box::new(separate::Separate { mixed: false }),
        "separate-plus" => Box::new(separate::Separate { mixed: true }),
        "homogeneous" => Box::new(homogeneous::Homogeneous),
        "hexgen" => Box::new(hexgen::Hexgen::default()),
        _ => return None,
    })
}

/// Links that each host keeps when pruned, as in the Helix artifact.
const LINKS_PRUNED: usize = 12;

/// What the Helix artifact takes hints from.
fn quick() -> Vec<Box<dyn Method>> {
    vec![
        Box::new(swarm::Swarm),
        Box::new(petals::Petals { rebalance: false }),
        Box::new(separate::Separate { mixed: true }),
        Box::new(homogeneous::Homogeneous),
    ]
}

/// The range `first..end`; `None` if it is empty.
fn range(first: u32, end: u32) -> Option<LayerRange> {
    LayerRange::new(first, end).ok()
}

/// Larger numbers first.
fn by_descending(a: f64, b: f64) -> Ordering {
    b.total_cmp(&a)
}

/// Progress of a method that proves nothing.
fn progress(flow: f64, moves: u64) -> Progress {
    Progress { flow, bound: f64::INFINITY, moves }
}
