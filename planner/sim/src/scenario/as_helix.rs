//! A scenario under the rules of the Helix artifact (ASPLOS 2025, Thesys-lab/Helix-ASPLOS25).

use thalweg_planner::flow::{End as FlowEnd, Flow};
use thalweg_planner::instance::{Class, Wire};
use thalweg_wire::LayerRange;

use super::placing::Placed;
use super::{Scenario, ScenarioError};
use crate::agenda::seconds;
use crate::helix::{
    Arrival, End, Helix, Host, Lengths, Link, Policy, Scenario as HelixScenario, Window, Work,
    plan_links, swarm_links,
};
use crate::workload::{Arrivals, Source};

/// Queries that the artifact begins with under its own scheduler; more come as KV memory allows.
const HELIX_AT_ONCE: u32 = 20;

/// Requests drawn for a run without end; far more than any takes.
const LENGTHS_DRAWN: usize = 100_000;

/// Seed of the drawn order of links, as in the artifact.
const LINKS_SEED: u64 = 0;

impl Scenario {
    /// The same cluster, placement and requests in the artifact's event model, which knows the
    /// policies `helix`, `swarm`, `random` and `shortest-queue`. Users and backlogs become its
    /// offline runs, everything else its online runs. Faults, prefixes and bounds have no place there.
    ///
    /// # Errors
    ///
    /// If the policy is another one, or a host's limits are not known.
    pub fn as_helix(&self, placed: &Placed) -> Result<HelixScenario, ScenarioError> {
        let instance = &self.resolved.instance;
        let held = || {
            let held = placed.placement.iter().enumerate();
            held.filter_map(|(host, range)| Some((host, (*range)?)))
        };
        let (holders, ranges): (Vec<usize>, Vec<LayerRange>) = held().unzip();
        let hosts = held().map(|(host, range)| self.helix_host(host, range));
        let wires = self.helix_wires(&holders);
        let links = || plan_links(instance.layers, &ranges, &wires, instance.partial);
        let online = !self.is_offline();
        let (links, policy) = match self.settings.pack.name {
            "helix" => {
                let links = links();
                let flows = flows(&links, &holders, &placed.flow);
                let helix = if online { Helix::online(flows) } else { Helix::offline(flows) };
                (links, Policy::Helix(helix))
            }
            "swarm" => {
                let rate = |(host, range)| instance.rate(host, range);
                let rates: Vec<f64> = held().map(rate).collect();
                (swarm_links(&ranges, &rates, &wires, LINKS_SEED), Policy::Swarm)
            }
            "random" => (links(), Policy::Random),
            "shortest-queue" => (links(), Policy::ShortestQueue),
            name => return Err(unknown_policy(name)),
        };
        let nic = holders.iter().map(|&it| instance.hosts[it].nic_in).fold(0.0, f64::max);
        let mut scenario = HelixScenario {
            model: self.resolved.model,
            devices: instance.classes.iter().filter_map(|it| it.device.clone()).collect(),
            hosts: hosts.collect::<Result<_, _>>()?,
            links,
            gateway_nic_bytes_per_second: nic * self.resolved.model.activation_bytes,
            policy,
            work: Work::Online { arrivals: Vec::new() },
            window: Window::OFFLINE,
            seed: self.workload.seed,
        };
        let loaded = scenario.loaded_seconds();
        let window = self.settings.window;
        let warm_up_seconds =
            if online { seconds(window.from) } else { seconds(window.from) - loaded };
        scenario.window = Window {
            warm_up_seconds: warm_up_seconds.max(0.0),
            seconds: seconds(window.to - window.from),
        };
        scenario.work = self.helix_work(loaded);
        Ok(scenario)
    }

    fn is_offline(&self) -> bool {
        matches!(self.workload.arrivals, Arrivals::Users { .. } | Arrivals::Backlog { .. })
    }

    fn helix_host(&self, host: usize, layers: LayerRange) -> Result<Host, ScenarioError> {
        let instance = &self.resolved.instance;
        let at = &instance.hosts[host];
        let unknown = || ScenarioError::Shape {
            key: "placement".to_owned(),
            problem: format!(
                "KV memory of {} with {} layers is not known",
                at.name,
                layers.count()
            ),
        };
        let device = instance.classes[at.class].device.as_ref().ok_or_else(unknown)?;
        let listed = device.kv_token_layers.get(layers.count() as usize).ok_or_else(unknown)?;
        let with_device = |it: &&Class| it.device.is_some();
        Ok(Host {
            device: instance.classes[..at.class].iter().filter(with_device).count(),
            layers,
            // Token-layers are whole numbers.
            kv_token_layers: *listed as u64,
            nic_bytes_per_second: at.nic_in * self.resolved.model.activation_bytes,
            load_bytes_per_second: at.load_bytes_per_second,
        })
    }

