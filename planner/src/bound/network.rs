//! A bound that knows regions and links.
