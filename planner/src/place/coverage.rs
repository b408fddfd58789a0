//! The default method: coverage by annealing, a mixed-integer program and a proof.
