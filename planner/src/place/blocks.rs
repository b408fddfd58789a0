//! Search over region blocks where links between regions bind.
