//! Survivability: the flow left after the worst loss of one host.
