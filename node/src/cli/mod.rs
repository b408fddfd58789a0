//! The command line: one module per verb.

pub mod advice;
pub mod bench;
pub mod certs;
pub mod chat;
pub mod client;
pub mod demo;
pub mod join;
pub mod models;
pub mod plan;
pub mod simulate;
pub mod status;
