//! One pipeline for each machine type.
