//! What thin links leave of an instance: all of it, or its regions.

use crate::flow;
use crate::instance::{Instance, Network, Pairs};

/// Where links do not bind.
pub(super) enum Free {
    /// Anywhere.
    Everywhere,
    /// Inside every region, of which there are several.
    Inside(Vec<Part>),
    /// Not even there.
    Nowhere,
}

/// The hosts of one region, by their index in the whole, as an instance of their own.
pub(super) struct Part {
    pub instance: Instance,
    pub hosts: Vec<usize>,
}

impl Part {
    /// Whether its hosts can hold the model.
    pub fn holds_all(&self) -> bool {
        self.instance.layers_held_max() >= u64::from(self.instance.layers)
    }
}

/// Where links do not bind.
pub(super) fn free(instance: &Instance) -> Free {
    if unbound(instance) {
        return Free::Everywhere;
    }
    let inside = |region: usize| -> Vec<usize> {
        (0..instance.hosts.len()).filter(|&it| instance.hosts[it].region == region).collect()
    };
    let regions = (0..instance.regions.len()).map(inside).filter(|it| !it.is_empty());
    let parts: Vec<Part> = regions.map(|it| part(instance, it)).collect();
    if parts.len() > 1 && parts.iter().all(|it| unbound(&it.instance)) {
        Free::Inside(parts)
    } else {
        Free::Nowhere
    }
}

/// Whether nothing but coverage, and whole stages without partial inference, limits a flow.
fn unbound(instance: &Instance) -> bool {
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
