//! What a gateway believes of the hosts it could use.
//!
//! A host tells its room with every heartbeat; in between the gateway counts what it takes and
//! gives back itself. Other gateways do the same unseen, so the belief may be wrong both ways: a
//! stage without room refuses, and the request tries again.

use std::collections::BTreeMap;

use thalweg_wire::{HostId, Plan, Route};

use crate::kv::BLOCK_TOKENS;

/// Hosts that were not given up.
#[derive(Debug)]
pub(super) struct Hosts {
    known: BTreeMap<HostId, Host>,
}

#[derive(Debug)]
struct Host {
    trust: Trust,
    /// KV tokens it could take, if it told.
    free: Option<u64>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Trust {
    Trusted,
    Suspected,
}

impl Hosts {
    /// Knows only `me`.
    pub(super) fn new(me: HostId) -> Self {
        let mut hosts = Self { known: BTreeMap::new() };
        hosts.trust(me);
        hosts
    }

    pub(super) fn trust(&mut self, host: HostId) {
        let fresh = Host { trust: Trust::Trusted, free: None };
        self.known.entry(host).or_insert(fresh).trust = Trust::Trusted;
    }

    pub(super) fn suspect(&mut self, host: HostId) {
        if let Some(host) = self.known.get_mut(&host) {
            host.trust = Trust::Suspected;
        }
    }

    pub(super) fn lost(&mut self, host: HostId) {
        self.known.remove(&host);
    }

    /// Takes in what a host told of its room.
    pub(super) fn told(&mut self, host: HostId, free: u64) {
        if let Some(host) = self.known.get_mut(&host) {
            host.free = Some(free);
        }
    }

    /// Forgets what hosts told: with a new plan they hold other layers.
    pub(super) fn forget_room(&mut self) {
        self.known.values_mut().for_each(|host| host.free = None);
    }

    /// Counts `tokens` as taken on every host of a route.
    pub(super) fn take(&mut self, route: &Route, tokens: u64) {
        self.adjust(route, |free| free.saturating_sub(tokens));
    }

    /// Counts `tokens` as free again.
    pub(super) fn give_back(&mut self, route: &Route, tokens: u64) {
        self.adjust(route, |free| free.saturating_add(tokens));
    }

    /// Whether a host can be given a request of `tokens`. One that never told is tried.
    pub(super) fn has_room(&self, host: HostId, tokens: u64) -> bool {
        self.known.get(&host).is_some_and(|host| {
            host.trust == Trust::Trusted && host.free.is_none_or(|free| tokens <= free)
        })
    }

    pub(super) fn is_known(&self, host: HostId) -> bool {
        self.known.contains_key(&host)
    }

    fn adjust(&mut self, route: &Route, change: impl Fn(u64) -> u64) {
        for hop in route.hops() {
            if let Some(host) = self.known.get_mut(&hop.host) {
                host.free = host.free.map(&change);
            }
        }
    }
}

/// Tokens of the longest sequence that some route of the plan has room for.
pub(super) fn room_of(plan: &Plan) -> u64 {
    let largest = |layer| {
        let holders = plan.assignments.iter().filter(|it| it.layers.contains(layer));
        holders.map(|it| it.kv_tokens).max().unwrap_or(0)
    };
    let room = (0..plan.layers).map(largest).min().unwrap_or(0);
    room - room % u64::from(BLOCK_TOKENS)
}
