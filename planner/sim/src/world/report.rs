//! Reads the outcome off a world.

use super::host::Host;
use super::watch::Look;
use super::{World, wires::Wires};
use crate::agenda::seconds;
use crate::ledger::{Counts, Window};
use crate::outcome::{HostOutcome, LinkOutcome, Outcome, Timeline, spread};

impl World<'_> {
    /// What came of the run until now. Names of policy, cluster and placement are the caller's to
    /// fill in.
    pub fn outcome(&self) -> Outcome {
        self.check();
        let ledger = &self.ledger;
        let Window { from, to } = ledger.window;
        let measured = seconds(to.min(self.now).saturating_sub(from)).max(f64::MIN_POSITIVE);
        let [ttft_mean_seconds, ttft_p50_seconds, ttft_p95_seconds] =
            spread(ledger.first_tokens.clone());
        let [tpot_mean_seconds, tpot_p50_seconds, tpot_p95_seconds] =
            spread(ledger.next_tokens.clone());
        let [queue_mean_seconds, queue_p50_seconds, queue_p95_seconds] =
            spread(ledger.queueing.clone());
        let Counts { arrived, accepted, rejected, finished, cut_off, .. } = ledger.counts;
        let Counts { replays, replayed_tokens, preempted, .. } = ledger.counts;
        let running = self.gates.iter().map(|it| it.running() as u64).sum::<u64>();
        let waiting = self.gates.iter().map(|it| it.waiting() as u64).sum::<u64>();
        Outcome {
            model: self.resolved.model_name.clone(),
            seed: self.source.workload().seed,
            window_seconds: (seconds(from), seconds(to)),
            decode_tokens_per_second: ledger.next_tokens.len() as f64 / measured,
            prompt_tokens_per_second: ledger.prompt_tokens as f64 / measured,
            goodput_requests_per_second: ledger.good as f64 / measured,
            ttft_mean_seconds,
            ttft_p50_seconds,
            ttft_p95_seconds,
            tpot_mean_seconds,
            tpot_p50_seconds,
            tpot_p95_seconds,
            queue_mean_seconds,
            queue_p50_seconds,
            queue_p95_seconds,
            arrived,
            accepted,
            rejected,
            finished,
            cut_off,
            running,
            waiting,
            lost: ledger.open().saturating_sub(running + waiting),
            replays,
            replayed_tokens,
            preempted,
            refusals: ledger.refusals.iter().map(|(it, n)| ((*it).to_owned(), *n)).collect(),
            events: self.events,
            simulated_seconds: seconds(self.now),
            hosts: (0..self.hosts.len()).map(|it| self.host_outcome(it)).collect(),
            links: self.link_outcomes(),
            timeline: self.timeline(),
            ..Outcome::default()
        }
    }

    fn host_outcome(&self, index: usize) -> HostOutcome {
        let instance = &self.resolved.instance;
        let (host, window) = (&self.hosts[index], self.ledger.window);
        let work = &host.work;
        let inside = self.watch.looks.iter().filter(|it| it.at > window.from && it.at <= window.to);
        let kv: Vec<f64> = inside.map(|it| it.kv_used[index]).collect();
        let measured = window.to.min(self.now).saturating_sub(window.from).max(1);
        let open = host.step.as_ref().map_or(0, |it| window.overlap(it.began, self.now));
        let batches: u64 = work.batches.values().sum();
        HostOutcome {
            name: instance.hosts[index].name.clone(),
            machine: instance.class(index).name.clone(),
            layers: host.holds.map(|it| it.1.into()),
            utilisation: (work.busy + open) as f64 / measured as f64,
            steps: work.steps,
            batch_mean: mean(work.decode_rows as f64, batches),
            batch_p50: median(host),
            batch_max: work.batches.last_key_value().map_or(0, |it| *it.0),
            prompt_rows_mean: mean(work.prompt_rows as f64, work.steps),
            kv_tokens: host.kv_tokens,
            kv_used_mean: mean(kv.iter().sum(), kv.len() as u64),
            kv_used_max: kv.iter().copied().fold(0.0, f64::max),
        }
    }

    fn link_outcomes(&self) -> Vec<LinkOutcome> {
        let instance = &self.resolved.instance;
        let name = |seat: usize| match instance.hosts.get(seat) {
            Some(host) => host.name.clone(),
            None => "gateway".to_owned(),
        };
        let Wires { links, .. } = &self.wires;
        let mut found: Vec<_> = self.wires.used().collect();
        found.sort_by_key(|it| it.1);
        let outcome = |(link, (from, to))| {
            let carried = links.carried(link, self.now);
            LinkOutcome {
                from: name(from),
                to: name(to),
                bytes_per_second: links.bytes_per_second(link),
                busy: carried.busy as f64 / self.now.max(1) as f64,
                bytes: carried.bytes,
                frames: carried.frames,
            }
        };
        found.into_iter().map(outcome).collect()
    }

    fn timeline(&self) -> Timeline {
        let looks = &self.watch.looks;
        let by_host = |of: fn(&Look, usize) -> f64| -> Vec<Vec<f64>> {
            let hosts = 0..self.hosts.len();
            hosts.map(|host| looks.iter().map(|it| of(it, host)).collect()).collect()
        };
        Timeline {
            seconds: looks.iter().map(|it| seconds(it.at)).collect(),
            decode_tokens_per_second: looks.iter().map(|it| it.decode_tokens_per_second).collect(),
            running: looks.iter().map(|it| it.running).collect(),
            waiting: looks.iter().map(|it| it.waiting).collect(),
            busy: by_host(|it, host| it.busy[host]),
            kv_used: by_host(|it, host| it.kv_used[host]),
        }
    }
}

fn mean(sum: f64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// Median number of decode rows of a step with any.
fn median(host: &Host) -> u32 {
    let batches = &host.work.batches;
    let half = batches.values().sum::<u64>().div_ceil(2);
    let mut passed = 0;
    let reached = batches.iter().find(|it| {
        passed += it.1;
        passed >= half
    });
    reached.map_or(0, |it| *it.0)
}
