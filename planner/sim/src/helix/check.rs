//! Whether a scenario can be meant.

use super::HelixError;
use super::scenario::{End, Helix, Host, Length, Link, Policy, Scenario, Work};
use super::steps::{DECODES_LISTED_MAX, Limits, PROMPTS_LISTED_MAX};

impl Scenario {
    /// Whether everything can be meant.
    pub(super) fn check(&self) -> Result<(), HelixError> {
        let empty = [
            ("host", self.hosts.is_empty()),
            ("link", self.links.is_empty()),
            ("query", self.work.is_empty()),
        ];
        if let Some((what, _)) = empty.into_iter().find(|it| it.1) {
            return Err(HelixError::Empty { what });
        }
        for (at, it) in self.devices.iter().enumerate() {
            let decodes = it.decode_requests_max.iter().copied().max().unwrap_or(0);
            let prompts = ("prefill_requests_max of machine type", it.prefill_requests_max);
            few(prompts, at, PROMPTS_LISTED_MAX)?;
            few(("decode_requests_max of machine type", decodes), at, DECODES_LISTED_MAX)?;
        }
        for (host, it) in self.hosts.iter().enumerate() {
            self.check_host(host, it)?;
        }
        for (link, it) in self.links.iter().enumerate() {
            self.check_link(link, it)?;
        }
        positive("gateway_nic_bytes_per_second", 0, self.gateway_nic_bytes_per_second)?;
        positive("window seconds", 0, self.window.seconds)?;
        not_negative("window warm_up_seconds", 0, self.window.warm_up_seconds)?;
        self.check_ways()?;
        if let Policy::Helix(helix) = &self.policy {
            self.check_plan(helix)?;
        }
        self.work.check(self.loaded_seconds())
    }

    fn check_host(&self, host: usize, it: &Host) -> Result<(), HelixError> {
        let device = it.device;
        let known = self.devices.get(device).and_then(|of| Limits::of(of, it.layers.count()));
        if known.is_none() {
            return Err(HelixError::Device { host, device });
        }
        let (end, layers) = (it.layers.end(), self.model.layers);
        if end > layers {
            return Err(HelixError::Layers { host, end, layers });
        }
        positive("nic_bytes_per_second of host", host, it.nic_bytes_per_second)?;
        positive("load_bytes_per_second of host", host, it.load_bytes_per_second)
    }

    fn check_link(&self, link: usize, it: &Link) -> Result<(), HelixError> {
        for end in [it.from, it.to] {
            if let End::Host(host) = end
                && host as usize >= self.hosts.len()
            {
                let (what, value) = ("an end of link", f64::from(host));
                let expected = "the index of a host";
                return Err(HelixError::Number { what, at: link, value, expected });
            }
        }
        positive("bytes_per_second of link", link, it.bytes_per_second)?;
        not_negative("latency_seconds of link", link, it.latency_seconds)?;
        let end = self.next_layer(it.from);
        let (first, last) = match it.to {
            End::Gateway => (self.model.layers, self.model.layers + 1),
            End::Host(host) => {
                let layers = self.hosts[host as usize].layers;
                (layers.first(), layers.end())
            }
        };
        // A host may begin in the middle of its layers, but the gateway's queries begin at the first.
        if end < first || end >= last {
            return Err(HelixError::Link { link, end, first, last });
        }
        Ok(())
    }

    /// Whoever can be reached can be left.
    fn check_ways(&self) -> Result<(), HelixError> {
        let leaves = |end: End| self.links.iter().any(|it| it.from == end);
        if !leaves(End::Gateway) {
            return Err(HelixError::DeadEnd { from: "the gateway".to_owned() });
        }
        let stuck = |it: &&Link| it.to != End::Gateway && !leaves(it.to);
        match self.links.iter().find(stuck).map(|it| it.to) {
            Some(End::Host(host)) => Err(HelixError::DeadEnd { from: format!("host {host}") }),
            _ => Ok(()),
        }
    }

    fn check_plan(&self, helix: &Helix) -> Result<(), HelixError> {
        let (flows, links) = (helix.flows.len(), self.links.len());
        if flows != links {
            return Err(HelixError::Flows { flows, links });
        }
        for (at, &flow) in helix.flows.iter().enumerate() {
            not_negative("flow of link", at, flow)?;
        }
        not_negative("kv_share_max of policy", 0, helix.kv_share_max)?;
        not_negative("answer_share of policy", 0, helix.answer_share)
    }
}

impl Work {
    fn is_empty(&self) -> bool {
        match self {
            Self::Offline { lengths, at_once } => lengths.list().is_empty() || *at_once == 0,
            Self::Online { arrivals } => arrivals.is_empty(),
        }
    }

    fn check(&self, loaded_seconds: f64) -> Result<(), HelixError> {
        match self {
            Self::Offline { lengths, .. } => {
                lengths.list().iter().enumerate().try_for_each(|(at, it)| whole(at, *it))
            }
            Self::Online { arrivals } => {
                let mut before = loaded_seconds;
                for (at, it) in arrivals.iter().enumerate() {
                    whole(at, it.length)?;
                    if !(it.at_seconds >= before && it.at_seconds.is_finite()) {
                        let (what, value) = ("time of arrival", it.at_seconds);
                        let expected = "times in order, once all hosts have loaded";
                        return Err(HelixError::Number { what, at, value, expected });
                    }
                    before = it.at_seconds;
                }
                Ok(())
            }
        }
    }
}

/// Prompt and answer have a token each.
fn whole(at: usize, (prompt, output): Length) -> Result<(), HelixError> {
    positive("prompt of query", at, f64::from(prompt))?;
    positive("answer of query", at, f64::from(output))
}

fn positive(what: &'static str, at: usize, value: f64) -> Result<(), HelixError> {
    let fine = value > 0.0 && value.is_finite();
    let expected = "a number above zero";
    if fine { Ok(()) } else { Err(HelixError::Number { what, at, value, expected }) }
}

fn not_negative(what: &'static str, at: usize, value: f64) -> Result<(), HelixError> {
    let fine = value >= 0.0 && value.is_finite();
    let expected = "zero or a number above";
    if fine { Ok(()) } else { Err(HelixError::Number { what, at, value, expected }) }
}

fn few((what, count): (&'static str, u32), at: usize, max: u32) -> Result<(), HelixError> {
    let (value, expected) = (f64::from(count), "a thousand prompts or a million requests at most");
    if count <= max { Ok(()) } else { Err(HelixError::Number { what, at, value, expected }) }
}
