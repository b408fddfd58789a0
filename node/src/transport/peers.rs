//! Who is linked, who is being dialled, and which of two links to one host stays.
//!
//! Both ends may dial at once. What decides is the state at the moment a greeting is sent or
//! received, under one lock that is never held while waiting:
//!
//! ```text
//!            claim (before Hello)           own HelloAck
//!   idle ───────────────────────> dialling ─────────────> linked ──> idle
//!     └────────────── Hello received ──────────────────────┘
//! ```
//!
//! A Hello that meets `dialling` is refused by the lower id and accepted by the higher, so one of
//! two crossing greetings wins on both sides. A Hello that meets `linked` is the loser of a crossing
//! and refused, unless it comes from a new process of the peer or the old link is closing: then the
//! new link succeeds the old one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use thalweg_wire::{HostId, Message, Release};
use tokio::sync::Notify;

use super::Peer;
use super::error::LinkError;
use super::link::{Control, Link};

/// Whom to dial, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) address: String,
}

/// A link that is ready to run.
pub(super) type Ready = (Arc<Link>, Control);

/// What a dialler does next.
pub(super) enum Step {
    /// Dial.
    Dial(Target),
    /// Wait for a change.
    Wait(Arc<Notify>),
}

/// Which end opened a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    Dialled,
    Accepted,
}

/// Every host this one has links with, or wants to.
#[derive(Debug)]
pub(super) struct Peers {
    me: HostId,
    slots: Mutex<BTreeMap<HostId, Slot>>,
}

#[derive(Debug, Default)]
struct Slot {
    target: Option<Target>,
    has_dialler: bool,
    dialling: bool,
    revoked: bool,
    /// Newest process of the host that was linked.
    incarnation: u64,
    link: Option<Arc<Link>>,
    /// Runs once `link` has ended.
    successor: Option<Ready>,
    changed: Arc<Notify>,
}

impl Peers {
    pub(super) fn new(me: HostId) -> Self {
        Self { me, slots: Mutex::new(BTreeMap::new()) }
    }

    /// Sets whom to dial. Returns whether a dialler must be started for it.
    #[must_use]
    pub(super) fn want(&self, host: HostId, target: Target) -> bool {
        let mut slots = self.slots();
        let slot = slots.entry(host).or_default();
        if slot.revoked {
            return false;
        }
        slot.target = Some(target);
        !std::mem::replace(&mut slot.has_dialler, true)
    }

    /// Says what the dialler of `host` does next; `None` ends it.
    pub(super) fn step(&self, host: HostId) -> Option<Step> {
        let mut slots = self.slots();
        let slot = slots.get_mut(&host)?;
        match &slot.target {
            None => {
                slot.has_dialler = false;
                None
            }
            Some(_) if slot.link.is_some() => Some(Step::Wait(Arc::clone(&slot.changed))),
            Some(target) => Some(Step::Dial(target.clone())),
        }
    }

    /// Takes the right to greet `host`, which ends with [`install`](Self::install) or
    /// [`give_up`](Self::give_up).
    pub(super) fn claim(&self, host: HostId) -> Result<(), LinkError> {
        let mut slots = self.slots();
        let slot = slots.entry(host).or_default();
        if slot.revoked {
            return Err(LinkError::Revoked);
        }
        if slot.link.is_some() || slot.dialling {
            return Err(LinkError::Duplicate);
        }
        slot.dialling = true;
        Ok(())
    }

    /// Returns the right to greet `host`.
    pub(super) fn give_up(&self, host: HostId) {
        if let Some(slot) = self.slots().get_mut(&host) {
            slot.dialling = false;
        }
    }

    /// Takes in a link whose greetings were exchanged. Returns it if it runs at once; otherwise it
    /// succeeds the present one.
    pub(super) fn install(&self, ready: Ready, side: Side) -> Result<Option<Ready>, LinkError> {
        let peer = &ready.0.peer;
        let (host, found) = (peer.host, peer.incarnation);
        let mut slots = self.slots();
        let slot = slots.entry(host).or_default();
        if slot.revoked {
            return Err(LinkError::Revoked);
        }
        match side {
            Side::Dialled => slot.dialling = false,
            Side::Accepted if slot.dialling && self.me < host => {
                return Err(LinkError::Duplicate);
            }
            Side::Accepted => {}
        }
        if found < slot.incarnation {
            return Err(LinkError::Outdated { found, known: slot.incarnation });
        }
        if let Some(old) = &slot.link
            && found == slot.incarnation
            && !old.is_closing()
        {
            return Err(LinkError::Duplicate);
        }
        slot.incarnation = found;
        if let Some(old) = &slot.link {
            old.close(&LinkError::Superseded);
            if let Some((displaced, _)) = slot.successor.replace(ready) {
                displaced.close(&LinkError::Superseded);
            }
            return Ok(None);
        }
        slot.link = Some(Arc::clone(&ready.0));
        Ok(Some(ready))
    }

    /// Notes that the running link of `host` ended. Returns its successor, which runs now.
    pub(super) fn ended(&self, host: HostId) -> Option<Ready> {
        let mut slots = self.slots();
        let slot = slots.get_mut(&host)?;
        let successor = slot.successor.take();
        slot.link = successor.as_ref().map(|(link, _)| Arc::clone(link));
        slot.changed.notify_one();
        successor
    }

    /// The running link to `host`.
    pub(super) fn link(&self, host: HostId) -> Option<Arc<Link>> {
        let slots = self.slots();
        slots.get(&host)?.link.clone()
    }

    /// Closes the streams of a request, to every peer, if `message` ends it: the host then sends
    /// nothing more of it. Should a later attempt send all the same, it gets new streams.
    pub(super) fn note_release(&self, message: &Message) {
        let Message::Release(Release { request, .. }) = message else { return };
        let slots = self.slots();
        for link in slots.values().filter_map(|slot| slot.link.as_ref()) {
            link.close_request(*request);
        }
    }

    /// Everybody linked now, by id.
    pub(super) fn linked(&self) -> Vec<Peer> {
        let slots = self.slots();
        slots.values().filter_map(|slot| Some(slot.link.as_ref()?.peer.clone())).collect()
    }

    /// Stops dialling `host` and ends its link.
    pub(super) fn forget(&self, host: HostId) {
        self.drop_host(host, &LinkError::Forgotten);
    }

    /// Ends every link to `host` and refuses it from now on.
    pub(super) fn revoke(&self, host: HostId) {
        self.slots().entry(host).or_default().revoked = true;
        self.drop_host(host, &LinkError::Revoked);
    }

    fn drop_host(&self, host: HostId, error: &LinkError) {
        let mut slots = self.slots();
        let Some(slot) = slots.get_mut(&host) else { return };
        slot.target = None;
        slot.changed.notify_one();
        if let Some((successor, _)) = slot.successor.take() {
            successor.close(error);
        }
        if let Some(link) = &slot.link {
            link.close(error);
        }
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<HostId, Slot>> {
        self.slots.lock().expect("slot operations do not panic")
    }
}
