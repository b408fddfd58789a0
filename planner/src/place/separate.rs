//! One or more pipelines for each machine type (SP), and mixed ones of what is left (SP+).
//!
//! The Helix artifact has these layouts by hand; here hosts of a type, region by region, are cut
//! into pipelines exactly. A type whose machines together cannot hold the model gives none, which
//! is why mixed pipelines of left-over machines exist.

use std::collections::BTreeSet;

use super::by_descending;
use super::pipelines::{self, Pipeline};
use crate::instance::Instance;
use crate::method::{Found, Method, Watch};

/// One or more pipelines for each machine type.
#[derive(Clone, Copy, Debug, Default)]
pub struct Separate {
    /// Whether machines without a pipeline of their type form mixed ones.
    pub mixed: bool,
}

impl Method for Separate {
    fn name(&self) -> &'static str {
        if self.mixed { "separate-plus" } else { "separate" }
    }

    fn place(&self, instance: &Instance, _seed: u64, _watch: &mut Watch<'_>) -> Option<Found> {
        let mut chosen: Vec<Pipeline> = Vec::new();
        for class in 0..instance.classes.len() {
            let alike = (0..instance.hosts.len()).filter(|&it| instance.hosts[it].class == class);
            chosen.extend(pipelines::cut(instance, &by_region(instance, alike.collect())));
        }
        if self.mixed {
            let used: BTreeSet<usize> = chosen.iter().flat_map(|it| it.hosts.clone()).collect();
            let left: Vec<usize> =
                (0..instance.hosts.len()).filter(|it| !used.contains(it)).collect();
            let orders = [by_region(instance, left.clone()), by_speed(instance, left)];
            let cuts = orders.map(|order| pipelines::cut(instance, &order));
            let flow = |it: &Vec<Pipeline>| it.iter().map(|it| it.flow).sum::<f64>();
            let [first, second] = cuts;
            chosen.extend(if flow(&second) > flow(&first) { second } else { first });
        }
        pipelines::found(instance, chosen)
    }
}

/// Hosts region by region, types together inside each.
pub fn by_region(instance: &Instance, mut hosts: Vec<usize>) -> Vec<usize> {
    hosts.sort_by_key(|&it| (instance.hosts[it].region, instance.hosts[it].class));
    hosts
}

/// Hosts by what they compute when full, most first; then by region.
pub fn by_speed(instance: &Instance, mut hosts: Vec<usize>) -> Vec<usize> {
    let work = |host: usize| {
        let rates = &instance.class(host).rates;
        rates.most(rates.count_max()) * f64::from(rates.count_max())
    };
    let place = |it: usize| (instance.hosts[it].class, instance.hosts[it].region);
    hosts.sort_by(|&a, &b| by_descending(work(a), work(b)).then(place(a).cmp(&place(b))));
    hosts
}
