//! The run: takes events and lets hosts, links and the policy have them.

use super::HelixError;
use super::agenda::{Agenda, Event};
use super::mersenne::Mersenne;
use super::network::Network;
use super::outcome::{Outcome, Tally};
use super::policy::{Helix, Policy, Random, Swarm, Transmission};
use super::scenario::{self, Length, Lengths, Scenario, Work};
use super::stage::{Ended, Stage};
use super::steps::{Limits, Steps};
use super::world::{Query, World};

/// Seconds between the queries that a run begins with, and until another comes in.
const FEED_SECONDS: f64 = 0.1;

/// Bytes/s at which a host gathers the activations of a step, and copies them to its device.
const GATHER_BYTES_PER_SECOND: f64 = 4e9;
const COPY_BYTES_PER_SECOND: f64 = 5e9;

/// Events that it takes a host to load its layers.
const LOAD_EVENTS: u64 = 4;

/// Runs a scenario.
///
/// # Errors
///
/// If the scenario cannot be meant, or comes to a point where the artifact's simulator ends as well:
/// KV memory full, nobody may take a query that must not be rejected.
pub fn simulate(scenario: &Scenario) -> Result<Outcome, HelixError> {
    scenario.check()?;
    let mut run = Run::new(scenario);
    run.all()?;
    let events = run.agenda.entered() + LOAD_EVENTS * run.world.stages.len() as u64;
    Ok(run.tally.outcome(run.world, events))
}

