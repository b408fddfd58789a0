//! What is written down while a world runs.

use std::collections::BTreeMap;

use thalweg_wire::{Finish, Refusal};

use crate::agenda::Nanos;
use crate::workload::Length;

/// The time that is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Window {
    /// First moment that counts.
    pub from: Nanos,
    /// Last moment that counts.
    pub to: Nanos,
}

/// Times that a good answer keeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Targets {
    /// From the arrival to the first token, at most.
    pub ttft: Nanos,
    /// From one token to the next at most, on average over the answer.
    pub tpot: Nanos,
}

impl Window {
    fn holds(&self, at: Nanos) -> bool {
        (self.from..=self.to).contains(&at)
    }

    /// Part of `from..to` that lies in the window.
    pub(crate) fn overlap(&self, from: Nanos, to: Nanos) -> Nanos {
        to.min(self.to).saturating_sub(from.max(self.from))
    }
}

/// Requests, tokens and steps so far.
#[derive(Debug)]
pub struct Ledger {
    pub(crate) window: Window,
    targets: Targets,
    /// By ticket, less one.
    clients: Vec<Client>,
    pub(crate) counts: Counts,
    /// Times to the first token, of those that came in the window.
    pub(crate) first_tokens: Vec<Nanos>,
    /// Times from one token to the next, where that came in the window.
    pub(crate) next_tokens: Vec<Nanos>,
    /// Times from the arrival to the route that led to a first token in the window.
    pub(crate) queueing: Vec<Nanos>,
    /// Answers that ended in the window and kept the targets.
    pub(crate) good: u64,
    /// Prompt tokens of requests whose first token came in the window.
    pub(crate) prompt_tokens: u64,
    pub(crate) refusals: BTreeMap<&'static str, u64>,
    /// Tokens after the first, ever.
    pub(crate) decode_tokens_ever: u64,
}

/// How many requests there were of each kind, over the whole run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Asked for.
    pub arrived: u64,
    /// Given a route at least once.
    pub accepted: u64,
    /// Turned away, also after a wait.
    pub rejected: u64,
    /// Answered to the last token.
    pub finished: u64,
    /// Whose gateway died.
    pub cut_off: u64,
    /// Routes after the first.
    pub replays: u64,
    /// Tokens computed again for that.
    pub replayed_tokens: u64,
    /// Given up by a stage that ran out of KV.
    pub preempted: u64,
}

#[derive(Clone, Copy, Debug)]
struct Client {
    gateway: usize,
    arrived: Nanos,
    prompt_tokens: u32,
    output_tokens: u32,
    told: u32,
    opened: Option<Nanos>,
    first: Nanos,
    last: Nanos,
    over: bool,
}

impl Client {
    /// Whether the answer, which is over, came within the targets.
    fn keeps(&self, targets: Targets) -> bool {
        let gaps = Nanos::from(self.told.saturating_sub(1));
        self.first - self.arrived <= targets.ttft && self.last - self.first <= targets.tpot * gaps
    }
}

impl Ledger {
    /// Begins to measure `window`.
    pub fn new(window: Window, targets: Targets) -> Self {
        Self {
            window,
            targets,
            clients: Vec::new(),
            counts: Counts::default(),
            first_tokens: Vec::new(),
            next_tokens: Vec::new(),
            queueing: Vec::new(),
            good: 0,
            prompt_tokens: 0,
            refusals: BTreeMap::new(),
            decode_tokens_ever: 0,
        }
    }

    /// A client asks; returns its ticket.
    pub fn arrived(&mut self, now: Nanos, gateway: usize, length: Length) -> u64 {
        self.counts.arrived += 1;
        self.clients.push(Client {
            gateway,
            arrived: now,
            prompt_tokens: length.prompt,
            output_tokens: length.output,
            told: 0,
            opened: None,
            first: now,
            last: now,
            over: false,
        });
        self.clients.len() as u64
    }

    /// A request is sent on its way, with so many tokens to compute and as many to generate at most.
    pub fn opened(&mut self, now: Nanos, ticket: u64, attempt: u32, tokens: usize, most: u32) {
        let client = self.client_mut(ticket);
        // The gateway lowers what it has no room for.
        client.output_tokens = most;
        if client.told == 0 {
            client.opened = Some(now);
        }
        if attempt == 0 {
            self.counts.accepted += 1;
        } else {
            self.counts.replays += 1;
            self.counts.replayed_tokens += tokens as u64;
        }
    }

