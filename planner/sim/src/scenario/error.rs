//! Why a scenario cannot be run.

use thalweg_core::policy::UnknownPack;
use thalweg_planner::cluster::ClusterError;

use crate::plan::PlanError;
use crate::world::WorldError;

/// What is wrong with a scenario, where, and what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// Not TOML, an unknown key, a missing key or a value of the wrong kind; with line and key.
    #[error("{message}")]
    Syntax {
        /// What the parser says, with an excerpt of the file.
        message: String,
    },
    /// A number that cannot be meant.
    #[error("{key} = {value}: give {expected}")]
    Number {
        /// Where it stands.
        key: String,
        /// The number.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// A name that nothing has.
    #[error("{key} = \"{name}\": there is no such {kind}; there are {known}")]
    Unknown {
        /// Where it stands.
        key: String,
        /// What is missing.
        kind: &'static str,
        /// The name.
        name: String,
        /// Names there are, some of them.
        known: String,
    },
    /// Keys that do not go together, or a key that is missing.
    #[error("{key}: {problem}")]
    Shape {
        /// Where.
        key: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A trace without a request.
    #[error("{key}: the file has no {kind}; {expected}")]
    EmptyTrace {
        /// The key that names the file.
        key: &'static str,
        /// What it should have.
        kind: &'static str,
        /// How that looks.
        expected: &'static str,
    },
    /// A line of a trace that cannot be read.
    #[error("{key}: line {line}, \"{text}\": {expected}")]
    TraceLine {
        /// The key that names the file.
        key: &'static str,
        /// Which line, from one.
        line: usize,
        /// What it says.
        text: String,
        /// How it should look.
        expected: &'static str,
    },
    /// Too little memory for the model.
    #[error(
        "{model} has {layers} layers, and the hosts of the cluster hold {held} at most; add hosts, or \
         choose a smaller model"
    )]
    DoesNotFit {
        /// The model.
        model: String,
        /// Its layers.
        layers: u32,
        /// Layers that fit, all hosts together.
        held: u64,
    },
    /// A method found nothing.
    #[error(
        "{method} found no placement that carries anything; see `thalweg plan --method {method}`"
    )]
    NotPlaced {
        /// The method.
        method: String,
    },
    /// A placement for another model.
    #[error("the placement is of {found}, the scenario serves {wanted}; plan {wanted} first")]
    OtherModel {
        /// The placement's model.
        found: String,
        /// The scenario's.
        wanted: String,
    },
    /// A placement for another cluster.
    #[error(
        "the placement names host \"{host}\", which the cluster does not have; plan this cluster first"
    )]
    OtherCluster {
        /// The host.
        host: String,
    },
    /// A placement that is none.
    #[error("the placement file cannot be read: {message}")]
    Placement {
        /// What the parser says.
        message: String,
    },
    /// A policy that does not exist.
    #[error("policy: {0}")]
    Policy(#[from] UnknownPack),
    /// The cluster file is wrong.
    #[error("cluster file: {0}")]
    Cluster(#[from] ClusterError),
    /// The placement cannot be served.
    #[error("placement: {0}")]
    Plan(#[from] PlanError),
    /// Hosts that cannot work together.
    #[error(transparent)]
    World(#[from] WorldError),
}
