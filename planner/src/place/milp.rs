//! The formulation of Helix (ASPLOS 2025, section 4), solved by HiGHS.
