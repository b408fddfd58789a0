//! Routes by the plan's flow, found in full when a query begins.

use std::ops::Range;

use super::{Policy, Transmission};
use crate::helix::HelixError;
use crate::helix::network::{Line, Network};
use crate::helix::scenario::{self, Scenario, WhenFull};
use crate::helix::world::World;

/// Links with less than this share of a sender's flow are not used.
const FLOW_SHARE_MIN: f64 = 0.05;

/// Mean answer that the artifact assumes.
const ANSWER_TOKENS: f64 = 240.0;

/// Offline, another query comes in while no layer is expected to use more than this share of its KV
/// memory.
const FEED_SHARE_MAX: f64 = 0.8;

/// Interleaved weighted round robin over flows, masked by expected KV memory.
#[derive(Debug)]
pub(in crate::helix) struct Helix {
    lanes: Vec<Lane>,
    memory: Vec<Memory>,
    kv_share_max: f64,
    answer_tokens: f64,
    when_full: WhenFull,
    gateway: u32,
    /// Links that could be sent over, with the place of the first that waits.
    ready: Vec<(u64, u32)>,
    layers: usize,
}

/// A link as the plan sees it.
#[derive(Clone, Debug)]
struct Lane {
    flow: f64,
    usable: bool,
    /// Tokens sent here so far, each divided by the flow.
    load: f64,
    share: f64,
}

/// KV memory of a host, expected to be free.
#[derive(Clone, Debug)]
struct Memory {
    layers: Range<usize>,
    prompt_tokens_max: u64,
    capacity: i64,
    free: i64,
}

impl Helix {
    pub fn new(scenario: &Scenario, plan: &scenario::Helix, world: &World) -> Self {
        let memory = scenario.hosts.iter().zip(&world.stages).map(|(host, stage)| {
            let capacity = i64::try_from(host.kv_token_layers).unwrap_or(i64::MAX);
            Memory {
                layers: host.layers.first() as usize..host.layers.end() as usize,
                prompt_tokens_max: stage.limits.prompt_tokens,
                capacity,
                free: capacity,
            }
        });
        Self {
            lanes: lanes(scenario, plan, &world.network),
            memory: memory.collect(),
            kv_share_max: plan.kv_share_max,
            answer_tokens: ANSWER_TOKENS * plan.answer_share,
            when_full: plan.when_full,
            gateway: world.network.gateway(),
            ready: Vec::new(),
            layers: scenario.model.layers as usize,
        }
    }

    /// Tokens that a query of `prompt_tokens` is expected to keep in every layer.
    fn expected_tokens(&self, prompt_tokens: u32) -> i64 {
        (f64::from(prompt_tokens) + self.answer_tokens) as i64
    }

    /// Whether a host may take a query, were it to use all its layers.
    fn may_take(&self, host: u32, prompt_tokens: u32) -> bool {
        let it = &self.memory[host as usize];
        let left = it.free - self.expected_tokens(prompt_tokens) * it.layers.len() as i64;
        u64::from(prompt_tokens) <= it.prompt_tokens_max
            && left as f64 >= (1.0 - self.kv_share_max) * it.capacity as f64
    }

    /// The link that is behind the most, of those that may be taken; the first of equals.
    fn choose(&mut self, network: &Network, sender: u32, prompt_tokens: u32) -> Option<u32> {
        let mut best: Option<(u32, f64)> = None;
        for &link in &network.ports[sender as usize].lines {
            let lane = &self.lanes[link as usize];
            let to = network.lines[link as usize].to;
            if !lane.usable || (to != self.gateway && !self.may_take(to, prompt_tokens)) {
                continue;
            }
            let load = lane.load + f64::from(prompt_tokens) / lane.flow;
            if best.is_none_or(|it| load < it.1) {
                best = Some((link, load));
            }
        }
        let (link, load) = best?;
        self.lanes[link as usize].load = load;
        Some(link)
    }

    /// A whole route, or `None` and nothing changed but for rounding.
    fn route(&mut self, network: &Network, prompt_tokens: u32) -> Option<Vec<u32>> {
        let mut route = Vec::new();
        let mut at = self.gateway;
        loop {
            let Some(link) = self.choose(network, at, prompt_tokens) else {
                for link in route {
                    let lane = &mut self.lanes[link as usize];
                    lane.load -= f64::from(prompt_tokens) / lane.flow;
                }
                return None;
            };
            route.push(link);
            at = network.lines[link as usize].to;
            if at == self.gateway {
                return Some(route);
            }
        }
    }

