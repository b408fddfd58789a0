//! Cluster files: what an operator writes, checked and turned into an instance.
//!
//! ```text
//! text ── parse ──▶ ClusterFile ── resolve ──▶ Instance
//!                        ▲
//!            generate, measured (a running cluster)
//! ```
//!
//! Machine types, models and profiles beyond the file's own come from the built-in catalogue.

mod catalogue;
mod check;
mod classes;
mod error;
mod file;
mod generate;
mod hosts;
mod measured;
mod names;
mod network;
mod resolve;
#[cfg(test)]
mod tests;
mod throughput;

pub use error::ClusterError;
pub use file::{
    ClusterFile, Demand, HostEntry, Line, LinkEntry, Machine, Model, NetworkEntry, Policy,
    ProfileEntry, ProviderEntry, RegionEntry, SharedEntry,
};
pub use generate::generate;
pub use measured::measured;
pub use resolve::{Choice, Resolved};
pub use throughput::Mix;

/// Reads a cluster file.
///
/// # Errors
///
/// If it is not TOML, or has unknown keys, missing keys or values of the wrong kind. What it says is
/// only checked by [`ClusterFile::resolve`].
pub fn parse(text: &str) -> Result<ClusterFile, ClusterError> {
    toml::from_str(text).map_err(|error| ClusterError::Syntax { message: error.to_string() })
}

impl ClusterFile {
    /// The file as text that [`parse`] reads.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("tables of strings, numbers and lists have a text")
    }
}
