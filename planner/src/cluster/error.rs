//! Why a cluster file cannot be used.

/// What is wrong with a cluster file, where, and what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
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
    #[error("{key} = \"{name}\": there is no such {kind}{}", advice(nearest.as_ref()))]
    Unknown {
        /// Where it stands.
        key: String,
        /// What is missing.
        kind: &'static str,
        /// The name.
        name: String,
        /// The name most like it.
        nearest: Option<String>,
    },
    /// Two things of one name, or two entries about the same thing.
    #[error("{key} = \"{name}\" is there twice; rename or remove one")]
    Duplicate {
        /// Where the second one stands.
        key: String,
        /// What it is called.
        name: String,
    },
    /// Keys that do not go together, or a key that is missing.
    #[error("{key}: {problem}")]
    Shape {
        /// Where.
        key: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// No model is named, neither in the file nor by the caller.
    #[error("no model is named; set `model` or choose one of {known}")]
    NoModel {
        /// Models that could be named.
        known: String,
    },
    /// The file has no hosts.
    #[error("the cluster has no hosts; add at least one to `hosts`")]
    NoHosts,
    /// More hosts than a plan is made for.
    #[error("the cluster has {hosts} hosts, above the limit of {max}; plan parts of it")]
    TooManyHosts {
        /// Hosts after multiplying by their counts.
        hosts: u64,
        /// The limit.
        max: u32,
    },
}

fn advice(nearest: Option<&String>) -> String {
    nearest.map(|it| format!("; did you mean \"{it}\"?")).unwrap_or_default()
}
