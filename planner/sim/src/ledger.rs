//! What is written down while a world runs.

use std::collections::BTreeMap;

use thalweg_wire::{Finish, Refusal};

use crate::agenda::{Nanos, seconds};
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
    /// Whether the answer, as far as it came by `now`, kept the targets.
    fn keeps(&self, now: Nanos, targets: Targets) -> bool {
        let (end, gaps) = if self.told >= self.output_tokens {
            (self.last, self.told.saturating_sub(1))
        } else {
            // The next token is under way, unless the request was given up.
            (now, self.told)
        };
        let given_up = self.over && self.told < self.output_tokens;
        let quick = self.told > 0 && self.first - self.arrived <= targets.ttft;
        quick && !given_up && end - self.first <= targets.tpot * Nanos::from(gaps)
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
        let inside = self.window.holds(now);
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

    /// Requests per second that came in the window and were answered within the targets, as far as
    /// they were by `now`. Those that came so late that their first token need not be there yet are
    /// left out.
    pub fn goodput(&self, now: Nanos) -> f64 {
        let Window { from, to } = self.window;
        let last = to.min(now).saturating_sub(self.targets.ttft);
        let came = self.clients.iter().filter(|it| (from..=last).contains(&it.arrived));
        let good = came.filter(|it| it.keeps(now, self.targets)).count();
        good as f64 / seconds(last.saturating_sub(from)).max(f64::MIN_POSITIVE)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goodput_is_of_what_came_in_the_window_and_kept_both_times() {
        let window = Window { from: 100, to: 1000 };
        let mut ledger = Ledger::new(window, Targets { ttft: 50, tpot: 10 });
        // Arrival, times of tokens; of three tokens each.
        let asked: [(Nanos, &[Nanos]); 7] = [
            (90, &[100, 110, 120]),  // before the window
            (100, &[150, 160, 170]), // good, at the limit of both
            (200, &[251, 252, 253]), // the first came late
            (300, &[310, 320, 331]), // the others came late
            (940, &[990]),           // good so far
            (945, &[]),              // nothing yet, and late
            (960, &[961]),           // need not be there yet
        ];
        for (at, tokens) in asked {
            let ticket = ledger.arrived(at, 0, Length { prompt: 5, output: 3 });
            ledger.opened(at, ticket, 0, 5, 3);
            for (told, &token) in (1..).zip(tokens) {
                let finish = (told == 3).then_some(Finish::Length);
                assert_eq!(ledger.told(token, ticket, finish), told == 1);
            }
        }
        let rejected = ledger.arrived(500, 0, Length { prompt: 5, output: 3 });
        ledger.rejected(rejected);
        assert_eq!(ledger.goodput(1000), 2.0 / seconds(850));
    }
}
