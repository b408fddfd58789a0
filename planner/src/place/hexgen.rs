//! Independent asymmetric pipelines found by search (HexGen, ICML 2024).
