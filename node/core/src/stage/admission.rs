//! Who gets in, and who is let go.

use thalweg_wire::{HostId, Open, Refusal, Release};

use super::request::Request;
use super::shards::Shard;
use super::{Effect, Stage};
use crate::kv::columns_for;
use crate::machine::Time;

impl Stage {
    /// Admits a request or refuses it. A newer attempt takes the place of an older one; the same
    /// attempt again, and one that ended, change nothing.
    pub(super) fn open(&mut self, now: Time, from: HostId, open: Open, tokens: Vec<u32>) {
        let id = open.request;
        let known = self.requests.get(&id).is_some_and(|it| it.attempt >= open.attempt);
        if known || self.ended.covers(id, open.attempt) || !self.comes_from(&open, from) {
            return;
        }
        self.free(id);
        match self.admit(now, &open, &tokens) {
            Ok(request) => {
                if let Some(to) = request.next() {
                    self.effects.push_back(Effect::SendOpen { to, open, tokens });
                }
                self.requests.insert(id, request);
                self.enqueue(id);
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
        if self.requests.get(&request).is_some_and(|it| it.attempt <= attempt) {
            self.free(request);
        }
    }

    /// Lets the requests go that need a lost host. Their gateways are told, as they may still
    /// reach that host and wait for it.
    pub(super) fn host_down(&mut self, host: HostId) {
        let lost: Vec<_> = self
            .requests
            .iter()
            .filter(|(id, it)| id.gateway == host || it.route.index_of(host).is_some())
            .map(|(&id, it)| (id, it.attempt))
            .collect();
        for (id, attempt) in lost {
            if id.gateway == host {
                self.end(id, attempt);
            } else {
                self.give_up(id, Refusal::Gap);
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
        if tokens.len() >= total as usize {
            return Err(Refusal::NoRoom);
        }
        let mut request = Request::new(open, index, epoch, total);
        let blocks = shard.alloc(columns_for(total)).ok_or(Refusal::NoRoom)?;
        request.start(now, blocks, tokens);
        Ok(request)
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