    /// Wires of the gateway to and from each holder, then those between holders, each pair once.
    fn helix_wires(&self, holders: &[usize]) -> Vec<Link> {
        let instance = &self.resolved.instance;
        let model = &self.resolved.model;
        let end = |at: usize| End::Host(at as u32);
        let link = |from, to, wire: Wire, bytes: f64| Link {
            from,
            to,
            bytes_per_second: wire.tokens_per_second * bytes,
            latency_seconds: wire.latency_seconds,
        };
        let mut wires = Vec::new();
        for (at, &host) in holders.iter().enumerate() {
            let enter = instance.network.enter[host];
            wires.extend(enter.map(|it| link(End::Gateway, end(at), it, model.token_bytes)));
        }
        for (at, &host) in holders.iter().enumerate() {
            let leave = instance.network.leave[host];
            wires.extend(leave.map(|it| link(end(at), End::Gateway, it, model.token_bytes)));
        }
        for (near, &from) in holders.iter().enumerate() {
            for (far, &to) in holders.iter().enumerate().skip(near + 1) {
                let wire = instance.wire(from, to);
                wires.extend(wire.map(|it| link(end(near), end(far), it, model.activation_bytes)));
            }
        }
        wires
    }

    fn helix_work(&self, loaded: f64) -> Work {
        let mut source = Source::new(self.workload.clone(), 1);
        if self.is_offline() {
            let count = match self.workload.arrivals {
                Arrivals::Users { count, .. } => count,
                Arrivals::Backlog { in_flight_max, .. } => in_flight_max,
                _ => unreachable!("only these are offline"),
            };
            let at_once = if self.settings.pack.name == "helix" { HELIX_AT_ONCE } else { count };
            let length = |_| source.ask(0).length;
            let lengths = (0..LENGTHS_DRAWN).map(length).map(|it| (it.prompt, it.output));
            return Work::Offline { lengths: Lengths::Recorded(lengths.collect()), at_once };
        }
        let mut arrivals = Vec::new();
        let mut now = 0;
        while let Some((at, _)) =
            source.next_arrival(now).filter(|it| it.0 <= self.settings.window.to)
        {
            let length = source.ask(at).length;
            let at_seconds = loaded + seconds(at);
            arrivals.push(Arrival { at_seconds, length: (length.prompt, length.output) });
            now = at;
        }
        Work::Online { arrivals }
    }
}

fn unknown_policy(name: &str) -> ScenarioError {
    ScenarioError::Unknown {
        key: "policy".to_owned(),
        kind: "policy of the Helix artifact",
        name: name.to_owned(),
        known: "helix, swarm, random, shortest-queue".to_owned(),
    }
}

/// Tokens/s of each link in the plan's flow.
fn flows(links: &[Link], holders: &[usize], flow: &Flow) -> Vec<f64> {
    let near = |end: End| match end {
        End::Gateway => FlowEnd::Source,
        End::Host(at) => FlowEnd::Host(holders[at as usize]),
    };
    let far = |end: End| match end {
        End::Gateway => FlowEnd::Sink,
        End::Host(at) => FlowEnd::Host(holders[at as usize]),
    };
    let carried = |link: &Link| {
        let hops = flow.hops.iter();
        let on_link = hops.filter(|it| it.from == near(link.from) && it.to == far(link.to));
        on_link.map(|it| it.tokens_per_second).sum()
    };
    links.iter().map(carried).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helix::simulate;
    use crate::scenario::{Files, parse};
    use std::ops::ControlFlow;

    const CLUSTER: &str = include_str!("../../../../examples/clusters/small10.toml");

    fn scenario(policy: &str, arrivals: &str) -> Scenario {
        let text = format!(
            "cluster = \"small10.toml\"\nplacement = \"swarm\"\npolicy = \"{policy}\"\n\
             window_seconds = [30, 60]\n[workload]\narrivals = {arrivals}\n"
        );
        let files = Files { cluster: CLUSTER, ..Files::default() };
        parse(&text).expect("a scenario").resolve(files).expect("a good one")
    }

    #[test]
    fn a_scenario_runs_in_the_artifact_s_model() {
        for (policy, arrivals) in [
            ("helix", "{ kind = \"users\", count = 20 }"),
            ("swarm", "{ kind = \"users\", count = 20 }"),
            ("random", "{ kind = \"poisson\", requests_per_second = 0.2 }"),
        ] {
            let scenario = scenario(policy, arrivals);
            let placed = scenario.place(&mut |_| ControlFlow::Continue(())).expect("placed");
            let outcome = simulate(&scenario.as_helix(&placed).expect("known")).expect("runs");
            assert!(outcome.issued > 0 && outcome.decode_tokens_per_second > 0.0, "{policy}");
        }
    }

    #[test]
    fn our_own_policy_is_not_one_of_the_artifact() {
        let scenario = scenario("thalweg", "{ kind = \"users\", count = 20 }");
        let placed = scenario.place(&mut |_| ControlFlow::Continue(())).expect("placed");
        let refusal = scenario.as_helix(&placed).expect_err("not theirs");
        assert!(refusal.to_string().contains("helix, swarm, random, shortest-queue"));
    }
}
