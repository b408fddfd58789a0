//! Candidates along throughput, latency and cost, ranked by a closed-loop estimate or a judge.
