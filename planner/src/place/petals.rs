//! The greedy rule of Petals: each host takes the weakest stretch of layers.
