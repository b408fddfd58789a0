//! Regions that serve the model by themselves.
//!
//! Where links between regions are thin, a region that can hold the whole model is best left alone:
//! its flow needs no link to another, and the flows of all regions add up.

use crate::flow;
use crate::instance::{Instance, Network, Pairs};

/// A part of an instance, with its hosts by their index in the whole.
pub(super) struct Part {
    pub instance: Instance,
    pub hosts: Vec<usize>,
}

/// Parts whose flows add up and in which links do not bind: all hosts, or one region each. `None` if
/// there are no such parts.
pub(super) fn parts(instance: &Instance) -> Option<Vec<Part>> {
    if free(instance) {
        let hosts = (0..instance.hosts.len()).collect();
        return Some(vec![Part { instance: instance.clone(), hosts }]);
    }
    let regions = 0..instance.regions.len();
    let inside = |region: usize| -> Vec<usize> {
        (0..instance.hosts.len()).filter(|&it| instance.hosts[it].region == region).collect()
    };
    let parts: Vec<Part> =
        regions.map(inside).filter(|it| !it.is_empty()).map(|it| part(instance, it)).collect();
    let alone = |it: &Part| {
        it.instance.layers_held_max() >= u64::from(instance.layers) && free(&it.instance)
    };
    (parts.len() > 1 && parts.iter().all(alone)).then_some(parts)
}

/// Whether nothing but coverage, and whole stages without partial inference, limits a flow.
fn free(instance: &Instance) -> bool {
    if instance.partial {
        return !flow::links_bind(instance);
    }
    !flow::links_bind(&Instance { partial: true, ..instance.clone() })
}

fn part(instance: &Instance, hosts: Vec<usize>) -> Part {
    let Network { pairs, enter, leave, shared } = &instance.network;
    let pairs = match pairs {
        Pairs::ByRegion(_) => pairs.clone(),
        Pairs::Each(_) => Pairs::Each(
            hosts
                .iter()
                .flat_map(|&from| hosts.iter().map(move |&to| instance.wire(from, to)))
                .collect(),
        ),
    };
    let of = |wires: &[_]| hosts.iter().map(|&it| wires[it]).collect();
    let network = Network { pairs, enter: of(enter), leave: of(leave), shared: shared.clone() };
    let own = hosts.iter().map(|&it| instance.hosts[it].clone()).collect();
    Part {
        instance: Instance {
            layers: instance.layers,
            classes: instance.classes.clone(),
            hosts: own,
            regions: instance.regions.clone(),
            network,
            partial: instance.partial,
            layer_bytes: instance.layer_bytes,
        },
        hosts,
    }
}