struct Run<'a> {
    scenario: &'a Scenario,
    agenda: Agenda,
    world: World,
    policy: Box<dyn Policy>,
    /// Step times of each machine type.
    steps: Vec<Steps>,
    tally: Tally,
    /// Queries that have arrived back at the gateway.
    back: Vec<u32>,
    /// Recorded lengths used so far.
    used: usize,
    sends: Vec<Transmission>,
    again: Vec<u32>,
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let stage = |it: &scenario::Host| {
            let layers = it.layers.count();
            let limits = Limits::of(&scenario.devices[it.device], layers);
            Stage::new(layers, limits.expect("the scenario was checked"), it.kv_token_layers)
        };
        let world = World {
            now: 0.0,
            network: Network::new(scenario),
            stages: scenario.hosts.iter().map(stage).collect(),
            queries: Vec::new(),
            draws: Mersenne::new(scenario.seed),
        };
        let policy: Box<dyn Policy> = match &scenario.policy {
            scenario::Policy::Helix(plan) => Box::new(Helix::new(scenario, plan, &world)),
            scenario::Policy::Swarm => Box::new(Swarm::new(scenario.links.len())),
            scenario::Policy::Random => Box::new(Random::any()),
            scenario::Policy::ShortestQueue => Box::new(Random::shortest_queue()),
        };
        Self {
            scenario,
            agenda: Agenda::default(),
            world,
            policy,
            steps: scenario.devices.iter().map(Steps::new).collect(),
            tally: Tally::new(scenario.measured()),
            back: Vec::new(),
            used: 0,
            sends: Vec::new(),
            again: Vec::new(),
        }
    }

    /// Everything from the first query to the end.
    fn all(&mut self) -> Result<(), HelixError> {
        let scenario = self.scenario;
        let loaded = scenario.loaded_seconds();
        self.agenda.pass(loaded);
        match &scenario.work {
            Work::Offline { at_once, .. } => {
                for at in 0..*at_once {
                    self.feed(loaded + f64::from(at) * FEED_SECONDS)?;
                }
                self.until(scenario.measured().1)
            }
            Work::Online { arrivals } => {
                for it in arrivals {
                    self.until(it.at_seconds)?;
                    self.agenda.pass(it.at_seconds);
                    self.create(it.length, it.at_seconds);
                }
                self.until(f64::INFINITY)
            }
        }
    }

    fn until(&mut self, end: f64) -> Result<(), HelixError> {
        while let Some(event) = self.agenda.take(end) {
            self.world.now = self.agenda.now();
            match event {
                Event::Issue { query } => self.issue(query)?,
                Event::Transmit { sender } => self.transmit(sender)?,
                Event::Sent { link, query } => self.sent(link, query),
                Event::Arrived { link, query } => self.arrived(link, query)?,
                Event::Gather => self.gather()?,
                Event::Execute { host } => self.execute(host),
                Event::Executed { host } => self.executed(host)?,
            }
        }
        Ok(())
    }

    /// Another query comes in at `seconds`, offline.
    fn feed(&mut self, seconds: f64) -> Result<(), HelixError> {
        let Work::Offline { lengths, .. } = &self.scenario.work else { return Ok(()) };
        let list = lengths.list();
        let at = match lengths {
            Lengths::Recorded(_) => self.used,
            Lengths::Drawn(_) => self.world.draws.below(list.len() as u32) as usize,
        };
        self.used += 1;
        let Some(&length) = list.get(at) else {
            return Err(HelixError::Lengths { lengths: list.len(), at_seconds: seconds });
        };
        self.create(length, seconds);
        Ok(())
    }

    fn create(&mut self, length: Length, seconds: f64) {
        let query = self.world.queries.len() as u32;
        self.world.queries.push(Query::new(length, seconds));
        self.agenda.enter_at(seconds, Event::Issue { query });
    }

    fn issue(&mut self, query: u32) -> Result<(), HelixError> {
        if !self.policy.begin(&mut self.world, query)? {
            self.world.queries[query as usize].rejected = true;
            return Ok(());
        }
        let sender = self.world.network.gateway();
        self.world.network.ports[sender as usize].fresh.push(query);
        self.agenda.enter(Event::Transmit { sender });
        Ok(())
    }

    fn transmit(&mut self, sender: u32) -> Result<(), HelixError> {
        self.policy.transmit(&mut self.world, sender, &mut self.sends, &mut self.again);
        for Transmission { link, query, share } in self.sends.drain(..) {
            let now = self.world.now;
            let it = &mut self.world.queries[query as usize];
            let seconds = self.world.network.start(link, it.tokens(), share)?;
            (it.hops, it.sent_seconds, it.share) = (it.hops + 1, now, share);
            let latency = self.world.network.lines[link as usize].latency_seconds;
            // Rounded in the order in which the artifact rounds.
            self.agenda.enter_at(now + seconds - latency, Event::Sent { link, query });
        }
        for sender in self.again.drain(..) {
            self.agenda.enter(Event::Transmit { sender });
        }
        Ok(())
    }

    fn sent(&mut self, link: u32, query: u32) {
        self.world.network.finish(link, self.world.queries[query as usize].share);
        let line = &self.world.network.lines[link as usize];
        self.agenda.enter(Event::Transmit { sender: line.from });
        self.agenda.enter_at(self.world.now + line.latency_seconds, Event::Arrived { link, query });
    }

    fn arrived(&mut self, link: u32, query: u32) -> Result<(), HelixError> {
        let line = &self.world.network.lines[link as usize];
        let Some(stage) = self.world.stages.get_mut(line.to as usize) else {
            self.back.push(query);
            self.agenda.enter(Event::Gather);
            return Ok(());
        };
        let row = self.world.queries[query as usize].row(query);
        let longest = [
            (u64::from(row.prompt_tokens), stage.limits.prompt_tokens),
            (u64::from(row.context_tokens), stage.limits.context_tokens),
        ];
        if let Some(&(tokens, max)) = longest.iter().find(|it| it.0 > it.1) {
            let (query, host) = (query as usize, line.to as usize);
            return Err(HelixError::TooLong { query, host, tokens, max });
        }
        stage.receive(row, line.enters_at as usize);
        self.agenda.enter(Event::Execute { host: line.to });
        Ok(())
    }

    fn execute(&mut self, host: u32) {
        let stage = &mut self.world.stages[host as usize];
        let Some(gathered) = stage.start() else { return };
        let steps = &self.steps[self.scenario.hosts[host as usize].device];
        let bytes = gathered as f64 * self.scenario.model.activation_bytes;
        let seconds = steps.seconds(stage.step.prompt_tokens, stage.step.decodes)
            + (bytes / GATHER_BYTES_PER_SECOND + bytes / COPY_BYTES_PER_SECOND);
        self.agenda.enter_at(self.world.now + seconds, Event::Executed { host });
    }

    fn executed(&mut self, host: u32) -> Result<(), HelixError> {
        let stage = &mut self.world.stages[host as usize];
        let ended = stage.end();
        if stage.kv_used > stage.kv_capacity {
            return Err(HelixError::KvFull {
                host: host as usize,
                needed: stage.kv_used,
                capacity: stage.kv_capacity,
                at_seconds: self.world.now,
            });
        }
        if ended == Ended::Leaves {
            let fresh = &mut self.world.network.ports[host as usize].fresh;
            fresh.extend(stage.step.list.iter().map(|it| it.query));
            stage.clear_step();
            self.agenda.enter(Event::Transmit { sender: host });
        }
        self.agenda.enter(Event::Execute { host });
        Ok(())
    }

    fn gather(&mut self) -> Result<(), HelixError> {
        let mut back = std::mem::take(&mut self.back);
        for query in back.drain(..) {
            self.take_back(query)?;
        }
        self.back = back;
        Ok(())
    }

    /// An iteration has come to its end: the next begins, or the query has ended.
    fn take_back(&mut self, query: u32) -> Result<(), HelixError> {
        let now = self.world.now;
        let it = &mut self.world.queries[query as usize];
        let prompt = it.is_prompt();
        self.tally.count(now, it);
        if prompt {
            it.prompt_seconds = Some(now);
        } else {
            it.decoded += 1;
        }
        it.token_seconds = Some(now);
        let ended = it.decoded == it.output_tokens;
        if ended {
            self.policy.end(&self.world, query);
            self.free_kv(query);
        } else {
            (it.began_seconds, it.hops) = (now, 0);
            self.agenda.enter(Event::Issue { query });
        }
        let offline = matches!(self.scenario.work, Work::Offline { .. });
        if offline && (prompt || ended) && self.policy.wants_more(ended) {
            self.feed(now + FEED_SECONDS)?;
        }
        Ok(())
    }

    fn free_kv(&mut self, query: u32) {
        let it = &self.world.queries[query as usize];
        let tokens = u64::from(it.prompt_tokens) + u64::from(it.decoded);
        for &link in &it.route {
            let line = &self.world.network.lines[link as usize];
            if let Some(stage) = self.world.stages.get_mut(line.to as usize) {
                stage.kv_used -= tokens * u64::from(line.layers);
            }
        }
    }
}
