//! What is seen at regular looks: how busy and how full hosts are, how many requests there are.

use crate::agenda::Nanos;
use crate::ledger::Ledger;

use super::gate::Gate;
use super::host::Host;

/// Looks so far.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) looks: Vec<Look>,
    /// Busy time by host at the latest look.
    busy: Vec<Nanos>,
    tokens: u64,
    at: Nanos,
}

/// One look.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) at: Nanos,
    /// Tokens after the first, per second since the look before.
    pub(super) decode_tokens_per_second: f64,
    pub(super) waiting: usize,
    pub(super) running: usize,
    /// By host, share of the time since the look before.
    pub(super) busy: Vec<f64>,
    /// By host, share of its KV.
    pub(super) kv_used: Vec<f64>,
}

impl Watch {
    /// A watch over so many hosts.
    pub(super) fn new(hosts: usize) -> Self {
        Self { looks: Vec::new(), busy: vec![0; hosts], tokens: 0, at: 0 }
    }

    /// Looks at everything.
    pub(super) fn look(&mut self, now: Nanos, hosts: &[Host], gates: &[Gate], ledger: &Ledger) {
        let passed = (now - self.at).max(1) as f64;
        let mut busy = Vec::with_capacity(hosts.len());
        for (host, before) in hosts.iter().zip(&mut self.busy) {
            let open = host.step.as_ref().map_or(0, |it| now - it.began);
            let ever = host.work.busy_ever + open;
            // The end of a step may be counted a look after its beginning, never twice.
            busy.push(ever.saturating_sub(*before) as f64 / passed);
            *before = ever;
        }
        let share = |it: &Host| match it.kv_tokens {
            0 => 0.0,
            tokens => it.kv_used() as f64 / tokens as f64,
        };
        let tokens = ledger.decode_tokens_ever - self.tokens;
        self.looks.push(Look {
            at: now,
            decode_tokens_per_second: tokens as f64 * 1e9 / passed,
            waiting: gates.iter().map(Gate::waiting).sum(),
            running: gates.iter().map(Gate::running).sum(),
            busy,
            kv_used: hosts.iter().map(share).collect(),
        });
        self.tokens = ledger.decode_tokens_ever;
        self.at = now;
    }
}
