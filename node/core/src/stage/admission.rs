//! Who gets in, and who is let go.

use std::time::Duration;

use thalweg_wire::{HostId, Open, Refusal, Release};

use super::request::{Rank, Request};
use super::shards::Shard;
use super::{Effect, Stage};
use crate::kv::{BLOCK_TOKENS, Table, columns_for};
use crate::machine::Time;
use crate::policy::Growth;

/// Refusals for lack of room after which a request keeps younger ones out.
const TURNED_AWAY_MAX: u32 = 3;
/// How long it does so after its latest refusal: longer than any gateway pauses.
const TURNED_AWAY_FOR: Duration = Duration::from_secs(2);

/// The oldest request that found no room. Others are smaller or luckier in the moment they come;
/// without a claim on the room that they leave it might wait for ever.
#[derive(Clone, Copy, Debug)]
pub(super) struct TurnedAway {
    rank: Rank,
    times: u32,
    until: Time,
}

impl Stage {
    /// Admits a request or refuses it. A newer attempt takes the place of an older one; the same
    /// attempt again, and one that ended, change nothing.
    pub(super) fn open(&mut self, now: Time, from: HostId, open: Open, tokens: Vec<u32>) {
        let id = open.request;
        let known = self.requests.find(id);
        let old = known.is_some_and(|slot| self.requests[slot].attempt >= open.attempt);
        if old || self.ended.covers(id, open.attempt) || !self.comes_from(&open, from) {
            return;
        }
        if let Some(slot) = known {
            self.free(slot);
        }
        match self.admit(now, &open, &tokens) {
            Ok(mut request) => {
                request.touched_at = now;
                let (shard, rank) = (request.shard, request.rank);
                self.counters.prefix_queried_tokens += tokens.len() as u64;
                self.counters.prefix_hit_tokens += u64::from(open.cached_tokens);
                if let Some(to) = request.next() {
                    self.effects.push_back(Effect::SendOpen { to, open, tokens });
                }
                let slot = self.requests.insert(request);
                self.shards.held_mut(shard).admitted(rank, slot);
                self.idle_check_at.get_or_insert(now.saturating_add(self.config.idle_after));
                self.enqueue(slot);
            }
            Err(reason) => {
                self.ended.insert(id, open.attempt);
                self.refuse(id, open.attempt, reason);
            }
        }
    }

    /// Lets a request go. Noted even if it is unknown: the release may overtake the open.
    pub(super) fn release(&mut self, release: Release) {
        let Release { request, attempt } = release;
        self.ended.insert(request, attempt);
        let slot = self.requests.find(request);
        if let Some(slot) = slot.filter(|&slot| self.requests[slot].attempt <= attempt) {
            self.free(slot);
        }
    }

    /// Lets the requests go that need a lost host. Their gateways are told, as they may still
    /// reach that host and wait for it.
    pub(super) fn host_down(&mut self, host: HostId) {
        self.under_way.lost(host);
        let needs = |it: &Request| it.id.gateway == host || it.route.index_of(host).is_some();
        let lost: Vec<_> =
            self.requests.iter().filter(|(_, it)| needs(it)).map(|(slot, _)| slot).collect();
        for slot in lost {
            if self.requests[slot].id.gateway == host {
                self.end(slot);
            } else {
                self.give_up(slot, Refusal::Gap);
            }
        }
    }

    /// Whether `from` is the one that the route says sends the open: a host cannot open requests
    /// in the name of another.
    fn comes_from(&self, open: &Open, from: HostId) -> bool {
        match open.route.index_of(self.config.me) {
            Some(0) => from == open.request.gateway,
            Some(index) => from == open.route.hops()[index - 1].host,
            None => true,
        }
    }

