//! The picture of a plan: hosts over the layer axis, flows as ribbons, the bottleneck in red.
