//! Re-checks a printed plan with code of its own: feasibility, flow, and the proof of the bound.
