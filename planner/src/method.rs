//! The one interface of all placement methods.

use std::ops::ControlFlow;

use crate::instance::{Instance, Placement};

/// How far a method is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Flow of the best placement so far, in tokens/s; zero if there is none.
    pub flow: f64,
    /// No placement is proved to reach more, in tokens/s; infinite if nothing is proved.
    pub bound: f64,
    /// Work done so far, in moves or solver iterations.
    pub moves: u64,
}

/// Called now and then with how far a method is. It owns the clock and the wish to go on: after
/// `Break` the method ends soon with the best it has.
pub type Watch<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// A way to place layers.
pub trait Method {
    /// Name as on the command line.
    fn name(&self) -> &'static str;

    /// Places the layers. The same instance and seed give the same placement unless `watch` ends
    /// it. `None` if no placement with positive flow was found.
    fn place(&self, instance: &Instance, seed: u64, watch: &mut Watch<'_>) -> Option<Found>;
}

/// A placement with what its method knows about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Who holds what.
    pub placement: Placement,
    /// A bound on every placement that the method itself proved, in tokens/s.
    pub bound: Option<f64>,
    /// Where requests stay in one of several independent pipelines: their hosts, in order. Such a
    /// placement is judged on these hops alone (`place::pipelines`). `None` where any hop is open.
    pub pipelines: Option<Vec<Vec<usize>>>,
}

impl Found {
    /// A placement that may use every hop, with nothing proved.
    pub fn new(placement: Placement) -> Self {
        Self { placement, bound: None, pipelines: None }
    }
}