    /// A client is told a token. Returns whether it is its first.
    ///
    /// # Panics
    ///
    /// If the request was over, ends early, or does not end.
    pub fn told(&mut self, now: Nanos, ticket: u64, finish: Option<Finish>) -> bool {
        let (inside, targets) = (self.window.holds(now), self.targets);
        let client = self.client_mut(ticket);
        assert!(!client.over, "request {ticket} is over and got a token");
        client.told += 1;
        let Client { told, output_tokens, arrived, opened, prompt_tokens, last, .. } = *client;
        assert!(told <= output_tokens, "request {ticket}: {told} tokens of {output_tokens}");
        assert_eq!(finish.is_some(), told == output_tokens, "request {ticket} ends at its length");
        if told == 1 {
            client.first = now;
        }
        client.last = now;
        client.over = finish.is_some();
        let good = finish.is_some() && client.keeps(targets);
        self.good += u64::from(good && inside);
        self.counts.finished += u64::from(finish.is_some());
        self.decode_tokens_ever += u64::from(told > 1);
        match (inside, told) {
            (false, _) => {}
            (true, 1) => {
                self.first_tokens.push(now - arrived);
                self.queueing.push(opened.map_or(0, |it| it - arrived));
                self.prompt_tokens += u64::from(prompt_tokens);
            }
            (true, _) => self.next_tokens.push(now - last),
        }
        told == 1
    }

    /// A client is turned away.
    pub fn rejected(&mut self, ticket: u64) {
        self.client_mut(ticket).over = true;
        self.counts.rejected += 1;
    }

    /// A stage refused a request.
    pub fn refused(&mut self, reason: Refusal) {
        let name = match reason {
            Refusal::NoRoom => "no_room",
            Refusal::StaleEpoch => "stale_epoch",
            Refusal::WrongLayers => "wrong_layers",
            Refusal::Gap => "gap",
            Refusal::Preempted => "preempted",
            Refusal::PrefixGone => "prefix_gone",
        };
        *self.refusals.entry(name).or_default() += 1;
        self.counts.preempted += u64::from(reason == Refusal::Preempted);
    }

    /// A client asked a gateway that is dead.
    pub fn cut_off(&mut self, ticket: u64) {
        self.client_mut(ticket).over = true;
        self.counts.cut_off += 1;
    }

    /// A gateway died: its streams end.
    pub fn gateway_died(&mut self, gateway: usize) {
        for client in self.clients.iter_mut().filter(|it| it.gateway == gateway && !it.over) {
            client.over = true;
            self.counts.cut_off += 1;
        }
    }

    /// The gateway of a request.
    pub fn gateway_of(&self, ticket: u64) -> usize {
        self.clients[(ticket - 1) as usize].gateway
    }

    /// Requests that are not over.
    pub fn open(&self) -> u64 {
        let Counts { arrived, rejected, finished, cut_off, .. } = self.counts;
        arrived - rejected - finished - cut_off
    }

    fn client_mut(&mut self, ticket: u64) -> &mut Client {
        &mut self.clients[(ticket - 1) as usize]
    }
}

/// What one host did.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// Time with a step running, in the window.
    pub busy: Nanos,
    /// The same since the start, up to the end of the last step.
    pub busy_ever: Nanos,
    /// Steps that began in the window.
    pub steps: u64,
    /// Their decode rows.
    pub decode_rows: u64,
    /// Their prompt rows.
    pub prompt_rows: u64,
    /// Steps with decode rows, by their number.
    pub batches: BTreeMap<u32, u64>,
}

impl Work {
    /// A step begins.
    pub fn began(&mut self, window: Window, now: Nanos, decode_rows: u32, prompt_rows: u32) {
        if window.holds(now) {
            self.steps += 1;
            self.decode_rows += u64::from(decode_rows);
            self.prompt_rows += u64::from(prompt_rows);
            if decode_rows > 0 {
                *self.batches.entry(decode_rows).or_default() += 1;
            }
        }
    }

    /// A step that ran from `from` to `to` is over.
    pub fn ended(&mut self, window: Window, from: Nanos, to: Nanos) {
        self.busy += window.overlap(from, to);
        self.busy_ever += to - from;
    }
}
