//! The API over real connections, with a tokenizer of bytes and gateways without a model.

#![allow(missing_docs, reason = "tests are read, not documented")]

mod chat;
mod client;
mod completions;
mod fake;
mod official;
mod refusals;
mod rest;
mod verbs;
