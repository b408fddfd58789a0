//! Equal stages filled by throughput, as in SWARM.
