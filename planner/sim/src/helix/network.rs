//! Lines between hosts: a transmission holds its share of the line and of both network cards.

use std::collections::VecDeque;

use super::HelixError;
use super::scenario::{End, Scenario};

/// Shares of less than this many bytes/s are not sent over.
const SHARE_MIN: f64 = 10.0;

/// A directed line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Sender: a host, or past the last the gateway.
    pub from: u32,
    /// Receiver, numbered alike.
    pub to: u32,
    pub bytes_per_second: f64,
    pub latency_seconds: f64,
    /// What a token weighs here: an id beside the gateway, else with its activations.
    pub token_bytes: f64,
    /// The layer, counted from the receiver's first, that is computed next there.
    pub enters_at: u32,
    /// Layers that the receiver computes of what comes in here; none at the gateway.
    pub layers: u32,
    /// What no transmission holds.
    free: f64,
    /// Transmissions that have not left.
    pub sending: u32,
    /// Queries that wait for this line, with their place in the sender's order of arrival.
    pub waiting: VecDeque<(u64, u32)>,
}

/// A sender's side.
#[derive(Clone, Debug, Default)]
pub(super) struct Port {
    /// Lines that leave, in the order of the scenario.
    pub lines: Vec<u32>,
    /// Queries that have left the last layer, or came to the gateway, since the sender last looked.
    pub fresh: Vec<u32>,
    /// Queries that the sender has seen and that wait for no line in particular.
    pub undecided: Vec<(u64, u32)>,
    nic_bytes_per_second: f64,
    free_out: f64,
    free_in: f64,
}

/// All lines and ports.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub lines: Vec<Line>,
    pub ports: Vec<Port>,
    arrivals: u64,
}

impl Network {
    pub fn new(scenario: &Scenario) -> Self {
        let gateway = scenario.hosts.len();
        let place = |end: End| match end {
            End::Gateway => gateway,
            End::Host(host) => host as usize,
        };
        let mut ports: Vec<Port> = (scenario.hosts.iter())
            .map(|it| it.nic_bytes_per_second)
            .chain([scenario.gateway_nic_bytes_per_second])
            .map(|nic| Port {
                nic_bytes_per_second: nic,
                free_out: nic,
                free_in: nic,
                ..Port::default()
            })
            .collect();
        let lines = scenario.links.iter().map(|link| {
            let (from, to) = (place(link.from), place(link.to));
            let entry = scenario.entry(link).unwrap_or(0..0);
            Line {
                from: from as u32,
                to: to as u32,
                bytes_per_second: link.bytes_per_second,
                latency_seconds: link.latency_seconds,
                token_bytes: scenario.token_bytes(link),
                enters_at: entry.start,
                layers: entry.end - entry.start,
                free: link.bytes_per_second,
                sending: 0,
                waiting: VecDeque::new(),
            }
        });
        let lines: Vec<Line> = lines.collect();
        for (at, line) in lines.iter().enumerate() {
            ports[line.from as usize].lines.push(at as u32);
        }
        Self { lines, ports, arrivals: 0 }
    }

    /// Port of the gateway.
    pub fn gateway(&self) -> u32 {
        self.ports.len() as u32 - 1
    }

    /// The next place in order of arrival.
    pub fn place(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    /// A query waits for a line.
    pub fn wait(&mut self, line: u32, query: u32) {
        let place = self.place();
        self.lines[line as usize].waiting.push_back((place, query));
    }

    /// What a sender without a plan may use of a line now: an equal part of its network card, as
    /// far as line and receiver have it free; `None` if that is next to nothing.
    pub fn equal_share(&self, line: u32) -> Option<f64> {
        let line = &self.lines[line as usize];
        let (from, to) = (&self.ports[line.from as usize], &self.ports[line.to as usize]);
        let held = line.bytes_per_second - line.free;
        let own = from.nic_bytes_per_second / from.lines.len() as f64 - held;
        let share = own.min(from.free_out.min(line.free).min(to.free_in));
        (share > SHARE_MIN).then_some(share)
    }

    /// Starts sending `tokens` at `share` bytes/s. Returns the seconds until they have arrived.
    pub fn start(&mut self, at: u32, tokens: u32, share: f64) -> Result<f64, HelixError> {
        let line = &mut self.lines[at as usize];
        let (from, to) = (line.from as usize, line.to as usize);
        let free = self.ports[from].free_out.min(line.free).min(self.ports[to].free_in);
        // A share that is no number is refused as well.
        if !(share > 0.0 && share <= free) {
            let (wanted, free) = (share, free);
            return Err(HelixError::Share { link: at as usize, wanted, free });
        }
        line.free -= share;
        line.sending += 1;
        self.ports[from].free_out -= share;
        self.ports[to].free_in -= share;
        Ok(line.latency_seconds + line.token_bytes * f64::from(tokens) / share)
    }

    /// The last byte has left: gives back what [`Network::start`] took.
    pub fn finish(&mut self, at: u32, share: f64) {
        let line = &mut self.lines[at as usize];
        line.free += share;
        line.sending -= 1;
        self.ports[line.from as usize].free_out += share;
        self.ports[line.to as usize].free_in += share;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helix::tests::chain;

    #[test]
    fn a_transmission_holds_its_share_until_it_has_left() {
        // 1000 bytes/s on every line, network cards of 1500 bytes/s.
        let mut network = Network::new(&chain(2));
        let (first, second) = (network.ports[2].lines[0], network.ports[0].lines[0]);
        assert_eq!(network.equal_share(second), Some(1000.0));
        // 5 tokens with their activations, 2 + 98 bytes each.
        assert_eq!(network.start(second, 5, 400.0).ok(), Some(0.5 + 500.0 / 400.0));
        assert_eq!(network.equal_share(second), Some(600.0));
        assert_eq!(network.start(second, 1, 600.0).ok(), Some(0.5 + 100.0 / 600.0));
        assert_eq!(network.equal_share(second), None);
        let refused = network.start(second, 1, 1.0);
        assert_eq!(refused, Err(HelixError::Share { link: 1, wanted: 1.0, free: 0.0 }));
        network.finish(second, 400.0);
        assert_eq!(network.equal_share(second), Some(400.0));
        // Beside the gateway only ids travel; what goes out does not take from what comes in.
        assert_eq!(network.start(first, 10, 1000.0).ok(), Some(0.5 + 20.0 / 1000.0));
    }

    #[test]
    fn a_full_receiver_leaves_nothing_to_share() {
        let mut scenario = chain(2);
        scenario.hosts[1].nic_bytes_per_second = 300.0;
        let mut network = Network::new(&scenario);
        assert_eq!(network.equal_share(1), Some(300.0));
        network.start(1, 1, 295.0).expect("it is free");
        assert_eq!(network.equal_share(1), None, "5 bytes/s are next to nothing");
    }
}
