//! What can happen to a cluster that serves a plan.

use crate::instance::{Class, Instance, Pairs, Placement, Rates};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A host is gone, with all it held.
    HostLost {
        /// Its index.
        host: usize,
    },
    /// Hosts have joined.
    HostsJoined {
        /// The cluster with them; the old hosts come first, in their old order.
        cluster: Box<Instance>,
    },
    /// A host computes more slowly than planned.
    HostSlower {
        /// Its index.
        host: usize,
        /// What is left of its rates, as a share.
        share: f64,
    },
    /// Links from one region to another carry less.
    LinkSlower {
        /// Region they leave, by index.
        from: usize,
        /// Region they reach, by index.
        to: usize,
        /// What is left of their rates, as a share.
        share: f64,
    },
    /// The workload is another one, and with it the rates of all hosts.
    WorkloadShifted {
        /// The same hosts at the new workload.
        cluster: Box<Instance>,
    },
}

impl Change {
    /// The cluster afterwards. Hosts keep their indices; a lost one can hold nothing any more.
    /// Indices that do not exist change nothing.
    pub fn apply(&self, before: &Instance) -> Instance {
        let mut after = before.clone();
        match self {
            Self::HostsJoined { cluster } | Self::WorkloadShifted { cluster } => {
                after = Instance::clone(cluster);
            }
            Self::HostLost { host } if *host < after.hosts.len() => {
                let rates = Rates::default();
                let lost = Class { name: "lost".into(), rates, device: None };
                reclass(&mut after, *host, lost);
            }
            Self::HostSlower { host, share } if *host < after.hosts.len() => {
                let class = before.class(*host);
                let (name, rates) = (class.name.clone(), class.rates.scaled(*share));
                reclass(&mut after, *host, Class { name, rates, device: class.device.clone() });
            }
            Self::LinkSlower { from, to, share } => slow_links(&mut after, *from, *to, *share),
            Self::HostLost { .. } | Self::HostSlower { .. } => {}
        }
        after
    }

    /// What is still held of `old` afterwards.
    pub fn survivors(&self, old: &Placement) -> Placement {
        let mut left = old.clone();
        if let Self::HostLost { host } = self
            && let Some(range) = left.get_mut(*host)
        {
            *range = None;
        }
        left
    }
}

/// Gives one host a class of its own.
fn reclass(instance: &mut Instance, host: usize, class: Class) {
    instance.hosts[host].class = instance.classes.len();
    instance.classes.push(class);
}

fn slow_links(instance: &mut Instance, from: usize, to: usize, share: f64) {
    let hosts = &instance.hosts;
    match &mut instance.network.pairs {
        Pairs::ByRegion(table) => {
            let at = from * instance.regions.len() + to;
            if let Some(Some(wire)) = table.get_mut(at) {
                wire.tokens_per_second *= share;
            }
        }
        Pairs::Each(table) => {
            for (at, wire) in table.iter_mut().enumerate() {
                let (near, far) = (&hosts[at / hosts.len()], &hosts[at % hosts.len()]);
                if let Some(wire) = wire
                    && (near.region, far.region) == (from, to)
                {
                    wire.tokens_per_second *= share;
                }
            }
        }
    }
    for shared in instance.network.shared.iter_mut().filter(|it| it.carries == [(from, to)]) {
        shared.tokens_per_second *= share;
    }
}
