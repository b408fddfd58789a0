//! The twin: a virtual clock and virtual links around the machines of `thalweg-core`. Not yet: the
//! machines it hosts exist, the virtual world does not.

pub mod helix;
