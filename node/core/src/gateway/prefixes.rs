//! Which routes hold the KV of which prefixes, as far as this gateway knows.
//!
//! Stages keep what they computed until they need the blocks. They do not tell when they drop it;
//! a claim on what is gone is refused, and the belief with it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use thalweg_wire::{HostId, LayerRange, Route};

use crate::kv::BLOCK_TOKENS;

/// Prefixes remembered at most, one per column of tokens; the oldest goes first.
const PREFIXES_MAX: usize = 1 << 16;
/// Routes remembered for each of them at most.
const ROUTES_MAX: usize = 4;

/// What is believed of prefixes, by the hash of their tokens.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    routes: BTreeMap<u64, Vec<Arc<Route>>>,
    /// In the order they were noted.
    order: VecDeque<u64>,
}

/// What is believed of the prefixes of one request.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Routes with the columns of the request that they hold.
    routes: Vec<(Arc<Route>, u32)>,
}

impl Prefixes {
    /// Notes that every stage of a route holds the columns of tokens with these hashes.
    pub(super) fn note(&mut self, hashes: &[u64], route: &Arc<Route>) {
        for &hash in hashes {
            let routes = self.routes.entry(hash).or_insert_with(|| {
                self.order.push_back(hash);
                Vec::new()
            });
            if routes.contains(route) {
                continue;
            }
            if routes.len() == ROUTES_MAX {
                routes.remove(0);
            }
            routes.push(Arc::clone(route));
        }
        while self.order.len() > PREFIXES_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.routes.remove(&oldest);
            }
        }
    }

    /// Forgets that a route holds these columns.
    pub(super) fn forget(&mut self, hashes: &[u64], route: &Route) {
        for hash in hashes {
            if let Some(routes) = self.routes.get_mut(hash) {
                routes.retain(|it| **it != *route);
            }
        }
    }

    /// Forgets everything: with a new plan hosts hold other layers.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Finds who holds the start of a request with these hashes.
    pub(super) fn find(&self, hashes: &[u64]) -> Held {
        let mut held = Held::default();
        for (columns, hash) in (1..).zip(hashes) {
            let Some(routes) = self.routes.get(hash) else { break };
            for route in routes {
                match held.routes.iter_mut().find(|it| it.0 == *route) {
                    Some(it) => it.1 = columns,
                    None => held.routes.push((Arc::clone(route), columns)),
                }
            }
        }
        held
    }
}

impl Held {
    /// Tokens that a host holds of these layers.
    pub(super) fn tokens(&self, host: HostId, layers: LayerRange) -> u32 {
        self.most(|route| route.hops().iter().any(|it| it.host == host && it.layers == layers))
    }

    /// Tokens that a host holds of whatever layers.
    pub(super) fn tokens_of_any(&self, host: HostId) -> u32 {
        self.most(|route| route.index_of(host).is_some())
    }

    /// Tokens that every stage of a route holds.
    pub(super) fn tokens_of_all(&self, route: &Route) -> u32 {
        let hops = route.hops().iter();
        hops.map(|it| self.tokens(it.host, it.layers)).min().unwrap_or(0)
    }

    fn most(&self, of: impl Fn(&Route) -> bool) -> u32 {
        let columns = self.routes.iter().filter(|it| of(&it.0)).map(|it| it.1).max();
        columns.unwrap_or(0) * BLOCK_TOKENS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_wire::Hop;

    fn route(hosts: &[u64]) -> Arc<Route> {
        let hop = |(&host, at)| Hop {
            host: HostId(host),
            layers: LayerRange::new(at, at + 1).expect("not empty"),
        };
        Arc::new(Route::new(hosts.iter().zip(0..).map(hop).collect()).expect("contiguous"))
    }

    #[test]
    fn the_prefix_of_a_route_is_the_least_of_its_hops() {
        let mut prefixes = Prefixes::default();
        prefixes.note(&[1, 2, 3], &route(&[7, 8]));
        prefixes.note(&[1], &route(&[7, 9]));
        let held = prefixes.find(&[1, 2, 4]);
        assert_eq!(held.tokens_of_all(&route(&[7, 8])), 32);
        assert_eq!(held.tokens_of_all(&route(&[7, 9])), 16);
        assert_eq!(held.tokens_of_all(&route(&[9, 7])), 0, "other layers");
        assert_eq!(held.tokens_of_any(HostId(9)), 16);
        prefixes.forget(&[1, 2], &route(&[7, 8]));
        assert_eq!(prefixes.find(&[1, 2]).tokens_of_all(&route(&[7, 8])), 0);
        assert_eq!(prefixes.find(&[1, 2]).tokens_of_all(&route(&[7, 9])), 16);
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut prefixes = Prefixes::default();
        let hashes: Vec<u64> = (0..=PREFIXES_MAX as u64).collect();
        prefixes.note(&hashes, &route(&[7]));
        assert_eq!(prefixes.find(&hashes[..1]).tokens_of_any(HostId(7)), 0);
        assert_eq!(prefixes.find(&hashes[1..3]).tokens_of_any(HostId(7)), 32);
    }
}