    /// Takes the query's expected memory from every host of its route, or with -1 gives it back.
    fn book(&mut self, network: &Network, route: &[u32], prompt_tokens: u32, sign: i64) {
        let tokens = sign * self.expected_tokens(prompt_tokens);
        for &link in route {
            let line = &network.lines[link as usize];
            if line.to != self.gateway {
                self.memory[line.to as usize].free -= tokens * i64::from(line.layers);
            }
        }
    }

    /// Share of KV memory expected to be in use, in the layer where it is largest.
    fn fullest(&self) -> f64 {
        let mut memory = vec![(0.0, 0.0); self.layers];
        for it in &self.memory {
            let layers = it.layers.len() as f64;
            let (free, total) = (it.free as f64 / layers, it.capacity as f64 / layers);
            for layer in &mut memory[it.layers.clone()] {
                *layer = (layer.0 + free, layer.1 + total);
            }
        }
        memory.into_iter().map(|(free, total)| 1.0 - free / total).fold(f64::MIN, f64::max)
    }
}

/// Links with their part of network cards: what the plan's flow is of the sender's and of the
/// receiver's.
fn lanes(scenario: &Scenario, plan: &scenario::Helix, network: &Network) -> Vec<Lane> {
    let used = |at: usize| {
        // Bytes/s, by way of the artifact's capacity in tokens/s and rounded like it.
        let line = &network.lines[at];
        let tokens_max = line.bytes_per_second / line.token_bytes;
        line.bytes_per_second * plan.flows[at] / tokens_max
    };
    let nic = |port: u32| match scenario.hosts.get(port as usize) {
        Some(host) => host.nic_bytes_per_second,
        None => scenario.gateway_nic_bytes_per_second,
    };
    let all = || network.lines.iter().enumerate();
    let lane = |(at, line): (usize, &Line)| {
        let leaving = all().filter(|it| it.1.from == line.from).map(|it| it.0);
        let coming = all().filter(|it| it.1.to == line.to).map(|it| it.0);
        let flow = plan.flows[at];
        let total: f64 = leaving.clone().map(|it| plan.flows[it]).sum();
        let out = nic(line.from) * (used(at) / leaving.map(used).sum::<f64>());
        let into = used(at) / coming.map(used).sum::<f64>() * nic(line.to);
        Lane {
            flow,
            usable: flow > 0.0 && flow >= FLOW_SHARE_MIN * total,
            load: 0.0,
            share: line.bytes_per_second.min(out).min(into).floor(),
        }
    };
    all().map(lane).collect()
}

impl Policy for Helix {
    fn begin(&mut self, world: &mut World, query: u32) -> Result<bool, HelixError> {
        let it = &mut world.queries[query as usize];
        if !it.is_prompt() {
            for &link in &it.route {
                let lane = &mut self.lanes[link as usize];
                lane.load += 1.0 / lane.flow;
            }
            return Ok(true);
        }
        let Some(route) = self.route(&world.network, it.prompt_tokens) else {
            let (query, at_seconds) = (query as usize, world.now);
            return match self.when_full {
                WhenFull::Reject => Ok(false),
                WhenFull::Stop => Err(HelixError::NoRoute { query, at_seconds }),
            };
        };
        self.book(&world.network, &route, it.prompt_tokens, 1);
        it.route = route;
        Ok(true)
    }

    fn transmit(
        &mut self,
        world: &mut World,
        sender: u32,
        sends: &mut Vec<Transmission>,
        _again: &mut Vec<u32>,
    ) {
        let network = &mut world.network;
        let mut fresh = std::mem::take(&mut network.ports[sender as usize].fresh);
        for query in fresh.drain(..) {
            let link = world.queries[query as usize].next_link();
            network.wait(link.expect("a route is found before its query is sent"), query);
        }
        network.ports[sender as usize].fresh = fresh;
        // One query at a time on each link; whoever waits longest comes first.
        self.ready.clear();
        for &link in &network.ports[sender as usize].lines {
            let line = &network.lines[link as usize];
            if let Some(&(place, _)) = line.waiting.front().filter(|_| line.sending == 0) {
                self.ready.push((place, link));
            }
        }
        self.ready.sort_unstable();
        for &(_, link) in &self.ready {
            let share = self.lanes[link as usize].share;
            if let Some((_, query)) = network.lines[link as usize].waiting.pop_front() {
                sends.push(Transmission { link, query, share });
            }
        }
    }

    fn end(&mut self, world: &World, query: u32) {
        let it = &world.queries[query as usize];
        self.book(&world.network, &it.route, it.prompt_tokens, -1);
    }

    fn wants_more(&self, _query_ended: bool) -> bool {
        self.fullest() <= FEED_SHARE_MAX
    }
}
