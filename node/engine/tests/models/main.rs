//! The engine against a reference, and against itself cut into pieces.

mod golden;
mod perplexity;
mod pieces;
mod plain;
mod rig;
