//! What a gateway believes of the hosts it could use.
//!
//! A host tells its room with every heartbeat; in between the gateway counts what it takes and
//! gives back itself. Other gateways do the same unseen, so the belief may be wrong both ways: a
//! stage without room refuses, and the request tries again.

use std::collections::BTreeMap;
use std::time::Duration;

use thalweg_wire::{HostId, LayerRange, Plan, Route};

use super::prefixes::Held;
use crate::kv::{BLOCK_TOKENS, columns_for};
use crate::policy::{GatewayPolicy, Growth};
use crate::router::{HostLoad, View};

/// Hosts that were not given up.
#[derive(Debug)]
pub(super) struct Hosts {
    known: BTreeMap<HostId, Host>,
    /// Part of its KV that each host keeps free beside requests.
    headroom: f64,
    queue_max: Duration,
}

#[derive(Debug)]
struct Host {
    trust: Trust,
    /// KV tokens it could take, if it told.
    free: Option<u64>,
    load: HostLoad,
    /// KV tokens it has by the plan.
    kv_tokens: u64,
    /// Requests at most by the plan; zero sets none.
    requests_max: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Trust {
    Trusted,
    Suspected,
}

impl Hosts {
    /// Knows only `me`.
    pub(super) fn new(me: HostId, policy: &GatewayPolicy) -> Self {
        let headroom = match policy.growth {
            Growth::WorstCase => 0.0,
            Growth::OnDemand { headroom } => headroom,
        };
        let mut hosts = Self { known: BTreeMap::new(), headroom, queue_max: policy.queue_max };
        hosts.trust(me);
        hosts
    }

    pub(super) fn trust(&mut self, host: HostId) {
        let fresh = Host {
            trust: Trust::Trusted,
            free: None,
            load: HostLoad::default(),
            kv_tokens: 0,
            requests_max: 0,
        };
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

    /// Takes in what a host told of its room and its work.
    pub(super) fn told(&mut self, host: HostId, free: u64, requests: u32, queue_us: u64) {
        if let Some(host) = self.known.get_mut(&host) {
            host.free = Some(free);
            host.load = HostLoad { queue_us, requests, unseen: 0 };
        }
    }

    /// Takes in the limits of a new plan, and forgets what hosts told: they hold other layers.
    pub(super) fn plan(&mut self, plan: &Plan) {
        for (&id, host) in &mut self.known {
            host.free = None;
            host.limit(id, plan);
        }
    }

    /// Takes in the limits of a plan for a host that came after it.
    pub(super) fn plan_of(&mut self, id: HostId, plan: &Plan) {
        if let Some(host) = self.known.get_mut(&id) {
            host.limit(id, plan);
        }
    }

    /// Counts a request of `tokens` on every host of a route.
    pub(super) fn take(&mut self, route: &Route, tokens: u64) {
        self.adjust(route, |host| {
            host.free = host.free.map(|free| free.saturating_sub(tokens));
            host.load.requests = host.load.requests.saturating_add(1);
            host.load.unseen = host.load.unseen.saturating_add(1);
        });
    }

    /// Counts a request as over.
    pub(super) fn give_back(&mut self, route: &Route, tokens: u64) {
        self.adjust(route, |host| {
            host.free = host.free.map(|free| free.saturating_add(tokens));
            host.load.requests = host.load.requests.saturating_sub(1);
            host.load.unseen = host.load.unseen.saturating_sub(1);
        });
    }

    /// Whether a host is there and not suspected.
    pub(super) fn is_trusted(&self, host: HostId) -> bool {
        self.known.get(&host).is_some_and(|it| it.trust == Trust::Trusted)
    }

    pub(super) fn is_known(&self, host: HostId) -> bool {
        self.known.contains_key(&host)
    }

    fn adjust(&mut self, route: &Route, change: impl Fn(&mut Host)) {
        for hop in route.hops() {
            if let Some(host) = self.known.get_mut(&hop.host) {
                change(host);
            }
        }
    }
}

impl Host {
    fn limit(&mut self, id: HostId, plan: &Plan) {
        let assigned = plan.assignment(id);
        self.kv_tokens = assigned.map_or(0, |it| it.kv_tokens);
        self.requests_max = assigned.map_or(0, |it| it.requests_max);
    }
}

/// The hosts as one request sees them.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) hosts: &'a Hosts,
    /// KV tokens that each host sets aside for the request, without those it holds.
    pub(super) tokens: u64,
    pub(super) held: &'a Held,
}

impl View for Seen<'_> {
    /// Whether a host can be given the request. One that never told its room is tried.
    fn usable(&self, id: HostId) -> bool {
        let Hosts { known, headroom, queue_max } = self.hosts;
        let Some(host) = known.get(&id).filter(|it| it.trust == Trust::Trusted) else {
            return false;
        };
        let HostLoad { queue_us, requests, .. } = host.load;
        let full = host.requests_max > 0 && requests >= host.requests_max;
        if full || Duration::from_micros(queue_us) > *queue_max {
            return false;
        }
        let need = self.tokens.saturating_sub(u64::from(self.held.tokens_of_any(id)));
        let spare = if requests == 0 { 0.0 } else { host.kv_tokens as f64 * headroom };
        // Rounded up as stages do; what they cannot take they refuse.
        host.free.is_none_or(|free| need.saturating_add(spare.ceil() as u64) <= free)
    }

    fn load(&self, host: HostId) -> HostLoad {
        self.hosts.known.get(&host).map_or(HostLoad::default(), |it| it.load)
    }

    fn held_tokens(&self, host: HostId, layers: LayerRange) -> u32 {
        self.held.tokens(host, layers)
    }
}

/// KV tokens of the whole columns that hold `tokens`.
pub(super) fn whole_columns(tokens: u32) -> u64 {
    u64::from(columns_for(tokens)) * u64::from(BLOCK_TOKENS)
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
