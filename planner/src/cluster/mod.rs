//! Cluster files: what an operator writes, checked and turned into an instance.
