//! What the search compares: flow first, and among equals the simpler and quicker plan.

use thalweg_wire::LayerRange;

use crate::live::instance::{Instance, Placement};
use crate::live::network::Place;
use crate::live::routes::{RouteFlow, route_flow};

/// Hops that carry something cost this share of the flow each.
const USED_HOP_PRICE: f64 = 1e-5;

/// Holding the whole model once costs this share of the flow. Less than a hop, so that whole copies
/// beside each other still beat a chain.
const COPY_PRICE: f64 = 5e-4;

/// Price of each host's squared share of busy time: among equals, the even split.
const UNEVEN_PRICE: f64 = 1e-4;

/// Flows below this, in tokens/s, are none.
const FLOW_MIN: f64 = 1e-5;

/// A placement with its flow under work charge and what the search makes of it.
#[derive(Clone, Debug)]
pub(crate) struct Scored {
    pub placement: Placement,
    /// In tokens/s; zero if the placement carries nothing.
    pub flow: f64,
    /// The flow less the price of its hops, its time and its copies.
    pub score: f64,
    routes: RouteFlow,
}

impl Scored {
    /// Judges a placement; no placement exceeds `bound` tokens/s.
    pub fn new(instance: &Instance, placement: Placement, bound: f64) -> Self {
        let routes = route_flow(instance, &placement, bound);
        if routes.flow < FLOW_MIN {
            return Self { placement, flow: 0.0, score: 0.0, routes: RouteFlow::default() };
        }
        let flow = routes.flow;
        let costs: f64 = routes.hops.iter().map(|(hop, carried)| hop.cost(bound) * carried).sum();
        let mut busy = vec![0.0; placement.len()];
        for (hop, carried) in &routes.hops {
            if let Place::Host(host) = hop.to {
                busy[host] += hop.busy_seconds * carried;
            }
        }
        let uneven: f64 = busy.iter().map(|it| it * it).sum();
        let held: u32 = placement.iter().flatten().map(|it| it.count()).sum();
        let copies = f64::from(held) / f64::from(instance.model.layers);
        let used = routes.hops.len() as f64;
        let share = USED_HOP_PRICE * used + COPY_PRICE * copies + UNEVEN_PRICE * uneven;
        Self { placement, flow, score: flow - costs - share * flow, routes }
    }

    /// Takes idle hosts out, and from the others layers that no token is computed in.
    pub fn trimmed(&self) -> Placement {
        let mut entry: Vec<Option<u32>> = vec![None; self.placement.len()];
        for (hop, _) in &self.routes.hops {
            if let Place::Host(host) = hop.to {
                entry[host] = Some(entry[host].map_or(hop.position, |it| it.min(hop.position)));
            }
        }
        let cut = |(range, entry): (&Option<LayerRange>, Option<u32>)| {
            LayerRange::new(entry?, (*range)?.end()).ok()
        };
        self.placement.iter().zip(entry).map(cut).collect()
    }
}
