//! A plan as it is printed and verified: placement, weights, proof.
