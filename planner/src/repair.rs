//! Repair of a plan after a change: re-weight first, then move as few bytes as possible.
