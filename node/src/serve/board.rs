//! What this host knows of the cluster, for those who only look: status, metrics, HTTP.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use thalweg_core::registry::Registry;
use thalweg_wire::{End, Epoch, Heartbeat, HostId, ModelShape, Profile, Route};

use crate::consensus::Leadership;
use crate::http::{
    ClusterStatus, HopStatus, HostState, HostStatus, LinkStatus, Loading, Phase, PlanStatus,
    VERSION, end_name,
};
use crate::metrics::Metrics;

/// The latest of everything worth showing.
#[derive(Debug)]
pub struct Board {
    cluster: String,
    host: String,
    shape: ModelShape,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    registry: Registry,
    leadership: Option<Leadership>,
    active: Epoch,
    infeasible: Option<String>,
    loading: Option<(usize, usize)>,
    hops: BTreeMap<(End, End), u64>,
    beats: BTreeMap<HostId, Heartbeat>,
}

impl Board {
    /// Creates an empty board of `host` in `cluster`.
    pub fn new(cluster: String, host: String, shape: ModelShape) -> Self {
        Self { cluster, host, shape, state: Mutex::default() }
    }

    /// The cluster agreed on something.
    pub fn registry(&self, registry: &Registry) {
        self.change(|state| {
            if state.registry != *registry {
                state.registry = registry.clone();
            }
        });
    }

    /// Somebody leads.
    pub fn leadership(&self, leadership: Leadership) {
        self.change(|state| state.leadership = Some(leadership));
    }

    /// A plan took effect on this host.
    pub fn activate(&self, epoch: Epoch) {
        self.change(|state| {
            state.active = epoch;
            state.infeasible = None;
        });
    }

    /// The planner found that the hosts cannot hold the model.
    pub fn infeasible(&self, reason: String) {
        self.change(|state| state.infeasible = Some(reason));
    }

    /// This host loads: `done` layers of `of`.
    pub fn loading(&self, done: usize, of: usize) {
        self.change(|state| state.loading = Some((done, of)));
    }

    /// This host has loaded.
    pub fn loaded(&self) {
        self.change(|state| state.loading = None);
    }

    /// The gateway sent a request on this route.
    pub fn routed(&self, route: &Route) {
        let hosts = route.hops().iter().map(|it| End::Host(it.host));
        let ends: Vec<End> = [End::Source].into_iter().chain(hosts).chain([End::Sink]).collect();
        self.change(|state| {
            for pair in ends.windows(2) {
                *state.hops.entry((pair[0], pair[1])).or_default() += 1;
            }
        });
    }

    /// A host, perhaps this one, gave a sign of life.
    pub fn beat(&self, host: HostId, beat: Heartbeat) {
        self.change(|state| {
            state.beats.insert(host, beat);
        });
    }

    /// The plan in effect.
    pub fn epoch(&self) -> Epoch {
        self.look(|state| state.active)
    }

    /// Describes the cluster; `heard` tells whether a host is heard.
    pub fn status(&self, heard: impl Fn(HostId) -> HostState) -> ClusterStatus {
        self.look(|state| self.describe(state, heard))
    }

    /// Sets the gauges of the plan in effect, and of this host's part in it.
    pub fn gauge(&self, me: HostId, kv_free_tokens: u64, metrics: &Metrics) {
        self.look(|state| {
            let Some(placed) = state.registry.active() else { return };
            let plan = &placed.plan;
            metrics.plan_epoch.set(i64::try_from(state.active.0).unwrap_or(i64::MAX));
            metrics.plan_flow.set(plan.flow);
            metrics.plan_bound.set(plan.bound);
            let kv_tokens = plan.assignment(me).map_or(0, |it| it.kv_tokens).max(1);
            let used = 1.0 - kv_free_tokens as f64 / kv_tokens as f64;
            metrics.kv_cache_usage.set(used.clamp(0.0, 1.0));
        });
    }

    /// What a host measured of itself; nothing if the cluster does not know it.
    pub fn profile(&self, host: HostId) -> Profile {
        self.look(|state| {
            state.registry.hosts().get(&host).map(|it| it.profile.clone()).unwrap_or_default()
        })
    }

    /// What a host is called; its id if the cluster does not know it.
    pub fn name(&self, host: HostId) -> String {
        self.look(|state| state.name(host))
    }

    fn describe(&self, state: &State, heard: impl Fn(HostId) -> HostState) -> ClusterStatus {
        let registry = &state.registry;
        let name = |id: HostId| state.name(id);
        let hosts = registry.hosts().values().map(|it| HostStatus {
            name: it.name.clone(),
            region: it.region.clone(),
            address: it.address.clone(),
            state: heard(it.host),
            memory_bytes: it.memory.0,
            machine: it.machine.clone(),
            decode_seconds_per_layer: it.profile.decode.first().map(|point| point.seconds),
            kv_free_tokens: state.beats.get(&it.host).map(|beat| beat.kv_free_tokens),
            requests: state.beats.get(&it.host).map(|beat| beat.requests),
        });
        let links = registry.links().iter().flat_map(|(&from, links)| {
            links.iter().map(move |it| (from, it)).map(|(from, it)| LinkStatus {
                from: name(from),
                to: name(it.to),
                rtt_us: it.rtt_us,
                bandwidth_bits_per_s: it.bandwidth.0,
            })
        });
        let hop = |(&(from, to), &requests): (&(End, End), &u64)| HopStatus {
            from: end_name(from, name),
            to: end_name(to, name),
            requests,
        };
        ClusterStatus {
            cluster: self.cluster.clone(),
            host: self.host.clone(),
            version: VERSION.to_owned(),
            model: self.shape.name.clone(),
            layers: self.shape.layers,
            context_tokens: self.shape.context_tokens,
            phase: phase(state),
            loading: state.loading.map(|(done, of)| Loading { done, of }),
            epoch: state.active.0,
            leader: state.leadership.and_then(|it| it.leader).map(name),
            term: state.leadership.map_or(0, |it| it.term),
            hosts: hosts.collect(),
            links: links.collect(),
            plan: registry.active().map(|it| PlanStatus::new(&it.plan, name)),
            hops: state.hops.iter().map(hop).collect(),
            infeasible: state.infeasible.clone(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn name(&self, host: HostId) -> String {
        let record = self.registry.hosts().get(&host);
        record.map_or_else(|| host.to_string(), |it| it.name.clone())
    }
}

fn phase(state: &State) -> Phase {
    if state.active > Epoch::default() {
        Phase::Serving
    } else if state.registry.proposed().is_some() {
        Phase::Loading
    } else if state.leadership.is_none_or(|it| it.leader.is_none()) {
        Phase::Electing
    } else {
        Phase::Measuring
    }
}