    fn admit(&mut self, now: Time, open: &Open, tokens: &[u32]) -> Result<Request, Refusal> {
        let index = open.route.index_of(self.config.me).ok_or(Refusal::WrongLayers)?;
        let (epoch, shard) = self.shards.of_plan(open.epoch).ok_or(Refusal::StaleEpoch)?;
        if !serves(shard, open, index) {
            return Err(Refusal::WrongLayers);
        }
        let total = open.prompt_tokens.saturating_add(open.sampling.max_tokens);
        let total = total.min(self.config.context_tokens);
        if tokens.is_empty() || tokens.len() < open.prompt_tokens as usize {
            return Err(Refusal::Gap);
        }
        let known = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        if known >= total {
            return Err(Refusal::NoRoom);
        }
        let growth = self.config.policy.growth;
        let table = shard.set_aside(now, open, index, tokens, Ends { known, total }, growth)?;
        Ok(Request::new(open, index, epoch, total, tokens, table))
    }
}

/// Lengths of a sequence.
#[derive(Clone, Copy, Debug)]
struct Ends {
    /// When it opens.
    known: u32,
    /// At most.
    total: u32,
}

impl Shard {
    /// Sets blocks aside for a request that opens: the prefix it claims, and room for what it is
    /// sure to need.
    fn set_aside(
        &mut self,
        now: Time,
        open: &Open,
        index: usize,
        tokens: &[u32],
        ends: Ends,
        growth: Growth,
    ) -> Result<Table, Refusal> {
        let layers = open.route.hops()[index].layers;
        let rank = Rank::of(open);
        let Ends { known, total } = ends;
        let (reserve, headroom) = match growth {
            Growth::WorstCase => (total, 0.0),
            Growth::OnDemand { headroom } => (known, headroom),
        };
        let claimed = columns_for(open.cached_tokens);
        if open.cached_tokens >= known || claimed * BLOCK_TOKENS > known {
            return Err(Refusal::PrefixGone);
        }
        let prefix = &tokens[..(claimed * BLOCK_TOKENS) as usize];
        let table = self.kv.open(layers, open.tenant, prefix).ok_or(Refusal::PrefixGone)?;
        let needed = (columns_for(reserve) - claimed).saturating_mul(layers.count());
        let spare = self.headroom(headroom);
        let full = self.is_full() || needed.saturating_add(spare) > self.kv.room();
        let ever = columns_for(total).saturating_mul(layers.count()) <= self.kv.total();
        if full || !ever || self.held_for_older(now, rank) {
            self.kv.release(table);
            self.turn_away(now, rank);
            return Err(Refusal::NoRoom);
        }
        let mut table = table;
        self.kv.grow(&mut table, reserve).expect("there is room");
        self.turned_away = self.turned_away.filter(|it| it.rank < rank);
        Ok(table)
    }

    /// Blocks that must stay free beside other requests; alone, a request may have all.
    fn headroom(&self, share: f64) -> u32 {
        if self.ranks.is_empty() {
            return 0;
        }
        // Rounded up: a share of anything is something.
        (f64::from(self.kv.total()) * share).ceil() as u32
    }

    /// Whether as many requests are in flight as may be.
    fn is_full(&self) -> bool {
        let requests_max = self.pace.requests_max;
        requests_max > 0 && self.ranks.len() >= requests_max as usize
    }

    /// Whether an older request than `rank` has a claim on the room there is.
    fn held_for_older(&self, now: Time, rank: Rank) -> bool {
        let holds = |it: &TurnedAway| it.times >= TURNED_AWAY_MAX && now < it.until;
        self.turned_away.is_some_and(|it| holds(&it) && it.rank < rank)
    }

    /// Notes that a request found no room.
    fn turn_away(&mut self, now: Time, rank: Rank) {
        let until = now + TURNED_AWAY_FOR;
        self.turned_away = match self.turned_away {
            Some(it) if it.rank == rank => {
                Some(TurnedAway { times: it.times.saturating_add(1), until, ..it })
            }
            Some(it) if it.rank < rank && now < it.until => Some(it),
            _ => Some(TurnedAway { rank, times: 1, until }),
        };
    }
}

/// Whether a shard can compute hop `index` of a request's route.
fn serves(shard: &Shard, open: &Open, index: usize) -> bool {
    let hops = open.route.hops();
    let layers = hops[index].layers;
    let first = index == 0;
    let last = index + 1 == hops.len();
    let ends_model = !last || (shard.last && layers.end() == shard.layers.end());
    shard.layers.covers(layers) && (!first || shard.first) && ends_model
}
