//! Bounds under work charge.
